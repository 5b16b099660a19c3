package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/jobs"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/shared/ehi"
)

// hold exports native content for the export j: a scan, tables, and what waits for a decision,
// which is a table and some letters.
func (b *seat) hold(letters int, change ...func(*ehi.Job)) *ehi.Job {
	b.t.Helper()
	content := nativetest.NewRecord(b.t,
		nativetest.Document(b.t, b.t.TempDir(), "scan.pdf", ehi.MedicalRecord,
			[]byte(strings.Repeat("scan ", 40_000))))
	for i := range letters {
		d := nativetest.Document(b.t, "", fmt.Sprintf("letter %d.html", i+1), "",
			[]byte("<script>alert(1)</script>"))
		d.ContentType = "text/html"
		content.Files = append(content.Files, d)
	}
	return b.export(content, change...)
}

const (
	heldAPI    = "/admin/jobs/j/held"
	heldForm   = "/admin/ui/jobs/j/held"
	heldLetter = "documents/r000001-letter 1.html"
)

// NAT-4: reviewers list what waits by the JSON API, release and withhold it by name, and see in
// the job how much of it waits. Viewers do none of that.
func TestNAT4ReviewersDecideByTheAPI(t *testing.T) {
	r := newReviewed(t)
	r.hold(2)
	var list []jobs.Held
	a := r.rita.wants("GET", heldAPI, "", 200, "")
	if err := json.Unmarshal(a.Body(), &list); err != nil || len(list) != 3 ||
		list[0].Name != heldLetter || list[0].Size != 25 || list[0].Released ||
		!slices.Equal(list[2].With, []string{"tables/oddity~datapackage.json"}) {
		t.Fatalf("%s: %v", a.Body(), err)
	}
	after := strings.ReplaceAll(heldLetter, " ", "%20")
	a = r.rita.wants("GET", heldAPI+"?limit=1&after="+after, "", 200, "")
	if err := json.Unmarshal(a.Body(), &list); err != nil || len(list) != 1 ||
		!strings.HasSuffix(list[0].Name, "letter 2.html") {
		t.Errorf("%s: %v", a.Body(), err)
	}
	r.rita.wants("GET", "/admin/jobs/j", "", 200, `"held":{"waiting":3,"released":0}`)
	// seen adds the contents of the job as it is
	seen := func(body string) string {
		var j struct{ Contents string }
		a := r.rita.wants("GET", "/admin/jobs/j", "", 200, "")
		if err := json.Unmarshal(a.Body(), &j); err != nil || j.Contents == "" {
			t.Fatal(j, err)
		}
		return strings.TrimSuffix(body, "}") + `,"contents":"` + j.Contents + `"}`
	}
	release := `{"release":["` + heldLetter + `"]}`
	r.rita.wants("POST", heldAPI, release, 400, `\"contents\" is missing`)
	once := seen(release)
	r.rita.wants("POST", heldAPI, once, 200, `"held":{"waiting":2,"released":1}`)
	r.rita.wants("GET", heldAPI, "", 200, `"released":true`)
	r.rita.wants("POST", heldAPI, once, 400, "has changed since you looked at it")
	r.rita.wants("POST", heldAPI,
		seen(`{"withhold":["`+heldLetter+`"],"release":["tables/oddity.csv"]}`), 200,
		`"held":{"waiting":2,"released":1}`)

	r.rita.wants("GET", heldAPI+"?limit=0", "", 400, "limit")
	for body, says := range map[string]string{
		`{}`:                                "names of documents",
		`{"release":"x"}`:                   "names of documents",
		``:                                  "names of documents",
		`{"release":["a"],"release":["b"]}`: `two fields`,
		seen(`{"release":["a"],"withhold":["a"]}`):          "to be released and withheld",
		seen(`{"release":["` + heldLetter + `","../x"]}`):   "needs a decision",
		seen(`{"release":["tables/../tables/oddity.csv"]}`): "needs a decision",
		`{"release":["x"],"contents":"something else"}`:     "has changed since you looked at it",
	} {
		status := http.StatusBadRequest
		if says == "needs a decision" {
			status = http.StatusNotFound
		}
		r.rita.wants("POST", heldAPI, body, status, says)
	}
	r.rita.wants("GET", "/admin/jobs/j", "", 200, `"held":{"waiting":2,"released":1}`)
	r.vera.wants("GET", heldAPI, "", 403, "role")
	r.vera.wants("POST", heldAPI, release, 403, "role")
	stranger := r.another()
	stranger.wants("GET", heldAPI, "", 401, "")
	stranger.wants("POST", heldAPI, release, 401, "")
	r.rita.wants("GET", "/admin/jobs/none/held", "", 404, "")
}

