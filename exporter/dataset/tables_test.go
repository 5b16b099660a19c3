package dataset_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// clinic describes tables: visits belong to patients, results to visits and, without a primary key,
// notes to results; patients share labs. Patients are named by identifier in pets.
const clinic = `{"name": "clinic", "resources": [
	{"name": "notes", "path": "notes.tsv", "format": "tsv",
	 "ehi:patient": ["result", "visit", "patient"], "schema": {"fields": [
		{"name": "result"}, {"name": "text"}], "foreignKeys": [
		{"fields": "result", "reference": {"resource": "results", "fields": "id"}}]}},
	{"name": "results", "path": "results.csv", "ehi:patient": ["visit", "patient"],
	 "ehi:category": "labs", "schema": {"fields": [{"name": "id", "type": "integer"},
		{"name": "visit"}, {"name": "lab"}, {"name": "value", "type": "number"}],
		"primaryKey": "id", "foreignKeys": [
		{"fields": "visit", "reference": {"resource": "visits", "fields": "id"}},
		{"fields": "lab", "reference": {"resource": "labs", "fields": "code"}}]}},
	{"name": "visits", "path": "visits.csv", "ehi:patient": ["patient"], "schema": {"fields": [
		{"name": "id"}, {"name": "patient"}, {"name": "day", "type": "date"}],
		"primaryKey": "id"}},
	{"name": "labs", "path": "labs.csv", "ehi:lookup": true, "schema": {"fields": [
		{"name": "code"}, {"name": "name"}], "primaryKey": "code"}},
	{"name": "pets", "path": "pets.csv", "ehi:patient": ["mrn"], "ehi:patientSystem": "urn:mrn",
	 "schema": {"fields": [{"name": "mrn"}, {"name": "pet"}]}}
]}`

// clinicFiles are files of clinic.
func clinicFiles() map[string]string {
	return map[string]string{
		"datapackage.json": clinic,
		"patients.ndjson":  patientsNamed("a", "b"),
		"visits.csv":       "id,patient,day\nv1,a,2024-01-02\nv2,b,2024-01-03\nv3,a,2024-01-04\n",
		"results.csv":      "id,visit,lab,value\n1,v1,l1,5\n2,v2,l2,6\n3,v3,l1,7\n",
		"notes.tsv": "result\ttext\n3\tthird\n2\tof b\n" +
			"1\t\"first\n\"\"and\"\" more\"\n1\tagain\n",
		"labs.csv": "code,name\nl1,Sodium\nl2,Potassium\n",
		"pets.csv": "mrn,pet\nm-b,cat\nm-a,dog\n",
	}
}

