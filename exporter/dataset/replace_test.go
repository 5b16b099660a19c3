package dataset_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// A row with a primary key that comes again for another patient leaves the first one, whatever file
// it comes in, and so do the rows that follow it.
func TestACorrectedRowMovesToItsPatient(t *testing.T) {
	for _, sameFile := range []bool{true, false} {
		s := openStore(t, t.TempDir())
		from := folder(t, clinicFiles())
		load(t, s, from)
		files := clinicFiles()
		files["visits.csv"] = "id,patient,day\nv1,b,2024-01-02\nv2,b,2024-01-03\nv3,b,2024-01-04\n"
		if !sameFile {
			from = t.TempDir()
		}
		fill(t, from, files)
		if rep := load(t, s, from); rep.Problems > 0 {
			t.Errorf("%+v", rep)
		}
		if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA[3:]) {
			t.Errorf("a has %q", got)
		}
		if got := strings.Join(rowsOf(t, s, "b"), ""); !strings.Contains(got, "again") ||
			!strings.Contains(got, "v1,b,") || !strings.Contains(got, "3,v3,l1,7") {
			t.Errorf("b has %q", got)
		}
	}
}

// Without a primary key, a corrected row is another row. An import reports that the former one
// stays, until the table is replaced as a whole.
func TestATableIsReplacedAsAWhole(t *testing.T) {
	files := clinicFiles()
	files["pets.csv"] = "mrn,pet\nm-a,dog\nm-a,cat\nm-a,cat\nm-b,cat\nm-nobody,fish\n"
	s := openStore(t, t.TempDir())
	from := folder(t, files)
	load(t, s, from)
	load(t, s, folder(t, map[string]string{ // of another folder
		"datapackage.json": `{"resources": [{"name": "pets", "path": "p.csv", "ehi:patient": ["mrn"],
			"ehi:patientSystem": "urn:mrn", "schema": {"fields": [{"name": "mrn"},
			{"name": "pet"}]}}]}`,
		"p.csv": "mrn,pet\nm-a,emu\nm-b,cat\n",
	}))
	pets := func(step, a, b string) {
		t.Helper()
		for i, want := range []string{a, b} {
			patient := []string{"a", "b"}[i]
			got := rowsOf(t, s, patient)
			if len(got) != 3 && want == "" || len(got) == 4 && got[3] != "pets "+patient+" "+want ||
				len(got) < 4 && want != "" {
				t.Errorf("%s: %s has %q, want %q", step, patient, got, want)
			}
		}
	}
	pets("at first", "m-a,dog\nm-a,cat\nm-a,cat\nm-a,emu\n", "m-b,cat\n")
	fill(t, from, map[string]string{"pets.csv": "mrn,pet\nm-b,dog\nm-a,cat\nm-b,cat\n"})
	rep := load(t, s, from)
	if len(rep.Notes) != 1 || !strings.HasPrefix(rep.Notes[0].Text, "3 rows of former states of ") ||
		!strings.Contains(rep.Notes[0].Text, `"ehi:replace": true`) || len(rep.Ignored) > 0 {
		t.Errorf("%+v", rep)
	}
	pets("additional", "m-a,dog\nm-a,cat\nm-a,cat\nm-a,emu\n", "m-b,cat\nm-b,dog\n")
	replaced := map[string]string{"datapackage.json": clinic}
	with(`"name": "pets",`, `"name": "pets", "ehi:replace": true,`)(replaced)
	fill(t, from, replaced)
	for i, removed := range []int64{4, 0} {
		if rep := load(t, s, from); rep.RowsRemoved["pets"] != removed || rep.Problems > 0 ||
			len(rep.RowsRemoved) > 1 || len(rep.UnplacedRows) > 0 {
			t.Errorf("import %d: %+v", i, rep)
		}
		pets("replaced", "m-a,cat\n", "m-b,cat\nm-b,dog\n")
	}
	rec, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close() // read only
	if text := string(rec.Tables().JSON()); strings.Contains(text, "ehi:replace") {
		t.Errorf("an export has %s", text)
	}
	fill(t, from, map[string]string{"pets.csv": "mrn,pet\nm-b\n"})
	rep = load(t, s, from)
	if rep.Problems != 1 || len(rep.RowsRemoved) > 0 || len(rep.Notes) != 1 {
		t.Errorf("with a problem: %+v", rep)
	}
	pets("with a problem", "m-a,cat\n", "m-b,cat\nm-b,dog\n")
	fill(t, from, map[string]string{"pets.csv": "mrn,pet\n"})
	if rep := load(t, s, from); rep.RowsRemoved["pets"] != 3 {
		t.Errorf("%+v", rep)
	}
	pets("without rows", "", "")
	fill(t, from, map[string]string{"pets.csv": "mrn,pet\nm-a,dog\n"})
	load(t, s, from)
	pets("there again", "m-a,dog\n", "")
}

