package server

import (
	"archive/zip"
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
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
)

// counted is a line of a list with a figure.
type counted struct {
	Name  string
	Count int64
}

// requestFile is a file that the patient can keep.
type requestFile struct {
	Name, URL string
	Type      string // "" of a document
	Count     int64  // resources; 0 for a document
	Bytes     int64
}

// stage is a step of a request.
type stage struct {
	Name      string // of a text
	Done, Now bool
}

// stagesOf are the steps that a request goes through, as far as it is.
func stagesOf(at ehi.Status) []stage {
	order := []ehi.Status{ehi.AwaitingInput, ehi.Requested, ehi.Retrieved, ehi.Approved}
	now := slices.Index(order, at)
	var out []stage
	for i, status := range order {
		out = append(out, stage{"stage." + string(status), i < now || at == ehi.Approved, i == now})
	}
	return out
}

// patientsJob is the job of the path, where it is of the patient who is logged in. next is where a visitor has to go first, "" for nowhere.
func (s *Server) patientsJob(c *fiber.Ctx) (j *ehi.Job, next string, err error) {
	patient, err := s.patients.LoggedIn(c)
	if err != nil {
		return nil, "", err
	}
	if patient == "" {
		return nil, loginPath(c.OriginalURL(), ""), nil
	}
	if j, err = s.anyJob(c); err != nil {
		return nil, "", err
	}
	if j.Level != ehi.OnePatient || j.Patient.ID != patient || j.Status == ehi.Aborted {
		return nil, "", jobs.ErrNotFound
	}
	if j.Status.Settled() {
		return j, "", nil
	}
	stands, err := s.jobs.Stands(c.UserContext(), j)
	if err == nil && !stands {
		err = jobs.ErrNotFound
	}
	return j, "", err
}

// handleRequest shows the patient how a request stands, and the files when they may be had. While a
// machine works, the page comes again by itself, unless it is about to be cancelled (?cancel=yes).
func (s *Server) handleRequest(c *fiber.Ctx) error {
	before, _ := s.Bus.Jobs.Summary(c.Params("id"))
	j, next, err := s.patientsJob(c)
	if err != nil || next != "" {
		return ahead(c, next, err)
	}
	t := s.views.Language(c)
	cancelling := c.Query("cancel") != ""
	page := fiber.Map{
		"Revision": before.Revision(), "Cancelling": cancelling,
		"Job": j, "SignedIn": true, "Application": s.Auth.ClientName(j.ClientID), "Stages": stagesOf(j.Status),
		"Live": j.Status == ehi.Requested && !cancelling, "Person": j.Status == ehi.Retrieved, "Choose": j.Status == ehi.AwaitingInput, "CanCancel": !j.Status.Settled(),
		"Chosen": chosen(t, j.Form), "Sensitive": sensitive(t, j.Form), "Everything": j.Form == nil, "Counts": largestFirst(j.Counts), "Withheld": withheldGroups(t, j.Withheld),
	}
	switch j.Status {
	case ehi.Requested:
		p, known := s.progress.Of(j.ID)
		page["Percent"], page["Known"] = p.Percent(), known
	case ehi.Rejected:
		page["Ending"], page["Reason"], page["Next"] = "ending.rejected", j.Reason, "ending.rejected.next"
	case ehi.Failed:
		page["Ending"] = "ending.failed"
	case ehi.Approved:
		page["Until"] = t.Time(j.ExpiresAt)
		if page["Files"], err = s.requestFiles(c, j); err != nil {
			return err
		}
	}
	request.NoStore(c)
	return s.patientRender(c, "request", "request.title", page)
}

// listedRequest is a line of the patient's list.
type listedRequest struct {
	ID, Application, State string
	Made                   time.Time
}

// maxRequests is how many requests a page of the patient's list shows.
const maxRequests = 50