// rowsIn returns the rows of all tables of a record as "table patient row", in their order.
func rowsIn(t fataler, n source.Native) (out []string) {
	p := n.Tables()
	if p == nil {
		return nil
	}
	for _, table := range p.Resources {
		err := n.Rows(context.Background(), table.Name, func(r source.Rows) error {
			c := int64(strings.Count(string(r.Data), "\n"))
			if table.Name != "notes" && c != r.Count {
				return fmt.Errorf("%d rows are counted as %d", c, r.Count)
			}
			out = append(out, table.Name+" "+r.Patient+" "+string(r.Data))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// rowsOf returns the rows of a patient's record.
func rowsOf(t fataler, s *dataset.Store, patient string) []string {
	rec, err := s.Open(context.Background(), patient)
	if err != nil {
		t.Fatal(err)
	}
	out := rowsIn(t, rec)
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

var clinicOfA = []string{
	"notes a 3\tthird\n1\t\"first\n\"\"and\"\" more\"\n1\tagain\n",
	"results a 1,v1,l1,5\n3,v3,l1,7\n",
	"visits a v1,a,2024-01-02\nv3,a,2024-01-04\n",
	"pets a m-a,dog\n",
}

// An export names an encoding by its usual name, and UTF-16 with its byte order. The table is still
// the one that came before.
func TestATableComesAgainWithAnotherNameOfItsEncoding(t *testing.T) {
	s := openStore(t, t.TempDir())
	for n, encoding := range []string{"utf-16", "UTF-16LE", "utf-16"} {
		var visits []byte
		for _, r := range "id,patient,day\nv1,a,2024-01-02\n" {
			visits = append(visits, byte(r), 0)
		}
		rep := load(t, s, folder(t, map[string]string{
			"patients.ndjson": patientsNamed("a"),
			"visits.csv":      string(visits),
			"datapackage.json": `{"resources": [{"name": "visits", "path": "visits.csv",
				"ehi:patient": ["patient"], "encoding": "` + encoding + `", "schema": {"fields": [
				{"name": "id"}, {"name": "patient"}, {"name": "day", "type": "date"}],
				"primaryKey": "id"}}]}`,
		}))
		if rep.Problems != 0 || rep.Rows["visits"] != 1 {
			t.Errorf("import %d as %s: %+v", n, encoding, rep)
		}
	}
	if got := rowsOf(t, s, "a"); len(got) != 1 {
		t.Errorf("a has %q", got)
	}
}

func TestTablesOfAFolderAreImportedWithTheirPatients(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, clinicFiles()))
	if rep.Problems != 0 || rep.Rows["notes"] != 4 || rep.Rows["labs"] != 2 || rep.Files != 7 ||
		len(rep.Ignored) != 0 || len(rep.UnplacedRows) != 0 {
		t.Errorf("%+v", rep)
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA) {
		t.Errorf("a has %q", got)
	}
	rec, err := s.Open(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	if table := rec.Tables().Table("results"); table.Category != "labs" ||
		len(table.Fields.ForeignKeys) != 2 {
		t.Errorf("%+v", table)
	}
	look := func(table, field, value string) (out string) {
		err := rec.Lookup(t.Context(), table, []string{field}, []string{value},
			func(r source.Rows) error { out += string(r.Data); return nil })
		if err != nil {
			t.Error(err)
		}
		return out
	}
	if got := look("labs", "code", "l2"); got != "l2,Potassium\n" {
		t.Errorf("looked up %q", got)
	}
	if got := look("labs", "code", "l3") + look("visits", "id", "v1"); got != "" {
		t.Errorf("looked up %q", got)
	}
	if err := rec.Rows(t.Context(), "absent", nil); err == nil {
		t.Error("there is a table that nobody imported")
	}
}

func TestAPopulationHasTheRowsOfItsPatients(t *testing.T) {
	files := clinicFiles()
	files["visits.csv"] += "v9,stranger,2024-01-09\n"
	s := openStore(t, t.TempDir())
	if u := load(t, s, folder(t, files)).UnplacedRows["visits"]; u.Count != 1 ||
		!strings.HasSuffix(u.Example, "visits.csv:5") {
		t.Errorf("of strangers: %+v", u)
	}
	p := freeze(t, s, "one")
	defer p.Close() // read only
	const shared = "l1,Sodium\nl2,Potassium\n"
	visitsOfB := "visits b v2,b,2024-01-03\n"
	for _, c := range []struct {
		of     source.Selection
		visits []string
		shared bool
	}{
		{
			source.Selection{Level: ehi.System},
			[]string{clinicOfA[2], visitsOfB}, true,
		},
		{source.Selection{Level: ehi.AllPatients}, []string{clinicOfA[2], visitsOfB}, true},
		{
			source.Selection{Level: ehi.AllPatients, Patients: []string{"b"}},
			[]string{visitsOfB}, true,
		},
		{
			source.Selection{Level: ehi.AllPatients, ByPatient: true},
			[]string{clinicOfA[2], visitsOfB}, false,
		},
	} {
		for _, target := range []int64{1, 1 << 30} {
			parts, err := p.Plan(t.Context(), c.of, target)
			if err != nil {
				t.Fatal(err)
			}
			var got, labs []string
			for _, part := range parts {
				rec, err := p.Open(t.Context(), c.of, part)
				if err != nil {
					t.Fatal(err)
				}
				for _, rows := range rowsIn(t, rec) {
					if strings.HasPrefix(rows, "visits") {
						got = append(got, rows)
					}
					if strings.HasPrefix(rows, "labs") {
						labs = append(labs, rows)
					}
				}
			}
			if !slices.Equal(got, c.visits) {
				t.Errorf("%+v of %d parts: %q", c.of, len(parts), got)
			}
			if want := []string{"labs  " + shared}; c.shared && !slices.Equal(labs, want) ||
				!c.shared && len(labs) > 0 {
				t.Errorf("%+v of %d parts: %q", c.of, len(parts), labs)
			}
		}
	}
}

// A population is divided by the size of rows and documents too, if these are exported.
func TestAPlanCountsNativeContent(t *testing.T) {
	files := clinicFiles()
	files["documents.csv"] = "patient,path\na,large\n"
	files["large"] = strings.Repeat("x", 5000)
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, files))
	p := freeze(t, s, "one")
	defer p.Close() // read only
	for _, native := range []bool{false, true} {
		sel := source.Selection{Level: ehi.AllPatients, Native: native}
		parts, err := p.Plan(t.Context(), sel, 4000)
		if err != nil {
			t.Fatal(err)
		}
		if divided := len(parts) == 3; divided != native || native && parts[0].Bytes < 5000 {
			t.Errorf("native %v: %+v", native, parts)
		}
	}
}

// Files of an import come in any order, in any number of imports, and again: the rows of each
// patient are the same in the end.
func TestRowsFindTheirPatientsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := clinicFiles()
		names := []string{
			"patients.ndjson", "visits.csv", "results.csv", "notes.tsv", "labs.csv", "pets.csv",
		}
		dir, clean := temporary(t)
		defer clean()
		s, err := dataset.Open(dataset.Config{
			Dir: filepath.Join(dir, "records"), Bulk: rapid.Bool().Draw(t, "bulk"),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		from := filepath.Join(dir, "from")
		for _, name := range rapid.Permutation(append(names, names[:3]...)).Draw(t, "order") {
			// a package lists tables whose files are not there yet: those are problems
			put(t, from, "datapackage.json", clinic)
			put(t, from, name, files[name])
			if rapid.Bool().Draw(t, "import") {
				now := source.ImportOptions{Now: time.Now()}
				_, err := s.Import(t.Context(), []string{from}, now)
				if err != nil {
					t.Fatal(err)
				}
			}
			if rapid.Bool().Draw(t, "touch") {
				later := time.Now().Add(time.Hour)
				if err := os.Chtimes(filepath.Join(from, name), later, later); err != nil {
					t.Fatal(err)
				}
			}
		}
		rep, err := s.Import(t.Context(), []string{from}, source.ImportOptions{Now: time.Now()})
		if err != nil || rep.Problems > 0 || len(rep.UnplacedRows) > 0 {
			t.Fatal(err, rep)
		}
		if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA) {
			t.Fatalf("a has %q", got)
		}
		if got := rowsOf(t, s, "b"); len(got) != 4 || got[0] != "notes b 2\tof b\n" {
			t.Fatalf("b has %q", got)
		}
	})
}

