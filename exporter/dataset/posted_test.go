package dataset_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
)

// created returns an entry that asks a server to create a resource.
func created(fullURL, resource, more string) string {
	if fullURL != "" {
		fullURL = `"fullUrl":"` + fullURL + `",`
	}
	typ, _, _ := strings.Cut(strings.TrimPrefix(resource, `{"resourceType":"`), `"`)
	return `{` + fullURL + `"request":{"method":"POST","url":"` + typ + `"` + more +
		`},"resource":` + resource + `}`
}

const (
	urnA = "urn:uuid:aaaaaaaa-0000-4000-8000-000000000001"
	urnB = "urn:uuid:bbbbbbbb-0000-4000-8000-000000000001"
)

// patientOf returns a Patient with an id.
func patientOf(id string) string { return `{"resourceType":"Patient","id":"` + id + `"}` }

// aboutPatient returns an entry with a Condition of the referenced patient.
func aboutPatient(reference string) string {
	return `{"request":{"method":"PUT","url":"Condition/c"},"resource":` +
		`{"resourceType":"Condition","id":"c","subject":{"reference":"` + reference + `"}}}`
}

// identified is a Patient that a search by urn:x|1 finds.
const identified = `{"resourceType":"Patient","id":"p","identifier":[{"system":"urn:x",` +
	`"value":"1"}]}`

// https://hl7.org/fhir/R4/http.html#create: a server ignores the id of a resource that it
// creates. So the same id in two Bundles does not mean the same person.
func TestIN1ResourcesThatAreCreatedDoNotMixByTheirIDs(t *testing.T) {
	for name, urls := range map[string][2]string{
		"called by UUIDs":         {urnA, urnB},
		"called by numbers":       {"urn:uuid:1", "urn:uuid:1"},
		"called by OIDs":          {"urn:oid:1.2.3", "urn:oid:1.2.4"},
		"called by nothing":       {"", ""},
		"called by what is no id": {"entry-1", "entry-1"},
		"called by their addresses": {
			"https://x.example.org/fhir/Patient/7",
			"https://x.example.org/fhir/Patient/8",
		},
		"called by other kinds' ids": {
			"https://x.example.org/fhir/Basic/7",
			"https://x.example.org/fhir/Basic/7",
		},
	} {
		for _, typ := range []string{"transaction", "batch"} {
			t.Run(name+"/"+typ, func(t *testing.T) {
				dir := t.TempDir()
				bundle := func(file, url, family string) string {
					return write(t, dir, file, requests(typ,
						created(url,
							`{"resourceType":"Patient","id":"1","name":[{"family":"`+family+`"}]}`,
							""),
						created("",
							`{"resourceType":"Condition","id":"1",`+
								`"subject":{"reference":"Patient/1"},`+
								`"code":{"text":"`+family+`"}}`, "")))
				}
				s := openStore(t, t.TempDir())
				load(t, s, bundle("1.json", urls[0], "Smith"), bundle("2.json", urls[1], "Jones"))
				again := load(t, s, bundle("3.json", urls[0], "Smith"))
				of := again.Renamed["Patient"]
				if of.Count != 1 || of.From != "1" || of.To == "" || of.To == "1" {
					t.Errorf("the report tells of renamed ones: %+v", again.Renamed)
				}
				patients, err := s.Patients(t.Context(), 10)
				if err != nil || len(patients) != 2 {
					t.Fatalf("patients: %v, %v", patients, err)
				}
				for _, p := range patients {
					out := export(t, s, p.ID)
					if len(out) != 2 ||
						!strings.Contains(fmt.Sprint(slices.Collect(maps.Values(out))),
							"text:"+p.Name) {
						t.Errorf("the record of %s is %v", p.Name, out)
					}
				}
			})
		}
	}
}