// handleRequests lists the patient's requests, the newest first, page by page.
func (s *Server) handleRequests(c *fiber.Ctx) error {
	patient, err := s.patients.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect(loginPath(c.OriginalURL(), ""), http.StatusFound)
	}
	at, total, page := now(), 0, min(max(1, c.QueryInt("page", 1)), maxPage)
	mine := func(j bus.Summary) bool {
		listed := j.Patient.ID == patient && j.Listed(at)
		if listed {
			total++
		}
		return listed
	}
	found := s.Bus.Jobs.Page(mine, "", page*maxRequests)
	first := min((page-1)*maxRequests, len(found))
	var list []listedRequest
	for _, j := range found[first:] {
		list = append(list, listedRequest{j.ID, s.Auth.ClientName(j.ClientID), "state." + string(j.Status), j.CreatedAt})
	}
	t := s.views.Language(c)
	data := fiber.Map{"Requests": list, "SignedIn": true}
	if total > len(list) {
		data["Range"] = t.Say("list.range", t.Number(first+1), t.Number(first+len(list)), t.Number(total))
	}
	if page > 1 {
		data["Newer"] = page - 1
	}
	if first+len(list) < total {
		data["Older"] = page + 1
	}
	request.NoStore(c)
	return s.patientRender(c, "requests", "requests.title", data)
}

// ahead sends a visitor on, or answers an error. What answers a POST says that the way on is a GET
// (RFC 9700 4.12).
func ahead(c *fiber.Ctx, next string, err error) error {
	if err != nil {
		return err
	}
	status := http.StatusFound
	if c.Method() == fiber.MethodPost {
		status = http.StatusSeeOther
	}
	return c.Redirect(next, status)
}

// chosen says what the patient lets go out.
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

// sensitive says what protected information goes out.
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

// withheldGroup is what stays for one kind of reason.
type withheldGroup struct {
	Name string
	List []counted
}

// withheldGroups explains what stays at the hospital. Reasons are category.<key>, document.<key>, sensitive.<key> and reference-only.
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
			out = append(out, withheldGroup{t.Say(name), largestFirst(groups[name])})
		}
	}
	return out
}