// A table that is replaced as a whole can have another description: a path to the wrong patients is
// corrected, and rows of other tables follow it to the right ones. Until all of its files can be
// read, nothing changes.
func TestATableIsReplacedWithItsDescription(t *testing.T) {
	s := openStore(t, t.TempDir())
	files := clinicFiles()
	files["visits.csv"] = "id,patient,day\nv1,b,2024-01-02\nv2,a,2024-01-03\nv3,b,2024-01-04\n"
	from := folder(t, files)
	load(t, s, from)
	wrong := rowsOf(t, s, "a")
	// the column names who pays, and a new one the patient
	describe := func(replace string) {
		fill(t, from, map[string]string{"datapackage.json": strings.NewReplacer(
			`"visits.csv"`, `["visits.csv", "w.csv"]`,
			`{"name": "patient"},`, `{"name": "patient"}, {"name": "whose"},`,
			`"ehi:patient": ["result", "visit", "patient"]`, replace+`["result", "visit", "whose"]`,
			`"ehi:patient": ["visit", "patient"]`, replace+`["visit", "whose"]`,
			`"ehi:patient": ["patient"]`, replace+`["whose"]`,
		).Replace(clinic)})
	}
	const path = `"ehi:patientSystem": "urn:mrn", "ehi:patient": `
	fill(t, from, map[string]string{
		"visits.csv": "id,patient,whose,day\nv1,b,m-a,2024-01-02\nv2,a,m-b,2024-01-03\n",
		"w.csv":      "id,patient,whose,day\nv3,b,m-a,soon\n",
	})
	describe(path)
	unchanged := func(why ...string) {
		t.Helper()
		rep := load(t, s, from)
		if int(rep.Problems) != len(why) || len(rep.RowsRemoved) > 0 ||
			!slices.Equal(rowsOf(t, s, "a"), wrong) {
			t.Errorf("%+v, %q", rep, rowsOf(t, s, "a"))
		}
		for i, p := range rep.Bad {
			if !strings.Contains(p.Why, why[i]) {
				t.Errorf("%v", p)
			}
		}
	}
	const hint = `"ehi:replace": true`
	unchanged(hint, hint, hint)
	describe(`"ehi:replace": true, ` + path)
	unchanged(`w.csv:2: field "day"`, `"whose", which the table "visits" does not have`)
	fill(t, from, map[string]string{"w.csv": "id,patient,whose,day\nv3,b,m-a,2024-01-04\n"})
	want := slices.Clone(clinicOfA)
	want[2] = "visits a v1,b,m-a,2024-01-02\nv3,b,m-a,2024-01-04\n"
	for i, removed := range []int64{3, 0} {
		rep := load(t, s, from)
		if rep.Problems > 0 || len(rep.UnplacedRows) > 0 ||
			rep.RowsRemoved["visits"] != removed || rep.Rows["visits"] != 3 {
			t.Errorf("import %d: %+v", i, rep)
		}
		if got := sorted(rowsOf(t, s, "a")); !slices.Equal(got, sorted(want)) {
			t.Errorf("import %d: a has %q", i, got)
		}
	}
	fill(t, from, map[string]string{
		"datapackage.json": `{"resources": [{"name": "visits", "path": "w.csv", "ehi:replace": true,
			"ehi:patient": ["patient"], "schema": {"fields": [{"name": "patient"}]}}]}`,
		"w.csv": "patient\nb\n",
	})
	rep := load(t, s, from)
	if rep.Problems != 1 || !strings.Contains(rep.Bad[0].Why, `field "id"`) {
		t.Errorf("without the field of a key: %+v", rep)
	}
	if got := sorted(rowsOf(t, s, "a")); !slices.Equal(got, sorted(want)) {
		t.Errorf("without the field of a key: a has %q", got)
	}
}

