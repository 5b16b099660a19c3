package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/staff"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// moment is a line of a job's timeline.
type moment struct {
	Name, Text string
	At         time.Time
	After      string // how long it took since the one before
}

// timeline is what happened to a job, in order.
func timeline(j *ehi.Job) (out []moment) {
	add := func(at time.Time, name, text string) {
		if at.IsZero() {
			return
		}
		m := moment{Name: name, Text: text, At: at}
		if len(out) > 0 {
			m.After = age(max(0, at.Sub(out[len(out)-1].At)))
		}
		out = append(out, m)
	}
	add(j.CreatedAt, "Asked for", "by "+j.ClientID)
	if j.WithForm {
		add(j.RequestedAt, "Choices made", "by the "+j.RequestedBy)
	}
	add(j.TransactionTime, "Record read", "as of this moment")
	ended := map[ehi.Status]string{ehi.Failed: "Failed", ehi.Rejected: "Rejected"}[j.Status]
	if ended == "" {
		ended = "Files ready"
	}
	text := ""
	if j.Status == ehi.Rejected {
		text = "by " + j.DecidedBy
	}
	add(j.CompletedAt, ended, text)
	if j.AutoApprove {
		text = "without review, as the application asked"
	} else {
		text = "by " + j.DecidedBy
	}
	add(j.ApprovedAt, "Approved", text)
	return out
}

// share is a count beside the largest of its list.
type share struct {
	Name       string
	Count, Max int64
}

func shares(counts map[string]int64, name func(string) string) (out []share) {
	for _, c := range page.LargestFirst(counts) {
		if name != nil {
			c.Name = name(c.Name)
		}
		out = append(out, share{c.Name, c.Count, 0})
	}
	for i := range out {
		out[i].Max = out[0].Count
	}
	return out
}

// withheldWords names the reason of a resource that stays: category.<key>, document.<key>, sensitive.<key> or reference-only.
func withheldWords(reason string) string {
	kind, key, _ := strings.Cut(reason, ".")
	for _, a := range ehi.Authorizations() {
		if kind == "sensitive" && string(a.Key) == key {
			return "Protected: " + a.Name
		}
	}
	for _, c := range ehi.Categories() {
		if kind != "sensitive" && string(c.Key) == key {
			return map[string]string{"category": "Not chosen: ", "document": "Within a report: "}[kind] + c.Name
		}
	}
	return "About what stays, and nothing else"
}

// choiceLine is a line of the release form as administrators read it.
type choiceLine struct{ Name, Value, Notes string }

// choicesOf lists what the patient chose, with notes, and what he did not.
func choicesOf(f *ehi.ReleaseForm) (out []choiceLine) {
	if f == nil {
		return nil
	}
	for _, c := range ehi.Categories() {
		choice, on := f.Parameters[c.Key]
		line := choiceLine{c.Name, "no", choice.Notes}
		if on {
			line.Value = "yes"
			if choice.From != "" {
				line.Value += ", from " + choice.From
			}
			if choice.To != "" {
				line.Value += ", to " + choice.To
			}
		}
		out = append(out, line)
	}
	for _, a := range ehi.Authorizations() {
		line := choiceLine{Name: a.Name, Value: "no", Notes: f.Texts[a.Key]}
		if f.Authorizes(a.Key) {
			line.Value = "yes"
		}
		out = append(out, line)
	}
	return out
}

// jobDocument is a document of an export, and where reviewers open it.
type jobDocument struct {
	ehi.Attachment
	URL string
}

// handleStaffJob shows a job.
func (s *Server) handleStaffJob(c *fiber.Ctx) error {
	before, _ := s.Bus.Jobs.Summary(c.Params("id")) // what changes from here on, the page is told of
	j, err := s.exports.Requested(c)
	if err != nil {
		return err
	}
	v, _ := s.Bus.Jobs.Summary(j.ID)
	row := s.row(c, v, now())
	row.Status, row.State, row.Running, row.Reviewable = j.Status, statusWords[j.Status], j.Status == ehi.Requested, j.Status == ehi.Retrieved
	var documents []jobDocument
	approvers := s.jobs.Approvers(j)
	page := fiber.Map{
		"Job": j, "Approvers": approvers, "Revision": before.Revision(), "Row": row, "Timeline": timeline(j), "Types": shares(j.Counts, s.views.Default().Type), "Withheld": shares(j.Withheld, withheldWords), "Choices": choicesOf(j.Form), "Percent": s.percent(j), "Done": j.Done.Count(),
		"Application": s.Auth.ClientName(j.ClientID), "MaxAttachment": s.AttachmentBytes, "FourEyes": s.FourEyes,
		"Mine": slices.Contains(approvers, request.AdministratorName(c)),
	}
	for _, a := range j.Attachments {
		path := staffJobPath(j.ID) + "/documents/" + url.PathEscape(a.Name)
		documents = append(documents, jobDocument{a, path})
	}
	page["Documents"] = documents
	if page["Damaged"], err = s.damagedFiles(c.UserContext(), j.ID); err != nil {
		return err
	}
	if j.Status == ehi.Retrieved || j.Status == ehi.Approved {
		if page["Page"], err = s.filesOf(c, j, "", 0, false); err != nil {
			return err
		}
	}
	return s.adminPages.render(c, "job", "jobs", row.Title, page)
}

