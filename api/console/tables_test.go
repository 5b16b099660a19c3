package console

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	shapes "ehi-server/exporter/synthetic/native"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// markup is what tests look at in a page.
type markup struct {
	ids   map[string]bool
	links []string
}

// void are the elements without content (HTML 13.1.2).
var void = []string{"link", "meta", "br", "input", "img", "hr"}

// parse reads a page: its elements are closed in order, and each id is there once.
func parse(t *testing.T, path, text string) markup {
	t.Helper()
	out := markup{ids: map[string]bool{}}
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict, d.Entity = false, xml.HTMLEntity
	var open []string
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if !slices.Contains(void, e.Name.Local) {
				open = append(open, e.Name.Local)
			}
			out.attributes(t, path, e.Attr)
		case xml.EndElement:
			if last := len(open) - 1; last >= 0 && open[last] == e.Name.Local {
				open = open[:last]
			} else if !slices.Contains(void, e.Name.Local) { // <rect/> ends, too
				t.Fatalf("%s: </%s> closes %v", path, e.Name.Local, open)
			}
		}
	}
	if len(open) != 0 {
		t.Errorf("%s leaves %v open", path, open)
	}
	return out
}

func (m *markup) attributes(t *testing.T, path string, list []xml.Attr) {
	t.Helper()
	for _, a := range list {
		switch a.Name.Local {
		case "id":
			if m.ids[a.Value] {
				t.Errorf("%s has the id %s twice", path, a.Value)
			}
			m.ids[a.Value] = true
		case "href":
			m.links = append(m.links, a.Value)
		}
	}
}

// walk reads the pages of the format, and returns them by path. Each link within them leads to an
// id that is there.
func walk(t *testing.T, app *fiber.App) map[string]markup {
	t.Helper()
	pages, queue := map[string]markup{}, []string{"/docs/ehi"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if _, there := pages[path]; there {
			continue
		}
		a, text := get(t, app, path)
		if a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", path, a.StatusCode)
		}
		pages[path] = parse(t, path, text)
		for _, link := range pages[path].links {
			to, _, _ := strings.Cut(link, "#")
			if strings.HasPrefix(to, "/docs/ehi/tables/") {
				queue = append(queue, to)
			}
		}
	}
	for path, m := range pages {
		for _, link := range m.links {
			to, id, ok := strings.Cut(link, "#")
			if to == "" {
				to = path
			}
			if of, there := pages[to]; ok && there && !of.ids[id] {
				t.Errorf("%s links to %s, which is not there", path, link)
			}
		}
	}
	return pages
}

func generated(t testing.TB, shape string) *synthetic.Source {
	t.Helper()
	s, err := synthetic.NewSource(synthetic.Config{Patients: 2, Seed: 3, Native: shape})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tablesOf(t testing.TB, records Records) *datapackage.Package {
	t.Helper()
	p, err := records.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		p = &datapackage.Package{}
	}
	return p
}

// REAL-15: the documentation has every table and column, every format, and no link that leads
// nowhere.
func TestREAL15EveryTableAndColumnIsDocumented(t *testing.T) {
	for _, shape := range shapes.Shapes() {
		s := generated(t, shape)
		pages := walk(t, site(t, s, true))
		main := pages["/docs/ehi"]
		for _, f := range native.Formats() {
			if !main.ids["format-"+f.Code] {
				t.Errorf("%s: the format %s is not documented", shape, f.Code)
			}
		}
		for _, r := range tablesOf(t, s).Resources {
			of, there := pages["/docs/ehi/tables/"+r.Name]
			if !there || !main.ids["table-"+r.Name] {
				t.Fatalf("%s: the table %s is not documented", shape, r.Name)
			}
			for _, f := range r.Fields.Fields {
				if !of.ids["column-"+f.Name] {
					t.Errorf("%s: the column %s.%s is not documented", shape, r.Name, f.Name)
				}
			}
			if !of.ids["sample"] {
				t.Errorf("%s: the table %s has no sample", shape, r.Name)
			}
		}
		if want := 1 + len(tablesOf(t, s).Resources); len(pages) != want {
			t.Errorf("%s: %d pages, want %d", shape, len(pages), want)
		}
	}
}

