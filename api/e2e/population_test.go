package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// theGroup is the Group of the real records. The records include ten of its members.
const theGroup = "d9f31445-f448-48c0-af57-295c005e07df"

// service returns a backend service with the given scopes.
func (w *world) service(scope string) *client.Client {
	w.t.Helper()
	c, err := w.open.Service(w.t.Context(), "test_client_secret", scope)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// bulk runs one population export and returns its resources by key, and the manifest.
func (w *world) bulk(
	c *client.Client, method, target string, body []byte, header ...string,
) (map[string]records.Resource, *ehi.Manifest) {
	w.t.Helper()
	j, err := c.Start(w.t.Context(), method, target, body, header...)
	if err != nil {
		w.t.Fatal(err)
	}
	m := w.manifest(c, j)
	out, _ := w.download(c, m)
	if err := c.Delete(w.t.Context(), j.StatusURL); err != nil {
		w.t.Fatal(err)
	}
	return out, m
}

// real is the oracle: the contents of the real records' files by key, and their patient ("" if
// shared).
type real struct {
	all   map[string]records.Resource
	owner map[string]string
}

func newReal(t *testing.T) real {
	t.Helper()
	o := real{map[string]records.Resource{}, map[string]string{}}
	bundles := records.Bundles(t, records.Dir(t))
	names := map[string]string{}
	for _, b := range bundles {
		maps.Copy(names, b.Names)
	}
	for _, b := range bundles {
		b.Names = names
		b.Rewrite()
		for _, r := range b.Resources {
			key := records.Key(r)
			o.all[key] = r
			switch r["resourceType"] {
			case "Organization", "Practitioner", "Location", "Medication", "Group":
				o.owner[key] = ""
			default:
				o.owner[key] = b.Patient
			}
		}
	}
	return o
}

// keys returns the keys of the resources that keep accepts.
func (o real) keys(keep func(key string, r records.Resource) bool) []string {
	var out []string
	for key, r := range o.all {
		if keep(key, r) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func sortedKeys(m map[string]records.Resource) []string { return slices.Sorted(maps.Keys(m)) }

// reachable returns the shared resources to which the given resources refer, directly or through
// others.
func (o real) reachable(from []string) []string {
	seen := map[string]bool{}
	var visit func(key string)
	visit = func(key string) {
		records.References(o.all[key], func(ref string) string {
			if o.all[ref] != nil && o.owner[ref] == "" && !seen[ref] &&
				!strings.HasPrefix(ref, "Group/") {
				seen[ref] = true
				visit(ref)
			}
			return ref
		})
	}
	for _, key := range from {
		visit(key)
	}
	return slices.Collect(maps.Keys(seen))
}

// BULK-1, REAL-15: each population export has exactly the right resources, each once and with
// the values of its source, in several tasks and many files.
func TestBULK1PopulationsAreExportedWhole(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	o := newReal(t)
	c := w.service("system/*.rs system/$ehi-export")
	noGroups := o.keys(func(string, records.Resource) bool { return true })
	// a separate document, not an entry of a bundle
	everything := append([]string{"Group/" + theGroup}, noGroups...)
	slices.Sort(everything)
	owned := o.keys(func(key string, _ records.Resource) bool { return o.owner[key] != "" })
	group := append(append(o.reachable(owned), owned...), "Group/"+theGroup)
	slices.Sort(group)
	for _, x := range []struct {
		method, target string
		want           []string
	}{
		{"GET", "/fhir/$export", everything},
		{"POST", "/fhir/$export", everything},
		{"GET", "/fhir/%24export", everything},
		{"GET", "/fhir/Patient/$export", noGroups},
		{"POST", "/fhir/Patient/$export", noGroups},
		{"GET", "/fhir/Group/" + theGroup + "/$export", group},
		{"POST", "/auto-approve/fhir/$ehi-export", everything},
		{"POST", "/auto-approve/fhir/Group/" + theGroup + "/$ehi-export", group},
	} {
		t.Run(x.method+" "+x.target, func(t *testing.T) {
			w.t = t
			got, m := w.bulk(c, x.method, x.target, nil)
			if d := cmp.Diff(x.want, sortedKeys(got)); d != "" {
				t.Fatal(d)
			}
			for key, r := range got {
				if !strings.HasPrefix(key, "Group/") && !reflect.DeepEqual(o.all[key], r) {
					t.Errorf("%s differs:\n%s", key, cmp.Diff(o.all[key], r))
				}
				records.References(r, func(ref string) string {
					if got[ref] == nil && !strings.HasPrefix(ref, "#") &&
						!strings.HasPrefix(ref, "http") {
						t.Errorf("%s refers to %s, which is not there", key, ref)
					}
					return ref
				})
			}
			if len(m.Output) < 25 || len(m.Error) != 0 || m.Request != w.open.Base+x.target {
				t.Errorf("%d files, errors %v, request %q", len(m.Output), m.Error, m.Request)
			}
		})
	}
}

// codes returns the codes of a CodeableConcept or a list of them.
func codes(v any) (out []string) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, concept := range list {
		m, _ := concept.(map[string]any)
		coding, _ := m["coding"].([]any)
		for _, x := range coding {
			out = append(out, x.(map[string]any)["code"].(string))
		}
	}
	return out
}

// at returns the time of a FHIR dateTime in the real records, which are all complete.
func at(t *testing.T, v any) time.Time {
	t.Helper()
	s, _ := v.(string)
	if s == "" {
		return time.Time{}
	}
	when, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// BULK-1: each parameter, compared with the oracle.
func TestBULK1ParametersNarrowAPopulation(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	o := newReal(t)
	c := w.service("system/*.rs")
	of := func(typ string) func(string, records.Resource) bool {
		return func(_ string, r records.Resource) bool { return r["resourceType"] == typ }
	}
	y2015 := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	y2017 := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, x := range map[string]struct {
		query string
		want  []string
	}{
		"_type": {
			"_type=Patient,Condition",
			o.keys(func(k string, r records.Resource) bool {
				return of("Patient")(k, r) || of("Condition")(k, r)
			}),
		},
		"_type repeated": {
			"_type=Patient&_type=Claim",
			o.keys(func(k string, r records.Resource) bool {
				return of("Patient")(k, r) || of("Claim")(k, r)
			}),
		},
		"_since the future": {
			"_since=" + url.QueryEscape(time.Now().Add(time.Hour).UTC().Format(time.RFC3339)),
			nil,
		},
		"_since the past": {"_type=Claim&_since=2001-01-01T00:00:00Z", o.keys(of("Claim"))},
		"_until the past": {"_until=2001-01-01T00:00:00Z", nil},
		"category of Observation": {
			"_type=Observation&_typeFilter=" + url.QueryEscape("Observation?category=laboratory"),
			o.keys(func(k string, r records.Resource) bool {
				return of("Observation")(k, r) &&
					slices.Contains(codes(r["category"]), "laboratory")
			}),
		},
		"two categories": {
			"_type=Observation&_typeFilter=" +
				url.QueryEscape("Observation?category=laboratory,vital-signs"),
			o.keys(func(k string, r records.Resource) bool {
				return of("Observation")(k, r) &&
					(slices.Contains(codes(r["category"]), "laboratory") ||
						slices.Contains(codes(r["category"]), "vital-signs"))
			}),
		},
		"date of Observation": {
			"_type=Observation&_typeFilter=" +
				url.QueryEscape("Observation?date=ge2015&date=lt2017"),
			o.keys(func(k string, r records.Resource) bool {
				when := at(t, r["effectiveDateTime"])
				return of("Observation")(k, r) && !when.Before(y2015) && when.Before(y2017)
			}),
		},
		"date of Encounter, and all Patients": {
			"_type=Encounter,Patient&_typeFilter=" + url.QueryEscape("Encounter?date=sa2014"),
			o.keys(func(k string, r records.Resource) bool {
				if of("Patient")(k, r) {
					return true
				}
				period, _ := r["period"].(map[string]any)
				return of("Encounter")(k, r) && !at(t, period["start"]).Before(y2015)
			}),
		},
		"date of Condition, or category of Observation": {
			"_type=Condition,Observation&_typeFilter=" +
				url.QueryEscape("Condition?onset-date=lt2015,"+
					"Observation?category=http://terminology.hl7.org/CodeSystem/observation-category|survey"),
			o.keys(func(k string, r records.Resource) bool {
				return of("Condition")(k, r) && at(t, r["onsetDateTime"]).Before(y2015) ||
					of("Observation")(k, r) && slices.Contains(codes(r["category"]), "survey")
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			for _, target := range []string{"/fhir/$export?", "/fhir/Patient/$export?"} {
				got, _ := w.bulk(c, "GET", target+x.query, nil)
				if d := cmp.Diff(x.want, sortedKeys(got)); d != "" {
					t.Errorf("%s:\n%s", target, d)
				}
			}
		})
	}
}

// BULK-1: patient limits the export to some patients and what they refer to.
func TestBULK1PatientParameter(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	o := newReal(t)
	c := w.service("system/*.rs")
	owned := o.keys(func(key string, _ records.Resource) bool { return o.owner[key] == alfredo })
	want := append(o.reachable(owned), owned...)
	slices.Sort(want)
	body := []byte(`{"resourceType":"Parameters","parameter":[{"name":"patient",` +
		`"valueReference":{"reference":"Patient/` + alfredo + `"}},
		{"name":"patient","valueReference":{"reference":"Patient/nobody"}}]}`)
	got, _ := w.bulk(c, "POST", "/fhir/Patient/$export", body)
	if d := cmp.Diff(want, sortedKeys(got)); d != "" {
		t.Error(d)
	}
	got, _ = w.bulk(c, "POST", "/fhir/Group/"+theGroup+"/$export", body)
	if d := cmp.Diff(len(want)+1, len(got)); d != "" { // and the Group, which names no other member
		t.Error(d)
	}
	text, _ := json.Marshal(got["Group/"+theGroup])
	if strings.Count(string(text), `"Patient/`) != 1 {
		t.Errorf("the group is %s", text)
	}
}

// BULK-1: _elements keeps the requested and the mandatory elements, and marks the resources.
func TestBULK1Elements(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	o := newReal(t)
	c := w.service("system/*.rs")
	got, _ := w.bulk(c, "GET",
		"/fhir/$export?_type=Patient,Observation,Claim&_elements=birthDate,Observation.value", nil)
	kept := map[string][]string{
		"Patient":     {"birthDate", "id", "meta", "resourceType"},
		"Observation": {"birthDate", "code", "id", "meta", "resourceType", "status", "value"},
		"Claim": {
			"birthDate", "created", "id", "insurance", "meta", "patient", "priority", "provider",
			"resourceType", "status", "type", "use",
		},
	}
	n := 0
	for key, source := range o.all {
		typ := source["resourceType"].(string)
		if kept[typ] == nil {
			continue
		}
		n++
		want := map[string]any{"meta": map[string]any{}}
		for name, v := range source {
			if slices.Contains(kept[typ], name) ||
				typ == "Observation" && strings.HasPrefix(name, "value") {
				want[name] = v
			}
		}
		meta := maps.Clone(want["meta"].(map[string]any))
		tags, _ := meta["tag"].([]any)
		meta["tag"] = append([]any{map[string]any{
			"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
			"code":   "SUBSETTED",
		}}, tags...)
		want["meta"] = meta
		if d := cmp.Diff(want, got[key]); d != "" {
			t.Fatalf("%s:\n%s", key, d)
		}
	}
	if n != len(got) || n < 1000 {
		t.Errorf("%d resources, %d expected", len(got), n)
	}
}

// BULK-1: organizeOutputBy=Patient produces blocks with a header, the Patient and the whole
// record. Headers are not resources, so no count includes them.
func TestBULK1OrganizedByPatient(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	o := newReal(t)
	c := w.service("system/*.rs")
	j, err := c.Start(t.Context(), "GET", "/fhir/Patient/$export?organizeOutputBy=Patient", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := w.manifest(c, j)
	if m.OutputOrganizedBy != "Patient" {
		t.Errorf("organized by %q", m.OutputOrganizedBy)
	}
	blocks := map[string][]string{}
	listed := int64(0)
	for _, e := range m.Output {
		listed += e.Count
		data, err := c.Download(t.Context(), e.URL)
		if err != nil {
			t.Fatal(err)
		}
		headers := bytes.Count(data, []byte(`"name":"header"`))
		n := bytes.Count(data, []byte("\n"))
		if e.Type != "" || headers == 0 || int64(n-headers) != e.Count {
			t.Errorf("%+v has %d lines, %d of them headers", e, n, headers)
		}
		patient := ""
		for line := range strings.Lines(string(data)) {
			var r records.Resource
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r["resourceType"] == "Parameters" {
				p := r["parameter"].([]any)[0].(map[string]any)
				patient = strings.TrimPrefix(
					p["valueReference"].(map[string]any)["reference"].(string), "Patient/")
				if p["name"] != "header" || blocks[patient] != nil {
					t.Errorf("header %v", r)
				}
				continue
			}
			blocks[patient] = append(blocks[patient], records.Key(r))
		}
	}
	for patient, got := range blocks {
		if got[0] != "Patient/"+patient {
			t.Errorf("the block of %s begins with %s", patient, got[0])
		}
		owned := o.keys(func(key string, _ records.Resource) bool {
			return o.owner[key] == patient
		})
		want := append(o.reachable(owned), owned...)
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("block of %s:\n%s", patient, d)
		}
	}
	if len(blocks) != 10 {
		t.Errorf("%d blocks", len(blocks))
	}
	job, err := w.admin.Job(t.Context(), j.ID)
	if err != nil || job.Counts[""] != listed {
		t.Errorf("the job counts %v, the manifest %d, %v", job.Counts, listed, err)
	}
	w.want(w.do(c, "GET", "/jobs/"+j.ID+"/metadata"), 200, fmt.Sprintf(`"counts":{"":%d}`, listed))
	// A block with no resources left has no header either.
	j, err = c.Start(t.Context(), "GET",
		"/fhir/Patient/$export?organizeOutputBy=Patient&_type=Observation&_typeFilter=Observation%3Fdate%3Dgt2100-01-01",
		nil)
	if err != nil {
		t.Fatal(err)
	}
	if m = w.manifest(c, j); len(m.Output) != 0 {
		t.Errorf("files of headers alone: %+v", m.Output)
	}
}

// BULK-3: files are split at their limit, and so is the manifest if the client allows pages.
func TestBULK3FilesAndManifestsAreSplit(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	importRecords(t, data)
	cfg := config()
	cfg.Limits.FileResources, cfg.FHIR.PageTasks = 50, 2
	w := start(t, data, cfg, node.Options{})
	c := w.service("system/*.rs")
	whole, m := w.bulk(c, "GET", "/fhir/$export", nil)
	for _, e := range m.Output {
		if e.Count > 50 {
			t.Errorf("%s has %d lines", e.URL, e.Count)
		}
	}
	if len(m.Link) != 0 {
		t.Errorf("pages for a client that did not allow them: %v", m.Link)
	}
	j, err := c.Start(t.Context(), "GET", "/fhir/$export?allowPartialManifests=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, pages := map[string]records.Resource{}, 0
	for target := j.StatusURL; target != ""; pages++ {
		m := w.manifest(c, client.Job{ID: j.ID, StatusURL: target})
		part, _ := w.download(c, m)
		for key, r := range part {
			if got[key] != nil {
				t.Errorf("%s on two pages", key)
			}
			got[key] = r
		}
		target = ""
		if len(m.Link) == 1 && m.Link[0].Relation == "next" {
			target = m.Link[0].URL
		}
	}
	if pages < 3 || cmp.Diff(sortedKeys(whole), sortedKeys(got)) != "" {
		t.Errorf("%d pages with %d of %d resources", pages, len(got), len(whole))
	}
	a, err := c.Do(t.Context(), "GET", j.StatusURL+"?page=99", nil)
	if err != nil || a.Status != http.StatusNotFound {
		t.Errorf("a page that is not there: %d, %v", a.Status, err)
	}
}

// finished waits for the final response of a status whose responses are all 200.
func (w *world) finished(c *client.Client, j client.Job) *client.Answer {
	w.t.Helper()
	var last *client.Answer
	await(w.t, "the last answer", func() bool {
		a, err := c.Do(w.t.Context(), "GET", j.StatusURL, nil)
		if err != nil || a.Status != 200 {
			w.t.Fatalf("status %+v, %v", a, err)
		}
		last = a
		return a.Header.Get("X-Export-Status") != "202 Accepted"
	})
	return last
}

// BULK-7: the form of the ballot has its own name.
func TestBULK7Version4Ballot(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	c := w.service("system/*.rs")
	if a, err := c.Do(t.Context(), "GET", "/fhir/$export-v4", nil); err != nil ||
		a.Status != http.StatusNotFound && a.Status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d, %v", a.Status, err)
	}
	j, err := c.Start(t.Context(), "POST", "/fhir/$export-v4?_type=Patient", nil, "Prefer",
		"respond-async, separate-export-status")
	if err != nil {
		t.Fatal(err)
	}
	a := w.finished(c, j)
	if err != nil || a.Status != 200 || a.Header.Get("X-Export-Status") != "200 OK" {
		t.Fatalf("status %d %v, %v", a.Status, a.Header, err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(a.Body, &m); err != nil {
		t.Fatal(err)
	}
	if m["request"] != nil || m["error"] != nil || string(m["outcome"]) != "[]" ||
		m["extension"][0] != '[' || m["output"] == nil {
		t.Errorf("manifest %s", a.Body)
	}
}

// SMART-7, BULK-1: who may export a population, and which parts of it.
func TestBULK1PopulationsAreForBackendServicesOnly(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	all := w.service("system/*.rs")
	j, err := all.Start(t.Context(), "GET", "/fhir/$export", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.wait(j.ID, ehi.Approved)
	patient := w.patient(w.demoPatient())
	typed := w.service("system/Patient.rs system/Claim.read")
	exporter := w.service("system/$ehi-export")
	for name, x := range map[string]struct {
		c              *client.Client
		method, target string
		want           int
	}{
		"nobody":                      {w.open, "GET", "/fhir/$export", 401},
		"nobody, EHI":                 {w.open, "POST", "/fhir/$ehi-export", 401},
		"a patient":                   {patient, "GET", "/fhir/$export", 403},
		"a patient, EHI":              {patient, "POST", "/fhir/$ehi-export", 403},
		"a patient, groups":           {patient, "GET", "/fhir/Group", 403},
		"a patient, the job's status": {patient, "GET", j.StatusURL, 404},
		"a patient, the job's file": {
			patient,
			"GET",
			"/jobs/" + j.ID + "/download/Patient.0.0.ndjson",
			404,
		},
		"a patient, deletion":                 {patient, "DELETE", j.StatusURL, 404},
		"EHI by a service without that scope": {all, "POST", "/fhir/$ehi-export", 403},
		"bulk by a service with EHI alone":    {exporter, "GET", "/fhir/$export", 403},
		"a service of some types, others": {
			typed, "GET", "/fhir/$export?_type=Observation", 403,
		},
		"an unknown group": {all, "GET", "/fhir/Group/nobody/$export", 404},
		"patient by GET": {
			all,
			"GET",
			"/fhir/Patient/$export?patient=Patient/1",
			400,
		},
		"patient of the system": {
			all, "POST", "/fhir/$export?patient=Patient/1", 400,
		},
		"a type that is none": {all, "GET", "/fhir/$export?_type=Nope", 400},
		"a format that is none": {
			all,
			"GET",
			"/fhir/$export?_outputFormat=text/csv",
			400,
		},
		"a search that is not supported": {
			all,
			"GET",
			"/fhir/$export?_typeFilter=" + url.QueryEscape("Observation?value-quantity=5"),
			400,
		},
		"a search for a type that is left out": {
			all,
			"GET",
			"/fhir/$export?_type=Patient&_typeFilter=" + url.QueryEscape("Observation?category=x"),
			400,
		},
		"an unknown parameter": {all, "GET", "/fhir/$export?what=ever", 400},
		"organized by something else": {
			all,
			"GET",
			"/fhir/$export?organizeOutputBy=Encounter",
			400,
		},
		"a form's parameter": {all, "GET", "/fhir/$export?category=labs", 400},
	} {
		a, err := x.c.Do(t.Context(), x.method, x.target, nil)
		if err != nil || a.Status != x.want ||
			!strings.Contains(string(a.Body), "OperationOutcome") {
			t.Errorf("%s: %d %s, %v", name, a.Status, a.Body, err)
		}
	}
	got, _ := w.bulk(typed, "GET", "/fhir/$export", nil)
	types := map[any]int{}
	for _, r := range got {
		types[r["resourceType"]]++
	}
	if len(types) != 2 || types["Patient"] != 5 || types["Claim"] == 0 {
		t.Errorf("a service of some types got %v", types)
	}
	lenient, m := w.bulk(all, "GET",
		"/fhir/$export?_type=Patient&what=ever&_typeFilter="+
			url.QueryEscape("Patient?name:exact=x"), nil, "Prefer",
		"respond-async, handling=lenient")
	if len(lenient) != 5 || len(m.Error) != 1 || m.Error[0].Count != 2 {
		t.Errorf("lenient: %d resources, errors %v", len(lenient), m.Error)
	}
}

// BULK-8: a group can be read, and its export has its name.
func TestBULK8Groups(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	c := w.service("system/*.rs")
	var g records.Resource
	a, err := c.Do(t.Context(), "GET", "/fhir/Group/"+theGroup, nil)
	if err != nil || a.Status != 200 || json.Unmarshal(a.Body, &g) != nil ||
		g["name"] != "Synthea Patients" {
		t.Errorf("Group: %d %s, %v", a.Status, a.Body, err)
	}
	var bundle struct {
		Total int `json:"total"`
		Entry []struct {
			Resource records.Resource `json:"resource"`
		} `json:"entry"`
	}
	for query, want := range map[string]int{"": 1, "?_id=" + theGroup: 1, "?_id=nobody": 0} {
		a, err = c.Do(t.Context(), "GET", "/fhir/Group"+query, nil)
		if err != nil || a.Status != 200 || json.Unmarshal(a.Body, &bundle) != nil ||
			bundle.Total != want {
			t.Errorf("Group%s: %d %s, %v", query, a.Status, a.Body, err)
		}
	}
	a, err = c.Do(t.Context(), "GET", "/fhir/Patient?_id="+alfredo+",nobody", nil)
	if err != nil || json.Unmarshal(a.Body, &bundle) != nil || bundle.Total != 1 ||
		bundle.Entry[0].Resource["id"] != alfredo {
		t.Errorf("Patient: %d %s, %v", a.Status, a.Body, err)
	}
}

// BULK-4: the number of a client's running exports is limited; deleted ones do not count
// (REAL-6).
func TestBULK4RunningExportsOfAClientAreLimited(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Jobs.ClientBulkJobs, cfg.Worker.Workers, cfg.Worker.BulkWorkers = 3, 0, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	c := w.service("system/*.rs")
	var last client.Job
	for range 3 {
		var err error
		if last, err = c.Start(t.Context(), "GET", "/fhir/$export", nil); err != nil {
			t.Fatal(err)
		}
	}
	a, err := c.Do(t.Context(), "GET", "/fhir/$export", nil)
	if err != nil || a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" ||
		!strings.Contains(string(a.Body), `"throttled"`) {
		t.Errorf("the fourth: %d %v %s, %v", a.Status, a.Header, a.Body, err)
	}
	for range 3 {
		if err := c.Delete(t.Context(), last.StatusURL); err != nil {
			t.Fatal(err)
		}
		if last, err = c.Start(t.Context(), "GET", "/fhir/$export", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// BULK-4, REAL-1: a poll that comes too early is refused; a client that keeps the pace is never
// refused.
func TestBULK4PollsAreHeldToAPace(t *testing.T) {
	cfg := config()
	cfg.FHIR.PollBurst, cfg.Worker.Workers = 5, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	c := w.patient(p)
	j := w.kickOff(c, "/no-form", p, nil)
	seen := map[int]int{}
	for range 12 {
		a, err := c.Do(t.Context(), "GET", j.StatusURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		seen[a.Status]++
		if a.Status == 429 &&
			(a.Header.Get("Retry-After") == "" ||
				!strings.Contains(string(a.Body), `"throttled"`)) {
			t.Errorf("refused by %v %s", a.Header, a.Body)
		}
	}
	if seen[202] < 5 || seen[202] > 7 || seen[202]+seen[429] != 12 {
		t.Errorf("answers %v", seen)
	}
}

// The progress of a population counts its parts.
func TestEHI4PopulationProgress(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Worker.Workers, cfg.Worker.BulkWorkers = 0, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	c := w.service("system/*.rs")
	j, err := c.Start(t.Context(), "GET", "/fhir/$export", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(t.Context(), "GET", j.StatusURL, nil)
	if err != nil || a.Status != 202 ||
		a.Header.Get("X-Progress") != "requested: the export is queued, 0% done" ||
		a.Header.Get("Retry-After") != "1" {
		t.Errorf("queued: %d %v, %v", a.Status, a.Header, err)
	}
	_, err = w.node.Bus.Jobs.Update(t.Context(), j.ID, func(j *ehi.Job) error {
		if err := j.Plan(4, 1000, time.Now(), ehi.Records{}); err != nil {
			return err
		}
		return j.Complete(ehi.Task{Number: 2, Files: []ehi.File{{Type: "Patient", Count: 7}}},
			time.Now(), time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err = c.Do(t.Context(), "GET", j.StatusURL, nil)
	want := fmt.Sprintf("requested: 25%% done, 1 of 4 parts, %d resources", 7)
	if err != nil || a.Header.Get("X-Progress") != want {
		t.Errorf("running: %v, %v", a.Header, err)
	}
	// SMART-7: a token for one type does not get the number of resources of all types.
	a, err = w.service("system/Condition.rs").Do(t.Context(), "GET", j.StatusURL, nil)
	if want := "requested: 25% done, 1 of 4 parts"; err != nil ||
		a.Header.Get("X-Progress") != want {
		t.Errorf("running, for a narrow token: %v, %v", a.Header, err)
	}
}