// temporary returns a folder for a check of rapid.
func temporary(t *rapid.T) (dir string, clean func()) {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

func put(t fataler, dir, name, text string) {
	err := errors.Join(os.MkdirAll(dir, 0o700),
		os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// A row whose primary key came before replaces the earlier one, and rows that it leads to a patient
// follow it.
func TestARowWithTheSameKeyReplacesTheEarlierOne(t *testing.T) {
	s := openStore(t, t.TempDir())
	from := folder(t, clinicFiles())
	load(t, s, from)
	fill(t, from, map[string]string{"visits.csv": "id,patient,day\nv1,b,2024-01-02\n"})
	rep := load(t, s, from)
	if rep.Problems > 0 {
		t.Error(rep)
	}
	want := []string{
		"notes a 3\tthird\n", "results a 3,v3,l1,7\n", "visits a v3,a,2024-01-04\n",
		"pets a m-a,dog\n",
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, want) {
		t.Errorf("a has %q", got)
	}
	if got := rowsOf(t, s, "b"); got[1] != "results b 1,v1,l1,5\n2,v2,l2,6\n" {
		t.Errorf("b has %q", got)
	}
}

// Without a primary key, a file that comes again does not double its rows, and equal rows of one
// file all stay.
func TestRowsWithoutAKeyAreNotDoubled(t *testing.T) {
	s := openStore(t, t.TempDir())
	files := clinicFiles()
	files["pets.csv"] = "mrn,pet\nm-a,dog\nm-a,dog\nm-b,cat\nm-a,dog\n"
	load(t, s, folder(t, files))
	load(t, s, folder(t, files)) // from another folder
	files["pets.csv"] = "mrn,pet\nm-a,fish\nm-a,dog\n"
	load(t, s, folder(t, files))
	got := rowsOf(t, s, "a")
	if want := "pets a m-a,dog\nm-a,dog\nm-a,dog\nm-a,fish\n"; got[len(got)-1] != want {
		t.Errorf("a has %q", got)
	}
}

func TestRowsFollowAnIdentifierThatLeadsElsewhere(t *testing.T) {
	s := openStore(t, t.TempDir())
	files := clinicFiles()
	delete(files, "patients.ndjson")
	rep := load(t, s, folder(t, files))
	u := rep.UnplacedRows
	if u["pets"].Count != 2 || u["visits"].Count != 3 || u["notes"].Count != 4 {
		t.Errorf("%+v", u)
	}
	if rep := load(t, s, write(t, t.TempDir(), "p.ndjson", patientsNamed("a", "b"))); len(
		rep.UnplacedRows) > 0 {
		t.Errorf("%+v", rep.UnplacedRows)
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA) {
		t.Errorf("a has %q", got)
	}
	twin := strings.ReplaceAll(patientsNamed("a"), `"id":"a"`, `"id":"twin"`)
	rep = load(t, s, write(t, t.TempDir(), "t.ndjson", twin))
	if rep.UnplacedRows["pets"].Count != 1 {
		t.Errorf("%+v", rep.UnplacedRows)
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA[:3]) {
		t.Errorf("a has %q", got)
	}
}

// What is wrong with a row is reported with its line, and the rest goes in.
func TestBadRowsAreReported(t *testing.T) {
	files := clinicFiles()
	files["visits.csv"] += "v4,a\nv5,a,tomorrow\nv1,a,2024-01-05\n,a,2024-01-05\n" +
		"v6,a b,2024-01-05\nv7,a,2024-01-07\n"
	files["results.csv"] += "4,nowhere,l1,5\n5,v1,l9,5\n"
	from := folder(t, files)
	s := openStore(t, t.TempDir())
	for range 2 {
		rep := load(t, s, from)
		want := []string{
			"visits.csv:5: ", "visits.csv:6: ", "visits.csv:7: ", "visits.csv:8: ", "visits.csv:9: ",
			"results.csv:5: field \"visit\"", "results.csv:6: field \"lab\"",
		}
		if len(rep.Bad) != len(want) {
			t.Fatalf("%v", rep.Bad)
		}
		for i, p := range rep.Bad {
			if got := filepath.Base(p.String()); !strings.HasPrefix(got, want[i]) {
				t.Errorf("%s, want %s", got, want[i])
			}
		}
		if u := rep.UnplacedRows["results"]; u.Count != 1 {
			t.Errorf("%+v", rep.UnplacedRows)
		}
	}
	got := rowsOf(t, s, "a")
	if got[2] != "visits a v1,a,2024-01-02\nv3,a,2024-01-04\nv7,a,2024-01-07\n" ||
		got[1] != "results a 1,v1,l1,5\n3,v3,l1,7\n5,v1,l9,5\n" {
		t.Errorf("a has %q", got)
	}
	_, err := s.Import(t.Context(), []string{from}, source.ImportOptions{Strict: true})
	if !errors.Is(err, source.ErrBad) {
		t.Errorf("strict: %v", err)
	}
}

// numbered describes tables whose keys are numbers: visits of patients, their notes, and the kinds
// of notes.
const numbered = `{"resources": [
	{"name": "visits", "path": "visits.csv", "ehi:patient": ["patient"], "schema": {"fields": [
		{"name": "id", "type": "integer"}, {"name": "patient"}], "primaryKey": "id"}},
	{"name": "notes", "path": "notes.csv", "ehi:patient": ["visit", "patient"], "schema": {
		"fields": [{"name": "visit", "type": "integer"}, {"name": "kind", "type": "integer"}],
		"foreignKeys": [
		{"fields": "visit", "reference": {"resource": "visits", "fields": "id"}},
		{"fields": "kind", "reference": {"resource": "kinds", "fields": "code"}}]}},
	{"name": "kinds", "path": "kinds.csv", "ehi:lookup": true, "schema": {"fields": [
		{"name": "code", "type": "integer"}, {"name": "name"}], "primaryKey": "code"}}
]}`

// Rows are found by the values of keys, as their types say, however they are written.
func TestRowsAreFoundByTheValuesOfKeys(t *testing.T) {
	from := folder(t, map[string]string{
		"datapackage.json": numbered,
		"patients.ndjson":  patientsNamed("a"),
		"visits.csv":       "id,patient\n5,a\n007,a\n+5,a\n",
		"notes.csv":        "visit,kind\n05,3\n7,+04\n8,5\n",
		"kinds.csv":        "code,name\n003,Letter\n4,Note\n",
	})
	s := openStore(t, t.TempDir())
	rep := load(t, s, from)
	var bad []string
	for _, p := range rep.Bad {
		bad = append(bad, filepath.Base(p.String()))
	}
	want := []string{
		"visits.csv:4: the row in line 2 has the same primary key",
		`notes.csv:4: field "visit": no row of the table "visits" has this value`,
		`notes.csv:4: field "kind": no row of the table "kinds" has this value`,
	}
	if !slices.Equal(bad, want) {
		t.Errorf("problems: %q", bad)
	}
	rows := []string{"visits a 5,a\n007,a\n", "notes a 05,3\n7,+04\n"}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, rows) {
		t.Errorf("a has %q", got)
	}
	rec, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	for value, want := range map[string]string{"3": "003,Letter\n", "04": "4,Note\n", "5": ""} {
		got := ""
		err := rec.Lookup(t.Context(), "kinds", []string{"code"}, []string{value},
			func(r source.Rows) error {
				got += string(r.Data)
				return nil
			})
		if err != nil || got != want {
			t.Errorf("%s is %q, %v", value, got, err)
		}
	}
	fill(t, from, map[string]string{"visits.csv": "id,patient\n05,a\n7,a\n"})
	load(t, s, from)
	if got := rowsOf(t, s, "a"); got[0] != "visits a 05,a\n7,a\n" {
		t.Errorf("the rows are replaced by %q", got)
	}
}

// Values of a field with the constraint unique occur once, as their type says, in tables with and
// without a primary key. All other constraints are checked, too.
func TestRowsThatBreakAConstraintAreReported(t *testing.T) {
	from := folder(t, map[string]string{
		"patients.ndjson": patientsNamed("a"),
		"datapackage.json": `{"resources": [
			{"name": "cards", "path": ["c1.csv", "c2.csv"], "ehi:patient": ["patient"], "schema": {
				"primaryKey": "id", "fields": [{"name": "id"}, {"name": "patient"},
				{"name": "number", "type": "integer", "constraints": {"unique": true}}]}},
			{"name": "stays", "path": "stays.csv", "ehi:patient": ["patient"], "schema": {"fields": [
				{"name": "patient", "constraints": {"required": true}},
				{"name": "bed", "constraints": {"unique": true, "pattern": "[a-z][0-9]"}},
				{"name": "days", "type": "integer", "constraints": {"minimum": 1, "maximum": 9}},
				{"name": "ward", "constraints": {"enum": ["x", "y"], "maxLength": 1}}]}}]}`,
		"c1.csv": "id,patient,number\n1,a,5\n2,a,\n3,a,\n4,a,05\n",
		"c2.csv": "id,patient,number\n5,a,+5\n6,a,6\n",
		"stays.csv": "patient,bed,days,ward\na,b1,1,x\na,b2,2,y\na,b1,3,x\na,b2,2,y\n" +
			"a,b,1,x\na,b3,0,x\na,b4,10,x\na,b5,1,z\n,b6,1,x\n",
	})
	s := openStore(t, t.TempDir())
	const twice = " has the same value, which must be unique"
	first := []string{
		`c1.csv:5: field "number": the row in line 2` + twice,
		`c2.csv:2: field "number": the row in c1.csv:2` + twice,
		`stays.csv:4: field "bed": the row in line 2` + twice,
		`stays.csv:5: field "bed": the row in line 3` + twice,
		`stays.csv:6: field "bed"`, `stays.csv:7: field "days"`, `stays.csv:8: field "days"`,
		`stays.csv:9: field "ward"`, `stays.csv:10: field "patient"`,
	}
	again := slices.Clone(first) // the store does not note the new lines of rows that it has
	again[0] = `c1.csv:5: field "number": another row of the file` + twice
	again[1] = `c2.csv:2: field "number": a row of c1.csv` + twice
	again[2] = `stays.csv:4: field "bed": another row of the file` + twice
	again[3] = `stays.csv:5: field "bed": another row of the file` + twice
	for _, want := range [][]string{first, again} {
		bad := load(t, s, from).Bad
		if len(bad) != len(want) {
			t.Fatalf("%v", bad)
		}
		for i, p := range bad {
			got := strings.ReplaceAll(p.String(), from+string(filepath.Separator), "")
			if !strings.HasPrefix(got, want[i]) {
				t.Errorf("%q, want %q", got, want[i])
			}
		}
	}
	rows := []string{
		"cards a 1,a,5\n2,a,\n3,a,\n6,a,6\n", "stays a a,b1,1,x\na,b2,2,y\n",
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, rows) {
		t.Errorf("a has %q", got)
	}
	fill(t, from, map[string]string{ // a corrected file can exchange values
		"c1.csv":    "id,patient,number\n1,a,6\n2,a,\n3,a,\n",
		"c2.csv":    "id,patient,number\n6,a,5\n",
		"stays.csv": "patient,bed,days,ward\na,b1,1,x\n",
	})
	if rep := load(t, s, from); rep.Problems > 0 {
		t.Errorf("corrected: %v", rep.Bad)
	}
}

// A file with another header than the descriptor is reported, whichever file of the table it is.
// None of its rows is read as if it had the columns of the descriptor.
func TestEachFileOfATableHasItsHeader(t *testing.T) {
	with := func(dialect, first, second string) (source.Report, string) {
		s := openStore(t, t.TempDir())
		rep := load(t, s, folder(t, map[string]string{
			"patients.ndjson": patientsNamed("a"),
			"1.csv":           first,
			"2.csv":           second,
			"datapackage.json": `{"resources": [{"name": "pressure", "path": ["1.csv", "2.csv"],
				"ehi:patient": ["id"], "dialect": {"commentChar": "#"` + dialect + `}, "schema": {
				"fields": [{"name": "id"}, {"name": "high"}, {"name": "low"}]}}]}`,
		}))
		return rep, strings.Join(rowsOf(t, s, "a"), "")
	}
	const header, first = "id,high,low\n", "pressure a a,120,80\n"
	for _, same := range []string{
		header, "\ufeff" + header, "\"id\",high,low\r\n", "#\n\n" + header,
	} {
		rep, got := with("", header+"a,120,80\n", same+"a,130,90\n")
		if rep.Problems > 0 || got != first+"a,130,90\n" {
			t.Errorf("%q: %+v, %q", same, rep.Bad, got)
		}
	}
	for other, line := range map[string]int{
		"id,low,high\n":                1, // another order
		"ID,High,Low\n":                1,
		"# 1\nid,systolic,diastolic\n": 2,
		"id,high\n":                    1,
	} {
		rep, got := with("", header+"a,120,80\n", other+"a,130,90\n")
		if len(rep.Bad) != 1 || filepath.Base(rep.Bad[0].File) != "2.csv" ||
			rep.Bad[0].Line != line || rep.Rows["pressure"] != 1 || got != first {
			t.Errorf("%q: %+v, %q", other, rep, got)
		}
	}
	// the first version of the standard joins files, of which only the first one has a header
	rep, got := with("", header+"a,120,80\n", "a,130,90\n")
	if rep.Problems > 0 || got != first+"a,130,90\n" || len(rep.Notes) != 1 ||
		!strings.Contains(rep.Notes[0].Text, "has no header") {
		t.Errorf("joined: %+v, %q", rep, got)
	}
	if rep, got := with("", header+"a,120,80\n", ""); len(rep.Bad) != 1 || got != first {
		t.Errorf("empty: %+v, %q", rep, got)
	}
	if rep, got := with(`, "header": false`, "a,120,80\n", "a,130,90\n"); rep.Problems > 0 ||
		got != first+"a,130,90\n" {
		t.Errorf("without headers: %+v, %q", rep.Bad, got)
	}
	rep, got = with(`, "header": false`, "a,120,80\n", header+"a,130,90\n")
	if len(rep.Bad) != 1 || rep.Bad[0].Line != 1 || got != first+"a,130,90\n" {
		t.Errorf("a header in spite of the dialect: %+v, %q", rep.Bad, got)
	}
}

// A folder whose descriptor is wrong, or contradicts its files or the store, costs only the tables
// that it is wrong about.
func TestBadDictionariesAreReported(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(secret, []byte("id,patient,day\nv1,a,2024-01-02\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(files map[string]string)
		link   string // a file that is a link to secret
		want   string
	}{
		"no JSON": {func(f map[string]string) { f["datapackage.json"] = "{" }, "", "JSON"},
		"other":   {func(f map[string]string) { f["visits.csv"] = "id,day\n" }, "", "header"},
		"empty":   {func(f map[string]string) { f["visits.csv"] = "" }, "", "header is missing"},
		"missing": {func(f map[string]string) { delete(f, "visits.csv") }, "", "no such file"},
		"link": {
			func(f map[string]string) { delete(f, "visits.csv") }, "visits.csv", "escapes",
		},
		"ownerless": {without(`"ehi:patient": ["patient"],`), "", "ehi:lookup"},
		"leaves":    {with(`"visits.csv"`, `"../visits.csv"`), "", "beside the descriptor"},
		"not gzip":  {func(f map[string]string) { f["visits.csv"] = "\x1f\x8bx" }, "", "gzip"},
		"delimiter": {
			func(f map[string]string) {
				f["visits.csv"] = strings.ReplaceAll(f["visits.csv"], ",", ";")
			}, "", "header",
		},
		"encoding": {
			func(f map[string]string) { f["visits.csv"] = "id,patient,day\nv\xe4,a,2024-01-02\n" },
			"", "no characters in the table's encoding",
		},
		"types": {
			func(f map[string]string) { f["visits.csv"] = "id,patient,day\nv1,a,1st of May\n" },
			"", `field "day"`,
		},
		"columns": {
			func(f map[string]string) { f["visits.csv"] = "id,patient,day\nv1,a\n" }, "", "2",
		},
		"carriage return": {
			func(f map[string]string) { f["visits.csv"] = "id,patient,day\nv\r1,a,2024-01-02\n" },
			"", "visits.csv:2: value 1: a carriage return must be quoted",
		},
		"open quote": {
			func(f map[string]string) { f["visits.csv"] = "id,patient,day\n\"v1,a,2024-01-02\n" },
			"", "quote",
		},
		"name of a table": {with(`"name": "visits"`, `"name": "Visits of/all"`), "", "lower-case"},
		"name of a file":  {with(`"visits.csv"`, `"vis\u0000its.csv"`), "", "path"},
	} {
		files := clinicFiles()
		c.change(files)
		from := folder(t, files)
		if c.link != "" {
			if err := os.Symlink(secret, filepath.Join(from, c.link)); err != nil {
				t.Fatal(err)
			}
		}
		s := openStore(t, t.TempDir())
		rep := load(t, s, from)
		if rep.Problems == 0 || !strings.Contains(fmt.Sprint(rep.Bad), c.want) {
			t.Errorf("%s: %v", what, rep.Bad)
		}
		if n := rep.Rows["visits"]; n > 0 {
			t.Errorf("%s: %d visits", what, n)
		}
	}
}

// A table with a wrong description costs itself, and those that lead to patients through it. When
// the description is right, the others do not change.
func TestTablesBesideABadOneAreImported(t *testing.T) {
	files := clinicFiles()
	with(`"name": "value", "type": "number"`, `"name": "value", "type": "foo"`)(files)
	from := folder(t, files)
	s := openStore(t, t.TempDir())
	refusedUntilMended(t, s, from,
		`table "results", field "value": type "foo" is no type of Table Schema; no row of it`,
		`table "notes": leads to its patients through the table "results"`)
}

// refusedUntilMended imports a clinic of which the tables of results and notes are refused, for as
// many reasons, and then the clinic as it should be.
func refusedUntilMended(t *testing.T, s *dataset.Store, from string, reasons ...string) {
	t.Helper()
	rep := load(t, s, from)
	why := fmt.Sprint(rep.Bad)
	for _, reason := range reasons {
		if !strings.Contains(why, reason) || rep.Problems != int64(len(reasons)) {
			t.Errorf("%d problems: %v", rep.Problems, why)
		}
	}
	want := []string{clinicOfA[2], clinicOfA[3]}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, want) {
		t.Errorf("a has %q", got)
	}
	fill(t, from, clinicFiles())
	rep = load(t, s, from)
	all := slices.Sorted(slices.Values(clinicOfA))
	if got := rowsOf(t, s, "a"); rep.Problems > 0 ||
		!slices.Equal(slices.Sorted(slices.Values(got)), all) {
		t.Errorf("a has %q, %v", got, rep.Bad)
	}
}

// Nobody knows which rows of a look-up table are sensitive whose description is wrong. Tables that
// refer to it are not imported until it is right, whichever descriptor has it.
func TestTablesThatReferToABadLookUpTableAreNotImported(t *testing.T) {
	wrong := with(`{"name": "code"}, {"name": "name"}`,
		`{"name": "code"}, {"name": "name", "type": "foo", "ehi:sensitive": {"hiv": ["x"]}}`)
	s := openStore(t, t.TempDir())
	files := clinicFiles()
	wrong(files)
	from := folder(t, files)
	refusedUntilMended(t, s, from,
		`table "labs", field "name": type "foo" is no type of Table Schema; no row of it`,
		`table "results": refers to the table "labs", which is not imported; no row of it`,
		`table "notes": leads to its patients through the table "results"`)
	wrong(files)
	fill(t, from, files) // now the store knows the table
	if rep := load(t, s, from); rep.Problems != 1 {
		t.Errorf("a known table: %v", rep.Bad)
	}

	apart := folder(t, map[string]string{
		"patients.ndjson": patientsNamed("a"),
		"1/datapackage.json": `{"resources": [{"name": "seen", "path": "seen.csv",
			"ehi:patient": ["patient"], "schema": {"fields": [{"name": "patient"}, {"name": "lab"}],
			"ehi:foreignKeys": [
			{"fields": "lab", "reference": {"resource": "labs", "fields": "code"}}]}}]}`,
		"1/seen.csv": "patient,lab\na,l1\n",
		"2/datapackage.json": `{"resources": [{"name": "labs", "path": "labs.csv",
			"ehi:lookup": true, "schema": {"fields": [{"name": "code", "type": "foo"}]}}]}`,
		"2/labs.csv": "code\nl1\n",
	})
	s = openStore(t, t.TempDir())
	rep := load(t, s, apart)
	if got := rowsOf(t, s, "a"); len(got) > 0 || rep.Problems != 2 ||
		!strings.Contains(fmt.Sprint(rep.Bad), `table "seen": refers to the table "labs"`) {
		t.Errorf("a has %q, %v", got, rep.Bad)
	}
}

// A problem of a descriptor has the line of its JSON, and brings no further ones about.
func TestAProblemOfADescriptorIsReportedOnce(t *testing.T) {
	for text, want := range map[string]string{
		"[\n]":                   "datapackage.json:1: the descriptor must be a JSON object",
		"{\n\"resources\": x\n}": "datapackage.json:2: the descriptor is not valid JSON: invalid",
		`{"resources": [{"name": "x", "path": "x.csv",
			"schema": {"fields": [{"name": "a"}]}}]}`: `.json:1: table "x": says neither whose`,
		`{"resources": [{"name": "x", "path": "x.csv",
			"schema": {"fields": []}}]}`: `.json:1: table "x": schema.fields must list`,
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, folder(t, map[string]string{
			"datapackage.json": text, "x.csv": "a\n1\n", "p.ndjson": patientsNamed("a"),
		}))
		if rep.Problems != 1 || !strings.Contains(rep.Bad[0].String(), want) {
			t.Errorf("%s: %v", want, rep.Bad)
		}
	}
}

// Files of tables, schemas and dialects belong to their descriptor, even if a table is wrong, and
// are not listed as if nothing named them.
func TestFilesThatADescriptorNamesAreNoInputs(t *testing.T) {
	for _, category := range []string{"visits", "wrong"} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, folder(t, map[string]string{
			"p.ndjson": patientsNamed("a"), "x.csv": "patient;day\na;1\n",
			"meta/schema.json": `{"fields": [{"name": "patient"}, {"name": "day"}]}`,
			"dialect.json":     `{"delimiter": ";"}`,
			"datapackage.json": `{"resources": [{"name": "x", "path": "x.csv",
				"ehi:patient": ["patient"], "ehi:category": "` + category + `",
				"schema": "meta/schema.json", "dialect": "dialect.json"}]}`,
		}))
		right := category == "visits"
		if right && (rep.Problems > 0 || rep.Rows["x"] != 1) || !right && rep.Problems != 1 {
			t.Errorf("%+v", rep)
		}
		if len(rep.Ignored) > 0 {
			t.Errorf("ignored: %v", rep.Ignored)
		}
	}
}