// An id that is also in the entry's name, or in the server's response, is kept.
func TestIN1ResourcesThatAreCreatedKeepIDsThatLast(t *testing.T) {
	id := strings.TrimPrefix(urnA, "urn:uuid:")
	for name, c := range map[string]struct{ bundle, want string }{
		"a UUID": {requests("transaction", created(urnA, patientOf(id), "")), id},
		"a UUID in capitals": {
			requests("batch", created(urnA, patientOf(strings.ToUpper(id)), "")),
			strings.ToUpper(id),
		},
		"of the search's resource, too": {requests("transaction",
			created(urnA, patientOf(id), `,"ifNoneExist":"identifier=urn:x|1"`)), id},
		"an address": {
			requests("transaction",
				created("https://x.example.org/fhir/Patient/7", patientOf("7"), "")), "7",
		},
		"a relative address": {requests("transaction",
			created("Patient/7", patientOf("7"), "")), "7"},
		"another web address": {
			requests("transaction", created("https://x.example.org/entries/7", patientOf("7"), "")),
			"7",
		},
		"in the request": {requests("batch",
			`{"request":{"method":"POST","url":"Patient/7"},"resource":`+patientOf("7")+`}`), "7"},
		"no method": {
			requests("batch", `{"request":{"url":"Patient"},"resource":`+patientOf("7")+`}`),
			"7",
		},
		"no request": {requests("transaction", `{"resource":`+patientOf("7")+`}`), "7"},
		"a search by id": {
			requests("transaction", created(urnA, patientOf("7"), `,"ifNoneExist":"_id=8"`)),
			"8",
		},
		"in the answer": {
			requests("transaction",
				`{"fullUrl":"`+urnA+`","request":{"method":"POST","url":"Patient"},`+
					`"response":{"status":"201","location":"Patient/9/_history/1"},"resource":`+
					patientOf("7")+`}`),
			"9",
		},
		"a history": {
			requests("history",
				`{"fullUrl":"`+urnA+`","request":{"method":"POST","url":"Patient"},`+
					`"response":{"status":"201"},"resource":`+patientOf("7")+`}`),
			"7",
		},
		"a history with the answer": {
			requests("history", `{"request":{"method":"POST","url":"Patient"},`+
				`"response":{"status":"201",`+
				`"location":"https://x.example.org/fhir/Patient/9/_history/1"},"resource":`+
				patientOf("7")+`}`),
			"9",
		},
		"a collection": {
			requests("collection", `{"fullUrl":"`+urnA+`","resource":`+patientOf("7")+`}`),
			"7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			load(t, s, write(t, t.TempDir(), "b.json", c.bundle))
			wantKeys(t, s, c.want, "Patient/"+c.want)
		})
	}
}

// Many Bundles refer to resources by the ids that they had before the request. Such a reference
// points to that resource, unless another entry keeps this id, or several had it.
func TestIN1ReferencesByAFormerIDLeadToWhatHadIt(t *testing.T) {
	a, b := strings.TrimPrefix(urnA, "urn:uuid:"), strings.TrimPrefix(urnB, "urn:uuid:")
	patient, condition := patientOf("1"), aboutPatient("Patient/1")
	real := `{"request":{"method":"PUT","url":"Patient/1"},"resource":` + patient + `}`
	for name, c := range map[string]struct {
		entries []string
		want    map[string][]string
	}{
		"one": {
			[]string{condition, created(urnA, patient, "")},
			map[string][]string{a: {"Condition/c"}},
		},
		"one for good": {
			[]string{condition, created(urnA, patient, ""), real},
			map[string][]string{a: nil, "1": {"Condition/c"}},
		},
		"several": {
			[]string{condition, created(urnA, patient, ""), created(urnB, patient, "")},
			map[string][]string{a: nil, b: nil},
		},
		"one of a search": {
			[]string{condition, created(urnA, patient, `,"ifNoneExist":"identifier=urn:x|1"`),
				`{"request":{"method":"PUT","url":"Patient/p"},"resource":` + identified + `}`},
			map[string][]string{"p": {"Condition/c"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			load(t, s, write(t, t.TempDir(), "b.json", requests("transaction", c.entries...)))
			for id, others := range c.want {
				wantKeys(t, s, id, append([]string{"Patient/" + id}, others...)...)
			}
		})
	}
}

// https://hl7.org/fhir/R4/http.html#ccreate, #cond-update: the target of the search is meant,
// whatever id the resource had.
func TestIN1ConditionalRequestsMeanWhatTheyFindWhateverIDTheyCameWith(t *testing.T) {
	for name, request := range map[string]string{
		"create": `"method":"POST","url":"Patient","ifNoneExist":"identifier=urn:x|1"`,
		"update": `"method":"PUT","url":"Patient?identifier=urn:x|1"`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			there := write(t, dir, "1.ndjson", identified,
				`{"resourceType":"Patient","id":"zz","name":[{"family":"Other"}]}`)
			asked := write(t, dir, "2.json", requests("transaction",
				`{"fullUrl":"`+urnA+`","request":{`+request+
					`},"resource":{"resourceType":"Patient","id" : "zz",`+
					`"identifier":[{"system":"urn:x","value":"1"}]}}`,
				aboutPatient(urnA)))
			inBoth(t, func(t *testing.T, s *dataset.Store) {
				wantKeys(t, s, "p", "Patient/p", "Condition/c")
				if out := wantKeys(t, s, "zz", "Patient/zz"); out["Patient/zz"]["name"] == nil {
					t.Errorf("the other patient is %v", out)
				}
			}, there, asked)
		})
	}
}

// A POST or PUT to one type with a resource of another type is contradictory.
func TestAnEntryOfTwoTypesIsAProblem(t *testing.T) {
	for _, request := range []string{
		`"method":"POST","url":"Observation"`, `"method":"PUT","url":"Observation/p"`,
		`"method":"post","url":"https://x.example.org/fhir/Observation"`,
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, write(t, t.TempDir(), "1.json",
			requests("batch", `{"request":{`+request+`},"resource":`+patientOf("p")+`}`)))
		if len(rep.Bad) != 1 || !strings.HasPrefix(rep.Bad[0].Why, "Patient") ||
			rep.Resources() != 0 {
			t.Errorf("%s: problems %v, %d resources", request, rep.Bad, rep.Resources())
		}
	}
}