// REAL-15: each file of an export leads to the part of the documentation that is about it.
func TestREAL15EachFileLeadsToItsDocumentation(t *testing.T) {
	for _, shape := range shapes.Shapes() {
		for _, packaging := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
			s := generated(t, shape)
			main := parse(t, shape, docsOf(t, s, false))
			described := descriptions(t, s, packaging)
			if len(described) == 0 {
				t.Errorf("%s, %s: no file", shape, packaging)
			}
			for _, text := range described {
				_, anchor, ok := strings.Cut(text, "https://ehi.example.org/docs/ehi#")
				if !ok || !main.ids[anchor] {
					t.Errorf("%s, %s: nothing is at the link of %q", shape, packaging, text)
				}
			}
		}
	}
}

// descriptions returns the descriptions of the files in an export of the first patient.
func descriptions(t *testing.T, s source.Source, packaging ehi.Packaging) (out []string) {
	t.Helper()
	patients, err := s.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	record, err := s.Open(t.Context(), patients[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close() // of memory only
	store, err := local.Open(local.Config{Root: filepath.Join(t.TempDir(), "exports")})
	if err != nil {
		t.Fatal(err)
	}
	e := native.Export{
		Record: record, Packaging: packaging, Origin: "https://ehi.example.org", Job: "job",
		Patient: patients[0].ID, TakenAt: time.Now(),
	}
	if e.Batch, err = store.NewBatch("job", 0, 1); err != nil {
		t.Fatal(err)
	}
	result, err := e.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	extents, err := e.Batch.Commit()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range result.Outputs {
		if o.Kind == ehi.Documents {
			out = append(out, described(t, store, extents[o.Number])...)
		}
	}
	return out
}

func described(t *testing.T, store *local.Store, at files.Extent) (out []string) {
	t.Helper()
	r, err := store.Open("job", at)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var d struct{ Description string }
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d.Description)
	}
	return out
}

// NAT-3: the description of the tables for programs is a valid descriptor at a stable URL, with
// the tables and nothing about files.
func TestREAL15TheDictionaryIsAPublicDescriptor(t *testing.T) {
	s := generated(t, "tsv-tables")
	app := site(t, s, false)
	a, text := get(t, app, "/docs/ehi/datapackage.json")
	if a.StatusCode != http.StatusOK ||
		a.Header.Get("Content-Type") != "application/vnd.datapackage+json" {
		t.Fatalf("%d %v", a.StatusCode, a.Header)
	}
	p, err := datapackage.Parse([]byte(text))
	if err != nil || p.Check() != nil {
		t.Fatalf("%v, %v", err, p.Check())
	}
	if p.Homepage != "https://ehi.example.org/docs/ehi" ||
		len(p.Resources) != len(tablesOf(t, s).Resources) {
		t.Errorf("%s, %d tables", p.Homepage, len(p.Resources))
	}
	for _, r := range p.Resources {
		if r.Bytes != 0 || r.Hash != "" || len(r.Path) != 1 || strings.Contains(r.Path[0], "/") {
			t.Errorf("%s has the files %v of %d bytes, %s", r.Name, r.Path, r.Bytes, r.Hash)
		}
	}
	again, _ := get(t, app, "/docs/ehi/datapackage.json", "If-None-Match", a.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("who has it gets %d", again.StatusCode)
	}
}

