package patient

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/auth"
	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

const formPath = "/jobs/j/customize"

// shown is a page that a reader has open.
type shown struct {
	*reader
	code     int
	at, text string
}

// visit opens a page of the form, through redirects to such pages.
func (s *shown) visit(path string) {
	s.t.Helper()
	for range 5 {
		a := s.ask("GET", path, "")
		s.code, s.at, s.text = a.StatusCode(), path, string(a.Body())
		to := string(a.Header.Peek("Location"))
		if to == "" || !s.leads(to) {
			return
		}
		path = s.at
	}
	s.t.Fatalf("%s leads in circles", path)
}

// leads goes where an answer leads, and reports whether that is a page of the form.
func (s *shown) leads(to string) bool {
	s.t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.at = to; u.Host == "" || u.Host == "server.test" {
		s.at = u.RequestURI()
	}
	return strings.HasPrefix(s.at, "/jobs/")
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"[^>]*>`)

// fields are the form's hidden fields, and what a patient fills in.
func (s *shown) fields(fill ...string) url.Values {
	v := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(s.text, -1) {
		v.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	for pair := range slices.Chunk(fill, 2) {
		v.Set(pair[0], pair[1])
	}
	return v
}

// submit sends the form, and opens the page of the form that the answer leads to.
func (s *shown) submit(fill ...string) {
	s.t.Helper()
	a := s.ask("POST", "/jobs/j", s.fields(fill...).Encode())
	to := string(a.Header.Peek("Location"))
	if s.code, s.text = a.StatusCode(), string(a.Body()); s.code != http.StatusSeeOther {
		s.t.Fatalf("the form is answered with %d %s", s.code, s.text)
	}
	if s.leads(to) {
		s.visit(s.at)
	}
}

func (s *shown) sees(code int, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if s.code != code || !strings.Contains(s.text, text) {
			s.t.Fatalf("%s: %d, %q is not on the page:\n%s", s.at, s.code, text, s.text)
		}
	}
}

// counted opens a form whose counts are known: ten entries for each line.
func counted(t *testing.T) *shown {
	t.Helper()
	r := newReader(t)
	r.jobs.counts = func(form ehi.ReleaseForm) release.Counts {
		n := release.Counts{
			Categories:     map[ehi.Category]release.Tally{},
			Authorizations: map[ehi.Authorization]release.Tally{},
		}
		for _, c := range ehi.Categories() {
			tally := release.Tally{Stored: 10}
			if _, chosen := form.Parameters[c.Key]; chosen {
				tally.Released = 10
			}
			n.Categories[c.Key] = tally
			n.All.Stored += tally.Stored
			n.All.Released += tally.Released
		}
		return n
	}
	s := &shown{reader: r}
	s.visit(formPath)
	s.sees(200, "Choose what to share", "In your record: ")
	return s
}

var promise = regexp.MustCompile(`With these choices, [\d,]+ of [\d,]+ entr`)

// All problems are shown together and next to their lines.
func TestTheFormShowsAllProblemsTogether(t *testing.T) {
	s := counted(t)
	s.submit("p.labs", "on", "p.labs.from", "31.1.2020", "p.visits", "on", "p.visits.from",
		"2020-02-01", "p.visits.to", "2019-01-01", "p.billing.notes", "a note", "p.other", "on",
		"p.other.to", "2999-01-01", "p.radiology", "on", "p.radiology.notes",
		strings.Repeat("x", 201), "a.genetic", "on", "a.genetic.text", strings.Repeat("y", 201))
	s.sees(400, `href="#p-labs-from">Lab results: enter each date`,
		`href="#p-visits-from">Clinic visits: the first date must not be after`,
		`href="#p-other-to">Other documents: the date cannot be in the future`,
		`href="#p-radiology-notes">X-rays and other images: enter no more than 200`,
		`href="#a-genetic-text">Genetic tests: enter no more than 200`, `id="p-labs-wrong"`,
		`value="31.1.2020"`)
	if strings.Contains(s.text, "invalid form") || s.jobs.form != nil {
		t.Errorf("the wire's own words are on the page, or it is taken: %+v", s.jobs.form)
	}
}

// The choices stay, also after a reload and in another language, and a form that was open for too
// long comes back with them.
func TestTheFormKeepsChoicesAndShowsAllProblems(t *testing.T) {
	s := counted(t)
	s.submit("p.labs", "on", "p.visits", "on", "p.visits.from", "2020-02-01", "a.hiv", "on",
		"a.genetic", "on", "a.genetic.text", "BRCA", "do", "preview")
	s.sees(200, "would be shared")
	for _, address := range []string{formPath, formPath + "?lang=es"} {
		s.visit(address)
		s.sees(200,
			`name="p.labs" value="on" aria-describedby="p-labs-hint p-labs-count" checked`,
			`value="2020-02-01"`,
			`name="a.hiv" value="on" aria-describedby="a-hiv-count" checked`,
			`value="BRCA"`)
	}
	s.sees(200, `lang="es"`, "Elija qué compartir", "Resultados de laboratorio")
	s.visit(formPath)
	s.sees(200, "Elija qué compartir") // the choice of the language is remembered
	s.submit("p.visits", "on", "lang", "en")
	s.sees(200, "Choose what to share",
		`name="p.visits" value="on" aria-describedby="p-visits-hint p-visits-count" checked`)

	s.submit("interaction", "expired", "p.labs", "on")
	s.sees(http.StatusForbidden, "open for too long",
		`name="p.labs" value="on" aria-describedby="p-labs-hint p-labs-count" checked`)
	s.submit("p.labs", "on")
	if s.at != "/my/requests/j" || s.jobs.form == nil {
		t.Errorf("it leads to %s, and taken is %+v", s.at, s.jobs.form)
	}
	if draft, err := s.form.Kept.In(t.Context()).Get(DraftKey("j")); err != nil || draft != nil {
		t.Errorf("the choices stay: %s, %v", draft, err)
	}
	s.visit(formPath)
	if s.at != "/my/requests/j" { // never a form that cannot be sent
		t.Errorf("the form leads to %s", s.at)
	}
	s.session = ""
	s.visit(formPath)
	if !strings.HasPrefix(s.at, "/patient-login?") {
		t.Errorf("a stranger is led to %s", s.at)
	}
}

// The page's script requests the counts as JSON, in the session of the page alone.
func TestThePagesScriptGetsCounts(t *testing.T) {
	s := counted(t)
	preview := s.fields("p.labs", "on", "do", "preview").Encode()
	s.session = ""
	a := s.ask("POST", "/jobs/j", preview, "Accept", "application/json")
	if a.StatusCode() != http.StatusForbidden {
		t.Errorf("the page's token without its session: %d %s", a.StatusCode(), a.Body())
	}
	s.session = "session"
	a = s.ask("POST", "/jobs/j", preview, "Accept", "application/json")
	var said struct {
		Counts map[string]string `json:"counts"`
	}
	if a.StatusCode() != 200 || json.Unmarshal(a.Body(), &said) != nil ||
		!strings.Contains(said.Counts["p.labs"], "would be shared") ||
		!strings.Contains(said.Counts["sum"], "With these choices") ||
		string(a.Header.Peek("Cache-Control")) != "no-store" {
		t.Errorf("%d %s", a.StatusCode(), a.Body())
	}
}

// hiddenInput is invalid input in fields of lines that are not selected.
var hiddenInput = []string{
	"p.visits.from", "2020-02-01", "p.visits.to", "2019-01-01", "p.billing.from", "never",
	"p.other.to", "2999-01-01", "p.radiology.notes", strings.Repeat("x", 300),
	"p.medicalRecord.from", "soon",
}

// Hidden fields are ignored: invalid dates and notes of lines that are not selected.
func TestTheFormIgnoresWhatItHides(t *testing.T) {
	s := counted(t)
	s.submit(append(hiddenInput, "p.labs", "on", "do", "preview")...)
	if strings.Contains(s.text, `id="summary"`) || !promise.MatchString(s.text) {
		t.Errorf("something hidden is called a problem:\n%s", s.text)
	}
	s.submit(append(hiddenInput, "p.labs", "on", "p.medicalRecord", "on")...)
	if s.jobs.form == nil {
		t.Fatalf("it is not taken: %s", s.text)
	}
	_, visits := s.jobs.form.Parameters[ehi.Visits]
	if _, labs := s.jobs.form.Parameters[ehi.Labs]; visits || !labs {
		t.Errorf("the form said %+v", s.jobs.form.Parameters)
	}

	s = counted(t) // the same for JSON
	a := s.ask("POST", "/jobs/j", `{"parameters":{"labs":{"enabled":true},"visits":`+
		`{"enabled":false,"from":"2020-02-01","to":"2019-01-01"},"radiology":`+
		`{"enabled":false,"notes":"`+strings.Repeat("x", 300)+`"}},"authorizations":{}}`,
		"Content-Type", fiber.MIMEApplicationJSON, "X-Interaction-Token",
		s.fields().Get("interaction"))
	if a.StatusCode() != 200 || s.jobs.form == nil || len(s.jobs.form.Parameters) != 1 {
		t.Errorf("%d %s, and taken is %+v", a.StatusCode(), a.Body(), s.jobs.form)
	}
}

// The server accepts what the browser lets people type, in their letters.
func TestANoteIsMeasuredInLetters(t *testing.T) {
	s := counted(t)
	s.submit("p.labs", "on", "p.labs.notes", strings.Repeat("ñ", 201))
	s.sees(400, "enter no more than 200 characters")
	s.submit("p.labs", "on", "p.labs.notes", strings.Repeat("ñ", 200))
	if s.jobs.form == nil {
		t.Errorf("200 letters are not taken: %d %s", s.code, s.text)
	}
}

// An invalid date does not affect the counts of other lines.
func TestALineWithAProblemIsNotCounted(t *testing.T) {
	s := counted(t)
	s.submit("p.labs", "on", "do", "preview")
	labs := promise.FindString(s.text)
	s.submit("p.labs", "on", "p.visits", "on", "p.visits.from", "2020-02-01", "p.visits.to",
		"2019-01-01", "do", "preview")
	s.sees(200,
		`id="p-visits-wrong" data-wrong="p.visits">Clinic visits: the first date must not be after`,
		`aria-describedby="p-visits-wrong" aria-invalid="true"`)
	if got := promise.FindString(s.text); got == "" || got != labs {
		t.Errorf("beside a wrong line: %q, without it: %q", got, labs)
	}
}

// EHI-7: the server reads the address of the application as browsers do. If browsers may not
// follow it, each page of the form says so, and the form can still be sent.
func TestEHI7AFormLeadsBackAsBrowsersReadTheAddress(t *testing.T) {
	const refused = "We cannot take you back to the app"
	for redirect, back := range map[string]string{
		"http:/app.example/done":                  "http://app.example/done",
		` HTTP:\\APP.example:80\do` + "\t" + `ne`: "http://app.example/done",
		"http://app.example@evil.example/":        "",
		"javascript:alert(1)":                     "",
		"/done":                                   "",
	} {
		s := counted(t)
		ways, err := auth.New(t.Context(), auth.Config{
			KV: s.bus.Auth, Issuer: "http://server.test", Sandbox: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ways.Close)
		s.form.Auth, s.jobs.job.ClientID = ways, auth.SandboxClientID
		s.session = ""
		s.visit(formPath + "?" + url.Values{"redirect": {redirect}}.Encode())
		login, err := url.Parse(s.at)
		if err != nil || login.Path != "/patient-login" {
			t.Fatalf("%q: a stranger is led to %s", redirect, s.at)
		}
		s.session = "session"
		s.visit(login.Query().Get("action"))
		s.sees(200, "Choose what to share")
		if strings.Contains(s.text, refused) != (back == "") {
			t.Errorf("%q: the form says otherwise", redirect)
		}
		for _, fill := range [][]string{
			{"do", "preview"},
			{"lang", "es"},
			{"lang", "en"},
			{"p.visits", "on", "p.visits.from", "2020", "p.visits.to", "x"},
		} {
			s.submit(fill...)
			said := strings.Contains(s.text, refused) ||
				strings.Contains(s.text, "No podemos llevarle de vuelta")
			if said != (back == "") {
				t.Errorf("%q: after %v the form says otherwise:\n%s", redirect, fill, s.text)
			}
		}
		s.submit("p.labs", "on", "p.visits", "")
		if back == "" {
			back = "/my/requests/j"
		}
		if s.at != back || s.jobs.form == nil {
			t.Errorf("%q led to %s", redirect, s.at)
		}
	}
}

// In a sandbox, a browser may name the patient instead of signing in, but an application with a
// token may not. No token gives access to the contents of the patient's form.
func TestATokenCannotUseTheSandboxsShortcut(t *testing.T) {
	s := counted(t)
	s.form.Sandbox, s.session = true, ""
	s.visit(formPath + "?_patient=p")
	s.sees(200, "Choose what to share")
	a := s.ask("GET", formPath+"?_patient=p", "", "Authorization", "Bearer token")
	if a.StatusCode() == 200 || strings.Contains(string(a.Body()), "interaction") {
		t.Errorf("with a token: %d %.300s", a.StatusCode(), a.Body())
	}
}

// While a record is being counted, the form appears without numbers and says that counting goes
// on. It gets the numbers when they are known.
func TestTheFormDoesNotWaitForALargeRecord(t *testing.T) {
	known := counted(t).jobs.counts
	s := &shown{reader: newReader(t)}
	s.visit(formPath)
	s.sees(200, "We are still counting the entries in your record", "data-counting", "Visits")
	if strings.Contains(s.text, "would be shared.") {
		t.Error("the form has a number that nobody counted")
	}
	if s.jobs.wait <= 0 || s.jobs.wait > time.Second {
		t.Errorf("the page waits %v for the numbers", s.jobs.wait)
	}
	s.jobs.counts = known
	s.visit(formPath)
	s.sees(200, "With these choices")
	if strings.Contains(s.text, "data-counting") {
		t.Error("the form still waits for numbers that it has")
	}
}

// F1: if a line has dates, the form says how many of its entries are not shared because they have
// no date.
func TestTheFormTellsWhatHasNoDate(t *testing.T) {
	s := counted(t)
	s.jobs.counts = func(form ehi.ReleaseForm) (n release.Counts) {
		tally := release.Tally{Stored: 3, Released: 3}
		if form.Parameters[ehi.Visits].From != "" {
			tally = release.Tally{Stored: 3, Released: 1, Undated: 1}
		}
		n.Categories = map[ehi.Category]release.Tally{ehi.Visits: tally}
		return n
	}
	s.submit("p.visits", "on", "do", "preview")
	s.sees(200, "3 of 3 entries would be shared")
	s.submit("p.visits", "on", "p.visits.from", "2019-01-01", "do", "preview")
	s.sees(200, "1 of 3 entries would be shared. Not shared because of the dates you entered: "+
		"1 entry without a date")
}

// NAT-4: what the form cannot tell exactly it says so: upper limits, what an administrator decides
// about, and documents that nobody has read.
func TestTheFormSaysWhichNumbersAreUpperLimits(t *testing.T) {
	s := counted(t)
	s.jobs.counts = func(ehi.ReleaseForm) (n release.Counts) {
		tally := release.Tally{Stored: 3, Released: 2, AtMost: true}
		n.All, n.Waiting, n.Unread = tally, 2, true
		n.Categories = map[ehi.Category]release.Tally{ehi.Labs: tally}
		return n
	}
	s.submit("p.labs", "on", "do", "preview")
	s.sees(200, ">Up to 2 of 3 entries would be shared<",
		"With these choices, up to 2 of 3 entries would be shared. "+
			"Of none of these kinds: 2 entries. The hospital decides about that separately.",
		`data-count="p.visits">Your record has no entries of this kind<`,
		`data-count="a.hiv">We found no entries of this kind, but we have not checked`)
}
