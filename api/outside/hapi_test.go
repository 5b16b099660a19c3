package outside

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/shared/built"
	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// docket is what a FHIR validator gets: a folder of NDJSON files, named after their contents.
type docket struct {
	t    *testing.T
	dir  string
	held int
	most int // number of resources per file to validate; 0 for all
}

func newDocket(t *testing.T) *docket { return &docket{t: t, dir: t.TempDir(), most: 2} }

// add puts resources on the docket, one per line.
func (d *docket) add(name string, lines []byte) {
	d.t.Helper()
	if !bytes.HasPrefix(lines, []byte("{")) {
		d.t.Fatalf("%s is no FHIR: %.200q", name, lines)
	}
	if d.most > 0 {
		all := slices.Collect(bytes.Lines(lines))
		lines = bytes.Join(all[:min(d.most, len(all))], nil)
	}
	lines = append(bytes.TrimRight(lines, "\n"), '\n')
	d.held += bytes.Count(lines, []byte("\n"))
	if err := os.WriteFile(filepath.Join(d.dir, name), lines, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// ask puts a FHIR response on the docket.
func (d *docket) ask(
	name string, c *client.Client, method, target string, status int, body string, header ...string,
) *client.Answer {
	d.t.Helper()
	a, err := c.Do(d.t.Context(), method, target, strings.NewReader(body), header...)
	if err != nil {
		d.t.Fatal(err)
	}
	if a.Status != status ||
		!strings.HasPrefix(a.Header.Get("Content-Type"), "application/fhir+json") {
		d.t.Errorf("%s %s answers %d %s, want %d with FHIR: %.200s", method, target, a.Status,
			a.Header.Get("Content-Type"), status, a.Body)
		return a
	}
	d.add(name, a.Body)
	return a
}

// files puts the files of a manifest on the docket.
func (d *docket) files(name string, c *client.Client, m *ehi.Manifest) {
	d.t.Helper()
	for i, o := range append(slices.Clone(m.Output), m.Error...) {
		data, err := c.Download(d.t.Context(), o.URL)
		if err != nil {
			d.t.Fatal(err)
		}
		d.add(fmt.Sprintf("%s %s %d", name, o.Type, i), data)
	}
}

// finding is a finding of the validator.
type finding struct{ file, severity, place, message string }

// judge returns the findings of HAPI's validator.
func (d *docket) judge() (out []finding) {
	d.t.Helper()
	said := strings.Split(strings.TrimSpace(runJava(d.t, "Validate.java", d.dir).end()), "\n")
	if last := said[len(said)-1]; last != fmt.Sprintf("%d resources", d.held) {
		d.t.Errorf("of %d resources it judged %s", d.held, last)
	}
	for _, line := range said {
		if f := strings.Split(line, "\t"); len(f) == 4 {
			out = append(out, finding{f[0], f[1], f[2], f[3]})
		}
	}
	return out
}

// pardoned matches warnings that are no fault of a resource: advice that R4 gives for all
// resources, code systems that are not in the validator's jars, and the tag ehi-export, which
// has no system in the Argonaut guide.
var pardoned = regexp.MustCompile(
	`Best Practice Recommendation|CodeSystem is unknown and can't be validated|` +
		`A code with no system has no defined meaning|` +
		`Unable to expand ValueSet because CodeSystem could not be found|ValueSet '.*' not found|` +
		// a masked reference has neither
		`A Reference without an actual reference or identifier should have a display`)

// whole and narrowed are the names of the files with one real record: complete, and as released
// by a form.
const whole, narrowed = "whole record", "narrowed record"

// object reports findings that are not pardoned, each message once. For the real record, it
// reports only those that the narrowed one adds.
func (d *docket) object(found []finding) {
	d.t.Helper()
	known, told := map[string]bool{}, map[string]bool{}
	for _, f := range found {
		if strings.HasPrefix(f.file, whole) {
			known[f.message] = true
		}
	}
	for _, f := range found {
		ofRecord := strings.HasPrefix(f.file, whole) ||
			strings.HasPrefix(f.file, narrowed) && known[f.message]
		if f.severity == "INFORMATION" || ofRecord || pardoned.MatchString(f.message) ||
			told[f.message] {
			continue
		}
		told[f.message] = true
		d.t.Errorf("%+v", f)
	}
}

// HAPI's validator accepts every resource that the server writes itself: statements, outcomes of
// all kinds of refusals, search results, the audit trail, documents, and synthetic records,
// complete and masked. In what a form releases of a real record, it finds nothing that it does
// not find in the complete record.
func TestHAPIsValidatorTakesWhatTheServerWrites(t *testing.T) {
	t.Parallel()
	java().or(t)
	s := serve(t, "--source", "synthetic:patients=3,seed=11,errors=0.01,resources=80")
	d := newDocket(t)
	system, patient := s.system(), s.patient()
	own, _, err := s.open.Authorize(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	for i, base := range []string{"", "/no-form", "/auto-approve/no-form", "/faulty/busy"} {
		d.ask(fmt.Sprintf("capability %d", i), s.open, "GET", base+"/fhir/metadata", 200, "")
	}
	d.ask("operation", s.open, "GET", "/fhir/OperationDefinition/ehi-export", 200, "")
	s.searches(d, system, own, patient)
	s.refusals(d, system, own, patient)
	s.exports(d, system, own, patient)
	realRecord(d)
	a, err := s.admin.Do(t.Context(), "GET", "/admin/audit?limit=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	d.most = 0
	d.add("audit", a.Body)
	d.object(d.judge())
	t.Logf("HAPI's validator judged %d resources", d.held)
}

// searches puts reads and search results on the docket.
func (s *server) searches(d *docket, system, own *client.Client, patient string) {
	d.ask("patient", own, "GET", "/fhir/Patient/"+patient, 200, "")
	found := d.ask("groups", system, "GET", "/fhir/Group", 200, "")
	var groups struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	if err := json.Unmarshal(found.Body, &groups); err != nil || len(groups.Entry) == 0 {
		s.t.Fatalf("%s, %v", found.Body, err)
	}
	d.ask("group", system, "GET", "/fhir/Group/"+groups.Entry[0].Resource.ID, 200, "")
	for name, c := range map[string]*client.Client{"system": system, "patient's": own} {
		d.ask("found by "+name, c, "GET", "/fhir/Patient?_id="+patient, 200, "")
		d.ask("nothing found by "+name, c, "GET", "/fhir/Patient?_id=nobody", 200, "")
	}
	d.ask("no groups", system, "GET", "/fhir/Group?_id=none", 200, "")
}

// refusals puts OperationOutcomes on the docket.
func (s *server) refusals(d *docket, system, own *client.Client, patient string) {
	const fhirJSON = "application/fhir+json"
	ehiExport := "/fhir/Patient/" + patient + "/$ehi-export"
	for i, r := range []struct {
		c              *client.Client
		method, target string
		status         int
		body           string
		header         []string
	}{
		{s.open, "GET", "/fhir/Patient/" + patient, 401, "", nil},
		{s.open.WithToken("x"), "GET", "/fhir/Patient/" + patient, 401, "", nil},
		{system, "GET", "/fhir/Patient/nobody", 404, "", nil},
		{system, "GET", "/fhir/Nothing/1", 404, "", nil},
		{s.open, "DELETE", "/fhir/metadata", 405, "", nil},
		{s.open, "GET", "/fhir/metadata?_format=xyz", 400, "", nil},
		{s.open, "GET", "/fhir/OperationDefinition/none", 404, "", nil},
		{own, "POST", ehiExport, 400, "{", []string{"Content-Type", fhirJSON}},
		{
			own,
			"POST",
			ehiExport,
			400,
			`{"resourceType":"Parameters","parameter":[{"name":"x"}]}`,
			[]string{"Content-Type", fhirJSON},
		},
		{own, "POST", ehiExport, 400, "x", []string{"Content-Type", "text/csv"}},
		{own, "POST", "/fhir/Patient/nobody/$ehi-export", 404, "", nil},
		{own, "GET", "/fhir/$export", 403, "", nil},
		{system, "GET", "/fhir/$export?_type=Nothing", 400, "", nil},
		{system, "GET", "/fhir/$export?_since=yesterday", 400, "", nil},
		{system, "GET", "/fhir/$export?_typeFilter=Patient%3F", 400, "", nil},
		{system, "GET", "/fhir/$export?_outputFormat=csv", 400, "", nil},
		{system, "GET", "/fhir/Group/none/$export", 404, "", nil},
		{system, "GET", "/faulty/busy/fhir/$export", 429, "", nil},
		{system, "GET", "/jobs/none/status", 404, "", nil},
		{system, "DELETE", "/jobs/none/status", 404, "", nil},
		{system, "GET", "/jobs/none/download/Patient.ndjson", 404, "", nil},
		{s.open, "GET", "/jobs/none/status", 401, "", nil},
	} {
		d.ask(fmt.Sprintf("outcome %d of %s", i, strings.NewReplacer("/", "|").Replace(r.target)),
			r.c, r.method, r.target, r.status, r.body, r.header...)
	}
}

// exports puts the files of complete exports on the docket.
func (s *server) exports(d *docket, system, own *client.Client, patient string) {
	t, ctx := s.t, s.t.Context()
	export := func(name string, c *client.Client, method, target string) {
		a := d.ask(name+", accepted", c, method, target, 202, "")
		m, err := c.Wait(ctx, a.Header.Get("Content-Location"), 0)
		if err != nil {
			t.Fatal(err)
		}
		d.files(name, c, m)
		d.ask(name+", deleted", c, "DELETE", a.Header.Get("Content-Location"), 202, "")
		d.ask(name+", gone", c, "GET", a.Header.Get("Content-Location"), 404, "")
	}
	export("population", system, "GET", "/fhir/$export")
	export("elements", system, "GET",
		"/fhir/Patient/$export?_type=Observation,Patient&_elements=id,status")
	export("with errors", system, "GET", "/faulty/errors/fhir/Patient/$export?_type=Patient")
	export("patient", own, "POST", "/no-form/auto-approve/fhir/Patient/"+patient+"/$ehi-export")

	j, err := own.KickOff(ctx, "/faulty/failed/no-form/auto-approve", patient, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = own.Wait(ctx, j.StatusURL, 0)
	failed, ok := errors.AsType[*client.Error](err)
	if !ok || failed.Status != http.StatusInternalServerError {
		t.Fatalf("a failed job: %v", err)
	}
	d.add("failed", failed.Body)

	few := map[string]any{
		"parameters":     map[string]any{"visits": on},
		"authorizations": map[string]any{},
	}
	s.reviewed(d, "masked", own, "/fhir/Patient/"+patient+"/$ehi-export", few)
	s.reviewed(d, "everybody's", system, "/no-form/fhir/$ehi-export", nil)
	rejected, err := own.KickOff(ctx, "/no-form", patient, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin.WaitJob(ctx, rejected.ID, ehi.Retrieved); err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin.Act(ctx, rejected.ID, "reject"); err != nil {
		t.Fatal(err)
	}
	d.ask("rejected", own, "GET", rejected.StatusURL, 403, "")
}

// reviewed puts an export on the docket to which an administrator adds documents.
func (s *server) reviewed(d *docket, name string, c *client.Client, target string, form any) {
	t, ctx := s.t, s.t.Context()
	j, err := c.Start(ctx, "POST", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		if a, err := c.Submit(ctx, j.ID, form); err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	if _, err := s.admin.WaitJob(ctx, j.ID, ehi.Retrieved); err != nil {
		t.Fatal(err)
	}
	a, err := s.admin.AddFiles(ctx, j.ID,
		client.File{Name: "Größe 大.html", Data: []byte("<p>hello</p>")},
		client.File{Name: "scan.pdf", Data: []byte("%PDF-1.4 scan")})
	if err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := s.admin.Act(ctx, j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(ctx, j.StatusURL, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.files(name, c, m)
}

// realRecord puts a real record on the docket, complete and narrowed by a form.
func realRecord(d *docket) {
	t := d.t
	t.Helper()
	path := built.Command(t, "ehi-server/api")
	smallest, data := smallestRecord(t), t.TempDir()
	if out, err := exec.Command(path, "import", "--data", data,
		smallest.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := serveOn(t, data)
	own, _, err := s.open.Authorize(t.Context(), smallest.Patient)
	if err != nil {
		t.Fatal(err)
	}
	few := map[string]any{
		"parameters":     map[string]any{"billing": on, "labs": on},
		"authorizations": map[string]any{},
	}
	for name, base := range map[string]string{
		whole:    "/auto-approve/no-form",
		narrowed: "/auto-approve",
	} {
		j, err := own.KickOff(t.Context(), base, smallest.Patient, nil)
		if err != nil {
			t.Fatal(err)
		}
		if name == narrowed {
			if a, err := own.Submit(t.Context(), j.ID, few); err != nil || a.Status != 200 {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		m, err := own.Wait(t.Context(), j.StatusURL, 0)
		if err != nil {
			t.Fatal(err)
		}
		d.files(name, own, m)
	}
}

// smallestRecord returns the real patient with the fewest resources.
func smallestRecord(t *testing.T) records.Bundle {
	t.Helper()
	all := slices.DeleteFunc(records.Bundles(t, records.Dir(t)), func(b records.Bundle) bool {
		return b.Patient == ""
	})
	if len(all) == 0 {
		t.Fatal("no patient")
	}
	return slices.MinFunc(all, func(a, b records.Bundle) int {
		return len(a.Resources) - len(b.Resources)
	})
}