func with(old, replaced string) func(map[string]string) {
	return func(f map[string]string) {
		f["datapackage.json"] = strings.Replace(f["datapackage.json"], old, replaced, 1)
	}
}

func without(old string) func(map[string]string) { return with(old, "") }

func TestATableWithAnotherSchemaIsRefused(t *testing.T) {
	s := openStore(t, t.TempDir())
	first := folder(t, clinicFiles())
	load(t, s, first)
	for _, change := range []func(map[string]string){
		with(`{"name": "pet"}`, `{"name": "animal"}`),
		with(`{"name": "pet"}`, `{"name": "pet", "type": "integer"}`),
		with(`{"name": "pet"}`, `{"name": "pet"}, {"name": "more"}`),
		with(`"name": "pets",`, `"name": "pets", "dialect": {"delimiter": ";"},`),
		with(`"name": "pets",`, `"name": "pets", "encoding": "latin1",`),
		with(`"urn:mrn"`, `"urn:other"`),
	} {
		files := clinicFiles()
		change(files)
		files["labs.csv"] += "l3,Iron\n"
		other := folder(t, files)
		rep := load(t, s, other)
		if len(rep.Bad) != 1 || !strings.Contains(rep.Bad[0].Why, `table "pets"`) ||
			!strings.Contains(rep.Bad[0].Why, first) || !strings.Contains(rep.Bad[0].File, other) {
			t.Errorf("%v", rep.Bad)
		}
		if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA) {
			t.Errorf("a has %q", got)
		}
	}
	files := clinicFiles()
	with(`"name": "pets",`, `"name": "pets", "title": "Pets", "ehi:category": "visits",`)(files)
	if rep := load(t, s, folder(t, files)); rep.Problems > 0 {
		t.Errorf("%v", rep.Bad)
	}
	rec, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	if p := rec.Tables().Table("pets"); p.Title != "Pets" || p.Category != "visits" {
		t.Errorf("%+v", p)
	}
}

