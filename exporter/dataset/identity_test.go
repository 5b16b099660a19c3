package dataset_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
)

// delivery writes a folder with an index and files.
func delivery(t testing.TB, dir string, files map[string]string, rows ...string) {
	t.Helper()
	fill(t, dir, files)
	reindex(t, dir, rows...)
}

// Deliveries in folders of their own may use the same names of files: neither takes anything from
// the other, whatever is imported again, corrected or replaced.
func TestDeliveriesKeepTheirDocumentsOfOnePath(t *testing.T) {
	s := openStore(t, t.TempDir())
	all := folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")})
	first, second := filepath.Join(all, "1"), filepath.Join(all, "2")
	delivery(t, first, map[string]string{"x.txt": "one"}, "patient,path", "a,x.txt")
	delivery(t, second, map[string]string{"x.txt": "two"}, "patient,path", "a,x.txt")
	both := []string{"a x.txt one", "a x.txt two"}
	for range 2 {
		for _, from := range []string{all, first, second} {
			if rep := load(t, s, from); rep.Problems > 0 || rep.DocumentsRemoved > 0 {
				t.Errorf("%+v", rep)
			}
			hold(t, s, "imported "+from, both, nil)
		}
	}
	reindex(t, first, "patient,path", "b,x.txt")
	load(t, s, all)
	hold(t, s, "the first is corrected", both[1:], []string{"b x.txt one"})
	reindex(t, first, "patient,path", "a,x.txt")
	load(t, s, first)
	fill(t, second, map[string]string{"x.txt": "three"})
	if rep := load(t, s, all); rep.DocumentsRemoved > 0 {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "a content is replaced", []string{"a x.txt one", "a x.txt three"}, nil)
	fill(t, second, map[string]string{"x.txt": "one"})
	load(t, s, all)
	hold(t, s, "both have one content", []string{"a x.txt one"}, nil)
	fill(t, second, map[string]string{"x.txt": "four"})
	load(t, s, all)
	hold(t, s, "no more", []string{"a x.txt four", "a x.txt one"}, nil)
}

// A folder at another place is the same, also if one of the two names the patient by an identifier.
// What the index of one of them takes back stays while the other lists it, and that is reported.
func TestAFolderIsTheSameAtAnotherPlace(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	places := []string{t.TempDir(), t.TempDir()}
	fill(t, places[0], map[string]string{"p.ndjson": patientsNamed("a", "b")})
	for i, patient := range []string{"urn:mrn|m-a", "a"} {
		delivery(t, places[i], map[string]string{"x.txt": "x"}, "patient,path", patient+",x.txt")
		load(t, s, places[i])
		hold(t, s, places[i], []string{"a x.txt x"}, nil)
	}
	reindex(t, places[1], "patient,path", "", "b,x.txt")
	rep := load(t, s, places[1])
	if why := fmt.Sprint(rep.Bad); !slices.Equal(problems(rep), []int{3}) ||
		!strings.Contains(why, filepath.Join(places[0], "documents.csv")+" lists it there") {
		t.Error(why)
	}
	hold(t, s, "one is corrected", []string{"a x.txt x"}, []string{"b x.txt x"})
	reindex(t, places[0], "patient,path", "b,x.txt")
	if rep := load(t, s, places[0]); rep.Problems > 0 || rep.DocumentsRemoved != 1 {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "both are corrected", nil, []string{"b x.txt x"})
}

// A corrected index is noticed although its size and its time are the same as before, as in an
// unpacked archive with fixed times, and although its folder is named by a link.
func TestACorrectionIsNoticedByItsText(t *testing.T) {
	s := openStore(t, t.TempDir())
	from := folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b"), "x.txt": "x"})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(from, link); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC)
	for i, path := range []string{from, from, link} {
		index := filepath.Join(from, "documents.csv")
		fill(t, from, map[string]string{
			"documents.csv": "patient,path\n" + []string{"a", "b"}[i%2] + ",x.txt\n",
		})
		if err := os.Chtimes(index, at, at); err != nil {
			t.Fatal(err)
		}
		load(t, s, path)
		want := [][]string{{"a x.txt x"}, {"b x.txt x"}}
		want[1-i%2] = nil
		hold(t, s, path, want[0], want[1])
	}
}