// A table gets another description only if its files have no problem that they show by themselves.
// Until then nothing of it changes, and the report says only why.
func TestATableKeepsItsRowsWhileTheFilesOfItsReplacementHaveAProblem(t *testing.T) {
	const header = "id,patient,payer,day\n"
	many := strings.Builder{}
	for i := range 60_000 {
		fmt.Fprintf(&many, "w%d,a,b,\n", i)
	}
	for what, c := range map[string]struct{ id, day, v, w, why string }{
		"a key that occurs twice": {
			v: header + "v1,a,b,\nv2,a,b,\nv1,b,b,\n", w: header,
			why: "v.csv:4: the row in line 2 has the same primary key",
		},
		"a key that occurs in two files": {
			v: header + "v1,a,b,\n", w: header + "v2,a,b,\nv1,a,b,\n",
			why: "w.csv:3: the row in ",
		},
		"a key that occurs twice among many": {
			v: header + "w59999,a,b,\n", w: header + many.String(),
			why: "w.csv:60001: the row in ",
		},
		"a key that is written in two ways": {
			id: `, "type": "integer"`, v: header + "5,a,b,\n05,a,b,\n", w: header,
			why: "v.csv:3: the row in line 2 has the same primary key",
		},
		"a value that must be unique": {
			day: `, "constraints": {"unique": true}`, w: header,
			v:   header + "v1,a,b,\nv2,a,b,\nv3,a,b,2024-01-02\nv4,a,b,2024-01-02\n",
			why: `v.csv:5: field "day": the row in line 4 has the same value, which must be unique`,
		},
		"a unique value in two files": {
			day: `, "constraints": {"unique": true}`, v: header + "v1,a,b,2024-01-02\n",
			w: header + "v2,a,b,2024-01-02\n", why: `w.csv:2: field "day": the row in `,
		},
		"no value of the key": {v: header + ",a,b,\n", w: header, why: "v.csv:2: the primary key"},
		"no id of a patient":  {v: header + "v1,a,b c,\n", w: header, why: `field "payer"`},
		"a wrong type":        {v: header, w: header + "v1,a,b,soon\n", why: `w.csv:2: field "day"`},
		"a row that is short": {v: header, w: header + "v1,a\n", why: "w.csv:2: the row has 2"},
		"an open quote":       {v: header, w: header + "v1,a,b,\"\n", why: "w.csv:2: a quote"},
		"another header":      {v: header, w: "id,payer,patient,day\n", why: "w.csv:1: the header"},
		"no file":             {v: header, why: "w.csv:1: "},
	} {
		s := openStore(t, t.TempDir())
		describe := func(more string) string {
			return `{"resources": [{"name": "visits", "path": ["v.csv", "w.csv"], ` + more +
				`"schema": {"primaryKey": "id", "fields": [{"name": "id"` + c.id +
				`}, {"name": "patient"}, {"name": "payer"}, {"name": "day", "type": "date"` + c.day +
				`}]}}]}`
		}
		from := folder(t, map[string]string{
			"p.ndjson": patientsNamed("a", "b"), "v.csv": header + "1,a,b,\n", "w.csv": header,
			"datapackage.json": describe(`"ehi:patient": ["patient"], `),
		})
		load(t, s, from)
		files := map[string]string{
			"datapackage.json": describe(`"ehi:replace": true, "ehi:patient": ["payer"], `),
			"v.csv":            c.v,
		}
		if c.w != "" {
			files["w.csv"] = c.w
		} else if err := os.Remove(filepath.Join(from, "w.csv")); err != nil {
			t.Fatal(err)
		}
		fill(t, from, files)
		for range 2 {
			rep := load(t, s, from)
			if rep.Problems != 1 || !strings.Contains(rep.Bad[0].Why, c.why) ||
				len(rep.RowsRemoved)+len(rep.Notes)+len(rep.Rows) > 0 {
				t.Errorf("%s: %+v", what, rep)
			}
			if a, b := rowsOf(t, s, "a"), rowsOf(t, s, "b"); len(b) > 0 ||
				!slices.Equal(a, []string{"visits a 1,a,b,\n"}) {
				t.Errorf("%s: a has %q, b %q", what, a, b)
			}
		}
		fill(t, from, map[string]string{"v.csv": header + "2,a,b,\n", "w.csv": header})
		if rep := load(t, s, from); rep.Problems > 0 || rep.RowsRemoved["visits"] != 1 {
			t.Errorf("%s, then solved: %+v", what, rep)
		}
		if a, b := rowsOf(t, s, "a"), rowsOf(t, s, "b"); len(a) > 0 ||
			!slices.Equal(b, []string{"visits b 2,a,b,\n"}) {
			t.Errorf("%s, then solved: a has %q, b %q", what, a, b)
		}
	}
}

