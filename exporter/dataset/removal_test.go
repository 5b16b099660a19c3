package dataset_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// A removal counts more than a listing, whatever comes first, in one import or in several, and when
// both come again.
func TestARemovalCountsInAnyOrder(t *testing.T) {
	for what, steps := range map[string][]string{
		"together":         {"."},
		"together again":   {".", "."},
		"removal first":    {"corrections", "scans"},
		"removal last":     {"scans", "corrections", "scans", "corrections"},
		"and then all":     {"scans", "."},
		"removal and all":  {"corrections", "."},
		"the folder again": {"scans", "corrections", ".", "scans", "."},
	} {
		s := openStore(t, t.TempDir())
		all := folder(t, nil)
		load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")}))
		delivery(t, filepath.Join(all, "scans"), map[string]string{"x.txt": "x", "y.txt": "y"},
			"patient,path", "urn:mrn|m-a,x.txt", "a,y.txt", "b,x.txt")
		delivery(t, filepath.Join(all, "corrections"), nil, "patient,path,status",
			"a,x.txt,entered-in-error")
		var removed int64
		for _, step := range steps {
			rep := load(t, s, filepath.Join(all, step))
			if waits := step == "corrections" && rep.Problems == 1; rep.Problems > 0 && !waits {
				t.Errorf("%s: %+v", what, rep)
			}
			removed += rep.DocumentsRemoved
		}
		hold(t, s, what, []string{"a y.txt y"}, []string{"b x.txt x"})
		if removed != 1 {
			t.Errorf("%s: %d were removed", what, removed)
		}
	}
}

// A document that was removed comes back when an index says something else of it than before, or
// when the index that removed it lists it again. The same index at another place brings nothing
// back, and the import says so.
func TestARemovedDocumentComesBackOnlyInAnotherState(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")}))
	scans, removal := t.TempDir(), t.TempDir()
	const header = "patient,path,title,status"
	delivery(t, scans, map[string]string{"x.txt": "x"}, header, "a,x.txt,Letter,")
	load(t, s, scans)
	delivery(t, removal, nil, header, "a,x.txt,,entered-in-error")
	load(t, s, removal)
	hold(t, s, "removed", nil, nil)
	again := t.TempDir()
	delivery(t, again, map[string]string{"x.txt": "x"}, header, "urn:mrn|m-a,x.txt,Letter,current")
	rep := load(t, s, again)
	if rep.Problems > 0 || !strings.Contains(fmt.Sprint(rep.Notes), "stays removed") {
		t.Errorf("%+v", rep)
	}
	hold(t, s, "at another place", nil, nil)
	reindex(t, scans, header, "a,x.txt,Letter to Dr. Rey,")
	load(t, s, scans)
	hold(t, s, "another title", []string{"a x.txt x"}, nil)
	load(t, s, removal)
	hold(t, s, "the unchanged removal", []string{"a x.txt x"}, nil)
	reindex(t, scans, header, "a,x.txt,Letter to Dr. Rey,entered-in-error")
	load(t, s, scans)
	hold(t, s, "removed by its own index", nil, nil)
	reindex(t, scans, header, "a,x.txt,Letter to Dr. Rey,")
	load(t, s, scans)
	hold(t, s, "listed again", []string{"a x.txt x"}, nil)
	fill(t, scans, map[string]string{"x.txt": "other"})
	reindex(t, scans, header, "a,x.txt,,entered-in-error", "a,x.txt,,")
	load(t, s, scans)
	hold(t, s, "both in one index", nil, nil)
	fill(t, scans, map[string]string{"x.txt": "another"})
	load(t, s, scans)
	hold(t, s, "both, and another content", nil, nil)
}

// A removal that removes nothing is a problem with its line until it finds its document.
func TestARemovalThatRemovesNothingIsReported(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")}))
	first := t.TempDir()
	for content, dir := range map[string]string{"one": first, "two": t.TempDir()} {
		delivery(t, dir, map[string]string{"x.txt": content}, "patient,path", "a,x.txt")
		load(t, s, dir)
	}
	removal := t.TempDir()
	delivery(t, removal, nil, "patient,path,status", "b,x.txt,entered-in-error",
		"nobody,x.txt,entered-in-error", "a,x.txt,entered-in-error", "a,y.txt,entered-in-error")
	for range 2 {
		rep := load(t, s, removal)
		got := problems(rep)
		slices.Sort(got)
		if !slices.Equal(got, []int{2, 3, 4, 5}) || rep.DocumentsRemoved > 0 ||
			!strings.Contains(fmt.Sprint(rep.Bad), "several documents") {
			t.Errorf("%v", rep.Bad)
		}
	}
	hold(t, s, "nothing is removed", []string{"a x.txt one", "a x.txt two"}, nil)
	rep := load(t, s, folder(t, map[string]string{
		"y.txt": "y", "documents.csv": "patient,path\na,y.txt\n",
	}))
	if rep.DocumentsRemoved != 1 || rep.Problems > 0 {
		t.Errorf("what a removal waited for: %+v", rep)
	}
	if got := problems(load(t, s, removal)); len(got) != 3 {
		t.Errorf("lines %v", got)
	}
	reindex(t, first, "patient,path,status", "a,x.txt,entered-in-error")
	for range 2 { // the removal that was unclear does not mean the other one now
		load(t, s, first)
		hold(t, s, "the one is removed", []string{"a x.txt two"}, nil)
		if got := problems(load(t, s, removal)); len(got) != 2 {
			t.Errorf("lines %v", got)
		}
	}
}

