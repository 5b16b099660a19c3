package dataset_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/sourcetest"
	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(importEnv); dir != "" {
		if err := importInBulk(dir, os.Getenv(importFromEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := inMemory(); dir != "" {
		_ = os.Setenv("TMPDIR", dir) // the name is valid
	}
	if raced {
		_ = flag.Set("rapid.checks", "25") // the flag exists; -rapid.checks counts more
	}
	// Pebble leaks the disk-health ticker of an Open that failed on the lock. Nothing else may
	// leak.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(
			"github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
}

func openStore(t testing.TB, dir string) *dataset.Store {
	t.Helper()
	s, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func load(t testing.TB, s *dataset.Store, paths ...string) source.Report {
	t.Helper()
	rep, err := s.Import(t.Context(), paths, source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// write creates a file with the given lines and returns its path.
func write(t testing.TB, dir, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// export reads a patient's record by its key.
func export(t testing.TB, s source.Source, patient string) map[string]records.Resource {
	t.Helper()
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	out := map[string]records.Resource{}
	err = rec.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
		var v records.Resource
		if err := json.Unmarshal(r.Line, &v); err != nil {
			return err
		}
		if out[records.Key(v)] != nil {
			return fmt.Errorf("%s twice", records.Key(v))
		}
		out[records.Key(v)] = v
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStoreIsASource(t *testing.T) {
	resources := write(t, t.TempDir(), "a.ndjson",
		`{"resourceType":"Patient","id":"p1","name":[{"family":"Doe","given":["Jane","Q"]}]}`,
		`{"resourceType":"Organization","id":"o1"}`,
		`{"resourceType":"Encounter","id":"e1","subject":{"reference":"Patient/p1"},`+
			`"serviceProvider":{"reference":"Organization/o1"}}`,
		`{"resourceType":"Patient","id":"p2",`+
			`"managingOrganization":{"reference":"Organization/o1"}}`,
		`{"resourceType":"Patient","id":"p3"}`,
		`{"resourceType":"Appointment","id":"a1",`+
			`"participant":[{"actor":{"reference":"Patient/p2"}},`+
			`{"actor":{"reference":"Patient/p3"}}]}`,
		`{"resourceType":"Group","id":"g1","member":[{"entity":{"reference":"Patient/p3"}},`+
			`{"entity":{"reference":"Patient/p1"}}]}`)
	want := sourcetest.Expect{
		Patient:  "p1",
		Name:     "Jane Q Doe",
		Types:    []string{"Encounter", "Organization", "Patient"},
		Patients: []string{"p1", "p2", "p3"},
		Group:    "g1",
		Members:  []string{"p1", "p3"},
	}
	s := openStore(t, t.TempDir())
	load(t, s, resources)
	sourcetest.Run(t, s, want)

	s = openStore(t, t.TempDir())
	files := clinicFiles()
	delete(files, "patients.ndjson")
	files["visits.csv"] = "id,patient,day\nv1,p1,2024-01-02\nv2,p2,2024-01-03\n" +
		"v3,p3,2024-01-04\nv9,nobody,2024-01-05\n"
	files["results.csv"] += "9,v9,l1,9\n"
	files["pets.csv"] = "mrn,pet\n"
	files["documents.csv"] = "patient,path\np1,labs.csv\np1,pets.csv\np3,labs.csv\n" +
		"nobody,visits.csv\n"
	load(t, s, resources, folder(t, files))
	want.Tables, want.Documents = []string{"notes", "results", "visits"}, 2
	sourcetest.Run(t, s, want)
}

// The counts by type, each value and each reference of ten real records equal those of an oracle
// that reads the files itself.
func TestRealRecordsComeThroughAnImportUnharmed(t *testing.T) {
	dir := records.Dir(t)
	bundles := records.Bundles(t, dir)
	s := openStore(t, t.TempDir())
	rep := load(t, s, dir)
	if len(rep.Bad) > 0 || len(rep.Unplaced) > 0 {
		t.Fatalf("bad input: %v; without a patient: %v", rep.Bad, rep.Unplaced)
	}

	distinct, versions := map[string]int64{}, map[string][]records.Resource{}
	for _, b := range bundles {
		b.Rewrite()
		for _, r := range b.Resources {
			k := records.Key(r)
			if versions[k] == nil {
				distinct[r["resourceType"].(string)]++
			}
			versions[k] = append(versions[k], r)
		}
	}
	got, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got["Group"] != 1 {
		t.Errorf("%d groups imported", got["Group"])
	}
	delete(got, "Group")
	if d := cmp.Diff(distinct, got); d != "" {
		t.Fatalf("counts by type (-files +store):\n%s", d)
	}

	for _, b := range bundles {
		if b.Patient == "" {
			continue
		}
		out := export(t, s, b.Patient)
		for _, r := range b.Resources {
			if out[records.Key(r)] == nil {
				t.Errorf("%s of %s is not in the export", records.Key(r), b.Patient)
			}
		}
		for k, r := range out {
			if !equalsOne(r, versions[k]) {
				t.Errorf("%s differs from its source", k)
			}
			records.References(r, func(ref string) string {
				if !strings.HasPrefix(ref, "#") && !strings.HasPrefix(ref, "http") &&
					out[ref] == nil {
					t.Errorf("%s: reference %s resolves nowhere", k, ref)
				}
				return ref
			})
		}
		if rec, err := s.Open(t.Context(), b.Patient); err != nil || !rec.Complete() ||
			rec.Total() != int64(len(out)) {
			t.Errorf("record of %s: complete %v, total %d of %d, %v", b.Patient, rec.Complete(),
				rec.Total(), len(out), err)
		} else if err := rec.Close(); err != nil {
			t.Error(err)
		}
	}

	again := load(t, s, dir)
	if again.Files != 0 || again.Skipped != 13 {
		t.Errorf("second import read %d files and skipped %d", again.Files, again.Skipped)
	}
	if after, _ := s.Counts(t.Context()); after["Observation"] != distinct["Observation"] {
		t.Errorf("second import changed the counts: %v", after)
	}
}

func equalsOne(r records.Resource, versions []records.Resource) bool {
	for _, v := range versions {
		if cmp.Equal(r, v) {
			return true
		}
	}
	return false
}

func TestConditionalReferencesResolveInWhateverOrderFilesCome(t *testing.T) {
	patient := `{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:11111111-0000-0000-0000-000000000001","resource":{"resourceType":"Patient","id":"p1"}},
{"fullUrl":"urn:uuid:11111111-0000-0000-0000-000000000002","resource":{"resourceType":"Encounter","id":"e1","subject":{"reference":"urn:uuid:11111111-0000-0000-0000-000000000001"},
 "participant":[{"individual":{"reference":"Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|999","display":"Dr"}}]}},
{"fullUrl":"urn:uuid:11111111-0000-0000-0000-000000000003","resource":{"resourceType":"Provenance","id":"v1","target":[{"reference":"urn:uuid:11111111-0000-0000-0000-000000000002"}]}}]}`
	practitioner := `{"resourceType":"Bundle","type":"batch","entry":[
{"fullUrl":"urn:uuid:22222222-0000-0000-0000-000000000001","resource":{"resourceType":"Practitioner","id":"d1","identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"999"}]}},
{"resource":{"resourceType":"PractitionerRole","id":"r1","practitioner":{"reference":"Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|999"},"organization":{"reference":"Organization/o1"}}}]}`
	for name, order := range map[string][]string{
		"patient first":      {patient, practitioner},
		"practitioner first": {practitioner, patient},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			for i, content := range order {
				load(t, s, write(t, t.TempDir(), fmt.Sprintf("%d.json", i), content))
			}
			out := export(t, s, "p1")
			if out["Practitioner/d1"] == nil || out["Provenance/v1"] == nil {
				t.Fatalf("exported %d resources, without Practitioner or Provenance", len(out))
			}
			ind := out["Encounter/e1"]["participant"].([]any)[0].(map[string]any)["individual"].(map[string]any)
			if ind["reference"] != "Practitioner/d1" || ind["display"] != "Dr" {
				t.Errorf("participant is %v", ind)
			}
		})
	}
}

// A Provenance names no patient: it belongs to the records of what it is about, whichever file
// comes first.
func TestWhatNamesNoPatientGoesWithWhatItIsAbout(t *testing.T) {
	dir := t.TempDir()
	condition := write(t, dir, "Condition.ndjson", `{"resourceType":"Patient","id":"p1"}`,
		`{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"}}`)
	provenance := write(t, dir, "Provenance.ndjson",
		`{"resourceType":"Provenance","id":"v2","target":[{"reference":"Provenance/v1"}]}`,
		`{"resourceType":"Provenance","id":"v1","target":[{"reference":"Condition/c1"}]}`)
	for name, order := range map[string][]string{
		"first": {condition, provenance},
		"last":  {provenance, condition},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			for _, path := range order {
				load(t, s, path)
			}
			out := export(t, s, "p1")
			if out["Provenance/v1"] == nil || out["Provenance/v2"] == nil {
				t.Errorf("the record is %v", out)
			}
		})
	}
}

// A resource whose subject is corrected leaves its wrong record. If a resource about it occurs
// in one import both before and after the correction, its first owner is not its final one.
func TestWhatIsAboutACorrectedResourceMovesWithIt(t *testing.T) {
	encounter := func(patient string) string {
		return `{"resourceType":"Encounter","id":"e","meta":{"versionId":"` + patient + `"},` +
			`"subject":{"reference":"Patient/` + patient + `"}}`
	}
	about := func(id, target string) string {
		return `{"resourceType":"Provenance","id":"` + id + `","target":[{"reference":"` + target +
			`"}]}`
	}
	dir, s := t.TempDir(), openStore(t, t.TempDir())
	load(t, s,
		write(t, dir, "a.ndjson", `{"resourceType":"Patient","id":"1"}`,
			`{"resourceType":"Patient","id":"2"}`, encounter("1")))
	load(t, s,
		write(t, dir, "b.ndjson", about("before", "Encounter/e"),
			about("chain", "Provenance/before"), encounter("2"),
			about("behind", "Encounter/e")))
	wantKeys(t, s, "1", "Patient/1")
	wantKeys(t, s, "2", "Patient/2", "Encounter/e", "Provenance/before", "Provenance/chain",
		"Provenance/behind")
}

func TestACorrectedSubjectMovesTheResource(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	load(t, s,
		write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p1"}`,
			`{"resourceType":"Patient","id":"p2"}`,
			`{"resourceType":"Appointment","id":"a",`+
				`"participant":[{"actor":{"reference":"Patient/p1"}},`+
				`{"actor":{"reference":"Patient/p2"}}]}`,
			`{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p1"}}`,
			`{"resourceType":"Device","id":"d","patient":{"reference":"Patient/p1"}}`))
	load(t, s,
		write(t, dir, "2.ndjson",
			`{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p2"}}`,
			`{"resourceType":"Device","id":"d"}`,
			`{"resourceType":"Appointment","id":"a",`+
				`"participant":[{"actor":{"reference":"Patient/p2"}}]}`))
	if out := export(t, s, "p1"); len(out) != 1 {
		t.Errorf("the first record still holds %v", out)
	}
	out := export(t, s, "p2")
	if out["Condition/c"] == nil || out["Appointment/a"] == nil || len(out) != 3 {
		t.Errorf("the second record holds %v", out)
	}
	if rec, err := s.Open(t.Context(), "p1"); err != nil || rec.Total() != 1 {
		t.Errorf("total %d, %v", rec.Total(), err)
	} else if err := rec.Close(); err != nil {
		t.Error(err)
	}
}

func TestBadLinesAreNamedAndTheRestImported(t *testing.T) {
	s := openStore(t, t.TempDir())
	dir := t.TempDir()
	path := write(t, dir, "mixed.ndjson",
		`{"resourceType":"Patient","id":"p1"}`,
		`{"resourceType":"Observation","id":"broken",`,
		``,
		`{"resourceType":"Nonsense","id":"x"}`,
		`{"resourceType":"Condition","subject":{"reference":"Patient/p1"}}`,
		`{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"}}`)
	rep := load(t, s, path)
	var lines []int
	for _, b := range rep.Bad {
		if b.File != path {
			t.Errorf("problem in %s", b.File)
		}
		lines = append(lines, b.Line)
	}
	if d := cmp.Diff([]int{2, 4, 5}, lines); d != "" {
		t.Error(d)
	}
	if out := export(t, s, "p1"); len(out) != 2 {
		t.Errorf("exported %d resources, want 2", len(out))
	}
	if rep := load(t, s, path); rep.Files != 1 {
		t.Error("a file with bad lines was taken for done")
	}
	_, err := s.Import(t.Context(), []string{path}, source.ImportOptions{
		Strict: true,
		Now:    time.Now(),
	})
	if !errors.Is(err, source.ErrBad) || !strings.Contains(err.Error(), "mixed.ndjson:2:") {
		t.Errorf("strict import: %v", err)
	}
}

func TestBadBundleEntryIsNamedByItsLine(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s, write(t, t.TempDir(), "b.json", `{"resourceType":"Bundle","entry":[`,
		`{"resource":{"resourceType":"Patient","id":"p1"}},`,
		`{"resource":{"resourceType":"Condition","id":"no_id"}},`,
		`{"fullUrl":"urn:uuid:33333333-0000-0000-0000-000000000001",`+
			`"resource":{"resourceType":"Condition","subject":{"reference":"Patient/p1"}}}`, `]}`))
	if len(rep.Bad) != 1 || rep.Bad[0].Line != 3 {
		t.Errorf("problems: %v", rep.Bad)
	}
	if out := export(t, s, "p1"); out["Condition/33333333-0000-0000-0000-000000000001"] == nil {
		t.Errorf("the entry without an id did not get its fullUrl's: %v", out)
	}
}

func TestCompressedLinesAreImported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Patient.ndjson.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	gz := gzip.NewWriter(f)
	if _, err := gz.Write([]byte(`{"resourceType":"Patient","id":"p1"}`)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gz.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, t.TempDir())
	load(t, s, path)
	if out := export(t, s, "p1"); len(out) != 1 {
		t.Errorf("exported %d resources", len(out))
	}
}

