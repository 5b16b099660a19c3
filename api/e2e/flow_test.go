package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/release/expected"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/records"
)

func nil2all(bus.Summary) bool { return true }

// do sends a request that must get a response.
func (w *world) do(c *client.Client, method, target string, header ...string) *client.Answer {
	w.t.Helper()
	a, err := c.Do(w.t.Context(), method, target, nil, header...)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// want requires a status and, unless "", a text in the body.
func (w *world) want(a *client.Answer, status int, text string) {
	w.t.Helper()
	if a.Status != status || !strings.Contains(string(a.Body), text) {
		w.t.Errorf("answered %d %.300s, want %d %s", a.Status, a.Body, status, text)
	}
}

// wantOutcome requires an OperationOutcome (EHI-16).
func (w *world) wantOutcome(a *client.Answer, status int, text string) {
	w.t.Helper()
	w.want(a, status, text)
	var o struct {
		ResourceType string `json:"resourceType"`
		Issue        []struct{ Severity, Code, Diagnostics string }
	}
	err := json.Unmarshal(a.Body, &o)
	if err != nil || o.ResourceType != "OperationOutcome" || len(o.Issue) != 1 ||
		o.Issue[0].Diagnostics == "" {
		w.t.Errorf("no OperationOutcome: %.300s, %v", a.Body, err)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/fhir+json; charset=utf-8" {
		w.t.Errorf("content type %q", ct)
	}
}

// The complete export of a real record, on each of the five kick-off paths (EHI-1).
func TestEHI1WholeFlowOnEachPath(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	full, _ := w.export(alfredo, nil)
	for _, base := range []string{
		"", "/no-form", "/auto-approve", "/no-form/auto-approve", "/auto-approve/no-form",
	} {
		t.Run("path "+base, func(t *testing.T) {
			w.t = t
			w.flow(base, full)
		})
	}
}

func (w *world) flow(base string, full map[string]records.Resource) {
	t := w.t
	pat := w.patient(alfredo)
	j := w.kickOff(pat, base, alfredo, nil)
	withForm, auto := !strings.Contains(base, "no-form"), strings.Contains(base, "auto-approve")
	if withForm != (j.Link != "") { // EHI-2: the bare form is for test_client_id
		t.Errorf("Link %q", j.Link)
	}
	chosen := newForm("labs", "visits", "radiology", "a:hiv").dates("visits", "2012", "2019-06")
	if withForm {
		w.openForm(pat, j, chosen)
	}
	if auto {
		got, text := w.download(pat, w.manifest(pat, j))
		if !withForm {
			sameExport(t, full, got)
		} else if strings.Contains(text, `"resourceType":"Claim"`) {
			t.Error("a claim was released")
		}
	} else {
		w.review(pat, j)
	}
	w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/metadata"), 200, `"counts"`)
	w.want(w.do(w.admin, "GET", "/jobs/"+j.ID+"/metadata"), 200, `"withheld"`)
	if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
		t.Fatal(err)
	}
	w.wantOutcome(w.do(pat, "GET", j.StatusURL), 404, "Export job not found!")
	w.wantOutcome(w.do(pat, "GET", "/jobs/"+j.ID+"/download/Patient.ndjson"), 404,
		"Export job not found!")
	w.wantOutcome(w.do(pat, "DELETE", j.StatusURL), 404, "Export job not found!")
}

// openForm checks the status of an open form and submits it twice (EHI-3, EHI-7).
func (w *world) openForm(pat *client.Client, j client.Job, f form) {
	w.t.Helper()
	a := w.do(pat, "GET", j.StatusURL)
	if a.Status != 202 || a.Header.Get("Link") != j.Link || a.Header.Get("X-Progress") == "" ||
		len(a.Body) > 0 {
		w.t.Errorf("status of an open form: %d %v", a.Status, a.Header)
	}
	w.submit(pat, j.ID, f)
	again, err := pat.Submit(w.t.Context(), j.ID, f)
	if err != nil || again.Status != 400 || string(again.Body) != "Exports job already customized" {
		w.t.Errorf("second form: %+v, %v", again, err)
	}
}

