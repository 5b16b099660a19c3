package dataset_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
)

// folder creates files below a new folder.
func folder(t testing.TB, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	fill(t, dir, contents)
	return dir
}

// fill creates files below a folder, by their paths.
func fill(t testing.TB, dir string, contents map[string]string) {
	t.Helper()
	for name, text := range contents {
		path := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err = errors.Join(err, os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// patients returns the lines of Patients.
func patientsNamed(ids ...string) string {
	var out strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&out, `{"resourceType":"Patient","id":%q,"identifier":[{"system":"urn:mrn",`+
			`"value":%q}]}`+"\n", id, "m-"+id)
	}
	return out.String()
}

// documentsIn returns the documents of a record as "patient name content", in their order.
func documentsIn(t fataler, n source.Native) (out []string) {
	err := n.Documents(context.Background(), source.Query{}, func(d *source.Document) error {
		content, err := contentOf(d)
		out = append(out, d.Patient+" "+d.Name+" "+content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// contentOf reads a document, and compares it with what is said of it.
func contentOf(d *source.Document) (string, error) {
	r, err := d.Open()
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return "", err
	}
	sum := sha1.Sum(content)
	linked, err := os.ReadFile(d.Path)
	if d.Size != int64(len(content)) || !bytes.Equal(d.SHA1, sum[:]) ||
		files.Sum(d.Sum) != files.SumOf(content) || !bytes.Equal(linked, content) {
		err = errors.Join(err, fmt.Errorf("%s differs from its description", d.Name))
	}
	return string(content), err
}

// documentsOf returns the documents of a patient, sorted.
func documentsOf(t fataler, s *dataset.Store, patient string) []string {
	rec, err := s.Open(context.Background(), patient)
	if err != nil {
		t.Fatal(err)
	}
	out := documentsIn(t, rec)
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// blobsOf returns the names of the files in a store's folder of blobs.
func blobsOf(t testing.TB, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir+".blobs", func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, filepath.Base(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAFolderWithAnIndexIsImportedAsDocuments(t *testing.T) {
	from := folder(t, map[string]string{
		"patients.ndjson": patientsNamed("a", "b"),
		"documents.csv": "title,patient,path,type,category,date,labels,resource,contentType\n" +
			"A letter,a,docs/a/letter.pdf,http://loinc.org|11488-4,dischargeSummary,2024-05-06," +
			"http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R;s|x,Encounter/e,\n" +
			"\"B's, \"\"own\"\"\",urn:mrn|m-b,docs/b.json,note,,,,,application/x-b\n",
		"docs/a/letter.pdf": "of a",
		"docs/b.json":       `{"resourceType":"Patient","id":"not-imported"}`,
		"docs/unlisted.txt": "nobody's",
	})
	dir := filepath.Join(t.TempDir(), "records")
	s := openStore(t, dir)
	rep := load(t, s, from)
	if rep.Documents != 2 || rep.Problems != 0 || rep.Counts["Patient"] != 2 {
		t.Errorf("%+v", rep)
	}
	rec, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		got := *d
		if got.ID == "" || !fhir.ValidID(got.ID) || got.Updated.IsZero() {
			t.Errorf("id %q, updated %v", got.ID, got.Updated)
		}
		got.ID, got.Path, got.Sum, got.SHA1, got.Open, got.Updated = "", "", "", nil, nil,
			time.Time{}
		want := source.Document{
			Patient: "a", Name: "letter.pdf", ContentType: "application/pdf", Title: "A letter",
			Created: time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC), Date: "2024-05-06",
			Type:     fhir.Coding{System: "http://loinc.org", Code: "11488-4"},
			Category: ehi.DischargeSummary, Resource: "Encounter/e", Size: 4,
			Labels: []fhir.Coding{
				{System: "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", Code: "R"},
				{System: "s", Code: "x"},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := documentsOf(t, s, "a"); !slices.Equal(got, []string{"a letter.pdf of a"}) {
		t.Errorf("a has %q", got)
	}
	if got := documentsOf(t, s, "b"); len(got) != 1 || !strings.HasPrefix(got[0], "b b.json {") {
		t.Errorf("b has %q", got)
	}
	if n := len(blobsOf(t, dir)); n != 2 {
		t.Errorf("%d blobs", n)
	}
}

// A population visits each document of its patients once, patient by patient.
func TestAPopulationHasTheDocumentsOfItsPatients(t *testing.T) {
	var index strings.Builder
	index.WriteString("patient,path\n")
	contents := map[string]string{"p.ndjson": patientsNamed("a", "b", "c", "d")}
	for _, p := range []string{"d", "b", "a", "stranger"} {
		for i := range 3 {
			name := fmt.Sprintf("%s%d.txt", p, i)
			fmt.Fprintf(&index, "%s,%s\n", p, name)
			contents[name] = name
		}
	}
	contents["documents.csv"] = index.String()
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, contents))
	if u := rep.UnplacedDocuments; u == nil || u.Count != 3 {
		t.Errorf("of strangers: %+v", u)
	}
	p := freeze(t, s, "one")
	defer p.Close() // read only
	for _, c := range []struct {
		of   source.Selection
		want string
	}{
		{source.Selection{Level: ehi.System}, "aaabbbddd"},
		{source.Selection{Level: ehi.AllPatients}, "aaabbbddd"},
		{source.Selection{Level: ehi.AllPatients, Patients: []string{"b", "c"}}, "bbb"},
		{source.Selection{Level: ehi.AllPatients, ByPatient: true}, "aaabbbddd"},
	} {
		for _, target := range []int64{1, 1 << 30} {
			parts, err := p.Plan(t.Context(), c.of, target)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, part := range parts {
				rec, err := p.Open(t.Context(), c.of, part)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range documentsIn(t, rec) {
					patient, _, _ := strings.Cut(d, " ")
					got = append(got, patient)
				}
			}
			if strings.Join(got, "") != c.want {
				t.Errorf("%+v of %d parts: %q", c.of, len(parts), got)
			}
		}
	}
}

// Each record knows what is its patient's: of a population too, another patient's is not.
func TestARecordHasWhatIsItsPatientsOrNobodys(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b") +
			`{"resourceType":"Encounter","id":"of-a","subject":{"reference":"Patient/a"},` +
			`"serviceProvider":{"reference":"Organization/o"}}` + "\n" +
			`{"resourceType":"Organization","id":"o"}` + "\n",
	}))
	check := func(rec source.Record, patient string, want ...bool) {
		for i, id := range []string{"Encounter/of-a", "Patient/a", "Organization/o", "Patient/x"} {
			typ, id, _ := strings.Cut(id, "/")
			if got, err := rec.Has(patient, typ, id); err != nil || got != want[i] {
				t.Errorf("%s has %s/%s: %t, %v", patient, typ, id, got, err)
			}
		}
	}
	p := freeze(t, s, "one")
	defer p.Close() // read only
	all := source.Selection{Level: ehi.System}
	parts, err := p.Plan(t.Context(), all, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		rec, err := p.Open(t.Context(), all, part)
		if err != nil {
			t.Fatal(err)
		}
		check(rec, "a", true, true, true, false)
		check(rec, "b", false, false, true, false)
		if err := rec.Close(); err != nil {
			t.Error(err)
		}
	}
	for patient, want := range map[string][]bool{
		"a": {true, true, true, false}, "b": {false, false, false, false},
	} {
		rec, err := s.Open(t.Context(), patient)
		if err != nil {
			t.Fatal(err)
		}
		check(rec, patient, want...)
		if err := rec.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever comes first, a document ends up with the patient whom its identifier means.
func TestADocumentWaitsForItsPatient(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, map[string]string{
		"documents.csv": "patient,path\nurn:mrn|m-a,x.txt\n", "x.txt": "x",
	}))
	if u := rep.UnplacedDocuments; u == nil || u.Count != 1 || u.Example != "x.txt of urn:mrn|m-a" {
		t.Errorf("%+v", u)
	}
	rep = load(t, s, write(t, t.TempDir(), "a.ndjson", patientsNamed("a")))
	if got := documentsOf(t, s, "a"); len(got) != 1 || rep.UnplacedDocuments != nil {
		t.Errorf("a has %q, %+v", got, rep.UnplacedDocuments)
	}
	// the identifier now means two patients, and so none of them
	twin := strings.ReplaceAll(patientsNamed("a"), `"id":"a"`, `"id":"twin"`)
	rep = load(t, s, write(t, t.TempDir(), "twin.ndjson", twin))
	if got := documentsOf(t, s, "a"); len(got) != 0 || rep.UnplacedDocuments == nil {
		t.Errorf("a has %q, %+v", got, rep.UnplacedDocuments)
	}
	gone := `{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"2030-01-01T00:00:00Z"}}`
	load(t, s, write(t, t.TempDir(), "gone.ndjson", gone))
	if got := documentsOf(t, s, "twin"); len(got) != 1 {
		t.Errorf("the twin has %q", got)
	}
}

// Native content of a patient who was deleted is in no export, and comes back with the patient.
// That of a patient who was merged into another one is in the export of the system.
func TestDocumentsAndRowsWaitWhileTheirPatientIsDeleted(t *testing.T) {
	files := clinicFiles()
	files["documents.csv"] = "patient,path\na,x\nb,x\nold,x\n"
	files["x"] = "x"
	files["new.ndjson"] = `{"resourceType":"Patient","id":"new","link":[{"type":"replaces",` +
		`"other":{"reference":"Patient/old"}}]}` + "\n"
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, files))
	everything := func(name string) (out []string) {
		t.Helper()
		p := freeze(t, s, name)
		defer p.Close() // read only
		sel := source.Selection{Level: ehi.System, Native: true}
		parts, err := p.Plan(t.Context(), sel, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			rec, err := p.Open(t.Context(), sel, part)
			if err != nil {
				t.Fatal(err)
			}
			out = append(append(out, documentsIn(t, rec)...), rowsIn(t, rec)...)
		}
		return out
	}
	of := func(patient string, all []string) (n int) {
		for _, text := range all {
			if strings.Contains(text, patient+" ") {
				n++
			}
		}
		return n
	}
	before := everything("before")
	if of("a", before) < 3 || of("b", before) < 2 || of("old", before) != 1 {
		t.Fatalf("%q", before)
	}
	rep := load(t, s, write(t, t.TempDir(), "gone.json", `{"resourceType":"Bundle",`+
		`"type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/a"}}]}`))
	if u := rep.UnplacedDocuments; u == nil || u.Count != 1 || len(rep.UnplacedRows) == 0 {
		t.Errorf("%+v", rep)
	}
	after := everything("after")
	if of("a", after) > 0 || of("b", after) < 2 || of("old", after) != 1 {
		t.Errorf("without a: %q", after)
	}
	load(t, s, write(t, t.TempDir(), "a.ndjson", patientsNamed("a")))
	if again := everything("again"); !slices.Equal(again, before) {
		t.Errorf("%q, before %q", again, before)
	}
}

func TestMergedPatientsShareTheirDocuments(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{
		"documents.csv": "patient,path\nold,x.txt\nnew,y.txt\n", "x.txt": "x", "y.txt": "y",
		"p.ndjson": `{"resourceType":"Patient","id":"new"}` + "\n" +
			`{"resourceType":"Patient","id":"old","link":[{"other":{"reference":"Patient/new"},` +
			`"type":"replaced-by"}]}` + "\n",
	}))
	if got := documentsOf(t, s, "new"); !slices.Equal(got, []string{"new y.txt y", "old x.txt x"}) {
		t.Errorf("the survivor has %q", got)
	}
	if got := documentsOf(t, s, "old"); !slices.Equal(got, []string{"old x.txt x"}) {
		t.Errorf("the replaced patient has %q", got)
	}
}

