package e2e

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
)

// searchset is a Bundle with search results.
type searchset struct {
	Total *int
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL  string
		Resource struct{ ResourceType, ID string }
	}
}

func (s searchset) link(relation string) string {
	for _, l := range s.Link {
		if l.Relation == relation {
			return l.URL
		}
	}
	return ""
}

func (s searchset) ids() (ids []string) {
	for _, e := range s.Entry {
		ids = append(ids, e.Resource.ID)
	}
	return ids
}

// search reads one page.
func (w *world) search(c *client.Client, target string, header ...string) searchset {
	w.t.Helper()
	a := w.do(c, "GET", target, header...)
	var s searchset
	if a.Status != 200 || json.Unmarshal(a.Body, &s) != nil ||
		!strings.Contains(string(a.Body), `"searchset"`) || strings.Contains(string(a.Body), "[]") {
		w.t.Errorf("%s: %d %s", target, a.Status, a.Body)
	}
	return s
}

// startOnPatients serves a store with some patients and groups.
func startOnPatients(t *testing.T) *world {
	t.Helper()
	data := t.TempDir()
	lines := []string{
		`{"resourceType":"Patient","id":"ann","birthDate":"1970-05-17",` +
			`"identifier":[{"system":"urn:mrn","value":"1"}],` +
			`"name":[{"family":"Müller-Lüdenscheidt","given":["Ann"]}]}`,
		`{"resourceType":"Patient","id":"bob","birthDate":"1980",` +
			`"identifier":[{"system":"urn:mrn","value":"2"},{"system":"urn:ssn","value":"1"}],` +
			`"name":[{"text":"Bob Muller"}]}`,
		`{"resourceType":"Patient","id":"cid","identifier":[{"value":"1"}],` +
			`"name":[{"family":"Nobody"}]}`,
		`{"resourceType":"Patient","id":"dot","birthDate":"1990-01-01"}`,
		`{"resourceType":"Group","id":"g1","type":"person","actual":true,` +
			`"identifier":[{"system":"urn:roster","value":"a"}],` +
			`"member":[{"entity":{"reference":"Patient/ann"}}]}`,
		`{"resourceType":"Group","id":"g2","type":"person","actual":true,` +
			`"member":[{"entity":{"reference":"Patient/bob"}}]}`,
	}
	file := filepath.Join(t.TempDir(), "in.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Import(t.Context(), []string{file}, source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return start(t, data, config(), node.Options{})
}

// BULK-8: a search applies exactly what its self link says.
func TestBULK8SearchesApplyWhatTheirSelfLinkSays(t *testing.T) {
	t.Parallel()
	w := startOnPatients(t)
	all := w.service("system/*.rs")
	for _, c := range []struct {
		query, self string
		want        []string
	}{
		{"?identifier=1", "?identifier=1", []string{"ann", "bob", "cid"}},
		{"?identifier=urn:mrn|1", "?identifier=urn:mrn|1", []string{"ann"}},
		{"?identifier=|1", "?identifier=|1", []string{"cid"}},
		{"?identifier=urn:ssn|", "?identifier=urn:ssn|", []string{"bob"}},
		{"?identifier=x", "?identifier=x", nil},
		{"?name=MULLER", "?name=MULLER", []string{"ann", "bob"}},
		{"?family=muller", "?family=muller", []string{"ann"}},
		{"?name=ludens&given=ann", "?name=ludens&given=ann", []string{"ann"}},
		{
			"?birthdate=ge1975&birthdate=lt1985",
			"?birthdate=ge1975&birthdate=lt1985",
			[]string{"bob"},
		},
		{"?_id=dot,ann,nobody", "?_id=dot,ann,nobody", []string{"ann", "dot"}},
		{"?_id=dot,ann&_id=ann&name=ann", "?_id=dot,ann&_id=ann&name=ann", []string{"ann"}},
		{
			"?address=x&_include=*&_sort=name&name=nob&access_token=secret&family=",
			"?name=nob",
			[]string{"cid"},
		},
		{
			"?_summary=true&_total=accurate&_format=json&_id=ann",
			"?_total=accurate&_format=json&_id=ann",
			[]string{"ann"},
		},
		{"", "", []string{"ann", "bob", "cid", "dot"}},
	} {
		for _, base := range []string{"/fhir", "/no-form/fhir"} {
			s := w.search(all, base+"/Patient"+c.query)
			self, err := url.QueryUnescape(s.link("self"))
			if err != nil || self != w.node.URL+base+"/Patient"+c.self ||
				!slices.Equal(s.ids(), c.want) || s.Total == nil || *s.Total != len(c.want) ||
				s.link("next") != "" {
				t.Errorf("%s: found %v, self %s, total %v", c.query, s.ids(), self, s.Total)
			}
		}
		if a := w.do(all, "HEAD", "/fhir/Patient"+c.query); a.Status != 200 {
			t.Errorf("HEAD %s: %d", c.query, a.Status)
		}
		a, err := all.Do(t.Context(), "POST", "/fhir/Patient/_search",
			strings.NewReader(strings.TrimPrefix(c.query, "?")), "Content-Type",
			"application/x-www-form-urlencoded")
		var s searchset
		if err != nil || json.Unmarshal(a.Body, &s) != nil || !slices.Equal(s.ids(), c.want) {
			t.Errorf("POST %s: %s, %v", c.query, a.Body, err)
		}
	}
	for query, status := range map[string]int{
		"?address=x":                     400,
		"?_sort=name":                    400,
		"?name=":                         400,
		"?_summary=text":                 400,
		"?name=ann&_count=5&_total=none": 200,
		"?_id=ann":                       200,
		"":                               200,
	} {
		a := w.do(all, "GET", "/fhir/Patient"+query, "Prefer", "handling=strict")
		if a.Status != status {
			t.Errorf("strictly %s: %d %s", query, a.Status, a.Body)
		}
	}
	for _, query := range []string{
		"?name:exact=Ann", "?name:contains=n", "?_id:not=ann", "?birthdate=soon",
		"?birthdate=ap1970", "?_count=-1", "?_count=many", "?_cursor=%25", "?identifier=|",
		"?_format=xml",
	} {
		w.wantOutcome(w.do(all, "GET", "/fhir/Patient"+query), 400, "")
	}
	if s := w.search(all, "/fhir/Patient?_summary=count"); *s.Total != 4 || s.Entry != nil {
		t.Errorf("counted %+v", s)
	}
	s := w.search(all, "/fhir/Group?identifier=urn:roster|a")
	if !slices.Equal(s.ids(), []string{"g1"}) || *s.Total != 1 {
		t.Errorf("groups %+v", s)
	}
}

// BULK-8: the next links lead through the pages with each patient once, whatever is imported
// meanwhile.
func TestBULK8SearchesComeInPages(t *testing.T) {
	t.Parallel()
	w := startOnPatients(t)
	all := w.service("system/*.rs")
	for target, want := range map[string][]string{
		"/fhir/Patient?_count=1":                  {"ann", "bob", "cid", "dot"},
		"/fhir/Patient?_count=3":                  {"ann", "bob", "cid", "dot"},
		"/fhir/Patient?_count=2&identifier=1":     {"ann", "bob", "cid"},
		"/fhir/Group?_count=1":                    {"g1", "g2"},
		"/fhir/Group?_count=1&identifier=a,b":     {"g1"},
		"/fhir/Patient?_count=1&birthdate=ge1975": {"bob", "dot"},
	} {
		var got []string
		for next := target; next != ""; {
			s := w.search(all, next)
			if len(s.Entry) == 0 || *s.Total != len(want) {
				t.Fatalf("%s: %+v", next, s)
			}
			got, next = append(got, s.ids()...), s.link("next")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", target, got)
		}
	}
	first := w.search(all, "/fhir/Patient?_count=2")
	w.load(`{"resourceType":"Patient","id":"abe"}` + "\n" + `{"resourceType":"Patient","id":"eve"}`)
	rest := w.search(all, first.link("next"))
	again := w.search(all, rest.link("first"))
	if !slices.Equal(rest.ids(), []string{"cid", "dot"}) || *rest.Total != 6 ||
		!slices.Equal(again.ids(), []string{"abe", "ann"}) {
		t.Errorf("after an import %v of %d, again %v", rest.ids(), *rest.Total, again.ids())
	}
}

// BULK-8: a patient's application finds only its own patient, whatever it requests.
func TestBULK8APatientsApplicationFindsItsOwnAlone(t *testing.T) {
	t.Parallel()
	w := startOnPatients(t)
	ann := w.patient("ann")
	for query, found := range map[string]bool{
		"": true, "?identifier=1": true, "?name=ann": true, "?_id=ann,bob": true,
		"?birthdate=1970": true, "?_count=10": true,
		"?identifier=2": false, "?name=bob": false, "?_id=bob": false, "?_id=ann&_id=bob": false,
		"?birthdate=ge1975": false, "?_cursor=YW5u": false,
	} {
		s := w.search(ann, "/fhir/Patient"+query)
		if found != slices.Equal(s.ids(), []string{"ann"}) ||
			!found && (len(s.Entry) > 0 || *s.Total > 0 && !strings.Contains(query, "cursor")) {
			t.Errorf("%s: %v of %d", query, s.ids(), *s.Total)
		}
	}
	w.wantOutcome(w.do(ann, "POST", "/fhir/Group/_search"), 403, "scope")
}

// BULK-9: the CapabilityStatement and the OpenAPI document list the search parameters that work.
func TestBULK9SearchParametersAreListedAsTheyWork(t *testing.T) {
	t.Parallel()
	w := startOnPatients(t)
	all := w.service("system/*.rs")
	var statement struct {
		Rest []struct {
			Resource []struct {
				Type        string
				SearchParam []struct{ Name, Type string }
			}
		}
	}
	if err := json.Unmarshal(w.do(w.open, "GET", "/fhir/metadata").Body, &statement); err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, o := range openapi.Operations() {
		for _, name := range o.Query {
			documented[o.String()+"?"+name] = true
		}
	}
	values := map[string]string{"token": "1", "string": "ann", "date": "1970"}
	listed := 0
	for _, r := range statement.Rest[0].Resource {
		for _, p := range r.SearchParam {
			listed++
			a := w.do(all, "GET", "/fhir/"+r.Type+"?"+p.Name+"="+values[p.Type], "Prefer",
				"handling=strict")
			if a.Status != 200 || !strings.Contains(string(a.Body), p.Name+"=") {
				t.Errorf("%s %s: %d %s", r.Type, p.Name, a.Status, a.Body)
			}
			if !documented["GET /fhir/"+r.Type+"?"+p.Name] {
				t.Errorf("%s %s is not in the OpenAPI document", r.Type, p.Name)
			}
		}
	}
	if listed != 8 {
		t.Errorf("%d search parameters", listed)
	}
}