func TestAnOpenRecordDoesNotSeeALaterImport(t *testing.T) {
	s := openStore(t, t.TempDir())
	dir := t.TempDir()
	load(t, s, write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p1"}`))
	rec, err := s.Open(t.Context(), "p1")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	load(t, s,
		write(t, dir, "2.ndjson",
			`{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"}}`))
	n := 0
	err = rec.Scan(t.Context(), source.Query{}, func(source.Resource) error { n++; return nil })
	if err != nil || n != 1 {
		t.Errorf("the open record shows %d resources, %v", n, err)
	}
	if out := export(t, s, "p1"); len(out) != 2 {
		t.Errorf("a new record shows %d resources", len(out))
	}
}

func TestUnresolvedReferenceMakesTheRecordIncomplete(t *testing.T) {
	s := openStore(t, t.TempDir())
	dir := t.TempDir()
	load(t, s,
		write(t, dir, "1.ndjson",
			`{"resourceType":"Patient","id":"p1",`+
				`"managingOrganization":{"reference":"Organization/o1"}}`))
	for _, want := range []bool{false, true} {
		rec, err := s.Open(t.Context(), "p1")
		if err != nil {
			t.Fatal(err)
		}
		if rec.Complete() != want {
			t.Errorf("complete = %v, want %v", rec.Complete(), want)
		}
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
		load(t, s, write(t, dir, "2.ndjson", `{"resourceType":"Organization","id":"o1"}`))
	}
}

func TestSecondProcessIsToldThatTheStoreIsHeld(t *testing.T) {
	dir := t.TempDir()
	openStore(t, dir)
	if _, err := dataset.Open(dataset.Config{Dir: dir}); !errors.Is(err, dataset.ErrInUse) {
		t.Errorf("second open: %v", err)
	}
}

func FuzzImportNeverPanics(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Patient","id":"p"}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"fullUrl":"urn:uuid:1",` +
		`"resource":{"resourceType":"Group","id":"g"}}]}`))
	f.Add([]byte("{\"resourceType\":\"Patient\",\"id\":\"p\",\"name\":[{\"given\":[1,null]}]," +
		"\"identifier\":[{}]}\n[]\n\"\"\n"))
	s := openStore(f, f.TempDir())
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, ext := range []string{".json", ".ndjson"} {
			path := filepath.Join(dir, "in"+ext)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Import(t.Context(), []string{path}, source.ImportOptions{Now: time.Now()})
			if err != nil {
				t.Fatalf("bad input ended the import: %v", err)
			}
		}
	})
}