// A later package may refer to a table of an earlier one by fields that nobody referred to before.
func TestALaterTableRefersToAnEarlierOneByOtherFields(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, clinicFiles()))
	var p map[string]any
	if err := json.Unmarshal([]byte(clinic), &p); err != nil {
		t.Fatal(err)
	}
	var more []any
	if err := json.Unmarshal([]byte(`[{"name": "weather", "path": "weather.csv", "ehi:patient":
		["day", "patient"], "schema": {"fields": [{"name": "day"}, {"name": "sky"}],
		"foreignKeys": [{"fields": "day",
		"reference": {"resource": "visits", "fields": "day"}}]}}]`), &more); err != nil {
		t.Fatal(err)
	}
	p["resources"] = append(p["resources"].([]any), more...)
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	files := clinicFiles()
	files["datapackage.json"] = string(text)
	files["weather.csv"] = "day,sky\n2024-01-02,blue\n2024-01-03,grey\n2024-01-04,red\n"
	rep := load(t, s, folder(t, files))
	if rep.Problems > 0 {
		t.Errorf("%v", rep.Bad)
	}
	got := rowsOf(t, s, "a")
	if want := "weather a 2024-01-02,blue\n2024-01-04,red\n"; got[len(got)-1] != want {
		t.Errorf("a has %q", got)
	}
	// two patients have a visit on the day now, so it leads to neither
	files["visits.csv"] += "v8,b,2024-01-04\n"
	rep = load(t, s, folder(t, files))
	got = rowsOf(t, s, "a")
	want := "weather a 2024-01-02,blue\n"
	if got[len(got)-1] != want || rep.UnplacedRows["weather"].Count != 1 {
		t.Errorf("a has %q, %+v", got, rep.UnplacedRows)
	}
}