// A record knows what belongs to other patients only, also to those outside of a Group. In a
// population, somebody who was merged into a patient is the same one, for rows and for documents.
func TestARecordKnowsWhatIsAnotherPatients(t *testing.T) {
	s := openStore(t, t.TempDir())
	of := func(patient string) string {
		return `{"resourceType":"Encounter","id":"of-` + patient + `","subject":{"reference":` +
			`"Patient/` + patient + `"}}` + "\n"
	}
	load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "new") +
		`{"resourceType":"Patient","id":"old","link":[{"other":{"reference":"Patient/new"},` +
		`"type":"replaced-by"}]}` + "\n" + of("a") + of("new") + of("old") +
		`{"resourceType":"Organization","id":"o"}` + "\n" +
		`{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":` +
		`{"reference":"Patient/new"}}]}` + "\n",
	}))
	outside := "" // the patient whom an export leaves out
	check := func(rec source.Record, patient string, others ...string) {
		t.Helper()
		for _, id := range []string{"a", "new", "old"} {
			got, err := rec.Another(patient, "Encounter", "of-"+id)
			want := slices.Contains(others, id)
			if got != want || err != nil {
				t.Errorf("what is of %s is another's for %s: %t, %v", id, patient, got, err)
			}
			has, err := rec.Has(patient, "Encounter", "of-"+id)
			if exported := id != outside; has != (exported && !want) || err != nil {
				t.Errorf("what is of %s is in the record of %s: %t, %v", id, patient, has, err)
			}
		}
		for _, id := range []string{"o", "absent"} {
			if got, err := rec.Another(patient, "Organization", id); got || err != nil {
				t.Errorf("%s is another's for %s: %t, %v", id, patient, got, err)
			}
		}
	}
	p := freeze(t, s, "one")
	defer p.Close() // read only
	for _, sel := range []source.Selection{
		{Level: ehi.System}, {Level: ehi.OneGroup, Group: "g"},
	} {
		parts, err := p.Plan(t.Context(), sel, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			rec, err := p.Open(t.Context(), sel, part)
			if err != nil {
				t.Fatal(err)
			}
			if outside = ""; sel.Level == ehi.OneGroup {
				outside = "a"
			}
			check(rec, "a", "new", "old")
			check(rec, "new", "a")
			check(rec, "old", "a")
			if err := rec.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	outside = ""
	for patient, others := range map[string][]string{
		"a": {"new", "old"}, "new": {"a"}, "old": {"a", "new"},
	} {
		rec, err := s.Open(t.Context(), patient)
		if err != nil {
			t.Fatal(err)
		}
		check(rec, patient, others...)
		if err := rec.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is wrong with a row is reported with its line, and costs only this row.
func TestBadRowsOfAnIndexAreReported(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret.txt")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []string{
		"patient,path,date,category,labels,resource,contentType",
		"a,good.txt,,,,,",
		"a,absent.txt,,,,,",
		"a,../secret.txt,,,,,",
		"a,/etc/passwd,,,,,",
		"a,link.txt,,,,,",
		"a,docs,,,,,",
		"a,,,,,,",
		"a,\"x\ty\",,,,,",
		"a b,good.txt,,,,,",
		",good.txt,,,,,",
		"a,good.txt,yesterday,,,,",
		"a,good.txt,,letters,,,",
		"a,good.txt,,,restricted,,",
		"a,good.txt,,,,letter,",
		"a,good.txt,,,,,pdf",
		"a,good.txt",
		"a,\x00.txt,,,,,",
		"a,other.txt,,,,,",
		"a,good.txt,0001,,,,",
		"a,good.txt,0001-01-01,,,,",
	}
	dir := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), "good.txt": "good", "other.txt": "other", "docs/x": "x",
		"documents.csv": strings.Join(rows, "\n") + "\n",
	})
	if err := os.Symlink(outside, filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, t.TempDir())
	rep := load(t, s, dir)
	if got := problems(rep); !slices.Equal(got, []int{
		3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21,
	}) {
		t.Errorf("lines %v: %v", got, rep.Bad)
	}
	if got := documentsOf(t, s, "a"); len(got) != 2 || rep.Documents != 2 {
		t.Errorf("%q, %d counted", got, rep.Documents)
	}
	if why := fmt.Sprint(rep.Bad); !strings.Contains(why, "has 2 values; the header has 7") {
		t.Error(why)
	}
	for header, want := range map[string]string{
		"patient,path,colour": `unknown column "colour"`, "patient": `lacks the column "path"`,
		"Patient,path": "columns are named, in lower and upper case as here: patient, path, type",
		"path,path":    "twice", "": "names of the columns",
	} {
		rep := load(t, s, folder(t, map[string]string{"documents.csv": header}))
		if len(rep.Bad) != 1 || !strings.Contains(rep.Bad[0].Why, want) {
			t.Errorf("%q: %v", header, rep.Bad)
		}
	}
	_, err := s.Import(t.Context(), []string{dir}, source.ImportOptions{Strict: true})
	if !errors.Is(err, source.ErrBad) {
		t.Errorf("strict: %v", err)
	}
}

