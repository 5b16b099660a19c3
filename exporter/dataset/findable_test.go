package dataset_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
)

// form is the content of documentsOfOneContent.
const form = "a form"

// documentsOfOneContent returns the folder of a delivery with documents of one content, and those
// of two exports of it, which number them differently. All have one title, or each has its own.
func documentsOfOneContent(t testing.TB, n int, oneTitle bool) (index, list, other string) {
	t.Helper()
	title := func(i int) string {
		if oneTitle {
			return "A form"
		}
		return fmt.Sprint("Form: ", i)
	}
	rows, files := []string{"patient,path,title"}, map[string]string{}
	lists := []map[string]string{{}, {}}
	entries := [2][]string{}
	for i := range n {
		path := fmt.Sprintf("%d/form.txt", i)
		rows, files[path] = append(rows, "a,"+path+","+title(i)), form
		for k, number := range []int{i, n - i} {
			path := fmt.Sprintf("documents/%06d-form.txt", number)
			lists[k][path] = form
			entry := strings.Replace(reference("a", path, form, ""), "A title", title(i), 1)
			entries[k] = append(entries[k], entry)
		}
	}
	slices.Reverse(entries[1])
	files["documents.csv"] = strings.Join(rows, "\n") + "\n"
	for k := range lists {
		lists[k]["document_reference.ndjson"] = strings.Join(entries[k], "")
	}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	for i, files := range []map[string]string{files, lists[0], lists[1]} {
		fill(t, dirs[i], files)
	}
	return dirs[0], dirs[1], dirs[2]
}

// However many documents of a patient have one content, an import of what the store has already
// adds none: of an index, of an export, and of another export, in any order.
func TestDocumentsOfOneContentStayAsManyAsTheyAre(t *testing.T) {
	documents := 200
	if raced {
		documents = 100
	}
	for _, oneTitle := range []bool{true, false} {
		index, list, other := documentsOfOneContent(t, documents, oneTitle)
		again, _, _ := documentsOfOneContent(t, documents, oneTitle)
		said, err := os.ReadFile(filepath.Join(list, "document_reference.ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		removal := folder(t, map[string]string{
			"document_reference.ndjson": strings.ReplaceAll(string(said), `"current"`,
				`"entered-in-error"`),
		})
		for _, order := range [][]string{
			{index, list, other, again}, {list, other, index, list, again},
			{other, index, again, list},
		} {
			s := openStore(t, t.TempDir())
			load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")}))
			for range 2 {
				for i, from := range order {
					rep := load(t, s, from)
					if n := len(documentsOf(t, s, "a")); n != documents || rep.Problems > 0 {
						t.Fatalf("one title %t, import %d: %d documents, %v", oneTitle, i, n,
							rep.Bad)
					}
				}
			}
			for _, from := range order { // all of them were entered in error, and stay removed
				rep := load(t, s, removal)
				if n := len(documentsOf(t, s, "a")); n > 0 || rep.Problems > 0 {
					t.Fatalf("one title %t: %d documents are not removed, %v", oneTitle, n, rep.Bad)
				}
				load(t, s, from)
				if n := len(documentsOf(t, s, "a")); n > 0 {
					t.Fatalf("one title %t: %d documents come back", oneTitle, n)
				}
			}
		}
	}
}

// A document whose patient was unknown is the same once an import brings the patient, also for that
// import itself.
func TestADocumentIsTheSameOnceItsPatientIsKnown(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{
		"documents.csv": "patient,path,title\nurn:mrn|m-a,x.txt,A title\n", "x.txt": "x",
	}))
	load(t, s, folder(t, map[string]string{
		"p.ndjson": patientsNamed("a", "b"), "documents/000001-x.txt": "x",
		"document_reference.ndjson": reference("a", "documents/000001-x.txt", "x", ""),
	}))
	hold(t, s, "with the patient", []string{"a x.txt x"}, nil)
	load(t, s, folder(t, map[string]string{
		"documents.csv": "patient,path,title\na,x.txt,A title\n", "x.txt": "x",
	}))
	hold(t, s, "by the patient's ID", []string{"a x.txt x"}, nil)
}

