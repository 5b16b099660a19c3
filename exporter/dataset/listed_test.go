package dataset_test

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// reference is an EHIDocumentReference as an export lists it. more is what it has besides.
func reference(patient, url, content, more string) string {
	sum := sha1.Sum([]byte(content))
	return fmt.Sprintf(`{"resourceType":"DocumentReference","id":"x","status":"current",`+
		`"meta":{"tag":[{"code":"ehi-export"}]},"subject":{"reference":"Patient/%s"},`+
		`"content":[{"attachment":{"contentType":"text/plain","url":%q,"size":%d,"hash":%q,`+
		`"title":"A title"}}]%s}`+"\n", patient, url, len(content),
		base64.StdEncoding.EncodeToString(sum[:]), more)
}

// An unpacked archive of an export is imported as it is: its list is the index of its documents.
func TestAnUnpackedArchiveIsImportedAsItIs(t *testing.T) {
	const loose = "https://ehi.example.org/base/jobs/j/download/"
	for name, c := range map[string]struct{ list, base, tables string }{
		"archive": {"document_reference.ndjson", "", ""},
		"loose":   {"documents.DocumentReference.ndjson", loose, "tables/"},
	} {
		files := map[string]string{}
		for path, text := range clinicFiles() {
			files[c.tables+path] = text
		}
		maps.Copy(files, map[string]string{
			c.list: reference("a", c.base+"documents/000001-letter%20one.txt", "of a",
				`,"type":{"coding":[{"system":"http://loinc.org","code":"11488-4"}]},`+
					`"category":[{"coding":[{"system":"https://ehi.example.org/docs/ehi",`+
					`"code":"visits"}]}],"date":"2024-05-06T07:08:09.000Z",`+
					`"securityLabel":[{"coding":[{"system":"s","code":"R","display":"r"}]}],`+
					`"context":{"related":[{"reference":"Encounter/e"}]}`) +
				reference("a", c.base+"documents/000002-data.json", `{"a":1}`, "") +
				reference("a", c.base+c.tables+"visits.csv", "", "") +
				reference("a", c.base+c.tables+"datapackage.json", "", "") +
				reference("a", c.base+"README.txt", "read me", ""),
			"documents/000001-letter one.txt": "of a",
			"documents/000002-data.json":      `{"a":1}`,
			"documents/unlisted.txt":          "nobody's",
			"README.txt":                      "read me",
		})
		s := openStore(t, t.TempDir())
		from := folder(t, files)
		rep := load(t, s, from)
		if rep.Problems > 0 || rep.Documents != 2 || rep.Counts["DocumentReference"] != 0 {
			t.Errorf("%s: %+v", name, rep)
		}
		// another archive may have been unpacked into the folder
		told := slices.ContainsFunc(rep.Ignored, func(i source.Ignored) bool {
			return strings.HasSuffix(i.File, "unlisted.txt") &&
				strings.Contains(i.Why, "a folder of its own")
		})
		if told != (name == "archive") {
			t.Errorf("%s: left out are %+v", name, rep.Ignored)
		}
		if again := load(t, s, folder(t, files)); again.Problems > 0 {
			t.Errorf("%s, again: %+v", name, again)
		}
		if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA) {
			t.Errorf("%s: a has %q", name, got)
		}
		want := []string{"a data.json {\"a\":1}", "a letter one.txt of a"}
		if got := documentsOf(t, s, "a"); !slices.Equal(got, want) {
			t.Errorf("%s: a has %q", name, got)
		}
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			if d.Name != "letter one.txt" {
				return nil
			}
			got := *d
			got.ID, got.Path, got.Sum, got.SHA1, got.Open, got.Updated = "", "", "", nil, nil,
				time.Time{}
			want := source.Document{
				Patient: "a", Name: "letter one.txt", ContentType: "text/plain", Title: "A title",
				Created:  time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC),
				Type:     fhir.Coding{System: "http://loinc.org", Code: "11488-4"},
				Category: ehi.Visits, Resource: "Encounter/e", Size: 4,
				Labels: []fhir.Coding{{System: "s", Code: "R", Display: "r"}},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A table that an administrator released has a description of its own beside it, and its own rows
// of look-up tables. It is imported like the others, although its keys lead through them.
func TestAReleasedTableIsImportedWithItsOwnDescription(t *testing.T) {
	parts := func(path string, names ...string) string {
		whole, err := datapackage.Parse([]byte(clinic))
		if err != nil {
			t.Fatal(err)
		}
		p := whole.Narrow(func(name string) bool {
			return slices.Contains(names, name)
		}, nil)
		for i := range p.Resources {
			if r := &p.Resources[i]; r.Lookup {
				r.Path = datapackage.Paths{path + "~" + r.Path[0]}
			}
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	all := clinicFiles()
	const url = "https://ehi.example.org/jobs/j/download/"
	files := map[string]string{
		"patients.ndjson":                    all["patients.ndjson"],
		"tables/datapackage.json":            parts("", "notes", "visits", "pets"),
		"tables/results~datapackage.json":    parts("results", "results", "labs"),
		"tables/results~labs.csv":            all["labs.csv"],
		"documents.DocumentReference.ndjson": reference("a", url+"tables/visits.csv", "", ""),
		"released.DocumentReference.ndjson": reference("a", url+"tables/results.csv", "", "") +
			reference("a", url+"tables/results~datapackage.json", "", "") +
			reference("a", url+"tables/results~labs.csv", "", ""),
	}
	for _, name := range []string{"notes.tsv", "visits.csv", "pets.csv", "results.csv"} {
		files["tables/"+name] = all[name]
	}
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, files))
	if rep.Problems > 0 || len(rep.Ignored) > 0 || rep.Rows["results"] != 3 ||
		rep.Rows["labs"] != 2 {
		t.Errorf("%+v", rep)
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(slices.Sorted(slices.Values(got)),
		slices.Sorted(slices.Values(clinicOfA))) {
		t.Errorf("a has %q", got)
	}
}

// Everything in an entry that may be why a document must not leave counts: an import keeps it, or
// nobody has classified the document.
func TestEverythingThatAListSaysOfADocumentCounts(t *testing.T) {
	const hiv = `{"coding":[{"system":"s","code":"HIV"}]}`
	unread := func(d *source.Document) bool { return d.Unread }
	for more, holds := range map[string]func(d *source.Document) bool{
		"": func(d *source.Document) bool { return !d.Unread },
		`,"description":"A title. Format: x"`: func(d *source.Document) bool {
			return !d.Unread
		},
		`,"context":{"related":[{"reference":"Encounter/e"},{"reference":"Condition/c"}]}`: func(
			d *source.Document,
		) bool {
			return !d.Unread && d.Resource == "Encounter/e" &&
				slices.Equal(d.Related, []string{"Condition/c"})
		},
		`,"type":{"coding":[{"code":"1"},{"code":"2","display":"x"}]}`: func(
			d *source.Document,
		) bool {
			return !d.Unread && d.Type.Code == "1" &&
				slices.Equal(d.Codings, []fhir.Coding{{Code: "2", Display: "x"}})
		},
		`,"securityLabel":[` + hiv + `,{"coding":[{"code":"R"},{"code":"V"}]}]`: func(
			d *source.Document,
		) bool {
			return !d.Unread && len(d.Labels) == 3
		},
		`,"category":[{"coding":[{"system":"x/docs/ehi","code":"visits"}]},` + hiv + `]`: unread,
		`,"type":{"coding":[{"code":"1"}],"text":"HIV"}`:                                 unread,
		`,"description":"About Condition/c"`:                                             unread,
		`,"context":{"event":[` + hiv + `]}`:                                             unread,
		`,"context":{"related":[{"reference":"Encounter/e","display":"HIV clinic"}]}`:    unread,
		`,"relatesTo":[{"code":"appends","target":{"reference":"Condition/c"}}]`:         unread,
		`,"text":{"div":"<div>HIV</div>"}`:                                               unread,
		`,"extension":[{"url":"x","valueCode":"HIV"}]`:                                   unread,
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, folder(t, map[string]string{
			"p.ndjson":                  patientsNamed("a"),
			"document_reference.ndjson": reference("a", "documents/000001-x.txt", "x", more),
			"documents/000001-x.txt":    "x",
		}))
		if rep.Problems > 0 || rep.Documents != 1 {
			t.Errorf("%s: %+v", more, rep)
		}
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			if !holds(d) {
				t.Errorf("%s: %+v", more, d)
			}
			return nil
		})
		if err := errors.Join(err, rec.Close()); err != nil {
			t.Error(err)
		}
	}
	s := openStore(t, t.TempDir())
	marked := strings.Replace(reference("a", "documents/000001-x.txt", "x", ""),
		`"meta":{`, `"meta":{"security":[{"code":"HIV"}],`, 1)
	load(t, s, folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), "document_reference.ndjson": marked,
		"documents/000001-x.txt": "x",
	}))
	rec, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close() // read only
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		if len(d.Labels) != 1 || d.Labels[0].Code != "HIV" || d.Unread {
			t.Errorf("%+v", d)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A document that a later export lists under another number is the same one.
func TestADocumentOfTwoExportsIsStoredOnce(t *testing.T) {
	s := openStore(t, t.TempDir())
	for n, lines := range []string{
		reference("a", "documents/000001-x.txt", "x", "") +
			reference("a", "documents/000002-x.txt", "x", ""),
		reference("a", "documents/000001-y.txt", "y", "") +
			reference("a", "documents/000002-x.txt", "x", "") +
			reference("a", "documents/000003-x.txt", "x", ""),
	} {
		files := map[string]string{
			"p.ndjson": patientsNamed("a"), "document_reference.ndjson": lines,
			"documents/000001-x.txt": "x", "documents/000002-x.txt": "x",
			"documents/000003-x.txt": "x", "documents/000001-y.txt": "y",
		}
		if rep := load(t, s, folder(t, files)); rep.Problems > 0 {
			t.Errorf("export %d: %v", n, rep.Bad)
		}
	}
	want := []string{"a x.txt x", "a x.txt x", "a y.txt y"}
	if got := documentsOf(t, s, "a"); !slices.Equal(got, want) {
		t.Errorf("a has %q", got)
	}
}

// What is wrong with a line of a list is reported with its number, and costs only this line.
func TestBadLinesOfAListAreReported(t *testing.T) {
	good := reference("a", "documents/000001-x.txt", "x", "")
	lines := []string{
		good,
		"no JSON\n",
		`{"resourceType":"Patient","id":"b"}` + "\n",
		reference("a", "documents/absent.txt", "x", ""),
		reference("a", "../secret.txt", "x", ""),
		reference("a", "%2e%2e/secret.txt", "x", ""),
		reference("a", "/etc/passwd", "x", ""),
		reference("a", "https://other.example.org/x.txt", "x", ""),
		reference("a", "documents/000001-x.txt?y", "x", ""),
		reference("a", "documents/000001-x.txt", "longer", ""),
		reference("a", "documents/000001-x.txt", "y", ""),
		reference("a b", "documents/000001-x.txt", "x", ""),
		reference("a", "tables/nowhere.csv", "x", ""),
		reference("a", "document_reference.ndjson", "x", ""),
		reference("a", "documents/000001-x.txt", "x", `,"date":"yesterday"`),
		reference("a", "documents/000001-x.txt", "x",
			`,"context":{"related":[{"reference":"letter"}]}`),
		strings.Replace(good, `"hash":"`, `"hash":"!`, 1),
		strings.Replace(good, `"text/plain"`, `"text"`, 1),
		strings.Replace(good, `000001-x.txt`, "\xff.txt", 1),
		strings.Replace(good, `"url":`, `"url":"documents/000002-z.txt","url":`, 1),
		reference("a", "documents/"+strings.Repeat("x", 256), "x", ""),
		reference("a", "documents/x%00.txt", "x", ""),
		reference("a", "documents/", "x", ""),
		strings.Replace(good, `,"subject":{"reference":"Patient/a"}`, "", 1),
		reference("a", "documents/000002-z.txt", "z", ""),
	}
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"), "document_reference.ndjson": strings.Join(lines, ""),
		"documents/000001-x.txt": "x", "documents/000002-z.txt": "z",
	}))
	var want []int
	for n := 2; n < len(lines); n++ {
		want = append(want, n)
	}
	if got := problems(rep); !slices.Equal(got, want) {
		t.Errorf("lines %v: %v", got, rep.Bad)
	}
	if got := documentsOf(t, s, "a"); !slices.Equal(got, []string{"a x.txt x", "a z.txt z"}) {
		t.Errorf("a has %q", got)
	}
}