// A file is that whose name is written, even if the name of another one differs in a space only.
func TestSpacesArePartOfTheNameOfADocument(t *testing.T) {
	const letter, other = "letter.txt", "letter.txt "
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b"), letter: "of a", other: "of b",
		"documents.csv": "patient,path\na,letter.txt\n b ,\"letter.txt \"\n",
	})
	s := openStore(t, t.TempDir())
	if rep := load(t, s, from); rep.Problems > 0 || rep.Documents != 2 {
		t.Errorf("%+v", rep)
	}
	if got := documentsOf(t, s, "b"); !slices.Equal(got, []string{"b letter.txt  of b"}) {
		t.Errorf("b has %q", got)
	}
	if err := os.Remove(filepath.Join(from, other)); err != nil {
		t.Fatal(err)
	}
	rep := load(t, openStore(t, t.TempDir()), from)
	if rep.Documents != 1 || !strings.Contains(fmt.Sprint(rep.Bad), `csv:3: "letter.txt ": `) {
		t.Errorf("%d documents, %v", rep.Documents, rep.Bad)
	}
}

// Spaces lead to no other patient, and hide neither a code nor a label.
func TestSpacesInAnIndexChangeNoMeaning(t *testing.T) {
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"),
		"documents.csv": "patient,path,type,labels,category\n" +
			"urn:mrn|m-a,x, s | c ,s|R\ts|S\u00a0, visits\nurn:mrn|m-a ,y,,,\n",
		"x": "x", "y": "y",
	})
	s := openStore(t, t.TempDir())
	rep := load(t, s, from)
	if u := rep.UnplacedDocuments; rep.Problems > 0 || u == nil || u.Count != 1 {
		t.Errorf("%+v", rep)
	}
	rec, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close() // read only
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		labels := []fhir.Coding{{System: "s", Code: "R"}, {System: "s", Code: "S"}}
		if d.Name != "x" || d.Type != (fhir.Coding{System: "s", Code: "c"}) ||
			d.Category != ehi.Visits || !slices.Equal(d.Labels, labels) {
			t.Errorf("%+v", d)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A content is stored once, and as long as a document or a frozen population has it.
func TestABlobIsKeptWhileSomebodyNeedsIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	s := openStore(t, dir)
	from := folder(t, map[string]string{
		"p.ndjson":      patientsNamed("a", "b"),
		"documents.csv": "patient,path\na,x.txt\nb,x.txt\nb,y.txt\n",
		"x.txt":         "the same", "y.txt": "the same",
	})
	load(t, s, from)
	if got := blobsOf(t, dir); len(got) != 1 {
		t.Fatalf("blobs %q", got)
	}
	before := freeze(t, s, "before")
	fill(t, from, map[string]string{"x.txt": "another"})
	load(t, s, from)
	if got := blobsOf(t, dir); len(got) != 2 {
		t.Errorf("blobs %q", got)
	}
	fill(t, from, map[string]string{"y.txt": "another"})
	rec, err := s.Open(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, from)
	changedOnce := []string{"b x.txt another", "b y.txt another"}
	if got := documentsOf(t, s, "b"); !slices.Equal(got, changedOnce) {
		t.Errorf("b has %q", got)
	}
	if got := documentsIn(t, rec); len(got) != 2 {
		t.Errorf("the open record has %q", got)
	}
	all := source.Selection{Level: ehi.System}
	part, err := before.Open(t.Context(), all, ehi.Part{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a x.txt the same", "b x.txt the same", "b y.txt the same"}
	got := documentsIn(t, part)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the frozen population has %q", got)
	}
	if err := errors.Join(rec.Close(), s.Thaw("before"), before.Close()); err != nil {
		t.Fatal(err)
	}
	fill(t, from, map[string]string{"y.txt": "a third"})
	load(t, s, from)
	if got := blobsOf(t, dir); len(got) != 2 {
		t.Errorf("blobs %q", got)
	}
	changedTwice := []string{"b x.txt another", "b y.txt a third"}
	if got := documentsOf(t, s, "b"); !slices.Equal(got, changedTwice) {
		t.Errorf("b has %q", got)
	}
}

func TestUnchangedDocumentsAreNotReadAgain(t *testing.T) {
	s := openStore(t, t.TempDir())
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), "documents.csv": "patient,path\na,x.txt\n", "x.txt": "x",
	})
	updated := func() (at time.Time) {
		load(t, s, from)
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			at = d.Updated
			return nil
		})
		if err := errors.Join(err, rec.Close()); err != nil {
			t.Fatal(err)
		}
		return at
	}
	if first, second := updated(), updated(); !first.Equal(second) || first.IsZero() {
		t.Errorf("imported at %v and again at %v", first, second)
	}
	fill(t, from, map[string]string{"x.txt": "changed"})
	if got := updated(); got.IsZero() || len(documentsOf(t, s, "a")) != 1 {
		t.Errorf("imported at %v", got)
	}
}

