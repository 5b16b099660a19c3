package patient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/web"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Jobs are the exports of patients (jobs.Service).
type Jobs interface {
	// FindForPatient finds a job of the patient who acts. CheckFiles refuses files that the
	// patient may not read yet. Errors: ehi.NotFound.
	FindForPatient(ctx context.Context, by ehi.Actor, id string) (*ehi.Job, error)
	CheckFiles(by ehi.Actor, j *ehi.Job) error
	Delete(ctx context.Context, by ehi.Actor, j *ehi.Job) error
	// EachFile visits the files of a job until visit returns false. FindFile finds a file by its
	// name.
	EachFile(ctx context.Context, j *ehi.Job, visit func(name string, f ehi.File) (more bool)) error
	FindFile(ctx context.Context, j *ehi.Job, name string) (ehi.File, error)
	// EachNative visits the documents and tables of a job, and the data of attachments, that are
	// downloaded by themselves.
	EachNative(
		ctx context.Context, j *ehi.Job, visit func(f ehi.NativeFile, at jobs.Stored) error,
	) error
	// OpenFile opens a file as stored.
	OpenFile(ctx context.Context, of jobs.Stored) (files.Reader, error)
	// ReleasedLines returns the EHIDocumentReferences of what administrators have released.
	ReleasedLines(ctx context.Context, j *ehi.Job) ([]byte, error)
	// Damaged lists the files of a job that are known to be damaged.
	Damaged(job string) ([]files.Known, error)
}

// Index lists jobs by their summaries (bus.Jobs).
type Index interface {
	Summary(id string) (bus.Summary, bool)
	Page(keep func(bus.Summary) bool, after string, limit int) []bus.Summary
}

// Names knows the names of applications (auth.Server).
type Names interface {
	ClientName(client string) string
}

// Progress knows how far running exports are (progress.Book).
type Progress interface {
	Of(job string) (_ ehi.Progress, known bool)
}

// Sender sends files of exports (content.Sender).
type Sender interface {
	SendChunked(c *fiber.Ctx, write func(*bufio.Writer) error)
	SendOutput(c *fiber.Ctx, j *ehi.Job, f ehi.File, cut bool) error
	SendDocument(c *fiber.Ctx, j *ehi.Job, segment string) error
	SendNative(c *fiber.Ctx, j *ehi.Job, folder, segment string, cut bool) error
	// OpenPlain opens a stored file, decompressed.
	OpenPlain(
		ctx context.Context, of jobs.Stored, compression ehi.Compression,
	) (io.ReadCloser, error)
}

// Requests shows patients the state of their exports and sends them the files.
type Requests struct {
	Pages    *Pages
	Jobs     Jobs
	Index    Index
	Auth     Names
	Progress Progress
	Sessions Sessions
	Trail    Trail
	Sender   Sender
}

// Routes registers the pages and the files.
func (h *Requests) Routes(r Router) {
	guard := h.Pages.Guarded()
	r.On("GET", "/my/requests", h.handleRequests, guard)
	r.On("GET", "/my/requests/:id", h.handleRequest, guard)
	r.On("POST", "/my/requests/:id", h.handleCancel, guard)
	r.On("GET", "/my/requests/:id/archive", h.handleRequestArchive)
	r.On("GET", "/my/requests/:id/files/:file", h.handleRequestFile(h.sendRequestFile))
	r.On("GET", "/my/requests/:id/documents/:file", h.handleRequestFile(h.sendDocument))
	r.On("GET", nativePath+"documents/:file", h.handleRequestFile(h.sendNative("documents")))
	r.On("GET", nativePath+"tables/:file", h.handleRequestFile(h.sendNative("tables")))
	r.On("GET", nativePath+"data/:file", h.handleRequestFile(h.sendNative("data")))
}

// nativePath is the beginning of the routes of documents and tables of the source system, and of
// data of attachments.
const nativePath = "/my/requests/:id/native/"

// requestFile is a file that the patient can download.
type requestFile struct {
	Name, URL string
	Type      string // of the resources; "" for other files
	Hint      string // what a file without a type is
	Count     int64  // resources; 0 for other files
	Bytes     int64
}

// stage is a step of a request.
type stage struct {
	Name      string // the key of its text
	Done, Now bool
}