func TestTablesCanBeCompressedAndHaveSeveralFiles(t *testing.T) {
	var gz, zst strings.Builder
	z := gzip.NewWriter(&gz)
	_, err := z.Write([]byte("id,patient,day\nv1,a,2024-01-02\nv2,b,2024-01-03"))
	w, err2 := zstd.NewWriter(&zst)
	if err = errors.Join(err, z.Close(), err2); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("v3,a,2024-01-04\n"))
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	files := clinicFiles()
	with(`"visits.csv"`, `["visits.csv.gz", "more/visits"]`)(files)
	delete(files, "visits.csv")
	files["visits.csv.gz"], files["more/visits"] = gz.String(), zst.String()
	s := openStore(t, t.TempDir())
	rep := load(t, s, folder(t, files))
	if rep.Problems > 0 || rep.Rows["visits"] != 3 {
		t.Errorf("%+v", rep)
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA) {
		t.Errorf("a has %q", got)
	}
}

// Of a compressed file that is damaged, the rows before the damage are imported, and the damage is
// reported with its line, however short the file is.
func TestTheRowsBeforeADamageAreImported(t *testing.T) {
	const rows = "id,patient,day\nv1,a,2024-01-02\nv2,b,2024-01-03\nv3,a,2024-01-04\n"
	var gz, zst strings.Builder
	z := gzip.NewWriter(&gz)
	_, err := z.Write([]byte(rows))
	w, err2 := zstd.NewWriter(&zst, zstd.WithEncoderCRC(true))
	if err = errors.Join(err, z.Close(), err2); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(rows))
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	whole := gz.String()
	for what, c := range map[string]struct {
		file string
		line int
		rows int64
	}{
		"a trailer that is cut":                     {whole[:len(whole)-3], 5, 3},
		"no trailer":                                {whole[:len(whole)-8], 5, 3},
		"a wrong checksum":                          {whole[:len(whole)-8] + "12345678", 5, 3},
		"garbage behind the end":                    {whole + "garbage", 5, 3},
		"a header that is cut":                      {whole[:14], 1, 0},
		"a block of Zstandard without its checksum": {zst.String()[:len(zst.String())-4], 1, 0},
		"the header of gzip alone":                  {whole[:10], 1, 0},
	} {
		files := clinicFiles()
		files["visits.csv"] = c.file
		s := openStore(t, t.TempDir())
		from := folder(t, files)
		rep := load(t, s, from)
		var bad []source.Problem
		for _, p := range rep.Bad {
			if filepath.Base(p.File) == "visits.csv" {
				bad = append(bad, p)
			}
		}
		if len(bad) != 1 || bad[0].Line != c.line || rep.Rows["visits"] != c.rows ||
			!strings.HasPrefix(bad[0].Why, "cannot be read further: ") {
			t.Errorf("%s: %v, %d rows", what, bad, rep.Rows["visits"])
		}
		if got := rowsOf(t, s, "a"); c.rows > 0 && !slices.Equal(got, clinicOfA) {
			t.Errorf("%s: a has %q", what, got)
		}
		fill(t, from, map[string]string{"visits.csv": whole})
		if rep := load(t, s, from); rep.Problems > 0 || rep.Rows["visits"] != 3 {
			t.Errorf("%s, then mended: %+v", what, rep)
		}
	}
}