// A removal of what another index removed before removes nothing more, and is no problem, also
// beside removals that find their documents.
func TestARemovalOfWhatIsGoneIsNoProblem(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")}))
	const header = "patient,path,status"
	scans, first, all := t.TempDir(), []string{header}, []string{header}
	listed := []string{header}
	for i := range 8 {
		name := fmt.Sprint(i, ".txt")
		fill(t, scans, map[string]string{name: name})
		listed = append(listed, "a,"+name+",", "b,"+name+",")
		first = append(first, "a,"+name+",entered-in-error")
		all = append(all, "a,"+name+",entered-in-error", "b,"+name+",entered-in-error")
	}
	reindex(t, scans, listed...)
	load(t, s, scans)
	for _, rows := range [][]string{first, all} {
		removal := t.TempDir()
		delivery(t, removal, nil, rows...)
		if rep := load(t, s, removal); rep.Problems > 0 || rep.DocumentsRemoved != 8 {
			t.Errorf("%+v", rep)
		}
	}
	hold(t, s, "all removed", nil, nil)
}

// An entry of a list that was entered in error removes its document alone in a folder too, without
// a hash, and whether a list or an index brought the document.
func TestAnEntryOfAListRemovesTheDocumentThatItDescribes(t *testing.T) {
	const url = "https://ehi.example.org/jobs/j/download/documents/000007-x.txt"
	entry := func(url, status string) string {
		return strings.NewReplacer("current", status, "A title", "x.txt").
			Replace(reference("a", url, "x", ""))
	}
	gone := entry(url, "entered-in-error")
	_, hash, _ := strings.Cut(gone, `,"hash":`)
	hash, _, _ = strings.Cut(hash, `,`)
	hashless := strings.Replace(gone, `,"hash":`+hash, "", 1)
	index := map[string]string{
		"documents.csv": "patient,path\nurn:mrn|m-a,s/x.txt\na,y.txt\n",
		"s/x.txt":       "x", "y.txt": "x",
	}
	list := map[string]string{
		"document_reference.ndjson": entry("documents/000001-x.txt", "current") +
			strings.ReplaceAll(entry("documents/000002-y.txt", "current"), `"x.txt"`, `"y.txt"`),
		"documents/000001-x.txt": "x", "documents/000002-y.txt": "x",
	}
	const loose = "documents.DocumentReference.ndjson"
	for what, c := range map[string]struct {
		files  map[string]string
		name   string
		remove string
	}{
		"of a list":        {list, loose, gone},
		"of an index":      {index, loose, gone},
		"without a hash":   {list, loose, hashless},
		"of an index, too": {index, loose, hashless},
		"by an archive": {
			list, "document_reference.ndjson",
			entry("documents/000009-x.txt", "entered-in-error"),
		},
	} {
		s := openStore(t, t.TempDir())
		load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("a", "b")}))
		from := folder(t, c.files)
		load(t, s, from)
		removal := folder(t, map[string]string{c.name: c.remove})
		rep := load(t, s, removal)
		if rep.Problems > 0 || rep.DocumentsRemoved != 1 || len(rep.Counts) > 0 {
			t.Errorf("%s: %+v", what, rep)
		}
		for range 2 {
			hold(t, s, what, []string{"a y.txt x"}, nil)
			load(t, s, from)
			if rep := load(t, s, removal); rep.Problems > 0 {
				t.Errorf("%s, again: %+v", what, rep)
			}
		}
	}
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), loose: "\n" + gone,
	}))
	if rep.Counts["DocumentReference"] > 0 {
		t.Errorf("%+v", rep)
	}
	rep, err := s.Import(t.Context(), []string{folder(t, map[string]string{loose: gone})},
		source.ImportOptions{})
	if err != nil || !slices.Equal(problems(rep), []int{1}) {
		t.Errorf("%+v, %v", rep, err)
	}
}

// A list removes a document by the name that the export gave to its file, also one of two whose
// long names begin alike. It stays removed when the export comes again.
func TestAListRemovesADocumentWithALongName(t *testing.T) {
	long := strings.Repeat("é", 70)
	names := []string{long + "1.txt", long + "2.txt", "a?.txt"}
	s := openStore(t, t.TempDir())
	files := map[string]string{"p.ndjson": patientsNamed("a", "b")}
	index, list, want := "patient,path,title\n", "", []string{}
	exported := map[string]string{}
	for i, name := range names {
		files[name] = "same"
		index += "a," + name + ",A title\n"
		file := fmt.Sprintf("documents/%06d-%s", i+1, ehi.FileName(name))
		exported[file] = "same"
		list += reference("a", file, "same", "")
		want = append(want, "a "+name+" same")
	}
	files["documents.csv"] = index
	exported["document_reference.ndjson"] = list
	load(t, s, folder(t, files))
	slices.Sort(want)
	export := folder(t, exported)
	load(t, s, export)
	hold(t, s, "imported again", want, nil)
	for i, name := range names {
		entry := strings.Split(list, "\n")[i] + "\n"
		rep := load(t, s, folder(t, map[string]string{
			"document_reference.ndjson": strings.Replace(entry, "current", "entered-in-error", 1),
		}))
		if rep.Problems > 0 || rep.DocumentsRemoved != 1 {
			t.Errorf("%s: %+v", name, rep)
		}
		want = slices.DeleteFunc(want, func(d string) bool { return d == "a "+name+" same" })
		hold(t, s, "removed", want, nil)
		load(t, s, export)
		hold(t, s, "removed, and exported before", want, nil)
	}
}