// No document is stored whose content is not.
func TestADocumentIsNotStoredWithoutItsContent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	s := openStore(t, dir)
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), "documents.csv": "patient,path\na,x.txt\n", "x.txt": "x",
	})
	blocked := map[string]string{} // where the folders of blobs would be
	for i := range 256 {
		blocked[fmt.Sprintf("%02x", i)] = ""
	}
	fill(t, dir+".blobs", blocked)
	options := source.ImportOptions{Now: time.Now()}
	if _, err := s.Import(t.Context(), []string{from}, options); err == nil {
		t.Error("the import succeeds")
	}
	if got := documentsOf(t, s, "a"); len(got) != 0 {
		t.Errorf("a has %q", got)
	}
	for name := range blocked {
		if err := os.Remove(filepath.Join(dir+".blobs", name)); err != nil {
			t.Fatal(err)
		}
	}
	load(t, s, from)
	if got := documentsOf(t, s, "a"); len(got) != 1 {
		t.Errorf("a has %q", got)
	}
}

// A reader learns that a blob is missing or damaged.
func TestADamagedDocumentIsAnErrorOfItsReader(t *testing.T) {
	for what, harm := range map[string]func(path string) error{
		"missing": os.Remove,
		"short":   func(path string) error { return os.WriteFile(path, []byte("o"), 0o600) },
		"changed": func(path string) error { return os.WriteFile(path, []byte("on"), 0o600) },
	} {
		dir := filepath.Join(t.TempDir(), "records")
		s := openStore(t, dir)
		load(t, s, folder(t, map[string]string{
			"p.ndjson": patientsNamed("a"), "documents.csv": "patient,path\na,x.txt\n",
			"x.txt": "no",
		}))
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			if err := errors.Join(os.Chmod(d.Path, 0o600), harm(d.Path)); err != nil {
				t.Fatal(err)
			}
			_, err := contentOf(d)
			return err
		})
		if !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An import of the same files puts contents back that were lost, or cut off.
func TestALostContentComesBackWithItsUnchangedFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	s := openStore(t, dir)
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), "documents.csv": "patient,path\na,x\na,y\na,z\n",
		"x": "content of x", "y": "content of y", "z": "content of x",
	})
	load(t, s, from)
	want := documentsOf(t, s, "a")
	harms := []func(path string) error{
		os.Remove, func(path string) error { return os.Truncate(path, 3) },
	}
	err := filepath.WalkDir(dir+".blobs", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		harm := harms[0]
		harms = harms[1:]
		return errors.Join(os.Chmod(path, 0o600), harm(path))
	})
	if err != nil || len(harms) > 0 {
		t.Fatal(err, len(harms))
	}
	load(t, s, from)
	if got := documentsOf(t, s, "a"); !slices.Equal(got, want) || len(want) != 3 {
		t.Errorf("%q, before %q", got, want)
	}
	if got := blobsOf(t, dir); len(got) != 2 {
		t.Errorf("blobs %q", got)
	}
}

func TestAStoreWhoseBlobsAreLostIsNotOpened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	s, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, folder(t, map[string]string{"documents.csv": "patient,path\na,x\n", "x": "x"}))
	if err := errors.Join(s.Close(), os.RemoveAll(dir+".blobs")); err != nil {
		t.Fatal(err)
	}
	if _, err := dataset.Open(dataset.Config{Dir: dir}); !errors.Is(err, dataset.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// An import of documents that is killed at any point leaves a store in which nothing that is named
// is missing. When it runs again, it imports all, and nothing is left over.
func TestAKilledImportOfDocumentsIsRunAgain(t *testing.T) {
	const documents = 600
	contents := map[string]string{"p.ndjson": patientsNamed("a", "b")}
	var index strings.Builder
	index.WriteString("patient,path\n")
	for i := range documents {
		name := fmt.Sprintf("docs/%d/%d.txt", i%7, i)
		fmt.Fprintf(&index, "%s,%s\n", []string{"a", "b", "urn:mrn|m-a"}[i%3], name)
		contents[name] = fmt.Sprint("content ", i/2)
	}
	contents["documents.csv"] = index.String()
	from := folder(t, contents)
	check := func(dir string) (n int) {
		s, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"a", "b"} {
			if _, err := s.Patient(t.Context(), p); err == nil {
				n += len(documentsOf(t, s, p))
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	dir := filepath.Join(t.TempDir(), "records")
	took, _ := runImport(t, dir, from, 0)
	if n := check(dir); n != documents {
		t.Fatalf("%d documents", n)
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	kills := 0
	for round := range rounds(8) {
		dir := filepath.Join(t.TempDir(), "records")
		killed := killImport(t, dir, from, &took, rnd)
		if killed {
			kills++
		}
		if _, err := os.Stat(filepath.Join(dir, "LOCK")); err == nil && round%2 == 0 {
			check(dir)
		}
		runImport(t, dir, from, 0)
		if n := check(dir); n != documents {
			t.Errorf("round %d: %d documents", round, n)
		}
		if n := len(blobsOf(t, dir)); n != documents/2 {
			t.Errorf("round %d: %d blobs", round, n)
		}
	}
	if kills == 0 {
		t.Error("no import was killed")
	}
}

// A date that is a year, a month or a day stays one, from an index and from the list of an export.
func TestAPartialDateStaysOne(t *testing.T) {
	dates := map[string]string{
		"2024": "2024", "2024-03": "2024-03", "2024-03-15": "2024-03-15",
		"2024-03-15T10:00:00Z": "", "": "",
	}
	patient := `{"resourceType":"Patient","id":"a"}` + "\n"
	index := map[string]string{"p.ndjson": patient, "documents.csv": "patient,path,date,title\n"}
	list := map[string]string{"p.ndjson": patient, "document_reference.ndjson": ""}
	wants := map[string]string{}
	for date, want := range dates {
		name := "d" + date[:min(len(date), 13)] + ".txt"
		wants[name] = want
		index[name], list["documents/"+name] = date, date
		index["documents.csv"] += "a," + name + "," + date + ",of " + date + "\n"
		at, err := fhir.ParseSpan(date)
		entry := reference("a", "documents/"+name, date, "")
		if err == nil {
			entry = reference("a", "documents/"+name, date,
				`,"date":"`+fhir.FormatInstant(at.Start)+`"`)
			entry = strings.Replace(entry, `"title":"A title"`,
				`"title":"of `+date+`","creation":"`+date+`"`, 1)
		}
		list["document_reference.ndjson"] += entry
	}
	for name, files := range map[string]map[string]string{"index": index, "list": list} {
		s := openStore(t, t.TempDir())
		if rep := load(t, s, folder(t, files)); rep.Problems > 0 {
			t.Fatalf("%s: %+v", name, rep)
		}
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			n++
			if want := wants[d.Name]; d.Date != want {
				t.Errorf("%s: %s has the date %q, want %q", name, d.Name, d.Date, want)
			}
			return nil
		})
		if err := errors.Join(err, rec.Close()); err != nil || n != len(dates) {
			t.Errorf("%s: %d documents, %v", name, n, err)
		}
	}
}