// A primary key that rows of two files of a table have is a problem, whichever of the files an
// import reads again. A corrected file replaces what came before.
func TestAPrimaryKeyInTwoFilesOfATableIsReported(t *testing.T) {
	files := clinicFiles()
	with(`"visits.csv"`, `["visits.csv", "more.csv"]`)(files)
	const header = "id,patient,day\n"
	files["more.csv"] = header + "v4,a,2024-01-05\nv1,b,2024-01-06\n"
	from := folder(t, files)
	s := openStore(t, t.TempDir())
	check := func(step, bad, first, visits string) {
		t.Helper()
		rep := load(t, s, from)
		why := ""
		if len(rep.Bad) > 0 {
			why = strings.ReplaceAll(rep.Bad[0].String(), from+"/", "")
		}
		if len(rep.Bad) > 1 || (bad == "") != (why == "") || !strings.HasPrefix(why, bad) ||
			!strings.Contains(why, first+" has the same primary key") && bad != "" {
			t.Errorf("%s: %v", step, rep.Bad)
		}
		if got := rowsOf(t, s, "a"); got[2] != "visits a "+visits {
			t.Errorf("%s: a has %q", step, got)
		}
	}
	const all = "v1,a,2024-01-02\nv3,a,2024-01-04\nv4,a,2024-01-05\n"
	check("at first", "more.csv:3: ", "the row in visits.csv:2", all)
	check("again", "more.csv:3: ", "the row in visits.csv:2", all)
	fill(t, from, map[string]string{"more.csv": header + "v4,a,2024-01-05\n"})
	check("corrected", "", "", all)
	fill(t, from, map[string]string{"more.csv": header + "v5,b,2024-01-05\nv5,b,2024-01-06\n"})
	check("in one file", "more.csv:3: ", "the row in line 2", all)
	check("in one file again", "more.csv:3: ", "another row of the file", all)
	fill(t, from, map[string]string{"more.csv": header + "v4,a,2024-01-05\n"})
	check("corrected again", "", "", all)
	fill(t, from, map[string]string{"visits.csv": header +
		"v1,a,2024-01-02\nv2,b,2024-01-03\nv3,a,2024-01-04\nv4,a,2030-01-01\n"})
	check("in a file before an unchanged one", "visits.csv:5: ", "a row of more.csv", all)
	fill(t, from, map[string]string{
		"visits.csv": header + "v4,a,2025-12-12\n", "more.csv": header + "v1,a,2026-01-01\n",
	})
	check("moved", "", "", "v3,a,2024-01-04\nv4,a,2025-12-12\nv1,a,2026-01-01\n")
	if _, err := openStore(t, t.TempDir()).Import(t.Context(), []string{folder(t, files)},
		source.ImportOptions{Strict: true}); !errors.Is(err, source.ErrBad) {
		t.Errorf("strict: %v", err)
	}
}

// An import of tables that is killed at any point, and run again, ends with the same rows.
func TestAKilledImportOfTablesIsRunAgain(t *testing.T) {
	files := clinicFiles()
	var visits, results, notes strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&visits, "v%d,%s,2024-01-02\n", i+10, []string{"a", "b"}[i%2])
		fmt.Fprintf(&results, "%d,v%d,l1,%d\n", i+10, i+10, i)
		fmt.Fprintf(&notes, "%d\tnote %d\n", i+10, i/4*4)
	}
	files["visits.csv"] += visits.String()
	files["results.csv"] += results.String()
	files["notes.tsv"] += notes.String()
	from := folder(t, files)
	rows := func(dir string) string {
		s, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Patient(t.Context(), "b"); err != nil {
			return ""
		}
		return strings.Join(append(rowsOf(t, s, "a"), rowsOf(t, s, "b")...), "")
	}
	dir := filepath.Join(t.TempDir(), "records")
	took, _ := runImport(t, dir, from, 0)
	want := rows(dir)
	rnd := rand.New(rand.NewPCG(9, 9))
	for round := range rounds(6) {
		dir := filepath.Join(t.TempDir(), "records")
		killed := killImport(t, dir, from, &took, rnd)
		runImport(t, dir, from, 0)
		if got := rows(dir); got != want {
			t.Errorf("round %d, killed %v: %d bytes of rows instead of %d", round, killed, len(got),
				len(want))
		}
	}
}