// handleStaffDecide approves or rejects the job of a page.
func (s *Server) handleStaffDecide(c *fiber.Ctx) error {
	to, action := staffJobPath(c.Params("id")), ehi.Action(page.Field(c, "do"))
	if action != ehi.ActionApprove && action != ehi.ActionReject {
		return s.adminPages.again(c, to, errNoDecision)
	}
	d := staff.Decision{Reason: page.Field(c, "reason"), Contents: page.Field(c, "contents")}
	if _, err := s.exports.Decide(c, c.Params("id"), action, d); err != nil {
		return s.adminPages.again(c, to, err)
	}
	return c.Redirect(to, http.StatusSeeOther)
}

var errNoDecision = ehi.Errorf(ehi.Invalid, "Choose whether to approve or to reject")

// handleStaffRemoveFile takes a document away.
func (s *Server) handleStaffRemoveFile(c *fiber.Ctx) error {
	to := staffJobPath(c.Params("id"))
	if _, err := s.exports.Detach(c, []string{page.Field(c, "name")}); err != nil {
		return s.adminPages.again(c, to, err)
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// handleStaffDelete deletes a job.
func (s *Server) handleStaffDelete(c *fiber.Ctx) error {
	err := s.exports.Delete(c)
	if ehi.CodeOf(err) == ehi.NotFound { // it has no page any more
		return s.adminPages.again(c, staffJobs, err)
	}
	if err != nil {
		return s.adminPages.again(c, staffJobPath(c.Params("id")), err)
	}
	return s.adminPages.leave(c, staffJobs, staffFlash{
		Flash: page.Flash{Message: "The export was deleted."},
	})
}

// handleStaffDocument sends a document of an export, for its review.
func (s *Server) handleStaffDocument(c *fiber.Ctx) error {
	j, err := s.exports.Requested(c)
	if err != nil {
		return err
	}
	err = s.sender.SendDocument(c, j, c.Params("file"))
	request.NoStore(c) // a session opened it
	s.trail.Record(c, err, ehi.About(ehi.ActionRead, j))
	return err
}

// previewLines is how many resources of a file a reviewer is shown; previewBytes how much of each at most.
const (
	previewLines = 25
	previewBytes = 64 << 10
)

// previewLine is one resource of a file.
type previewLine struct{ Title, Text string }

// handleStaffFile shows the first resources of a file, for its review.
func (s *Server) handleStaffFile(c *fiber.Ctx) error {
	j, err := s.exports.Requested(c)
	if err != nil {
		return err
	}
	if err := hasFiles(j); err != nil {
		return err
	}
	name := c.Params("file")
	f, err := s.jobs.FindFile(c.UserContext(), j, name)
	if err != nil {
		return err
	}
	lines, err := s.firstLines(c.UserContext(), j, f)
	s.trail.Record(c, err, ehi.About(ehi.ActionRead, j))
	if err != nil {
		return err
	}
	return s.adminPages.render(c, "file", "jobs", name, fiber.Map{"Job": j, "File": f, "Lines": lines, "Name": name})
}

// firstLines reads the first resources of a file.
func (s *Server) firstLines(ctx context.Context, j *ehi.Job, f ehi.File) (out []previewLine, err error) {
	plain, err := s.sender.OpenPlain(ctx, jobs.StoredFile(j, f), f.Compression)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	r := bufio.NewReader(plain)
	for range previewLines {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			out = append(out, shown(line))
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// shown lays a resource out for reading.
func shown(line []byte) previewLine {
	var head struct {
		Type string `json:"resourceType"`
		ID   string `json:"id"`
	}
	var text bytes.Buffer
	if err := errors.Join(json.Unmarshal(line, &head), json.Indent(&text, line, "", "  ")); err != nil { // it is shown as it is
		text.Reset()
		text.Write(line)
	}
	if text.Len() > previewBytes {
		text.Truncate(previewBytes)
		text.WriteString(" …")
	}
	return previewLine{head.Type + "/" + head.ID, text.String()}
}