var progress = regexp.MustCompile(`^[\x20-\x7e]{1,99}$`)

// review adds documents and approves (EHI-4, EHI-10, EHI-11), then downloads.
func (w *world) review(pat *client.Client, j client.Job) {
	t := w.t
	w.wait(j.ID, ehi.Retrieved)
	a := w.do(pat, "GET", j.StatusURL)
	if retry, err := strconv.Atoi(a.Header.Get("Retry-After")); a.Status != 202 ||
		len(a.Body) > 0 || err != nil || retry < 1 || retry > 60 ||
		!progress.MatchString(a.Header.Get("X-Progress")) {
		t.Errorf("status before approval: %d %v", a.Status, a.Header)
	}
	w.wantOutcome(w.do(pat, "GET", "/jobs/"+j.ID+"/download/Patient.ndjson"), 404, "retrieved")
	pdf, note := []byte("%PDF-1.4 test"), []byte("hello")
	a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{Name: "scan.pdf", Data: pdf},
		client.File{Name: "../../no te\".txt", Data: note},
		client.File{Name: "scan.pdf", Data: note})
	if err != nil || a.Status != 200 {
		t.Fatalf("attachments: %+v, %v", a, err)
	}
	if a, err = w.admin.RemoveFiles(t.Context(), j.ID, "scan-1.pdf"); err != nil ||
		a.Status != 200 {
		t.Fatalf("remove: %+v, %v", a, err)
	}
	if a, err = w.admin.RemoveFiles(t.Context(), j.ID, "never"); err != nil || a.Status != 404 {
		t.Errorf("remove what is not there: %+v, %v", a, err)
	}
	job, err := w.admin.Act(t.Context(), j.ID, "approve")
	if err != nil || job.Status != ehi.Approved || len(job.Attachments) != 2 {
		t.Fatalf("approved job: %+v, %v", job, err)
	}
	for _, action := range []string{"approve", "reject"} {
		w.want(w.do(w.admin, "POST", "/admin/jobs/"+j.ID+"/"+action), 400, "approved")
	}
	if a, err := w.admin.AddFiles(t.Context(), j.ID,
		client.File{Name: "x", Data: note}); err != nil || a.Status != 400 ||
		!strings.Contains(string(a.Body),
			`Cannot add attachments to export in \"approved\" state`) {
		t.Errorf("attachments of an approved job: %s, %v", a.Body, err)
	}
	if a, err := w.admin.RemoveFiles(t.Context(), j.ID, "note.txt"); err != nil ||
		a.Status != 400 ||
		!strings.Contains(string(a.Body),
			`Cannot remove attachments from export in \"approved\" state`) {
		t.Errorf("removal from an approved job: %s, %v", a.Body, err)
	}

	answer := w.do(pat, "GET", j.StatusURL)
	expires, err := http.ParseTime(answer.Header.Get("Expires"))
	if err != nil || time.Until(expires) < 50*time.Minute ||
		answer.Header.Get("Content-Type") != "application/json" {
		t.Errorf("manifest headers: %v, %v", answer.Header, err)
	}
	m := w.manifest(pat, j)
	if m.Error == nil || m.Deleted == nil ||
		!strings.HasSuffix(m.Request, "/fhir/Patient/"+alfredo+"/$ehi-export") ||
		!strings.HasSuffix(m.Extension.EHIDocumentationURL, "/docs/ehi") {
		t.Errorf("manifest %+v", m)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", m.TransactionTime)
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("transactionTime %q", m.TransactionTime)
	}
	got, _ := w.download(pat, m)
	for i, want := range [][]byte{pdf, note} {
		sum := sha1.Sum(want)
		doc := documentOf(got, base64.StdEncoding.EncodeToString(sum[:]))
		if doc == nil || !fhir.ValidID(doc["id"].(string)) {
			t.Fatalf("no EHIDocumentReference %d: %v", i, doc)
		}
		att := doc["content"].([]any)[0].(map[string]any)["attachment"].(map[string]any)
		f := w.do(pat, "GET", att["url"].(string))
		if !bytes.Equal(f.Body, want) || att["hash"] != base64.StdEncoding.EncodeToString(sum[:]) ||
			f.Header.Get("Content-Type") != att["contentType"] {
			t.Errorf("attachment %v: %q %v", att, f.Body, f.Header)
		}
	}
}

