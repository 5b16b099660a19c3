package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
)

type doer interface {
	Do(ctx context.Context, method, target string, body io.Reader,
		header ...string) (*client.Answer, error)
}

// B1: the patient's application and backend services can read a Binary, as a resource or as its
// content.
func TestABinaryIsReadByItsPatientAlone(t *testing.T) {
	t.Parallel()
	c := config()
	c.OwnBase = []string{"https://old.example.org/r4"}
	w := start(t, t.TempDir(), c, node.Options{})
	w.load(`{"resourceType":"Patient","id":"pa"}
{"resourceType":"Patient","id":"pb"}
{"resourceType":"DocumentReference","id":"d","subject":{"reference":"https://old.example.org/r4/Patient/pa"},"content":[{"attachment":{"url":"https://old.example.org/r4/Binary/note"}}]}
{"resourceType":"Binary","id":"note","contentType":"text/html","data":"PHA+aGVsbG88L3A+"}
{"resourceType":"Binary","id":"odd","securityContext":{"reference":"Patient/pa"},"contentType":"x\r\ny","data":"eA=="}
{"resourceType":"Binary","id":"empty","securityContext":{"reference":"Patient/pa"}}
`)
	owner, other, service, narrow :=
		w.patient("pa"), w.patient("pb"), w.service("system/*.rs"), w.service("system/Patient.rs")
	const fhirJSON, html = "application/fhir+json", "text/html"
	for _, x := range []struct {
		name, id, accept string
		status           int
		mime, body       string
	}{
		{"content", "note", "*/*", 200, html, "<p>hello</p>"},
		{"content by its type", "note", html, 200, html, "<p>hello</p>"},
		{"resource", "note", fhirJSON, 200, fhirJSON, `"data":"PHA+aGVsbG88L3A+"`},
		{"content by weight", "note", fhirJSON + ";q=0.1, " + html, 200, html, "<p>hello</p>"},
		{
			"resource by weight", "note", fhirJSON + ", " + html + ";q=0.1", 200, fhirJSON,
			`"data":"PHA`,
		},
		{"no resource", "note", fhirJSON + ";q=0, */*", 200, html, "<p>hello</p>"},
		{"FHIR's XML", "note", "application/fhir+xml", 406, fhirJSON, "Unsupported value"},
		{"an odd type", "odd", "*/*", 200, "application/octet-stream", "x"},
		{"no content", "empty", "*/*", 200, fhirJSON, `"id":"empty"`},
		{"absent", "absent", "*/*", 404, fhirJSON, "Binary not found"},
	} {
		for who, c := range map[string]doer{"the patient": owner, "a service": service} {
			a, err := c.Do(t.Context(), http.MethodGet, "/fhir/Binary/"+x.id, nil, "Accept",
				x.accept)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != x.status || !strings.HasPrefix(a.Header.Get("Content-Type"), x.mime) ||
				!strings.Contains(string(a.Body), x.body) {
				t.Errorf("%s for %s: %d %s %s", x.name, who, a.Status, a.Header.Get("Content-Type"),
					a.Body)
			}
			if x.status == 200 && x.mime != fhirJSON &&
				!strings.HasPrefix(a.Header.Get("Content-Disposition"), "attachment") {
				t.Errorf("%s for %s can run: %v", x.name, who, a.Header)
			}
		}
	}
	for who, c := range map[string]struct {
		doer
		status int
	}{
		"another patient":             {other, 404},
		"nobody":                      {w.open, 401},
		"a service without the scope": {narrow, 403},
	} {
		a, err := c.Do(t.Context(), http.MethodGet, "/fhir/Binary/note", nil)
		if err != nil || a.Status != c.status {
			t.Errorf("%s: %+v, %v", who, a, err)
		}
	}
	m := w.manifest(owner, w.kickOff(owner, "/no-form/auto-approve", "pa", nil))
	got, _ := w.download(owner, m)
	if got["Binary/note"] == nil || got["Binary/odd"] == nil || len(got) != 5 {
		t.Errorf("the export holds %v", got)
	}
}

// B6: an import through a server reports what belongs to nobody, and fails for that if it is
// strict.
func TestAnImportTellsWhatBelongsToNobody(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for _, x := range []struct {
		query  string
		status int
	}{{"", 200}, {"?strict=true", 400}} {
		a, err := w.admin.Do(t.Context(), http.MethodPost, "/admin/import"+x.query,
			strings.NewReader(`{"resourceType":"Observation","id":"lost",`+
				`"subject":{"reference":"Patient/absent"}}`), "Content-Type",
			"application/fhir+ndjson")
		if err != nil {
			t.Fatal(err)
		}
		var r source.Report
		err = json.Unmarshal(a.Body, &r)
		if err != nil || a.Status != x.status ||
			r.Unplaced["Observation"] != (source.UnplacedType{
				Count:   1,
				Example: "Observation/lost",
			}) {
			t.Errorf("%q: %d %s, %v", x.query, a.Status, a.Body, err)
		}
	}
}

// B6: in a strict import of several files through a server, a file may precede the file with its
// patients. The last report decides.
func TestAStrictImportOfSeveralFilesWaitsForTheLast(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	send := func(line string) source.Report {
		t.Helper()
		o := client.ImportOptions{Name: "lines", Strict: true}
		r, err := w.admin.Import(t.Context(), o, func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(line)), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	early := send(
		`{"resourceType":"Observation","id":"early","subject":{"reference":"Patient/later"}}`)
	if early.Unplaced["Observation"].Count != 1 {
		t.Errorf("before its patient: %+v", early)
	}
	if last := send(`{"resourceType":"Patient","id":"later"}`); len(last.Unplaced) != 0 {
		t.Errorf("with its patient: %+v", last)
	}
}