// Rows of other tables follow a replaced table as their own description says. If that led as the
// replaced one did, and no longer does, the import reports their table, unless it is replaced, too.
func TestTablesThatFollowAReplacedOneAsBeforeAreReported(t *testing.T) {
	const hint = "in another way now"
	all := func(changes ...string) string { return strings.NewReplacer(changes...).Replace(clinic) }
	only := func(names ...string) func(string) string {
		return func(text string) string {
			p, err := datapackage.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			return string(p.Narrow(func(n string) bool { return slices.Contains(names, n) },
				nil).JSON())
		}
	}
	const replace, system = `"ehi:replace": true, `, `"ehi:patientSystem": "urn:mrn", `
	visits := `"name": "visits",`
	for what, c := range map[string]struct {
		descriptor string
		want       []string // tables that are reported
	}{
		"another system": {
			only("visits")(all(visits, visits+replace+system)), []string{"notes", "results"},
		},
		"another field": {
			only("visits")(all(`["patient"]`, `["day"]`, visits, visits+replace)),
			[]string{"notes", "results"},
		},
		"no patients": {
			only("visits")(all(`"ehi:patient": ["patient"]`, `"ehi:lookup": true`, visits,
				visits+replace)), []string{"notes", "results"},
		},
		"other fields": {
			only("visits")(all(`{"name": "day", "type": "date"}`, `{"name": "day"}`, visits,
				visits+replace)), nil,
		},
		"a table between changes its keys": {
			only("results")(all(`"type": "number"`, `"type": "string"`,
				`"name": "results",`, `"name": "results",`+replace)), nil,
		},
		"all of them": {
			only("visits", "results", "notes")(all(visits, visits+replace+system,
				`"name": "results",`, `"name": "results",`+replace+system,
				`"name": "notes",`, `"name": "notes",`+replace+system)), nil,
		},
	} {
		files := clinicFiles()
		from := folder(t, files)
		s := openStore(t, t.TempDir())
		load(t, s, from)
		files["datapackage.json"] = c.descriptor
		if strings.Contains(c.descriptor, "urn:mrn") {
			files["visits.csv"] = strings.NewReplacer(",a,", ",m-a,", ",b,", ",m-b,").
				Replace(files["visits.csv"])
		}
		rep := load(t, s, folder(t, files))
		var got []string
		for _, p := range rep.Bad {
			if strings.Contains(p.Why, hint) {
				got = append(got, strings.Split(p.Why, `"`)[1])
			} else {
				t.Errorf("%s: %v", what, p)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// sorted returns the lines of the rows of tables, each with its table.
func sorted(rows []string) (lines []string) {
	for _, of := range rows {
		table, text, _ := strings.Cut(of, " ")
		for line := range strings.Lines(text[len("a "):]) {
			lines = append(lines, table+" "+line)
		}
	}
	slices.Sort(lines)
	return lines
}

// The rows that follow a removed row to their patient wait until it comes again. A look-up row that
// is removed is in no export.
func TestRowsWaitForAReplacedRow(t *testing.T) {
	files := clinicFiles()
	with(`"name": "visits",`, `"name": "visits", "ehi:replace": true,`)(files)
	with(`"name": "labs",`, `"name": "labs", "ehi:replace": true,`)(files)
	s := openStore(t, t.TempDir())
	from := folder(t, files)
	load(t, s, from)
	fill(t, from, map[string]string{
		"visits.csv": "id,patient,day\nv2,b,2024-01-03\nv3,a,2024-01-04\n",
		"labs.csv":   "code,name\nl1,Sodium\n",
	})
	rep := load(t, s, from)
	if rep.RowsRemoved["visits"] != 1 || rep.RowsRemoved["labs"] != 1 ||
		rep.UnplacedRows["results"].Count != 1 || rep.UnplacedRows["notes"].Count != 2 {
		t.Errorf("%+v", rep)
	}
	want := []string{
		"notes a 3\tthird\n", "results a 3,v3,l1,7\n", "visits a v3,a,2024-01-04\n", clinicOfA[3],
	}
	if got := rowsOf(t, s, "a"); !slices.Equal(got, want) {
		t.Errorf("a has %q", got)
	}
	fill(t, from, map[string]string{"visits.csv": clinicFiles()["visits.csv"]})
	load(t, s, from)
	got := rowsOf(t, s, "a")
	slices.Sort(got)
	if !strings.Contains(got[2], "1,v1,l1,5\n") || !strings.Contains(got[0], "again") {
		t.Errorf("a has %q", got)
	}
}

// A removed row that rows of other tables refer to is reported once for each foreign key, with one
// of these rows, whenever they came, until the row is there again. Keys that lead to a row after
// all are not reported, and those that never led to one are not reported again.
func TestForeignKeysThatARemovalBreaksAreReported(t *testing.T) {
	const replace = `"ehi:replace": true, `
	labs := func(more, typ, rows string) map[string]string {
		return map[string]string{
			"datapackage.json": `{"resources": [{"name": "labs", "path": "labs.csv", ` + more +
				`"ehi:lookup": true, "schema": {"fields": [{"name": "code"}, {"name": "name"` + typ +
				`}], "primaryKey": "code"}}]}`,
			"labs.csv": "code,name\n" + rows,
		}
	}
	files := clinicFiles()
	files["results.csv"] += "4,v3,l9,1\n"
	const lost = `results.csv:2: field "lab": no row of the table "labs" has this value any more, ` +
		"since rows of that table were removed (2 rows have such values)"
	never := `results.csv:5: field "lab": no row of the table "labs" has this value`
	visits := strings.NewReplacer("labs.csv", "v.csv", `"labs"`, `"visits"`, `"ehi:lookup": true`,
		`"ehi:patient": ["patient"]`, "code", "id", `{"name": "name"}`,
		`{"name": "patient"}, {"name": "day", "type": "date"}`)
	for what, c := range map[string]struct {
		files map[string]string
		want  []string
		again []string // of the clinic, which has all rows
	}{
		"a row is left out": {labs(replace, "", "l2,Potassium\n"), []string{lost}, []string{never}},
		"all are": {
			labs(replace, "", ""),
			[]string{strings.Replace(lost, "2 rows have", "3 rows have", 1)}, []string{never},
		},
		"the rows are the same": {labs(replace, "", "l2,K\nl1,Na\n"), nil, []string{never}},
		"with another description": {
			labs(replace, `, "constraints": {"required": true}`, "l2,K\n"),
			[]string{strings.Replace(lost, "2 rows have", "3 rows have", 1)}, nil, // that of l9 too
		},
		"another description, the same rows": {
			labs(replace, `, "constraints": {"required": true}`, "l2,K\nl1,Na\nl9,x\n"), nil, nil,
		},
		"a path to patients": {
			map[string]string{
				"datapackage.json": visits.Replace(labs(replace, "", "")["datapackage.json"]),
				"v.csv":            "id,patient,day\nv1,a,2024-01-02\nv2,b,2024-01-03\n",
			},
			[]string{strings.NewReplacer(".csv:2", ".csv:4", "lab", "visit").Replace(lost)},
			[]string{never},
		},
	} {
		s := openStore(t, t.TempDir())
		from := folder(t, files)
		bad := func(rep source.Report) (out []string) {
			for _, p := range rep.Bad {
				out = append(out, strings.TrimPrefix(p.String(), from+"/"))
			}
			return out
		}
		if got := bad(load(t, s, from)); !slices.Equal(got, []string{never}) {
			t.Fatalf("%q", got)
		}
		other := folder(t, c.files)
		rep := load(t, s, other)
		if got := bad(rep); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", what, got)
		}
		if got := bad(load(t, s, other)); len(got) > 0 { // nothing is removed
			t.Errorf("%s, again: %q", what, got)
		}
		if c.again == nil {
			continue
		}
		if c.want != nil {
			fill(t, from, map[string]string{"labs.csv": "code,name\nl2,K\n"})
			rep := load(t, s, from)
			if rep.Rows["results"] == 0 || len(bad(rep)) == 0 {
				t.Errorf("%s: the file with the broken keys is not read again: %+v", what, rep)
			}
			fill(t, from, clinicFiles())
			fill(t, from, map[string]string{"results.csv": files["results.csv"]})
		}
		if got := bad(load(t, s, from)); !slices.Equal(got, c.again) {
			t.Errorf("%s, then all: %q", what, got)
		}
	}
}

// An import that ends before it has reported a broken key leaves that to the next one.
func TestABrokenForeignKeyIsReportedByTheNextImport(t *testing.T) {
	files := clinicFiles()
	from := folder(t, files)
	s := openStore(t, t.TempDir())
	load(t, s, from)
	with(`"name": "labs",`, `"name": "labs", "ehi:replace": true,`)(files)
	with(`"name": "visits",`, `"name": "visits", "ehi:replace": true,`)(files)
	files["labs.csv"] = "code,name\nl2,Potassium\n"
	files["visits.csv"] = "id,patient,day\nv1,a,2024-01-02\nv2,b,2024-01-03\n"
	fill(t, from, files)
	rep, err := s.Import(t.Context(), []string{from}, source.ImportOptions{Strict: true})
	if !errors.Is(err, source.ErrBad) || rep.RowsRemoved["labs"] != 1 {
		t.Fatalf("%v: %+v", err, rep)
	}
	rep = load(t, s, folder(t, map[string]string{"p.ndjson": patientsNamed("c")}))
	if why := fmt.Sprint(rep.Bad); rep.Problems != 2 ||
		!strings.Contains(why, `results.csv:4: field "visit"`) ||
		!strings.Contains(why, `results.csv:2: field "lab"`) {
		t.Errorf("%+v", rep)
	}
	if rep := load(t, s, from); rep.Problems != 3 { // the rows of results.csv, which is read again
		t.Errorf("%+v", rep)
	}
}

// A row that loses a value to which others refer, although its primary key stays, is reported.
func TestAForeignKeyToAChangedValueIsReported(t *testing.T) {
	from := folder(t, map[string]string{
		"p.ndjson": patientsNamed("a"),
		"datapackage.json": `{"resources": [
			{"name": "staff", "path": "staff.csv", "ehi:lookup": true, "schema": {
				"primaryKey": "id", "fields": [{"name": "id"}, {"name": "badge"}]}},
			{"name": "visits", "path": "visits.csv", "ehi:patient": ["patient"], "schema": {
				"fields": [{"name": "patient"}, {"name": "badge"}], "foreignKeys": [{
				"fields": "badge", "reference": {"resource": "staff", "fields": "badge"}}]}}]}`,
		"staff.csv":  "id,badge\n1,x\n2,y\n3,y\n",
		"visits.csv": "patient,badge\na,x\na,y\na,x\na,\n",
	})
	s := openStore(t, t.TempDir())
	for _, step := range []struct {
		staff string
		want  int64
	}{
		{"1,x\n2,y\n3,y\n", 0}, {"1,x\n2,z\n3,y\n", 0}, {"1,w\n2,x\n3,y\n", 0},
		{"1,w\n2,z\n3,y\n", 1}, {"1,w\n2,x\n3,y\n", 0},
	} {
		fill(t, from, map[string]string{"staff.csv": "id,badge\n" + step.staff})
		rep := load(t, s, from)
		if rep.Problems != step.want {
			t.Errorf("%q: %+v", step.staff, rep)
		}
		if step.want > 0 && (filepath.Base(rep.Bad[0].File) != "visits.csv" ||
			rep.Bad[0].Line != 2 || !strings.Contains(rep.Bad[0].Why, "2 rows")) {
			t.Errorf("%+v", rep.Bad)
		}
	}
}

// An import that replaces a table, alone or with its description, and is killed at any point ends
// with the rows of its files when it runs again.
func TestAKilledReplacementIsRunAgain(t *testing.T) {
	const rows = 4000
	var wrong, right strings.Builder
	for i := range rows {
		fmt.Fprintf(&wrong, "m-a,pet %d\n", i)
		fmt.Fprintf(&right, "m-b,pet %d\n", i)
	}
	files := clinicFiles()
	with(`"name": "pets",`, `"name": "pets", "ehi:replace": true,`)(files)
	from := folder(t, files)
	other := maps.Clone(files)
	with(`{"name": "pet"}`, `{"name": "pet", "constraints": {"required": true}}`)(other)
	rnd := rand.New(rand.NewPCG(6, 2))
	var took time.Duration
	kills := 0
	for round := range rounds(8) {
		dir := filepath.Join(t.TempDir(), "records")
		fill(t, from, map[string]string{
			"pets.csv": "mrn,pet\n" + wrong.String(), "datapackage.json": files["datapackage.json"],
		})
		runImport(t, dir, from, 0)
		fill(t, from, map[string]string{"pets.csv": "mrn,pet\n" + right.String()})
		if round%2 == 1 {
			fill(t, from, map[string]string{"datapackage.json": other["datapackage.json"]})
		}
		if round == 0 {
			took, _ = runImport(t, dir, from, 0)
		} else {
			if killImport(t, dir, from, &took, rnd) {
				kills++
			}
			runImport(t, dir, from, 0)
		}
		s, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := rowsOf(t, s, "a"); !slices.Equal(got, clinicOfA[:3]) {
			t.Errorf("round %d: a has %d tables", round, len(got))
		}
		if got := rowsOf(t, s, "b"); got[len(got)-1] != "pets b "+right.String() {
			t.Errorf("round %d: b has %d bytes of pets", round, len(got[len(got)-1]))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if kills == 0 {
		t.Error("no import was killed")
	}
}