// A document of an index is the same one in the list of an export, whichever comes first.
func TestADocumentOfAnIndexIsTheSameInAList(t *testing.T) {
	const index = "patient,path,title,date\n" +
		"urn:mrn|m-a,scans/x: 1.txt,,2020\na,y.txt,A title,\na,copy/y.txt,A title,\n"
	listed := strings.NewReplacer("A title", "x: 1.txt", `"status"`,
		`"date":"2020-01-01T00:00:00.000Z","status"`).
		Replace(reference("a", "documents/000001-x_%201.txt", "x", "")) +
		reference("a", "documents/000002-y.txt", "y", "") +
		reference("a", "documents/000003-y.txt", "y", "")
	parts := []map[string]string{
		{"documents.csv": index, "scans/x: 1.txt": "x", "y.txt": "y", "copy/y.txt": "y"},
		{
			"document_reference.ndjson": listed, "documents/000001-x_ 1.txt": "x",
			"documents/000002-y.txt": "y", "documents/000003-y.txt": "y",
		},
	}
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		s := openStore(t, t.TempDir())
		load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a")}))
		from := []string{folder(t, parts[0]), folder(t, parts[1])}
		for range 2 {
			for _, i := range order {
				if rep := load(t, s, from[i]); rep.Problems > 0 {
					t.Errorf("%v: %+v", order, rep)
				}
				if got := documentsOf(t, s, "a"); len(got) > 3 {
					t.Errorf("%v: a has %q", order, got)
				}
			}
		}
	}
}

// updatedOf returns when each document of a patient was imported, by its ID.
func updatedOf(t testing.TB, s *dataset.Store, patient string) map[string]time.Time {
	t.Helper()
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]time.Time{}
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		out[d.ID] = d.Updated
		return nil
	})
	if err := errors.Join(err, rec.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

// What is imported again, from anywhere, is not new for a client that asks for changes.
func TestADocumentThatComesAgainIsNotNew(t *testing.T) {
	s := openStore(t, t.TempDir())
	files := map[string]string{
		"p.ndjson": patientsNamed("a"), "documents.csv": "patient,path,title\na,x.txt,T\n",
		"x.txt": "x",
	}
	from := folder(t, files)
	load(t, s, from)
	before := updatedOf(t, s, "a")
	load(t, s, from)
	load(t, s, folder(t, files))
	load(t, s, folder(t, map[string]string{
		"document_reference.ndjson": strings.ReplaceAll(
			reference("a", "documents/000001-x.txt", "x", ""), "A title", "T"),
		"documents/000001-x.txt": "x",
	}))
	if after := updatedOf(t, s, "a"); !maps.Equal(before, after) {
		t.Errorf("%v, before %v", after, before)
	}
}

// A charset holds for the values of an index too. A file in UTF-8 beside one in UTF-16 stays one.
func TestACharsetHoldsForAnIndex(t *testing.T) {
	for charset, index := range map[string]string{
		"latin1": "patient,path,title\na,x.txt,M\xfcller\n",
		"utf-16": "patient,path,title\na,x.txt,Müller\n",
	} {
		s := openStore(t, t.TempDir())
		rep, err := s.Import(t.Context(), []string{folder(t, map[string]string{
			"p.ndjson": patientsNamed("a"), "x.txt": "x", "documents.csv": index,
		})}, source.ImportOptions{Now: time.Now(), Charset: charset})
		if err != nil || rep.Problems > 0 {
			t.Fatalf("%s: %v, %v", charset, rep.Bad, err)
		}
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		title := ""
		err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			title = d.Title
			return nil
		})
		if err := errors.Join(err, rec.Close()); err != nil || title != "Müller" {
			t.Errorf("%s: the title is %q, %v", charset, title, err)
		}
	}
}
