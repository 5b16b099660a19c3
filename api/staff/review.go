package staff

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// Contents are the files of exports (jobs.Service).
type Contents interface {
	// Task reads a committed task of a job.
	Task(ctx context.Context, j *ehi.Job, n int) (ehi.Task, error)
	// FindFile finds a file by its name in the manifest. Errors: ehi.NotFound.
	FindFile(ctx context.Context, j *ehi.Job, name string) (ehi.File, error)
	Damages
}

// Sender sends documents and opens files (content.Sender).
type Sender interface {
	SendDocument(c *fiber.Ctx, j *ehi.Job, segment string) error
	SendHeld(c *fiber.Ctx, j *ehi.Job, folder, segment string) error
	// OpenPlain opens a stored file, decompressed.
	OpenPlain(
		ctx context.Context, of jobs.Stored, compression ehi.Compression,
	) (io.ReadCloser, error)
}

// Names know what applications are called (auth.Server).
type Names interface {
	ClientName(client string) string
}

// Review shows administrators one export with its files and documents, and lets them decide about
// it.
type Review struct {
	Pages    *Pages
	Exports  *Exports
	Queue    *Queue
	Contents Contents
	Sender   Sender
	Names    Names
	Trail    Trail
	// AttachmentBytes is the size of the largest document.
	AttachmentBytes int64
}

// Routes registers the pages.
func (h *Review) Routes(r Router) {
	guard := h.Pages.guarded()
	const job = jobsPath + "/:id"
	r.OnPage("GET", job, guard, h.handlePage)
	r.OnPage("POST", job, guard, h.handleDecision)
	r.OnPage("POST", job+"/remove-file", guard, h.handleRemoveFile)
	r.OnPage("POST", job+"/delete", guard, h.handleDelete)
	r.OnPage("GET", job+"/files", guard, h.handleFiles)
	r.OnPage("GET", job+"/files/:file", guard, h.handleFile)
	r.OnPage("GET", job+"/documents/:file", guard, h.handleDocument)
	r.OnPage("POST", job+"/held", guard, h.handleDecideHeld)
	r.OnPage("GET", job+"/held/documents/:file", guard, h.handleHeldFile("documents"))
	r.OnPage("GET", job+"/held/tables/:file", guard, h.handleHeldFile("tables"))
}

// jobDocument is a document of an export, and where reviewers open it.
type jobDocument struct {
	ehi.Attachment
	URL string
}

func documentsOf(j *ehi.Job) (out []jobDocument) {
	for _, a := range j.Attachments {
		path := jobPath(j.ID) + "/documents/" + url.PathEscape(a.Name)
		out = append(out, jobDocument{a, path})
	}
	return out
}

// handlePage shows an export.
func (h *Review) handlePage(c *fiber.Ctx) error {
	before, _ := h.Exports.Index.Summary(c.Params("id")) // the page is told of later changes
	j, err := h.Exports.requested(c)
	if err != nil {
		return err
	}
	v, _ := h.Exports.Index.Summary(j.ID)
	row := h.Queue.row(c, v, now())
	row.Status, row.State = j.Status, statusWords[j.Status]
	row.Running, row.Reviewable = j.Status == ehi.Requested, j.Status == ehi.Retrieved
	approvers := h.Exports.Jobs.Approvers(j)
	data := fiber.Map{
		"Job":           j,
		"Row":           row,
		"Revision":      before.Revision(),
		"Timeline":      timeline(j),
		"Percent":       h.Queue.percent(j),
		"Done":          j.Done.Count(),
		"Application":   h.Names.ClientName(j.ClientID),
		"Types":         shares(j.Counts, h.Pages.Views.Default().Type),
		"Withheld":      shares(j.StillWithheld(), withheldWords),
		"Choices":       choicesOf(j.Form),
		"Documents":     documentsOf(j),
		"MaxAttachment": h.AttachmentBytes,
		"FourEyes":      h.Queue.FourEyes,
		"Approvers":     approvers,
		"Mine":          slices.Contains(approvers, request.AdministratorName(c)),
	}
	if data["Damaged"], err = listDamaged(c.UserContext(), h.Contents, j.ID); err != nil {
		return err
	}
	if data["Held"], err = h.heldOf(c, j); err != nil {
		return err
	}
	if h.checkFiles(c, j) == nil {
		if data["Page"], err = h.filesOf(c, j, "", 0, false); err != nil {
			return err
		}
	}
	return h.Pages.render(c, "job", "jobs", row.Title, data)
}

// handleDecision approves or rejects the export of the page.
func (h *Review) handleDecision(c *fiber.Ctx) error {
	to, action := jobPath(c.Params("id")), ehi.Action(page.Field(c, "do"))
	if action != ehi.ActionApprove && action != ehi.ActionReject {
		return h.Pages.again(c, to, errNoDecision)
	}
	d := decision{Reason: page.Field(c, "reason"), Contents: page.Field(c, "contents")}
	if _, err := h.Exports.decide(c, c.Params("id"), action, d); err != nil {
		return h.Pages.again(c, to, err)
	}
	return c.Redirect(to, http.StatusSeeOther)
}

var errNoDecision = ehi.Errorf(ehi.Invalid, "Choose whether to approve or to reject")

// handleRemoveFile removes a document.
func (h *Review) handleRemoveFile(c *fiber.Ctx) error {
	to := jobPath(c.Params("id"))
	if _, err := h.Exports.detach(c, []string{page.Field(c, "name")}); err != nil {
		return h.Pages.again(c, to, err)
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// handleDelete deletes the export of the page.
func (h *Review) handleDelete(c *fiber.Ctx) error {
	err := h.Exports.delete(c)
	if ehi.CodeOf(err) == ehi.NotFound { // its page is gone, too
		return h.Pages.again(c, jobsPath, err)
	}
	if err != nil {
		return h.Pages.again(c, jobPath(c.Params("id")), err)
	}
	return h.Pages.leave(c, jobsPath, flash{
		Flash: page.Flash{Message: "The export was deleted."},
	})
}

// handleDocument sends a document of an export, for its review.
func (h *Review) handleDocument(c *fiber.Ctx) error {
	j, err := h.Exports.requested(c)
	if err != nil {
		return err
	}
	err = h.Sender.SendDocument(c, j, c.Params("file"))
	request.NoStore(c) // a session opened it
	h.Trail.Record(c, err, ehi.About(ehi.ActionRead, j))
	return err
}