// The export of each of the ten patients over HTTP has no unresolved references, and each value
// is as in the source.
func TestEveryRealPatientIsExportedWhole(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	patients := 0
	for _, b := range records.Bundles(t, records.Dir(t)) {
		if b.Patient == "" {
			continue
		}
		patients++
		b.Rewrite()
		got, _ := w.export(b.Patient, nil)
		for _, r := range b.Resources {
			typ := r["resourceType"]
			// another file has newer ones of these
			if d := expected.Difference(r, got[records.Key(r)], records.Key(r)); d != "" &&
				typ != "Organization" && typ != "Practitioner" {
				t.Errorf("differs at %s", d)
			}
		}
		for key, r := range got {
			records.References(r, func(ref string) string {
				if got[ref] == nil && !strings.HasPrefix(ref, "#") &&
					!strings.HasPrefix(ref, "http") {
					t.Errorf("%s: %s leads nowhere", key, ref)
				}
				return ref
			})
		}
	}
	if patients != 10 {
		t.Errorf("%d patients", patients)
	}
}

// EHI-12, REAL-7, REAL-13.
func TestEHI12Downloads(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.manifest(pat, j)
	url := "/jobs/" + j.ID + "/download/Observation.ndjson"
	whole := w.do(pat, "GET", url)
	tag := whole.Header.Get("ETag")
	if whole.Status != 200 || whole.Header.Get("Content-Type") != "application/fhir+ndjson" ||
		whole.Header.Get("Content-Disposition") != "attachment" ||
		whole.Header.Get("Content-Length") != strconv.Itoa(len(whole.Body)) || tag == "" {
		t.Fatalf("download: %d %v", whole.Status, whole.Header)
	}
	bare := w.do(pat, "GET", strings.TrimSuffix(url, ".ndjson"))
	if !bytes.Equal(bare.Body, whole.Body) {
		t.Error("the bare type name gives something else")
	}
	head := w.do(pat, "HEAD", url)
	if head.Status != 200 || len(head.Body) != 0 ||
		head.Header.Get("Content-Length") != strconv.Itoa(len(whole.Body)) {
		t.Errorf("HEAD: %d %v", head.Status, head.Header)
	}
	if head := w.do(pat, "HEAD", url, "Range", "bytes=0-1"); head.Status != 200 ||
		head.Header.Get("Content-Length") != strconv.Itoa(len(whole.Body)) {
		t.Errorf("HEAD with a range: %d %v", head.Status, head.Header)
	}
	n := len(whole.Body)
	for r, want := range map[string][2]int{
		"bytes=0-9":        {0, 10},
		"bytes=10-":        {10, n},
		"bytes=-5":         {n - 5, n},
		"bytes=5-99999999": {5, n},
	} {
		a := w.do(pat, "GET", url, "Range", r)
		if a.Status != 206 || !bytes.Equal(a.Body, whole.Body[want[0]:want[1]]) ||
			a.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, n) {
			t.Errorf("Range %s: %d %d bytes %s", r, a.Status, len(a.Body),
				a.Header.Get("Content-Range"))
		}
	}
	w.wantOutcome(w.do(pat, "GET", url, "Range", "bytes=99999999-"), 416, "range")
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"same tag":       {[]string{"If-None-Match", tag}, 304},
		"weak tag":       {[]string{"If-None-Match", `"x", W/` + tag}, 304},
		"other tag":      {[]string{"If-None-Match", `"x"`}, 200},
		"If-Range same":  {[]string{"Range", "bytes=0-1", "If-Range", tag}, 206},
		"If-Range other": {[]string{"Range", "bytes=0-1", "If-Range", `"x"`}, 200},
		"If-Match same":  {[]string{"If-Match", `"x", ` + tag}, 200},
		"If-Match any":   {[]string{"If-Match", "*"}, 200},
		"If-Match other": {[]string{"If-Match", `"x"`}, 412},
		"If-Match weak":  {[]string{"If-Match", "W/" + tag}, 412},
		"changed since": {[]string{
			"If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT",
		}, 412},
		"unchanged since": {[]string{
			"If-Unmodified-Since", "Mon, 01 Jan 2091 00:00:00 GMT",
		}, 200},
		"modified since": {[]string{
			"If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT",
		}, 200},
		"not modified since": {[]string{
			"If-Modified-Since", "Mon, 01 Jan 2091 00:00:00 GMT",
		}, 304},
		"If-None-Match goes first": {
			[]string{"If-Modified-Since", "Mon, 01 Jan 2091 00:00:00 GMT", "If-None-Match", `"x"`},
			200,
		}, "no time at all": {[]string{"If-Modified-Since", "yesterday"}, 200},
		"a range backwards": {[]string{"Range", "bytes=5-2"}, 200},
		"several ranges":    {[]string{"Range", "bytes=0-1,3-4"}, 200},
		"an empty suffix":   {[]string{"Range", "bytes=-0"}, 416},
		"no range at all":   {[]string{"Range", "lines=1-2"}, 200},
		"any Accept":        {[]string{"Accept", "text/html"}, 200},
	} {
		if a := w.do(pat, "GET", url, c.header...); a.Status != c.status {
			t.Errorf("%s: %d", name, a.Status)
		}
	}
	zipped := w.do(pat, "GET", url, "Accept-Encoding", "br;q=1, gzip")
	gz, err := gzip.NewReader(bytes.NewReader(zipped.Body))
	if err != nil || zipped.Header.Get("Content-Encoding") != "gzip" ||
		zipped.Header.Get("ETag") == tag {
		t.Fatalf("gzip: %v %v", zipped.Header, err)
	}
	if plain, err := io.ReadAll(gz); err != nil || !bytes.Equal(plain, whole.Body) {
		t.Errorf("gzip holds something else: %v", err)
	}
	a := w.do(pat, "GET", url, "Accept-Encoding", "gzip;q=0")
	if a.Header.Get("Content-Encoding") != "" {
		t.Error("gzip to one who refuses it")
	}
	for _, bad := range []string{
		"Nothing.ndjson",
		"Patient.ndjson%00",
		"..%2f..%2fetc%2fpasswd",
		"attachments.DocumentReference.ndjson",
		"attachments/x",
		"..",
		"0.1.seg",
	} {
		if a := w.do(pat, "GET", "/jobs/"+j.ID+"/download/"+bad); a.Status != 404 {
			t.Errorf("%s: %d", bad, a.Status)
		}
	}
	if a := w.do(w.open, "GET", url); a.Status != 401 {
		t.Errorf("without a token: %d", a.Status)
	}
}

