package datapackage_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/datapackage"
)

// clinic is a descriptor with everything that can be said.
const clinic = `{
  "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
  "name": "clinic", "title": "Clinic", "description": "All", "homepage": "https://example.org/x",
  "version": "1.0.0", "created": "2026-01-31T12:00:00Z", "keywords": ["x"],
  "licenses": [{"name": "CC0-1.0"}],
  "resources": [
    {
      "name": "notes", "path": ["notes-1.tsv", "more/notes-2.tsv"], "type": "table",
      "profile": "tabular-data-resource", "format": "tsv", "mediatype": "text/tab-separated-values",
      "encoding": "windows-1252", "bytes": 12, "hash": "sha1:00ff",
      "schema": {
        "fields": [
          {"name": "id", "type": "integer", "constraints": {"required": true, "minimum": 1}},
          {"name": "visit", "type": "integer"},
          {"name": "written", "type": "date", "format": "%d/%m/%Y", "example": "31/01/2026"},
          {"name": "text", "missingValues": [{"value": ""}, {"value": "-", "label": "none"}],
           "constraints": {"maxLength": 10, "pattern": "[a-z]*"}},
          {"name": "code", "ehi:system": "http://hl7.org/fhir/sid/icd-10"},
          {"name": "label", "ehi:label": true},
          {"name": "encounter", "ehi:resource": "Encounter"},
          {"name": "signed", "type": "boolean", "trueValues": ["Y"], "falseValues": ["N"]},
          {"name": "weight", "type": "number", "decimalChar": ",", "groupChar": ".",
           "bareNumber": false, "constraints": {"enum": ["1,5", "2"], "exclusiveMaximum": 3}}
        ],
        "missingValues": [], "primaryKey": "id",
        "foreignKeys": [
          {"fields": "visit", "reference": {"resource": "visits", "fields": "id"}},
          {"fields": ["id"], "reference": {"resource": "", "fields": ["id"]}}
        ]
      },
      "ehi:patient": ["visit", "patient"], "ehi:patientSystem": "urn:x", "ehi:category": "visits",
      "ehi:date": "written",
      "ehi:sensitive": [{"field": "code", "values": ["B20"], "authorization": "hiv"}]
    },
    {
      "name": "visits", "path": "visits.csv",
      "dialect": {"delimiter": ";", "lineTerminator": "\n", "quoteChar": "'", "header": false,
        "doubleQuote": false, "escapeChar": "\\", "nullSequence": "\\N", "skipInitialSpace": true,
        "commentChar": "#", "csvddfVersion": 1.2, "headerRows": [1]},
      "schema": {
        "fields": [{"name": "id", "type": "integer"}, {"name": "patient"}, {"name": "ward"}],
        "primaryKey": ["id"],
        "foreignKeys": [{"fields": ["ward"], "reference": {"resource": "wards", "fields": ["id"]}}]
      },
      "ehi:patient": ["patient"]
    },
    {
      "name": "wards", "path": "wards.csv", "ehi:lookup": true, "ehi:category": "always",
      "schema": {"fields": [{"name": "id"}]}
    }
  ]
}`

