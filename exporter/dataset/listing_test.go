package dataset_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
)

// reindex writes the index of a folder anew, as if at a later time.
func reindex(t testing.TB, dir string, rows ...string) {
	t.Helper()
	index := filepath.Join(dir, "documents.csv")
	fill(t, dir, map[string]string{"documents.csv": strings.Join(rows, "\n") + "\n"})
	was, err := os.Stat(index)
	if err != nil {
		t.Fatal(err)
	}
	rewritten++
	later := was.ModTime().Add(time.Duration(rewritten) * time.Second)
	if err := os.Chtimes(index, later, later); err != nil {
		t.Fatal(err)
	}
}

var rewritten int // how many indexes were written anew

// hold fails unless the patients a and b have exactly these documents.
func hold(t *testing.T, s *dataset.Store, step string, a, b []string) {
	t.Helper()
	for i, want := range [][]string{a, b} {
		patient := []string{"a", "b"}[i]
		if got := documentsOf(t, s, patient); !slices.Equal(got, want) {
			t.Errorf("%s: %s has %q, want %q", step, patient, got, want)
		}
	}
}

// A corrected index takes a document back from the wrong patient. For the right one it is new.
func TestACorrectedIndexMovesADocumentToItsPatient(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	s := openStore(t, dir)
	const header = "patient,path"
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b"), "x.txt": "x", "y.txt": "y",
	})
	reindex(t, from, header, "a,x.txt", "a,y.txt")
	load(t, s, from)
	hold(t, s, "at first", []string{"a x.txt x", "a y.txt y"}, nil)
	between := time.Now().Add(time.Minute)
	reindex(t, from, header, "urn:mrn|m-b,x.txt", "a,y.txt")
	rep, err := s.Import(t.Context(), []string{from},
		source.ImportOptions{Now: between.Add(time.Minute)})
	if err != nil || rep.Problems > 0 || rep.DocumentsRemoved != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
	hold(t, s, "corrected", []string{"a y.txt y"}, []string{"b x.txt x"})
	rec, err := s.Open(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close() // read only
	changed := 0
	err = rec.Documents(t.Context(), source.Query{Since: between},
		func(*source.Document) error { changed++; return nil })
	if err != nil || changed != 1 {
		t.Errorf("%d documents of b changed, %v", changed, err)
	}
	if rep := load(t, s, from); rep.DocumentsRemoved > 0 || rep.Problems > 0 {
		t.Errorf("again: %+v", rep)
	}
	reindex(t, from, header, "a,x.txt", "b,x.txt", "a,y.txt")
	load(t, s, from)
	hold(t, s, "of both", []string{"a x.txt x", "a y.txt y"}, []string{"b x.txt x"})
	reindex(t, from, header, "b,y.txt")
	load(t, s, from)
	hold(t, s, "a path that the index names no more", []string{"a x.txt x"},
		[]string{"b x.txt x", "b y.txt y"})
	if n := len(blobsOf(t, dir)); n != 2 {
		t.Errorf("%d contents", n)
	}
}

// The same path of another folder is another document.
func TestAnIndexTakesNothingBackThatAnotherListed(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, p := range []string{"a", "b"} {
		load(t, s, folder(t, map[string]string{
			"p.ndjson": patientsNamed("a", "b"), "x.txt": p,
			"documents.csv": "patient,path\n" + p + ",x.txt\n",
		}))
	}
	hold(t, s, "two folders", []string{"a x.txt a"}, []string{"b x.txt b"})
}

// What cannot be imported for the right patient is not lost: it stays with the wrong one, and the
// problem is reported until it is solved.
func TestABadCorrectionTakesNothingBack(t *testing.T) {
	s := openStore(t, t.TempDir())
	const header = "patient,path,date"
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b"), "x.txt": "x", "y.txt": "y",
	})
	reindex(t, from, header, "a,x.txt,", "a,y.txt,", "b,y.txt,")
	load(t, s, from)
	all := []string{"a x.txt x", "a y.txt y"}
	for _, row := range []string{"b,x.txt,yesterday", "b,x.txt,,", "b c,x.txt,", "b,\"x.txt,"} {
		reindex(t, from, header, "b,y.txt,", "a,y.txt,tomorrow", row)
		for range 2 {
			if rep := load(t, s, from); rep.Problems != 2 || rep.DocumentsRemoved > 0 {
				t.Errorf("%s: %+v", row, rep)
			}
			hold(t, s, row, all, []string{"b y.txt y"})
		}
	}
	if err := os.Rename(filepath.Join(from, "x.txt"), filepath.Join(from, "z.txt")); err != nil {
		t.Fatal(err)
	}
	reindex(t, from, header, "b,x.txt,", "b,y.txt,")
	if rep := load(t, s, from); rep.Problems != 1 {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "without the file", []string{"a x.txt x"}, []string{"b y.txt y"})
	fill(t, from, map[string]string{"x.txt": "x"})
	load(t, s, from)
	hold(t, s, "with the file", nil, []string{"b x.txt x", "b y.txt y"})
}

