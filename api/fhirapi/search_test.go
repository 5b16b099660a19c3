package fhirapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/openapi"
	"ehi-server/shared/fhir"
)

// asked are names of search parameters that R4 has for Patient, Group or every type, and some
// that it does not have.
var asked = strings.Fields(
	`_id _lastUpdated _tag _profile _security _source _text _content _list _has _type _query _filter
	active address address-city address-country address-postalcode address-state address-use birthdate death-date
	deceased email family gender general-practitioner given identifier language link name organization phone
	phonetic telecom actual characteristic characteristic-value code exclude managing-entity member type value
	nonsense BirthDate`)

// valid is a value for each type of parameter.
var valid = map[string]string{"token": "a|b", "date": "2020-01-01", "string": "text"}

// BULK-8: the CapabilityStatement and the OpenAPI document list exactly the search parameters
// that work, each as defined in R4.
func TestBULK8TheSearchParametersThatAreListedAreThoseThatWork(t *testing.T) {
	app := fiber.New()
	app.Get("/fhir/metadata", new(Handlers).handleCapabilities)
	var statement struct {
		Rest []struct {
			Resource []struct {
				Type        string
				SearchParam []struct{ Name, Type string }
			}
		}
	}
	answer, err := app.Test(httptest.NewRequest("GET", "/fhir/metadata", nil), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() // in memory
	if err := json.NewDecoder(answer.Body).Decode(&statement); err != nil {
		t.Fatal(err)
	}
	for _, r := range statement.Rest[0].Resource {
		if r.Type != "Patient" && r.Type != "Group" {
			if len(r.SearchParam) > 0 {
				t.Errorf("%s lists search parameters", r.Type)
			}
			continue
		}
		listed := map[string]bool{}
		for _, p := range r.SearchParam {
			listed[p.Name] = true
			if _, ok := fhir.FindSearchParameter(r.Type, p.Name); !ok || valid[p.Type] == "" {
				t.Errorf("%s lists %s of type %q", r.Type, p.Name, p.Type)
			}
			if !slices.Contains(asked, p.Name) {
				t.Errorf("the parameter %s of %s is not compared", p.Name, r.Type)
			}
			_, err := parseSearch(r.Type, []fhir.Parameter{{Name: p.Name, Value: valid[p.Type]}},
				true)
			if err != nil {
				t.Errorf("%s lists %s: %v", r.Type, p.Name, err)
			}
		}
		documented := map[string]bool{}
		for _, o := range openapi.Operations() {
			for _, name := range o.Query {
				documented[name] = documented[name] || o.String() == "GET /fhir/"+r.Type
			}
		}
		for _, name := range asked {
			_, err := parseSearch(r.Type, []fhir.Parameter{{Name: name, Value: "2020-01-01"}}, true)
			if works := err == nil; works != listed[name] || works != documented[name] {
				t.Errorf("%s of %s works: %v; is listed: %v; is documented: %v", name, r.Type,
					works, listed[name], documented[name])
			}
		}
	}
}

// BULK-8: a search applies exactly what its self link says.
func TestBULK8SearchesApplyWhatTheirSelfLinkSays(t *testing.T) {
	l := newLibrary(t)
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
			l.read = nil
			s := l.search(base + "/Patient" + c.query)
			self, err := url.QueryUnescape(s.link("self"))
			if err != nil || self != base+"/Patient"+c.self || !slices.Equal(s.ids(), c.want) ||
				*s.Total != len(c.want) || s.link("next") != "" {
				t.Errorf("%s: found %v, self %s, total %v", c.query, s.ids(), self, *s.Total)
			}
			if !slices.Equal(l.read, c.want) {
				t.Errorf("%s: the trail says that %v were read", c.query, l.read)
			}
		}
		if a := l.ask("HEAD", "/fhir/Patient"+c.query, ""); a.StatusCode() != http.StatusOK {
			t.Errorf("HEAD %s: %d", c.query, a.StatusCode())
		}
		a := l.ask("POST", "/fhir/Patient/_search", strings.TrimPrefix(c.query, "?"),
			"Content-Type", fiber.MIMEApplicationForm)
		var s searchset
		if err := json.Unmarshal(a.Body(), &s); err != nil || !slices.Equal(s.ids(), c.want) {
			t.Errorf("POST %s: %s, %v", c.query, a.Body(), err)
		}
	}
	if s := l.search("/fhir/Patient?_summary=count"); *s.Total != 4 || s.Entry != nil {
		t.Errorf("counted %+v", s)
	}
	s := l.search("/fhir/Group?identifier=urn:roster|a")
	if !slices.Equal(s.ids(), []string{"g1"}) || *s.Total != 1 {
		t.Errorf("groups %+v", s)
	}
}