// A frozen population contains nothing that is imported later, even in a restarted process.
func TestAFrozenPopulationStaysAsItWas(t *testing.T) {
	dir, inputs := t.TempDir(), t.TempDir()
	s, err := dataset.Open(dataset.Config{Dir: filepath.Join(dir, "records")})
	if err != nil {
		t.Fatal(err)
	}
	load(t, s,
		write(t, inputs, "a.ndjson", `{"resourceType":"Patient","id":"p1"}`,
			`{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"}}`))
	before := time.Now()
	p := freeze(t, s, "job")
	if at := p.TakenAt(); at.Before(before.Add(-time.Second)) || at.After(time.Now()) {
		t.Errorf("TakenAt = %v", at)
	}
	load(t, s,
		write(t, inputs, "b.ndjson", `{"resourceType":"Patient","id":"p2"}`,
			`{"resourceType":"Condition","id":"c1","note":[{"text":"new"}],`+
				`"subject":{"reference":"Patient/p1"}}`))
	want := []string{
		`{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"}}`,
		`{"resourceType":"Patient","id":"p1"}`,
	}
	if d := cmp.Diff(want, linesOf(t, p)); d != "" {
		t.Error(d)
	}
	at := p.TakenAt()
	if err := errors.Join(p.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, filepath.Join(dir, "records"))
	p = freeze(t, s, "job")
	if d := cmp.Diff(want, linesOf(t, p)); d != "" || !p.TakenAt().Equal(at) {
		t.Errorf("after a restart, taken at %v: %s", p.TakenAt(), d)
	}
	if err := s.Thaw("job"); err != nil { // it is removed with its last user
		t.Fatal(err)
	}
	if d := cmp.Diff(want, linesOf(t, p)); d != "" {
		t.Error(d)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := s.Frozen(); err != nil || len(names) > 0 {
		t.Errorf("frozen: %v, %v", names, err)
	}
	p = freeze(t, s, "job")
	if lines := linesOf(t, p); len(lines) != 3 || !strings.Contains(lines[0], "new") {
		t.Errorf("a new population holds %q", lines)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "..", "a/b", ".hidden"} {
		if _, err := s.Freeze(t.Context(), bad); err == nil {
			t.Errorf("%q names a population", bad)
		}
	}
}

func freeze(t *testing.T, s *dataset.Store, name string) source.Population {
	t.Helper()
	p, err := s.Freeze(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fataler is a test, of the standard library or of rapid.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Context() context.Context
}

// linesOf reads a whole population, sorted.
func linesOf(t fataler, p source.Population) (lines []string) {
	t.Helper()
	sel := source.Selection{Level: ehi.System}
	parts, err := p.Plan(t.Context(), sel, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		rec, err := p.Open(t.Context(), sel, part)
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
			lines = append(lines, string(r.Line))
			return nil
		})
		if err := errors.Join(err, rec.Close()); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(lines)
	return lines
}

// A store whose values this build would misread is refused, and is not changed.
func TestAStoreOfAnotherLayoutIsRefused(t *testing.T) {
	dir := t.TempDir()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set([]byte("v"), []byte("3"), pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = dataset.Open(dataset.Config{Dir: dir})
	if err == nil ||
		!strings.Contains(err.Error(),
			"has layout 3 and this build reads layouts 4 to 6; it is left as it is") {
		t.Errorf("opening a store of layout 3: %v", err)
	}
}