// stagesOf returns the steps of a request with the progress so far.
func stagesOf(at ehi.Status) []stage {
	order := []ehi.Status{ehi.AwaitingInput, ehi.Requested, ehi.Retrieved, ehi.Approved}
	now := slices.Index(order, at)
	var out []stage
	for i, status := range order {
		out = append(out, stage{"stage." + string(status), i < now || at == ehi.Approved, i == now})
	}
	return out
}

// patientsJob returns the job of the path, if it belongs to the patient who is signed in. next
// is where a visitor must go first; "" for nowhere.
func (h *Requests) patientsJob(c *fiber.Ctx) (j *ehi.Job, next string, err error) {
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return nil, "", err
	}
	if patient == "" {
		return nil, LoginPath(c.OriginalURL(), ""), nil
	}
	by := h.Pages.Site.Origins.Patient(c, patient)
	j, err = h.Jobs.FindForPatient(c.UserContext(), by, c.Params("id"))
	j, err = request.Noted(c, j, err)
	return j, "", err
}

// patientsFiles is patientsJob for a request whose files the patient may read.
func (h *Requests) patientsFiles(c *fiber.Ctx) (j *ehi.Job, next string, err error) {
	j, next, err = h.patientsJob(c)
	if err != nil || next != "" {
		return nil, next, err
	}
	by := h.Pages.Site.Origins.Patient(c, j.Patient.ID)
	return j, "", h.Jobs.CheckFiles(by, j)
}

// handleRequest shows the patient the state of a request, and its files once they are available.
// While the system works, the page reloads itself, unless the patient is about to cancel
// (?cancel=yes).
func (h *Requests) handleRequest(c *fiber.Ctx) error {
	before, _ := h.Index.Summary(c.Params("id"))
	j, next, err := h.patientsJob(c)
	if err != nil || next != "" {
		return page.Redirect(c, next, err)
	}
	t := h.Pages.Language(c)
	cancelling := c.Query("cancel") != ""
	data := fiber.Map{
		"Revision":    before.Revision(),
		"Cancelling":  cancelling,
		"Job":         j,
		"SignedIn":    true,
		"Application": h.Auth.ClientName(j.ClientID),
		"Stages":      stagesOf(j.Status),
		"Live":        j.Status == ehi.Requested && !cancelling,
		"Person":      j.Status == ehi.Retrieved,
		"Choose":      j.Status == ehi.AwaitingInput,
		"CanCancel":   !j.Status.Settled(),
		"Chosen":      chosen(t, j.Form),
		"Sensitive":   sensitive(t, j.Form),
		"Everything":  j.Form == nil,
		"Counts":      page.LargestFirst(j.Counts),
		"Withheld":    withheldGroups(t, j.StillWithheld()),
	}
	switch j.Status {
	case ehi.Requested:
		p, known := h.Progress.Of(j.ID)
		data["Percent"], data["Known"] = p.Percent(), known
	case ehi.Rejected:
		data["Ending"], data["Next"] = "ending.rejected", "ending.rejected.next"
		data["Reason"] = j.Reason
	case ehi.Failed:
		data["Ending"] = "ending.failed"
	case ehi.Approved:
		data["Until"] = t.Time(j.ExpiresAt)
		if data["Files"], err = h.requestFiles(c, t, j); err != nil {
			return err
		}
		if data["Native"], err = h.nativeFiles(c, t, j); err != nil {
			return err
		}
		data["MoreNative"] = nativeCount(j) - int64(len(data["Native"].([]requestFile)))
	}
	request.NoStore(c)
	return h.Pages.Render(c, "request", "request.title", data)
}

// listedRequest is an entry of the patient's list.
type listedRequest struct {
	ID, Application, State string
	Made                   time.Time
}

// maxPages is the number of the last page of the list.
const maxPages = 200

// maxRequests is the number of requests per page.
const maxRequests = 50