func parsed(t testing.TB, text string) *datapackage.Package {
	t.Helper()
	p, err := datapackage.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDescriptorsComeBackAsTheyWereWritten(t *testing.T) {
	p := parsed(t, clinic)
	data := p.JSON()
	again := parsed(t, string(data))
	for i := range p.Resources { // what JSON adds
		p.Resources[i].Type = datapackage.TableType
		p.Resources[i].Profile = datapackage.TabularProfile
		if d := p.Resources[i].Dialect; d != nil && d.DoubleQuote == nil {
			d.DoubleQuote = new(true)
		}
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Error(diff)
	}
	if string(again.JSON()) != string(data) {
		t.Error("the second writing differs")
	}
	notes := again.Table("notes")
	key := notes.Fields.PrimaryKey[0]
	if notes.Dialect.Delimiter != "\t" || len(notes.Path) != 2 || key != "id" {
		t.Errorf("got %+v", notes)
	}
	if got := again.Table("wards").Path; !slices.Equal(got, datapackage.Paths{"wards.csv"}) {
		t.Errorf("got %q", got)
	}
}

// change replaces the only occurrence of a text in clinic.
func change(t *testing.T, old, with string) string {
	t.Helper()
	if n := strings.Count(clinic, old); n != 1 {
		t.Fatalf("%s occurs %d times", old, n)
	}
	return strings.Replace(clinic, old, with, 1)
}

func TestProblemsNameTableFieldAndProperty(t *testing.T) {
	for _, c := range []struct{ old, with, want string }{
		{`"name": "visits", `, ``, `table 2: name is missing`},
		{`"name": "visits"`, `"name": null`, `table 2: name must be a string`},
		{`"name": "visits"`, `"NAME": "visits"`, `table 2: name is missing`},
		{`"name": "visits"`, `"name": "wards"`, `table "wards": name is the name of another table`},
		{`"name": "visits"`, `"name": "con.x"`, `table "con.x": name is the name of a device`},
		{`"name": "visits"`, `"name": "a."`, `table "a.": name must not end with a dot`},
		{`"name": "visits"`, `"name": "a/b"`, `table "a/b": name must have lower-case letters`},
		{`"name": "visits"`, `"name": "` + strings.Repeat("a", 101) + `"`, `at most 100 bytes`},
		{`"path": "visits.csv"`, `"path": "../v.csv"`, `path "../v.csv" is no relative path`},
		{`"path": "visits.csv"`, `"path": "/v.csv"`, `path "/v.csv" is no relative path`},
		{`"path": "visits.csv"`, `"path": "http://x/v"`, `path "http://x/v" is a URL`},
		{`"path": "visits.csv"`, `"path": ".v.csv"`, `path ".v.csv" is hidden`},
		{`"path": "visits.csv"`, `"data": [[1]]`, `table "visits": data is not supported`},
		{`"path": "visits.csv",`, ``, `table "visits": path is missing`},
		{`"path": "visits.csv"`, `"path": []`, `table "visits": path must not be empty`},
		{`"type": "table"`, `"type": "file"`, `table "notes": type must be table`},
		{`"bytes": 12`, `"bytes": -1`, `table "notes": bytes must be a whole number`},
		{`"encoding": "windows-1252"`, `"encoding": "x"`, `the encoding "x" is unknown`},
		{`"delimiter": ";"`, `"delimiter": ""`,
			`table "visits": dialect.delimiter must not be empty`},
		{`"delimiter": ";"`, `"delimiter": "'"`,
			`table "visits": dialect quoteChar must not be part`},
		{`"headerRows": [1]`, `"headerRows": [1, 2]`, `dialect.headerRows other than [1]`},
		{`"primaryKey": ["id"]`, `"fieldsMatch": "subset"`,
			`schema.fieldsMatch other than exact`},
		{`"schema": {"fields": [{"name": "id"}]}`, `"schema": "s.json"`,
			`table "wards": schema names the file "s.json": put its content into the descriptor`},
		{`"schema": {"fields": [{"name": "id"}]}`, `"schema": "https://x/s.json"`,
			`table "wards": schema names the file "https://x/s.json", which is a URL`},
		{`"schema": {"fields": [{"name": "id"}]}`, `"x": 1`, `table "wards": schema is missing`},
		{`{"fields": [{"name": "id"}]}`, `{"fields": []}`, `schema.fields must list at least one`},
		{`{"name": "patient"}`, `{"name": "id"}`,
			`table "visits", field "id": name is the name of another field`},
		{`{"name": "patient"}`, `{"title": "x"}`, `table "visits", field 2: name is missing`},
		{`{"name": "visit", "type": "integer"}`, `{"name": "visit", "type": "int"}`,
			`table "notes", field "visit": type "int" is no type of Table Schema`},
		{`"minimum": 1`, `"minimum": "x"`,
			`table "notes", field "id": constraints minimum is no integer`},
		{`"minimum": 1`, `"minimum": true`, `constraints.minimum does not fit the type integer`},
		{`{"value": "-", "label"`, `{"value": "", "label"`, `missingValues must differ`},
		{`{"value": "-", "label": "none"}`, `"-"`, `missingValues must be a list of strings, or`},
		{`"fields": "visit"`, `"fields": ["visit"]`,
			`schema.foreignKeys[0].fields must be a list if reference.fields is one`},
		{`"pattern": "[a-z]*"`, `"pattern": "("`, `pattern cannot be read`},
		{`["1,5", "2"]`, `["1,5", "1,5"]`, `constraints.enum must list different values`},
		{`["1,5", "2"]`, `[]`, `constraints.enum must list at least one value`},
		{`"primaryKey": "id"`, `"primaryKey": "x"`,
			`table "notes": schema.primaryKey names the field "x", which is not there`},
		{`"resource": "visits"`, `"resource": "x"`,
			`table "notes": schema.foreignKeys[0].reference.resource names the table "x"`},
		{`"fields": "visit"`, `"fields": ["visit", "id"]`,
			`table "notes": schema.foreignKeys[0] has 2 fields and refers to 1`},
		{`"ehi:patient": ["visit", "patient"]`, `"ehi:patient": ["text", "patient"]`,
			`table "notes": ehi:patient follows the field "text", which is not the only field`},
		{`"ehi:patient": ["visit", "patient"]`, `"ehi:patient": ["visit", "x"]`,
			`table "notes": ehi:patient names the field "x", which the table "visits" does not`},
		{`"ehi:lookup": true`, `"ehi:lookup": "yes"`, `ehi:lookup must be true or false`},
		{`"ehi:lookup": true`, `"ehi:lookup": true, "ehi:patient": ["id"]`, `ehi:lookup must not`},
		{`"ehi:category": "visits"`, `"ehi:category": "x"`, `ehi:category "x" is no line`},
		{`"ehi:date": "written"`, `"ehi:date": "id"`,
			`ehi:date names the field "id", which has no`},
		{`"ehi:date": "written"`, `"ehi:date": "x"`, `ehi:date names the field "x", which is not`},
		{`"authorization": "hiv"`, `"authorization": "x"`, `ehi:sensitive "x" is no authorization`},
		{`"ehi:resource": "Encounter"`, `"ehi:resource": "Visit"`,
			`ehi:resource "Visit" is no type`},
		{`https://example.org/x`, `javascript:alert(1)`, `homepage must be an http or https URL`},
	} {
		_, err := datapackage.Parse([]byte(change(t, c.old, c.with)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.with, err)
		}
	}
}

// The prose of the standard says that fieldsMatch is a string, and its JSON schema that it is a
// list.
func TestColumnsMayBeSaidToMatchExactly(t *testing.T) {
	for _, match := range []string{`"exact"`, `["exact"]`} {
		parsed(t, change(t, `"primaryKey": ["id"]`, `"fieldsMatch": `+match))
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	fields := strings.Repeat(`{},`, 30) + "{}"
	_, err := datapackage.Parse([]byte(change(t, `[{"name": "id"}]`, "["+fields+"]")))
	if err == nil || !strings.HasSuffix(err.Error(), "\nand 12 more problems") {
		t.Errorf("got %v", err)
	}
}

func TestDescriptorsMustBeOneObject(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "the descriptor is empty (line 1)",
		"\n[]":                            "and not a list (line 1)",
		"null":                            "and not null (line 1)",
		"{}\n{}":                          "the descriptor has text after its JSON object (line 2)",
		`{"resources": []}`:               "resources must list at least one table",
		"{\n\n":                           "is not valid JSON: it ends too early (line 1)",
		"{\n\"resources\": [}":            "invalid character '}' looking for",
		"{\n\"resources\": [\n}]":         "(line 3)",
		"{\n\"a\": 1,\n\"a\": 2}":         `has the property "a" twice in one object (line 3)`,
		"{\"a\": {\n\"ehi:paitent\": 1}}": `"ehi:paitent", which does not exist; there are ehi:`,
	} {
		_, err := datapackage.Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "Go value") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A table with a problem costs itself alone, and keys to it wait for it.
func TestLoadReadsTheTablesThatAreRight(t *testing.T) {
	load := func(text string) (*datapackage.Package, []datapackage.RefusedTable, error) {
		fsys := fstest.MapFS{"datapackage.json": {Data: []byte(text)}}
		return datapackage.Load(fsys, "datapackage.json")
	}
	for _, with := range []string{`"type": "foo"`, `"type": 7`, `"type": ""`} {
		text := change(t, `{"name": "patient"}`, `{"name": "patient", `+with+`}`)
		p, refused, err := load(text)
		if err != nil || len(refused) != 1 || !strings.Contains(refused[0].Error(), "visits") {
			t.Fatalf("%s: %v, %v", with, refused, err)
		}
		if len(p.Resources) != 2 || p.LeadsElsewhere("notes") != "visits" {
			t.Errorf("%s: %+v", with, p.Resources)
		}
	}
	whole, refused, err := load(clinic)
	if err != nil || len(refused) > 0 || string(whole.JSON()) != string(parsed(t, clinic).JSON()) {
		t.Errorf("%v, %v", refused, err)
	}
	twice := change(t, `"name": "notes"`, `"name": "visits"`)
	if p, refused, err := load(twice); err != nil || len(refused) == 0 || p.Table("visits") != nil {
		t.Errorf("two tables with one name: %v, %v", refused, err)
	}
}

func TestLoadReadsFilesBesideTheDescriptorOnly(t *testing.T) {
	const text = `{"resources": [
		{"name": "a", "path": "a.csv", "schema": "meta/s.json", "dialect": "d.json"},
		{"name": "b", "path": ["b.csv", "c.csv"], "schema": "meta/s.json"}]}`
	fsys := fstest.MapFS{
		"in/datapackage.json": {Data: []byte(text)},
		"in/meta/s.json":      {Data: []byte(`{"fields": [{"name": "x"}]}`)},
		"in/d.json":           {Data: []byte(`{"delimiter": "|"}`)},
		"s.json":              {Data: []byte(`{"fields": [{"name": "x"}]}`)},
		"in/.s.json":          {Data: []byte(`{"fields": [{"name": "x"}]}`)},
	}
	p, refused, err := datapackage.Load(fsys, "in/datapackage.json")
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	refs := []string{"a.csv", "meta/s.json", "d.json", "b.csv", "c.csv", "meta/s.json"}
	if got := datapackage.References(fsys, "in/datapackage.json"); !slices.Equal(got, refs) {
		t.Errorf("names the files %q", got)
	}
	if p.Table("b").Fields.Fields[0].Name != "x" || p.Table("a").Dialect.Delimiter != "|" {
		t.Errorf("got %+v", p)
	}
	for _, ref := range []string{
		"../s.json", "/s.json", "meta/../../s.json", ".s.json", "http://x/s.json", `..\s.json`,
		"file:s.json", "gone.json",
	} {
		quoted, _ := json.Marshal(ref)
		fsys["in/datapackage.json"].Data = []byte(
			strings.ReplaceAll(text, `"meta/s.json"`, string(quoted)))
		p, refused, err := datapackage.Load(fsys, "in/datapackage.json")
		if err != nil || len(p.Resources) > 0 || len(refused) != 2 ||
			!strings.Contains(refused[0].Error(), `table "a": schema names the file`) {
			t.Errorf("%s: %v, %v", ref, refused, err)
		}
	}
}

// Foreign keys to tables that are left out are still there, and become keys again with the table.
func TestNarrowKeepsKeysToOtherTablesApart(t *testing.T) {
	p := parsed(t, clinic)
	before := string(p.JSON())
	n := p.Narrow(func(name string) bool { return name != "visits" }, nil)
	if len(n.Resources) != 2 || n.Table("visits") != nil {
		t.Errorf("got %+v", n.Resources)
	}
	notes := n.Table("notes")
	if len(notes.Fields.ForeignKeys) != 1 || len(notes.Fields.Elsewhere) != 1 ||
		notes.Patient == nil || n.LeadsElsewhere("notes") != "visits" {
		t.Errorf("got %+v", notes)
	}
	again := parsed(t, string(n.JSON()))
	again.Resources = append(again.Resources, *p.Table("visits"))
	again.Connect()
	notes = again.Table("notes")
	if len(notes.Fields.ForeignKeys) != 2 || len(notes.Fields.Elsewhere) != 0 ||
		again.LeadsElsewhere("notes") != "" {
		t.Errorf("got %+v", notes)
	}
	kept := p.Narrow(func(string) bool { return true }, nil)
	if diff := cmp.Diff(p, kept); diff != "" {
		t.Error(diff)
	}
	parts := p.Narrow(func(string) bool { return true },
		func(from *datapackage.Resource, k datapackage.ForeignKey) bool {
			return from.Name == "notes" && k.Reference.Resource != "visits"
		})
	notes = parts.Table("notes")
	if len(parts.Resources) != 3 || len(notes.Fields.ForeignKeys) != 1 ||
		len(notes.Fields.Elsewhere) != 1 || parts.Check() != nil {
		t.Errorf("got %+v, %v", notes, parts.Check())
	}
	if string(p.JSON()) != before {
		t.Error("Narrow changed its package")
	}
}

// A table of which the package has not all rows has no keys into itself that can be followed. They
// are keys again, written as before, when the package is whole.
func TestNarrowKeepsKeysIntoAPartOfATableApart(t *testing.T) {
	const self = `{"name":"wards","resources":[{"name":"ward","path":"ward.csv","ehi:lookup":true,
	 "schema":{"fields":[{"name":"id"},{"name":"part_of"}],"primaryKey":"id","foreignKeys":[
	  {"fields":"part_of","reference":{"resource":"","fields":"id"}}]}}]}`
	p := parsed(t, self)
	all := func(string) bool { return true }
	parts := p.Narrow(all, func(*datapackage.Resource, datapackage.ForeignKey) bool {
		return false
	})
	s := parts.Table("ward").Fields
	if len(s.ForeignKeys) != 0 || len(s.Elsewhere) != 1 ||
		s.Elsewhere[0].Reference.Resource != "ward" {
		t.Errorf("got %+v", s)
	}
	again := parsed(t, string(parts.JSON()))
	again.Connect()
	if d := cmp.Diff(p.Table("ward").Fields, again.Table("ward").Fields); d != "" {
		t.Error(d)
	}
}

// linked makes tables with foreign keys; an arrow with two heads is on a path to the patient.
func linked(links ...string) *datapackage.Package {
	p := &datapackage.Package{}
	for _, name := range []string{"a", "b", "c", "d"} {
		p.Resources = append(p.Resources, *table(nil, "", "id", "to-a", "to-b", "to-c", "to-d"))
		p.Resources[len(p.Resources)-1].Name = name
	}
	for _, l := range links {
		from, to, path := strings.Cut(l, ">>")
		if !path {
			from, to, _ = strings.Cut(l, ">")
		}
		t := p.Table(from)
		t.Fields.ForeignKeys = append(t.Fields.ForeignKeys, datapackage.ForeignKey{
			Fields:    datapackage.Names{"to-" + to},
			Reference: datapackage.Reference{Resource: to, Fields: datapackage.Names{"id"}},
		})
		if path {
			t.Patient = []string{"to-" + to, "id"}
		}
	}
	return p
}

func TestOrderPutsTablesAfterThoseThatTheyReferTo(t *testing.T) {
	for links, want := range map[string]string{
		"":                    "a b c d",
		"a>b b>c":             "c b a d",
		"a>>d":                "b c d a",
		"a>b b>a":             "c d a b",
		"a>b b>>a":            "c d a b",
		"a>>b b>a":            "c d b a",
		"a>>b b>>c c>a":       "d c b a",
		"a>>a":                "circle",
		"a>>b b>>a":           "circle",
		"a>>b b>>c c>>d d>>a": "circle",
	} {
		p := linked(strings.Fields(links)...)
		order, err := p.Order()
		got := strings.Join(order, " ")
		if err != nil && strings.Contains(err.Error(), "circle") {
			got = "circle"
		}
		if got != want {
			t.Errorf("%s: %s (%v)", links, got, err)
		}
	}
}

func TestThousandsOfTablesAreOrderedQuickly(t *testing.T) {
	p := &datapackage.Package{}
	for i := range 3000 {
		r := table(nil, "", "id", "next")
		r.Name = fmt.Sprintf("t%d", i)
		if i < 2999 {
			r.Fields.ForeignKeys = []datapackage.ForeignKey{{
				Fields: datapackage.Names{"next"},
				Reference: datapackage.Reference{
					Resource: fmt.Sprintf("t%d", i+1), Fields: datapackage.Names{"id"},
				},
			}}
		}
		p.Resources = append(p.Resources, *r)
	}
	order, err := p.Order()
	if err != nil || order[0] != "t2999" || order[2999] != "t0" {
		t.Error(order[0], err)
	}
}

// FuzzParse holds that what Parse takes, JSON writes so that Parse takes it again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(clinic))
	f.Add([]byte(`{"resources": [{"name": "a", "path": "a",
		"schema": {"fields": [{"name": "x"}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := datapackage.Parse(data)
		if err != nil {
			return
		}
		written := p.JSON()
		again, err := datapackage.Parse(written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if string(again.JSON()) != string(written) {
			t.Fatalf("%s differs", written)
		}
		for i := range p.Resources {
			if _, err := datapackage.NewCodec(&p.Resources[i]); err != nil {
				t.Fatal(err)
			}
		}
	})
}
