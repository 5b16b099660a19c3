package server

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/worker"
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
	Count     int64 // resources; 0 for a document
	Bytes     int64
}

// stage is a step of a request, in the patient's words.
type stage struct {
	Name      string
	Done, Now bool
}

// stagesOf are the steps that a request goes through, as far as it is.
func stagesOf(at ehi.Status) []stage {
	order := []ehi.Status{ehi.AwaitingInput, ehi.Requested, ehi.Retrieved, ehi.Approved}
	out := []stage{{Name: "You choose what goes out"}, {Name: "The hospital's computer puts the copy together"}, {Name: "Somebody at the hospital looks at it"}, {Name: "Your copy is ready"}}
	now := slices.Index(order, at)
	for i := range out {
		out[i].Done, out[i].Now = i < now || at == ehi.Approved, i == now
	}
	return out
}

// endings are how a request ends otherwise.
var endings = map[ehi.Status]string{
	ehi.Rejected: "The hospital did not release this copy. Ask the hospital why; you have a right to know.",
	ehi.Failed:   "The copy could not be made. This is not your fault. Ask the application to start again, or ask the hospital for help.",
}

// patientsJob is the job of the path, where it is of the patient who is logged in. next is where a visitor has to go first, "" for nowhere.
func (s *Server) patientsJob(c *fiber.Ctx) (j *ehi.Job, next string, err error) {
	patient, err := s.loggedIn(c)
	if err != nil {
		return nil, "", err
	}
	if patient == "" {
		return nil, "/patient-login?" + url.Values{"action": {c.OriginalURL()}}.Encode(), nil
	}
	if j, err = s.job(c); err != nil {
		return nil, "", err
	}
	if j.Level != ehi.OnePatient || j.Patient.ID != patient || j.Status == ehi.Aborted {
		return nil, "", errJobNotFound
	}
	return j, "", nil
}

// handleRequest shows the patient how a request stands, and the files when they may be had. While a machine works, the page comes again by itself.
func (s *Server) handleRequest(c *fiber.Ctx) error {
	j, next, err := s.patientsJob(c)
	if err != nil || next != "" {
		return ahead(c, next, err)
	}
	page := fiber.Map{
		"Title": "Your request", "Job": j, "CSRF": c.Locals("csrf"), "Stages": stagesOf(j.Status),
		"Ending": endings[j.Status], "Application": s.Auth.ClientName(j.ClientID), "Refresh": j.Status == ehi.Requested, "CanCancel": !j.Status.Settled(), "Made": j.CreatedAt.Format(dayAndTime),
		"Chosen": chosen(j.Form), "Sensitive": sensitive(j.Form), "Everything": j.Form == nil, "Withheld": inWords(j.Withheld, reasonWords), "Counts": inWords(j.Counts, nil),
	}
	if p, known := s.progress.of(j.ID); known && j.Status == ehi.Requested {
		page["Percent"] = p.Percent()
	}
	if j.Status == ehi.Approved {
		page["Until"] = j.ExpiresAt.Format(dayAndTime)
		if page["Files"], err = s.requestFiles(c, j); err != nil {
			return err
		}
	}
	noStore(c)
	return c.Render("request", page, "layout")
}

const dayAndTime = "2 January 2006, 15:04 MST"

// ahead sends a visitor where he has to go first, or answers an error.
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
func chosen(f *ehi.ReleaseForm) (out []string) {
	if f == nil {
		return nil
	}
	for _, c := range ehi.Categories() {
		choice, on := f.Parameters[c.Key]
		if !on {
			continue
		}
		line := c.Name
		if choice.From != "" {
			line += ", from " + choice.From
		}
		if choice.To != "" {
			line += ", up to " + choice.To
		}
		out = append(out, line)
	}
	return out
}

// sensitive says what protected information goes out.
func sensitive(f *ehi.ReleaseForm) (out []string) {
	if f == nil {
		return nil
	}
	for _, a := range ehi.Authorizations() {
		value, on := f.Authorizations[a.Key]
		if !on {
			continue
		}
		line := a.Name
		if a.Text {
			line += ": " + value
		}
		out = append(out, line)
	}
	return out
}

// reasonWords explains why something stays at the hospital.
func reasonWords(reason string) string {
	kind, key, _ := strings.Cut(reason, ".")
	for _, a := range ehi.Authorizations() {
		if kind == "sensitive" && string(a.Key) == key {
			return "Protected, and not allowed by you: " + a.Name
		}
	}
	for _, c := range ehi.Categories() {
		if kind != "sensitive" && string(c.Key) == key {
			return "Not chosen by you, or of other dates: " + c.Name
		}
	}
	return "About something that stays, and nothing else"
}

// inWords lists counts, the largest first, under names in words.
func inWords(counts map[string]int64, words func(string) string) (out []counted) {
	sum := map[string]int64{}
	for name, n := range counts {
		if words != nil {
			name = words(name)
		}
		sum[name] += n
	}
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		out = append(out, counted{name, sum[name]})
	}
	slices.SortStableFunc(out, func(a, b counted) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// requestFiles lists the files and documents of an approved request.
func (s *Server) requestFiles(c *fiber.Ctx, j *ehi.Job) (out []requestFile, err error) {
	for n := range j.Tasks {
		t, err := s.committed(c.UserContext(), j, n)
		if err != nil {
			return nil, err
		}
		for i, f := range t.Files {
			name := fileName(j, t, i)
			out = append(out, requestFile{Name: name, URL: "/my/requests/" + j.ID + "/files/" + name, Count: f.Count, Bytes: f.Bytes})
		}
	}
	for _, a := range j.Attachments {
		out = append(out, requestFile{Name: a.Name, URL: "/my/requests/" + j.ID + "/documents/" + escapeName(a.Name), Bytes: a.Size})
	}
	return out, nil
}

// handleCancel ends a request at the patient's wish; what there was of it is gone.
func (s *Server) handleCancel(c *fiber.Ctx) error {
	j, next, err := s.patientsJob(c)
	if err != nil || next != "" {
		return ahead(c, next, err)
	}
	err = worker.Delete(c.UserContext(), s.Bus, s.Files, j.ID, nil)
	e := aboutJob(ehi.ActionDelete, j)
	e.Agent = "patient " + j.Patient.ID
	s.audit(c, err, e)
	if err != nil {
		return err
	}
	noStore(c)
	return c.Render("message", fiber.Map{"Title": "Your request was cancelled", "Text": "Nothing went out, and what was put together is deleted. You can close this page."}, "layout")
}

// handleRequestFile hands the patient a file or document of an approved request.
func (s *Server) handleRequestFile(document bool) fiber.Handler {
	return func(c *fiber.Ctx) error {
		j, next, err := s.patientsJob(c)
		if err != nil || next != "" {
			return ahead(c, next, err)
		}
		if j.Status != ehi.Approved {
			return errFileNotFound
		}
		e := aboutJob(ehi.ActionDisclose, j)
		e.Agent = "patient " + j.Patient.ID
		s.audit(c, nil, e)
		if document {
			err = s.sendDocument(c, j)
		} else {
			name := c.Params("file")
			c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+escapeName(name)+`"`)
			err = s.sendOutput(c, j, name, false)
		}
		noStore(c) // the browser may be somebody else's a minute later
		return err
	}
}