// BULK-8: a search is refused if it cannot be applied as requested. With Prefer: handling=strict
// it is also refused if a parameter would be ignored.
func TestBULK8SearchesThatCannotBeAppliedAreRefused(t *testing.T) {
	l := newLibrary(t)
	for query, status := range map[string]int{
		"?address=x":                     400,
		"?_sort=name":                    400,
		"?name=":                         400,
		"?_summary=text":                 400,
		"?name=ann&_count=5&_total=none": 200,
		"?_id=ann":                       200,
		"":                               200,
	} {
		a := l.ask("GET", "/fhir/Patient"+query, "", "Prefer", "handling=strict")
		if a.StatusCode() != status {
			t.Errorf("strictly %s: %d %s", query, a.StatusCode(), a.Body())
		}
	}
	for _, query := range []string{
		"?name:exact=Ann", "?name:contains=n", "?_id:not=ann", "?birthdate=soon",
		"?birthdate=ap1970", "?_count=-1", "?_count=many", "?_cursor=%25", "?identifier=|",
		"?_format=xml",
	} {
		if a := l.ask("GET", "/fhir/Patient"+query, ""); a.StatusCode() != 400 {
			t.Errorf("%s: %d %s", query, a.StatusCode(), a.Body())
		}
	}
}

// BULK-8: the next links lead through the pages with each patient once, whatever is imported
// meanwhile.
func TestBULK8SearchesComeInPages(t *testing.T) {
	l := newLibrary(t)
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
			s := l.search(next)
			if len(s.Entry) == 0 || *s.Total != len(want) {
				t.Fatalf("%s: %+v", next, s)
			}
			got, next = append(got, s.ids()...), s.link("next")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", target, got)
		}
	}
	first := l.search("/fhir/Patient?_count=2")
	l.load(`{"resourceType":"Patient","id":"abe"}`, `{"resourceType":"Patient","id":"eve"}`)
	rest := l.search(first.link("next"))
	again := l.search(rest.link("first"))
	if !slices.Equal(rest.ids(), []string{"cid", "dot"}) || *rest.Total != 6 ||
		!slices.Equal(again.ids(), []string{"abe", "ann"}) {
		t.Errorf("after an import %v of %d, again %v", rest.ids(), *rest.Total, again.ids())
	}
}

// BULK-8: a patient's application finds only its own patient, whatever it requests.
func TestBULK8APatientsApplicationFindsItsOwnAlone(t *testing.T) {
	l := newLibrary(t)
	l.access.Patient = "ann"
	for query, found := range map[string]bool{
		"": true, "?identifier=1": true, "?name=ann": true, "?_id=ann,bob": true,
		"?birthdate=1970": true, "?_count=10": true,
		"?identifier=2": false, "?name=bob": false, "?_id=bob": false, "?_id=ann&_id=bob": false,
		"?birthdate=ge1975": false, "?_cursor=YW5u": false,
	} {
		s := l.search("/fhir/Patient" + query)
		if found != slices.Equal(s.ids(), []string{"ann"}) ||
			!found && (len(s.Entry) > 0 || *s.Total > 0 && !strings.Contains(query, "cursor")) {
			t.Errorf("%s: %v of %d", query, s.ids(), *s.Total)
		}
	}
}

// BULK-9: each search parameter that the CapabilityStatement lists is applied, and is in the
// OpenAPI document.
func TestBULK9SearchParametersAreListedAsTheyWork(t *testing.T) {
	l := newLibrary(t)
	var statement struct {
		Rest []struct {
			Resource []struct {
				Type        string
				SearchParam []struct{ Name, Type string }
			}
		}
	}
	if err := json.Unmarshal(l.ask("GET", "/fhir/metadata", "").Body(), &statement); err != nil {
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
			path := "/fhir/" + r.Type + "?" + p.Name
			a := l.ask("GET", path+"="+values[p.Type], "", "Prefer", "handling=strict")
			if a.StatusCode() != http.StatusOK ||
				!strings.Contains(string(a.Body()), p.Name+"=") {
				t.Errorf("%s: %d %s", path, a.StatusCode(), a.Body())
			}
			if !documented["GET "+path] {
				t.Errorf("%s is not in the OpenAPI document", path)
			}
		}
	}
	if listed != 8 {
		t.Errorf("%d search parameters", listed)
	}
}