// A file of resources stays one, whatever its name is, and so does a list without its files. Lists
// of archives are no resources.
func TestOnlyAListOfAnExportIsAnIndex(t *testing.T) {
	tagged := reference("a", "https://ehi.example.org/jobs/j/download/documents/000001-x.txt", "x", "")
	for what, c := range map[string]struct {
		name, text string
		resources  int64
	}{
		"resources with URLs": {"document_reference.ndjson", tagged, 1},
		"untagged": {"document_reference.ndjson", strings.Replace(
			reference("a", "documents/000001-x.txt", "x", ""), "ehi-export", "other", 1), 1},
		"other resources": {"document_reference.ndjson",
			`{"resourceType":"Patient","id":"b"}` + "\n", 0},
		"only the list": {"documents.DocumentReference.ndjson", tagged, 1},
		"archives": {"documents.DocumentReference.ndjson", strings.Replace(
			reference("a", "https://ehi.example.org/jobs/j/download/native-1.zip", "x", ""),
			"text/plain", "application/zip", 1), 0},
		"archives of a population": {"documents.3.1.ndjson", strings.Replace(
			reference("a", "https://ehi.example.org/jobs/j/download/native-3-1.zip", "x", ""),
			"text/plain", "application/zip", 1), 0},
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, folder(t, map[string]string{
			"p.ndjson": patientsNamed("a"), c.name: c.text,
		}))
		if rep.Problems > 0 || rep.Counts["DocumentReference"] != c.resources || rep.Documents > 0 {
			t.Errorf("%s: %+v", what, rep)
		}
		if archives := strings.Contains(what, "archives"); archives != (len(rep.Ignored) == 1) {
			t.Errorf("%s: ignored %v", what, rep.Ignored)
		}
	}
}