// A row with the status entered-in-error takes its document back, wherever its index lies, and
// without the file.
func TestADocumentThatWasEnteredInErrorIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	s := openStore(t, dir)
	load(t, s, folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b"), "x.txt": "x", "y.txt": "y",
		"documents.csv": "patient,path\na,x.txt\na,y.txt\nb,x.txt\n",
	}))
	removal := folder(t, map[string]string{
		"documents.csv": "patient,path,status\na,x.txt,entered-in-error\na,z.txt,entered-in-error\n",
	})
	if rep := load(t, s, removal); rep.DocumentsRemoved != 1 ||
		!slices.Equal(problems(rep), []int{3}) { // there is no z.txt
		t.Errorf("%+v", rep)
	}
	hold(t, s, "removed", []string{"a y.txt y"}, []string{"b x.txt x"})
	fill(t, removal, map[string]string{"new.txt": "new"})
	reindex(t, removal, "patient,path,status", "b,new.txt,current", "b,new.txt,entered-in-error",
		"b,x.txt,entered-in-error", "b,x.txt,gone", "a,z.txt,current")
	fill(t, removal, map[string]string{"z.txt": "z"})
	if rep := load(t, s, removal); rep.Problems != 1 || rep.DocumentsRemoved != 2 {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "both removed", []string{"a y.txt y", "a z.txt z"}, nil)
	if n := len(blobsOf(t, dir)); n != 2 {
		t.Errorf("%d contents", n)
	}
}

// A document that came with the list of an export is removed by an entry of a list.
func TestAListRemovesWhatWasEnteredInError(t *testing.T) {
	s := openStore(t, t.TempDir())
	entry := func(patient, status string) string {
		return fmt.Sprintf(`{"resourceType":"DocumentReference","status":%q,"meta":{"tag":[{"code":`+
			`"ehi-export"}]},"subject":{"reference":"Patient/%s"},"content":[{"attachment":{`+
			`"url":"documents/000001-x.txt","hash":"EfatjsUqKYSrqv18O1FlA3hcIHI="}}]}`+"\n", status,
			patient)
	}
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b"), "documents/000001-x.txt": "x",
		"document_reference.ndjson": entry("a", "current"),
	})
	if rep := load(t, s, from); rep.Problems > 0 {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "at first", []string{"a x.txt x"}, nil)
	fill(t, from, map[string]string{
		"document_reference.ndjson": entry("a", "entered-in-error") + entry("b", "current"),
	})
	if rep := load(t, s, from); rep.Problems > 0 || rep.DocumentsRemoved != 1 {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "corrected", nil, []string{"b x.txt x"})
}

// An import of a corrected index that ends in its middle loses nothing. The next one, by another
// process, goes on.
func TestACorrectionGoesOnAfterARestart(t *testing.T) {
	const documents = 2000
	from := folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b"), "x.txt": "x"})
	wrong, right := []string{"patient,path"}, []string{"patient,path"}
	for i := range documents {
		name := fmt.Sprintf("%d.txt", i)
		if err := os.Link(filepath.Join(from, "x.txt"), filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
		wrong, right = append(wrong, "a,"+name), append(right, "b,"+name)
	}
	dir := filepath.Join(t.TempDir(), "records")
	s, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	reindex(t, from, wrong...)
	load(t, s, from)
	reindex(t, from, right...)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err = s.Import(ctx, []string{from}, source.ImportOptions{
		Now: time.Now(),
		Progress: func(int64, int64) {
			if calls++; calls > documents/2 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if a, b := documentsOf(t, s, "a"), documentsOf(t, s, "b"); len(a) != documents ||
		len(b) < 100 || len(b) == documents {
		t.Errorf("in the middle, a has %d documents and b has %d", len(a), len(b))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if rep := load(t, s, from); rep.DocumentsRemoved != documents {
		t.Errorf("%+v", rep)
	}
	if a, b := documentsOf(t, s, "a"), documentsOf(t, s, "b"); len(a) > 0 || len(b) != documents {
		t.Errorf("a has %d documents and b has %d", len(a), len(b))
	}
}

// An import of a corrected index that is killed at any point loses nothing, and when it runs again,
// no document is left with the wrong patient.
func TestAKilledCorrectionIsRunAgain(t *testing.T) {
	const documents = 400
	from := folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")})
	wrong, right := []string{"patient,path"}, []string{"patient,path"}
	for i := range documents {
		name := fmt.Sprintf("%d.txt", i)
		fill(t, from, map[string]string{name: fmt.Sprint("content ", i)})
		wrong, right = append(wrong, "a,"+name), append(right, "b,"+name)
	}
	nothingIsLost := func(dir string) {
		s, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		all := append(documentsOf(t, s, "a"), documentsOf(t, s, "b")...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, d := range all {
			_, name, _ := strings.Cut(d, " ")
			names[name] = true
		}
		if len(names) != documents {
			t.Errorf("%d documents are left", len(names))
		}
	}
	rnd := rand.New(rand.NewPCG(3, 9))
	var took time.Duration
	kills := 0
	for round := range rounds(10) {
		dir := filepath.Join(t.TempDir(), "records")
		reindex(t, from, wrong...)
		runImport(t, dir, from, 0)
		reindex(t, from, right...)
		if round == 0 {
			took, _ = runImport(t, dir, from, 0)
		} else {
			if killImport(t, dir, from, &took, rnd) {
				kills++
			}
			if round%2 == 0 {
				nothingIsLost(dir)
			}
			runImport(t, dir, from, 0)
		}
		s := openStore(t, dir)
		if a, b := documentsOf(t, s, "a"), documentsOf(t, s, "b"); len(a) > 0 ||
			len(b) != documents || len(blobsOf(t, dir)) != documents {
			t.Errorf("round %d: a has %d documents and b has %d", round, len(a), len(b))
		}
	}
	if kills == 0 {
		t.Error("no import was killed")
	}
}