// largestFirst lists counts.
func largestFirst(counts map[string]int64) (out []counted) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, counted{name, counts[name]})
	}
	slices.SortStableFunc(out, func(a, b counted) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// requestFiles lists the files and documents of an approved request.
func (s *Server) requestFiles(c *fiber.Ctx, j *ehi.Job) (out []requestFile, err error) {
	err = s.jobs.EachFile(c.UserContext(), j, func(name string, f ehi.File) bool {
		out = append(out, requestFile{Name: name, Type: f.Type, URL: "/my/requests/" + j.ID + "/files/" + name, Count: f.Count, Bytes: f.Bytes})
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, a := range j.Attachments {
		out = append(out, requestFile{
			Name:  a.Name,
			URL:   "/my/requests/" + j.ID + "/documents/" + url.PathEscape(a.Name),
			Bytes: a.Size,
		})
	}
	return out, nil
}

// handleCancel ends a request at the patient's wish; what there was of it is gone.
func (s *Server) handleCancel(c *fiber.Ctx) error {
	j, next, err := s.patientsJob(c)
	if ehi.CodeOf(err) == ehi.NotFound {
		return s.patientGone(c, "/my/requests", err)
	}
	if err != nil || next != "" {
		return ahead(c, next, err)
	}
	if err := s.jobs.Delete(c.UserContext(), s.Origins.ActingPatient(c, j.Patient.ID), j); err != nil {
		return err
	}
	t := s.views.Language(c)
	return s.patientLeave(c, "/my/requests", patientFlash{Flash: page.Flash{
		Title: t.Say("cancelled.title"), Message: t.Say("cancelled.text"),
	}})
}

// handleRequestFile hands the patient a file or document of an approved request.
func (s *Server) handleRequestFile(document bool) fiber.Handler {
	return func(c *fiber.Ctx) error {
		j, next, err := s.patientsJob(c)
		if err != nil || next != "" {
			return ahead(c, next, err)
		}
		if j.Status != ehi.Approved {
			return jobs.ErrFileNotFound
		}
		e := ehi.About(ehi.ActionDisclose, j)
		e.Agent = "patient " + j.Patient.ID
		s.trail.Record(c, nil, e)
		if document {
			err = s.sender.SendDocument(c, j, c.Params("file"))
		} else {
			err = s.sendRequestFile(c, j, c.Params("file"))
		}
		request.NoStore(c) // the browser may be somebody else's a minute later
		return err
	}
}

// sendRequestFile sends a file of an approved request, for the browser to save.
func (s *Server) sendRequestFile(c *fiber.Ctx, j *ehi.Job, name string) error {
	f, err := s.jobs.FindFile(c.UserContext(), j, name)
	if err != nil {
		return err
	}
	content.SaveAs(c, name)
	return s.sender.SendOutput(c, j, f, false)
}

// handleRequestArchive hands the patient everything of an approved request at once, as a ZIP archive.
func (s *Server) handleRequestArchive(c *fiber.Ctx) error {
	j, next, err := s.patientsJob(c)
	if err != nil || next != "" {
		return ahead(c, next, err)
	}
	if j.Status != ehi.Approved {
		return jobs.ErrFileNotFound
	}
	parts, err := s.archiveParts(c, j)
	if err == nil {
		err = s.openable(j, parts)
	}
	if err != nil {
		return err
	}
	e := ehi.About(ehi.ActionDisclose, j)
	e.Agent = "patient " + j.Patient.ID
	s.trail.Record(c, nil, e)
	request.NoStore(c)
	c.Set(fiber.HeaderContentType, "application/zip")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="health-record.zip"`)
	s.sender.SendChunked(c, func(w *bufio.Writer) error { return writeArchive(w, parts) })
	return nil
}

// archivePart is a file of an archive, opened when its turn comes.
type archivePart struct {
	name string
	at   time.Time
	size int64 // bytes
	open func() (io.ReadCloser, error)
}

// openable refuses an archive of which a part is known to be damaged, and still is. Errors: jobs.ErrDamaged.
func (s *Server) openable(j *ehi.Job, parts []archivePart) error {
	known, err := s.jobs.Damaged(j.ID)
	if err != nil || len(known) == 0 {
		return err
	}
	for _, p := range parts {
		r, err := p.open()
		if err == nil {
			err = r.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) archiveParts(c *fiber.Ctx, j *ehi.Job) (out []archivePart, err error) {
	ctx := context.Background() // the request's ends before its body is written
	err = s.jobs.EachFile(c.UserContext(), j, func(name string, f ehi.File) bool {
		out = append(out, archivePart{name, j.CompletedAt, f.Bytes, func() (io.ReadCloser, error) { return s.sender.OpenPlain(ctx, jobs.StoredFile(j, f), f.Compression) }})
		return true
	})
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, a := range j.Attachments { // one of an older build may have a name that is not given out today
		name := jobs.UniqueName(a.Name, taken)
		taken[ehi.NameKey(name)] = true
		out = append(out, archivePart{"documents/" + name, a.CreatedAt, a.Size, func() (io.ReadCloser, error) {
			return s.jobs.OpenFile(ctx, jobs.StoredDocument(j, a))
		}})
	}
	return out, nil
}

func writeArchive(w io.Writer, parts []archivePart) error {
	z := zip.NewWriter(w)
	for _, p := range parts {
		if err := p.copy(z); err != nil {
			return err
		}
	}
	return z.Close()
}

func (p archivePart) copy(z *zip.Writer) (err error) {
	r, err := p.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := z.CreateHeader(&zip.FileHeader{Name: p.name, Method: zip.Deflate, Modified: p.at})
	if err != nil {
		return err
	}
	return content.CopyWhole(w, r, p.size)
}