// handleRequests lists the patient's requests, newest first, in pages.
func (h *Requests) handleRequests(c *fiber.Ctx) error {
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect(LoginPath(c.OriginalURL(), ""), http.StatusFound)
	}
	at, total, number := now(), 0, min(max(1, c.QueryInt("page", 1)), maxPages)
	mine := func(j bus.Summary) bool {
		listed := j.Patient.ID == patient && j.Listed(at)
		if listed {
			total++
		}
		return listed
	}
	found := h.Index.Page(mine, "", number*maxRequests)
	first := min((number-1)*maxRequests, len(found))
	var list []listedRequest
	for _, j := range found[first:] {
		list = append(list, listedRequest{
			j.ID, h.Auth.ClientName(j.ClientID), "state." + string(j.Status), j.CreatedAt,
		})
	}
	t := h.Pages.Language(c)
	data := fiber.Map{"Requests": list, "SignedIn": true}
	if total > len(list) {
		last := first + len(list)
		data["Range"] = t.Say("list.range", t.Number(first+1), t.Number(last), t.Number(total))
	}
	if number > 1 {
		data["Newer"] = number - 1
	}
	if first+len(list) < total {
		data["Older"] = number + 1
	}
	request.NoStore(c)
	return h.Pages.Render(c, "requests", "requests.title", data)
}

// chosen describes what the patient shares.
func chosen(t *web.Catalogue, f *ehi.ReleaseForm) (out []string) {
	if f == nil {
		return nil
	}
	for _, c := range ehi.Categories() {
		choice, on := f.Parameters[c.Key]
		if !on {
			continue
		}
		line := t.Say(categoryText(c.Key))
		if choice.From != "" {
			line += t.Say("request.from", choice.From)
		}
		if choice.To != "" {
			line += t.Say("request.to", choice.To)
		}
		out = append(out, line)
	}
	return out
}

// sensitive describes which protected information the patient shares.
func sensitive(t *web.Catalogue, f *ehi.ReleaseForm) (out []string) {
	if f == nil {
		return nil
	}
	for _, a := range ehi.Authorizations() {
		if !f.Authorizes(a.Key) {
			continue
		}
		line := t.Say(authorizationText(a.Key))
		if text := f.Texts[a.Key]; text != "" {
			line += ": " + text
		}
		out = append(out, line)
	}
	return out
}

func categoryText(key ehi.Category) string           { return "category." + string(key) }
func authorizationText(key ehi.Authorization) string { return "authorization." + string(key) }

// withheldGroup is what is withheld for one kind of reason.
type withheldGroup struct {
	Name string
	List []page.Counted
}

// withheldGroups explains what is withheld. Reasons are category.<key>, document.<key>,
// sensitive.<key>, reference-only and unclassified.
func withheldGroups(t *web.Catalogue, withheld map[string]int64) (out []withheldGroup) {
	groups := map[string]map[string]int64{}
	for reason, n := range withheld {
		group, text := "withheld.other", "withheld."+reason
		switch kind, key, _ := strings.Cut(reason, "."); {
		case kind == "sensitive":
			group, text = "withheld.sensitive", authorizationText(ehi.Authorization(key))
		case key != "":
			group, text = "withheld.category", categoryText(ehi.Category(key))
		}
		if groups[group] == nil {
			groups[group] = map[string]int64{}
		}
		groups[group][t.Say(text)] += n
	}
	for _, name := range []string{"withheld.category", "withheld.sensitive", "withheld.other"} {
		if len(groups[name]) > 0 {
			out = append(out, withheldGroup{t.Say(name), page.LargestFirst(groups[name])})
		}
	}
	return out
}