// NAT-4: the page of an export lists what waits, opens it safely, and releases or withholds it one
// by one or all at once. The list of exports says that something waits.
func TestNAT4ReviewersDecideOnThePage(t *testing.T) {
	r := newReviewed(t)
	r.hold(1)
	const page = "/admin/ui/jobs/j"
	r.visit("/admin/ui/jobs", 200, "2 to decide about")
	r.visit(page, 200, "Waiting for your decision", "About letter 1.html", "text/html", "25 bytes",
		"2 withheld, 0 released", "What you do not release stays withheld",
		"Release all withheld (2)", `aria-label="Release tables/oddity.csv"`,
		`href="`+page+`/held/tables/oddity~datapackage.json"`)

	letter := r.ask("GET", page+"/held/"+strings.ReplaceAll(heldLetter, " ", "%20"), "",
		"Accept", "text/html")
	if letter.StatusCode() != 200 ||
		!strings.HasPrefix(string(letter.Header.Peek("Content-Disposition")), "attachment") ||
		!strings.Contains(string(letter.Header.Peek("Content-Security-Policy")), "sandbox") ||
		string(letter.Header.Peek("Cache-Control")) != "no-store" {
		t.Errorf("%d %s", letter.StatusCode(), &letter.Header)
	}
	table := r.ask("GET", page+"/held/tables/oddity.csv", "", "Accept", "text/html")
	if string(table.Header.ContentType()) != "text/plain; charset=utf-8" ||
		string(table.Header.Peek("X-Content-Type-Options")) != "nosniff" ||
		!strings.Contains(string(table.Header.Peek("Content-Security-Policy")), "sandbox") ||
		!strings.Contains(string(table.Body()), "<script>") {
		t.Errorf("%s %s", &table.Header, table.Body())
	}
	for _, name := range []string{
		"documents/000001-scan.pdf", "tables/visit.csv", "documents/oddity.csv",
		"documents/none.pdf",
	} {
		r.rita.wants("GET", page+"/held/"+name, "", 404, "no such file")
	}
	r.rita.wants("GET", page+"/held/tables/..%2Ftables%2Foddity.csv", "", 404, "")
	r.vera.wants("GET", page+"/held/tables/oddity.csv", "", 403, "")

	r.visit(page, 200)
	stale := r.page
	r.sees(r.submit(heldForm, "do", "release"), 200, "1 withheld, 1 released",
		"Withhold all released (1)", `aria-label="Withhold `+heldLetter+`"`)
	r.sees(r.submit(heldForm, "do", "withhold"), 200, "2 withheld, 0 released")
	r.sees(r.submit(heldForm), 400, "Choose whether to release or to withhold")
	r.visit(page, 200)
	r.sees(r.submit(heldForm, "do", "release", "name", ""), 200, "0 withheld, 2 released")
	r.page = stale
	r.sees(r.submit(heldForm, "do", "withhold"), 400, "has changed since you looked at it")
	r.visit("/admin/ui/jobs", 200)
	if strings.Contains(r.page, "to decide about") {
		t.Error("the list says that something waits")
	}
}

// NAT-4: a viewer learns how much waits, but no names. The list of many is divided into pages.
func TestNAT4ManyWaitOnPages(t *testing.T) {
	r := newReviewed(t)
	r.hold(150)
	r.visit("/admin/ui/jobs/j", 200, "151 withheld", "About letter 100.html",
		`href="/admin/ui/jobs/j?held=documents%2Fr000100-letter&#43;100.html#held"`)
	if strings.Contains(r.page, "About letter 101.html") {
		t.Error("the first page has more than 100")
	}
	r.visit("/admin/ui/jobs/j?held=documents%2Fr000100-letter+100.html", 200,
		"About letter 101.html", "About letter 150.html", "tables/oddity.csv")
	if strings.Contains(r.page, "About letter 100.html") || strings.Contains(r.page, ">Next<") {
		t.Error("the second page is not the rest")
	}
	a := r.vera.ask("GET", "/admin/ui/jobs/j", "", "Accept", "text/html")
	if page := string(a.Body()); !strings.Contains(page, "151 withheld") ||
		strings.Contains(page, "letter") {
		t.Errorf("a viewer sees %s", page)
	}
}

// NAT-2: the page of an export lists its archives, and shows nothing of their bytes.
func TestNAT2ReviewersSeeThatThereAreArchives(t *testing.T) {
	r := newReviewed(t)
	r.hold(0, func(j *ehi.Job) { j.KickOff.Package = ehi.PackageZIP })
	r.visit("/admin/ui/jobs/j", 200, "<td>native-1.zip</td>",
		"documents.DocumentReference.ndjson</a>")
	r.rita.wants("GET", "/admin/ui/jobs/j/files/native-1.zip", "", 404, "no such file")
}