// REAL-15: the search lists the tables that have all words, by any spelling of case, and marks
// the columns. What is searched for is text, and not markup.
func TestTheSearchListsTablesWithAllWords(t *testing.T) {
	app := site(t, generated(t, "tsv-tables"), true)
	tables := func(search string) (out []string) {
		a, text := get(t, app, "/docs/ehi?q="+search)
		if a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", search, a.StatusCode)
		}
		for id := range parse(t, search, text).ids {
			if name, ok := strings.CutPrefix(id, "table-"); ok {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	}
	for search, want := range map[string][]string{
		"PATIENT_NAME_ID":         {"patient_name"},
		"family%20spelling":       {"patient_name"},
		"nothing-has-this":        nil,
		"%3Cscript%3Ealert()%22x": nil,
	} {
		if got := tables(search); !slices.Equal(got, want) {
			t.Errorf("%s finds %v", search, got)
		}
	}
	if all := tables("%20"); len(all) < 80 {
		t.Errorf("without words there are %d tables", len(all))
	}
	_, text := get(t, app, "/docs/ehi?q=spelled_as")
	if strings.Contains(text, "id=\"format-csv\"") {
		t.Error("the results are below everything else")
	}
	if !strings.Contains(text, "#column-spelled_as\"><mark>spelled_as</mark>") {
		t.Error("the column is not marked")
	}
}

// A source without tables has no dictionary, and pages of tables that do not exist are not found.
func TestTablesThatDoNotExistAreNotFound(t *testing.T) {
	for path, records := range map[string]Records{
		"/docs/ehi/datapackage.json": private{t},
		"/docs/ehi/tables/patient":   private{t},
		"/docs/ehi/tables/nobody":    generated(t, "tsv-tables"),
		"/docs/ehi/tables/%2e%2e":    generated(t, "tsv-tables"),
	} {
		h := &Pages{Records: records}
		app := fiber.New(fiber.Config{ErrorHandler: func(c *fiber.Ctx, err error) error {
			if ehi.CodeOf(err) != ehi.NotFound {
				t.Errorf("%s: %v", path, err)
			}
			return c.SendStatus(http.StatusNotFound)
		}})
		h.Routes(routes{app})
		if a, _ := get(t, app, path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
	if text := docsOf(t, private{t}, false); !strings.Contains(text, "have no tables") {
		t.Error("the page does not say that there are no tables")
	}
}

// registered are records that nobody may read, with tables.
type registered struct {
	private
	tables *datapackage.Package
}

func (r registered) Tables(context.Context) (*datapackage.Package, error) { return r.tables, nil }

// NAT-3: the pages about tables are made from their description alone. Sample rows of records that
// may be real are the examples of the description.
func TestREAL15TheDocumentationOfTablesReadsNoRecord(t *testing.T) {
	p, err := datapackage.Parse([]byte(`{"name":"clinic","resources":[
	 {"name":"visit","path":"visit.csv","encoding":"iso-8859-1","dialect":{"delimiter":";"},
	  "schema":{"primaryKey":"id","missingValues":["","NULL"],"fields":[
	   {"name":"id","example":"V<1>"},{"name":"patient","example":"MRN77"},
	   {"name":"mood","constraints":{"enum":["good","bad"],"maxLength":4}},
	   {"name":"on","type":"date","format":"%d.%m.%Y","example":"31.12.2024"},
	   {"name":"ward","ehi:system":"https://clinic.example/wards"},
	   {"name":"before","ehi:resource":"Encounter"}],
	   "foreignKeys":[{"fields":"before","reference":{"resource":"","fields":"id"}}]},
	  "ehi:patient":["patient"],"ehi:patientSystem":"https://clinic.example/mrn",
	  "ehi:category":"visits","ehi:date":"on",
	  "ehi:sensitive":[{"field":"ward","values":["HIV"],"authorization":"hiv"}]},
	 {"name":"oddity","path":"oddity.tsv","format":"tsv","schema":{"fields":[{"name":"patient"}]},
	  "ehi:patient":["patient"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	app := site(t, registered{private{t}, p}, false)
	walk(t, app)
	_, visit := get(t, app, "/docs/ehi/tables/visit")
	for _, part := range []string{
		"V&lt;1&gt;", "MRN77", "31.12.2024", "iso-8859-1", "semicolon", "length at most 4",
		"one of good, bad", "date (%d.%m.%Y)", "https://clinic.example/wards",
		"https://clinic.example/mrn", "Clinic visits", "HIV test results", "#type-Encounter",
		"<code>HIV</code>", "&#34;&#34;, &#34;NULL&#34;",
	} {
		if !strings.Contains(visit, part) {
			t.Errorf("the page does not say %s", part)
		}
	}
	_, oddity := get(t, app, "/docs/ehi/tables/oddity")
	if !strings.Contains(oddity, "An administrator decides") ||
		strings.Contains(oddity, `id="sample"`) {
		t.Errorf("it says %s", oddity)
	}
}