// BenchmarkDocumentsOfOneContent imports 10,000 documents of one content of a patient into a new
// store, and again from an export.
func BenchmarkDocumentsOfOneContent(b *testing.B) {
	const documents = 10_000
	for _, oneTitle := range []bool{true, false} {
		index, list, other := documentsOfOneContent(b, documents, oneTitle)
		fill(b, index, map[string]string{"p.ndjson": patientsNamed("a")})
		b.Run(fmt.Sprintf("oneTitle=%t", oneTitle), func(b *testing.B) {
			for b.Loop() {
				s, err := dataset.Open(dataset.Config{Dir: filepath.Join(b.TempDir(), "records")})
				if err != nil {
					b.Fatal(err)
				}
				for i, from := range []string{index, list, other, index} {
					begin := time.Now()
					_, err := s.Import(b.Context(), []string{from}, source.ImportOptions{Now: begin})
					if err != nil {
						b.Fatal(err)
					}
					name := []string{"index", "list", "other", "again"}[i]
					b.ReportMetric(time.Since(begin).Seconds(), name+"-s")
				}
				if n := len(documentsOf(b, s, "a")); n != documents {
					b.Fatalf("%d documents", n)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOnePathOfManyPatients imports an index that lists one path for 1,000 and for 8,000
// patients, and again.
func BenchmarkOnePathOfManyPatients(b *testing.B) {
	for _, patients := range []int{1000, 8000} {
		ids, rows := []string{}, []string{"patient,path"}
		for i := range patients {
			id := fmt.Sprint("p", i)
			ids, rows = append(ids, id), append(rows, id+",leaflet.txt")
		}
		from := b.TempDir()
		fill(b, from, map[string]string{
			"p.ndjson": patientsNamed(ids...), "leaflet.txt": form,
			"documents.csv": strings.Join(rows, "\n") + "\n",
		})
		b.Run(fmt.Sprint("patients=", patients), func(b *testing.B) {
			for b.Loop() {
				s, err := dataset.Open(dataset.Config{Dir: filepath.Join(b.TempDir(), "records")})
				if err != nil {
					b.Fatal(err)
				}
				for _, name := range []string{"first-s", "again-s"} {
					begin := time.Now()
					_, err := s.Import(b.Context(), []string{from}, source.ImportOptions{Now: begin})
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(time.Since(begin).Seconds(), name)
				}
				if n := len(documentsOf(b, s, "p7")); n != 1 {
					b.Fatalf("%d documents", n)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRemovalByTheList removes the documents of a patient, of long names, by the list of an
// export.
func BenchmarkRemovalByTheList(b *testing.B) {
	for _, documents := range []int{500, 2000} {
		index, _, _ := documentsOfOneContent(b, documents, false)
		fill(b, index, map[string]string{"p.ndjson": patientsNamed("a")})
		var entries []string
		for i := range documents {
			entry := strings.Replace(reference("a", "documents/000001-form.txt", form, ""),
				"A title", fmt.Sprint("Form: ", i), 1)
			entries = append(entries, strings.Replace(entry, `"status":"current"`,
				`"status":"entered-in-error"`, 1))
		}
		list := b.TempDir()
		fill(b, list, map[string]string{"document_reference.ndjson": strings.Join(entries, "")})
		b.Run(fmt.Sprint("documents=", documents), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s, err := dataset.Open(dataset.Config{Dir: filepath.Join(b.TempDir(), "records")})
				if err != nil {
					b.Fatal(err)
				}
				load(b, s, index)
				b.StartTimer()
				load(b, s, list)
				b.StopTimer()
				if n := len(documentsOf(b, s, "a")); n != 0 {
					b.Fatalf("%d documents are left", n)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