// requestFiles lists the files and documents of an approved request.
func (h *Requests) requestFiles(
	c *fiber.Ctx, t *web.Catalogue, j *ehi.Job,
) (out []requestFile, err error) {
	err = h.Jobs.EachFile(c.UserContext(), j, func(name string, f ehi.File) bool {
		file := requestFile{
			Name:  name,
			Type:  f.Type,
			URL:   "/my/requests/" + j.ID + "/files/" + name,
			Count: f.Count,
			Bytes: f.Bytes,
		}
		if f.Kind == ehi.Archive {
			file.Hint, file.Count = t.Say("request.package"), 0
		}
		out = append(out, file)
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, a := range j.Attachments {
		out = append(out, requestFile{
			Name:  a.Name,
			URL:   "/my/requests/" + j.ID + "/documents/" + url.PathEscape(a.Name),
			Hint:  t.Say("request.document"),
			Bytes: a.Size,
		})
	}
	return out, nil
}

// maxNative is how many documents and tables of the source system the page lists.
const maxNative = 200

// nativeCount returns how many documents and tables a request has, and how much data of
// attachments, that are downloaded by themselves.
func nativeCount(j *ehi.Job) int64 {
	n := int64(j.Freed.Count()) + j.Beside + j.Data
	if j.Packaging() == ehi.PackageFiles {
		n += j.Documents
	}
	return n
}

// nativeFiles lists the first documents and tables of the source system that an approved request
// has.
func (h *Requests) nativeFiles(
	c *fiber.Ctx, t *web.Catalogue, j *ehi.Job,
) (out []requestFile, err error) {
	hints := map[string]string{
		"documents": t.Say("request.native.document"), "tables": t.Say("request.native.table"),
		"data": t.Say("request.native.data"),
	}
	err = h.Jobs.EachNative(c.UserContext(), j, func(f ehi.NativeFile, _ jobs.Stored) error {
		if len(out) == maxNative {
			return errEnough
		}
		folder, name, _ := strings.Cut(f.Name, "/")
		out = append(out, requestFile{
			Name:  name,
			URL:   "/my/requests/" + j.ID + "/native/" + folder + "/" + url.PathEscape(name),
			Hint:  hints[folder],
			Bytes: f.Length,
		})
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

var errEnough = errors.New("enough")

// handleCancel cancels a request at the patient's request and deletes what exists of it.
func (h *Requests) handleCancel(c *fiber.Ctx) error {
	j, next, err := h.patientsJob(c)
	if ehi.CodeOf(err) == ehi.NotFound {
		return h.Pages.gone(c, "/my/requests", err)
	}
	if err != nil || next != "" {
		return page.Redirect(c, next, err)
	}
	by := h.Pages.Site.Origins.ActingPatient(c, j.Patient.ID)
	if err := h.Jobs.Delete(c.UserContext(), by, j); err != nil {
		return err
	}
	t := h.Pages.Language(c)
	return h.Pages.leave(c, "/my/requests", flash{Flash: page.Flash{
		Title: t.Say("cancelled.title"), Message: t.Say("cancelled.text"),
	}})
}

// handleRequestFile sends the patient a file of an approved request, by its name in the path.
func (h *Requests) handleRequestFile(
	send func(c *fiber.Ctx, j *ehi.Job, segment string) error,
) fiber.Handler {
	return func(c *fiber.Ctx) error {
		j, next, err := h.patientsFiles(c)
		if err != nil || next != "" {
			return page.Redirect(c, next, err)
		}
		e := ehi.About(ehi.ActionDisclose, j)
		e.Agent = "patient " + j.Patient.ID
		h.Trail.Record(c, nil, e)
		err = send(c, j, c.Params("file"))
		request.NoStore(c) // somebody else may use the browser next
		return err
	}
}

// sendRequestFile sends a file of an approved request for the browser to save.
func (h *Requests) sendRequestFile(c *fiber.Ctx, j *ehi.Job, name string) error {
	f, err := h.Jobs.FindFile(c.UserContext(), j, name)
	if err != nil {
		return err
	}
	content.SaveAs(c, name)
	return h.Sender.SendOutput(c, j, f, false)
}

// sendDocument sends a document that an administrator added.
func (h *Requests) sendDocument(c *fiber.Ctx, j *ehi.Job, segment string) error {
	return h.Sender.SendDocument(c, j, segment)
}

// sendNative sends a document or table of the source system.
func (h *Requests) sendNative(
	folder string,
) func(c *fiber.Ctx, j *ehi.Job, segment string) error {
	return func(c *fiber.Ctx, j *ehi.Job, segment string) error {
		return h.Sender.SendNative(c, j, folder, segment, false)
	}
}

// handleRequestArchive sends the patient all files of an approved request in a ZIP archive.
func (h *Requests) handleRequestArchive(c *fiber.Ctx) error {
	j, next, err := h.patientsFiles(c)
	if err != nil || next != "" {
		return page.Redirect(c, next, err)
	}
	parts, err := h.archiveParts(c, j)
	if err == nil {
		err = h.openable(j, parts)
	}
	if err != nil {
		return err
	}
	e := ehi.About(ehi.ActionDisclose, j)
	e.Agent = "patient " + j.Patient.ID
	h.Trail.Record(c, nil, e)
	request.NoStore(c)
	c.Set(fiber.HeaderContentType, "application/zip")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="health-record.zip"`)
	h.Sender.SendChunked(c, func(w *bufio.Writer) error { return writeArchive(w, parts) })
	return nil
}

// now returns the time in UTC, as all times on the wire.
func now() time.Time { return time.Now().UTC() }