// The archives of an export describe only the tables that they have, and name the keys to others
// apart. Imported together, in any order, they are the tables again.
func TestTablesOfSeveralArchivesAreConnected(t *testing.T) {
	whole, err := datapackage.Parse([]byte(clinic))
	if err != nil {
		t.Fatal(err)
	}
	files := clinicFiles()
	split := map[string]string{"patients.ndjson": files["patients.ndjson"]}
	var folders []string
	for i, r := range whole.Resources {
		in := fmt.Sprintf("%d/", len(whole.Resources)-i)
		narrow := whole.Narrow(func(name string) bool { return name == r.Name }, nil)
		split[in+"datapackage.json"] = string(narrow.JSON())
		split[in+r.Path[0]] = files[r.Path[0]]
		folders = append(folders, in)
	}
	for _, together := range []bool{true, false} {
		s := openStore(t, t.TempDir())
		from := folder(t, split)
		if together {
			if rep := load(t, s, from); rep.Problems > 0 || len(rep.UnplacedRows) > 0 {
				t.Errorf("%v, %v", rep.Bad, rep.UnplacedRows)
			}
		} else {
			load(t, s, filepath.Join(from, "patients.ndjson"))
			for range 3 { // a table that leads through an unknown one is not stored: notes, results
				for _, f := range folders {
					load(t, s, filepath.Join(from, filepath.FromSlash(f)))
				}
			}
		}
		rec, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range whole.Resources {
			got := rec.Tables().Table(r.Name)
			if got == nil || len(got.Fields.Elsewhere) > 0 ||
				len(got.Fields.ForeignKeys) != len(r.Fields.ForeignKeys) {
				t.Errorf("together %t: the table %s is %+v", together, r.Name, got)
			}
		}
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
		got := rowsOf(t, s, "a")
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(clinicOfA)); !slices.Equal(got, want) {
			t.Errorf("together %t: a has %q", together, got)
		}
	}
}

// A descriptor none of whose tables can be used is reported.
func TestADescriptorWithoutUsableTablesIsReported(t *testing.T) {
	for what, text := range map[string]string{
		"ehi:lookup": `{"resources": [{"name": "x", "path": "x.csv", "schema": {"fields": [
			{"name": "a"}]}}]}`,
		"through the table \"visit\", which nothing describes": `{"resources": [{"name": "x",
			"path": "x.csv", "ehi:patient": ["visit", "patient"], "schema": {"fields": [
			{"name": "visit"}], "ehi:foreignKeys": [{"fields": "visit", "reference": {
			"resource": "visit", "fields": "id"}}]}}]}`,
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, folder(t, map[string]string{
			"datapackage.json": text, "x.csv": "a\n1\n", "p.ndjson": patientsNamed("a"),
		}))
		if rep.Problems == 0 || !strings.Contains(fmt.Sprint(rep.Bad), what) {
			t.Errorf("%s: %v", what, rep.Bad)
		}
	}
}

// A file that disappears while an import runs is reported, unless it was read before. Everything
// else is imported, and when the file is there again, so is the rest.
func TestAFileThatDisappearsDuringAnImportIsReported(t *testing.T) {
	files := clinicFiles()
	files["more.ndjson"] = patientsNamed("c")
	files["documents.csv"] = "patient,path\na,x.txt\nb,y.txt\n"
	files["x.txt"], files["y.txt"] = "x", "y"
	state := func(s *dataset.Store) (out []string) {
		for _, p := range []string{"a", "b", "c"} {
			if _, err := s.Patient(t.Context(), p); err != nil {
				out = append(out, "no "+p)
				continue
			}
			out = append(append(out, rowsOf(t, s, p)...), documentsOf(t, s, p)...)
		}
		slices.Sort(out)
		return out
	}
	whole := openStore(t, t.TempDir())
	load(t, whole, folder(t, files))
	want, lost := state(whole), 0
	for _, gone := range []string{
		"more.ndjson", "x.txt", "y.txt", "visits.csv", "pets.csv", "documents.csv",
		"datapackage.json",
	} {
		for at := 1; ; at++ {
			from, s, calls := folder(t, files), openStore(t, t.TempDir()), 0
			rep, err := s.Import(t.Context(), []string{from}, source.ImportOptions{
				Now: time.Now(),
				Progress: func(int64, int64) {
					if calls++; calls == at {
						if err := os.Remove(filepath.Join(from, gone)); err != nil {
							t.Fatal(err)
						}
					}
				},
			})
			if err != nil {
				t.Fatalf("%s, lost at %d: %v", gone, at, err)
			}
			if calls < at {
				break
			}
			if got := state(s); !slices.Equal(got, want) {
				lost++
				if rep.Problems == 0 || !strings.Contains(fmt.Sprint(rep.Bad), gone) {
					t.Errorf("%s, lost at %d: %d problems %v", gone, at, rep.Problems, rep.Bad)
				}
			}
			fill(t, from, files)
			if rep := load(t, s, from); rep.Problems > 0 {
				t.Errorf("%s, there again: %v", gone, rep.Bad)
			}
			if got := state(s); !slices.Equal(got, want) {
				t.Errorf("%s, lost at %d and there again: %q", gone, at, got)
			}
		}
	}
	if lost < 7 {
		t.Errorf("only %d imports lost a file", lost)
	}
}

// A table that goes on in another archive keeps the order of its rows, whatever the number of the
// archive is.
func TestRowsOfSeveralArchivesKeepTheirOrder(t *testing.T) {
	files, want := map[string]string{"p.ndjson": patientsNamed("a")}, "log a "
	for i := range 12 {
		in := fmt.Sprintf("native-0-%d/", i+1)
		files[in+"datapackage.json"] = `{"resources": [{"name": "log", "path": "log.csv",
			"ehi:patient": ["patient"], "schema": {"fields": [{"name": "patient"},
			{"name": "n"}]}}]}`
		files[in+"log.csv"] = fmt.Sprintf("patient,n\na,%d\n", i+1)
		want += fmt.Sprintf("a,%d\n", i+1)
	}
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, files))
	if got := rowsOf(t, s, "a"); !slices.Equal(got, []string{want}) {
		t.Errorf("a has %q", got)
	}
}