// EHI-6.
func TestEHI6KickOffParameters(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	pat := w.patient(alfredo)
	full, _ := w.export(alfredo, nil)
	parameters := func(pairs ...string) []byte {
		var list []string
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, fmt.Sprintf(`{"name":%q,"valueString":%q}`, pairs[i], pairs[i+1]))
		}
		return []byte(`{"resourceType":"Parameters","parameter":[` + strings.Join(list, ",") + `]}`)
	}
	export := func(body []byte) map[string]records.Resource {
		t.Helper()
		j := w.kickOff(pat, "/no-form/auto-approve", alfredo, body)
		got, _ := w.download(pat, w.manifest(pat, j))
		return got
	}
	if got := export(parameters("_type", "Condition,Patient", "_type", "Device")); len(got) != 14 {
		t.Errorf("_type gave %d resources", len(got))
	}
	if got := export(
		parameters("_since", time.Now().Add(time.Hour).Format(time.RFC3339))); len(got) != 0 {
		t.Errorf("_since the future gave %d resources", len(got))
	}
	if got := export(parameters("_until",
		time.Now().Add(time.Hour).Format(time.RFC3339))); len(got) != len(full) {
		t.Errorf("_until the future gave %d resources", len(got))
	}
	f := everything("visits", "medicalRecord", "billing")
	got, text := w.download(pat,
		w.manifest(pat,
			w.kickOff(pat, "/no-form/auto-approve", alfredo,
				parameters("category", "labs,radiology,dischargeSummary", "category",
					"operative,pathology,photographs,other"))))
	expected.Check(t, full, got, text, f.parsed(t))

	for name, body := range map[string]string{
		"broken":           "{",
		"another resource": `{"resourceType":"Patient"}`,
		"unknown":          string(parameters("_what", "x")),
		"bad type":         string(parameters("_type", "Nothing")),
		"bad since":        string(parameters("_since", "yesterday")),
		"bad category":     string(parameters("category", "all")),
		"turned dates":     string(parameters("from", "2020", "to", "2019")),
		"two lists": `{"resourceType":"Parameters",` +
			`"parameter":[{"name":"_type","valueString":"Condition"}],"parameter":[]}`,
	} {
		a, err := pat.Do(t.Context(), "POST", "/fhir/Patient/"+alfredo+"/$ehi-export",
			strings.NewReader(body), "Content-Type", "application/fhir+json")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { w.t = t; w.wantOutcome(a, 400, "") })
	}
	w.t = t
	a, err := pat.Do(t.Context(), "POST",
		"/no-form/auto-approve/fhir/Patient/"+alfredo+"/$ehi-export",
		bytes.NewReader(parameters("_what", "x")),
		"Content-Type", "application/fhir+json", "Prefer", "respond-async, handling=lenient")
	if err != nil || a.Status != 202 {
		t.Fatalf("lenient: %+v, %v", a, err)
	}
	m, err := pat.Wait(t.Context(), a.Header.Get("Content-Location"), 10*time.Millisecond)
	if err != nil || len(m.Error) != 1 || m.Error[0].Count != 1 {
		t.Fatalf("lenient manifest: %+v, %v", m, err)
	}
	w.want(w.do(pat, "GET", m.Error[0].URL), 200, `_what`)
	big := strings.NewReader(strings.Repeat(" ", 2<<20))
	if a, err := pat.Do(t.Context(), "POST", "/fhir/Patient/"+alfredo+"/$ehi-export", big,
		"Content-Type", "application/json"); err != nil || a.Status != 413 {
		t.Errorf("a body of 2 MiB: %+v, %v", a, err)
	}
}

// Many simultaneous exports of one record are all correct (byte for byte), and none is lost.
func TestManyExportsAtOnceAreAllRight(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	want, _ := w.download(pat, w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", p, nil)))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			j, err := pat.KickOff(t.Context(), "/no-form/auto-approve", p, nil)
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			m, err := pat.Wait(ctx, j.StatusURL, 5*time.Millisecond)
			if err != nil {
				t.Error(err)
				return
			}
			got, _ := w.download(pat, m)
			sameExport(t, want, got)
		})
	}
	wg.Wait()
}

// documentOf returns the DocumentReference of an attachment with a hash.
func documentOf(in map[string]records.Resource, hash string) records.Resource {
	for _, r := range in {
		content, _ := r["content"].([]any)
		if r["resourceType"] != "DocumentReference" || len(content) == 0 {
			continue
		}
		if a, _ := content[0].(map[string]any)["attachment"].(map[string]any); a["hash"] == hash {
			return r
		}
	}
	return nil
}
