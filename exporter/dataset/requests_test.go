package dataset_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
)

// requests returns a Bundle of entries, one per line.
func requests(typ string, entries ...string) string {
	return `{"resourceType":"Bundle","type":"` + typ + `","entry":[` + "\n" +
		strings.Join(entries, ",\n") + `]}`
}

const somebody = `{"resourceType":"Patient","id":"p"}`

// observation returns an Observation of the patient, with an identifier.
func observation(id, meta string) string {
	return `{"resourceType":"Observation","id":"` + id + `",` + meta +
		`"identifier":[{"system":"urn:x","value":"1"}],"subject":{"reference":"Patient/p"}}`
}

func deleteEntry(url, response string) string {
	return `{"request":{"method":"DELETE","url":"` + url + `"}` + response + `}`
}

// https://hl7.org/fhir/R4/http.html#3.1.0.7.1: the target of the search is deleted, if there is
// exactly one.
func TestIN3AConditionalDeleteDeletesWhatItsSearchFinds(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		want []string
		why  string
	}{
		"one":              {"Observation?identifier=urn:x|1", nil, ""},
		"without a system": {"Observation?identifier=1&_format=json", nil, ""},
		"spelled otherwise": {
			"https://x.example.org/fhir//Observation?identifier=urn%3Ax%7C1",
			nil,
			"",
		},
		"none":         {"Observation?identifier=urn:x|2", []string{"Observation/o"}, ""},
		"another type": {"Condition?identifier=urn:x|1", []string{"Observation/o"}, ""},
		"by the id":    {"Observation?_id=o", nil, ""},
		"by something else": {
			"Observation?code=1", []string{"Observation/o"}, "DELETE Observation?code=1: only",
		},
		"a whole type": {"Observation", []string{"Observation/o"}, "DELETE Observation: only"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, typ := range []string{"batch", "transaction"} {
				s, dir := openStore(t, t.TempDir()), t.TempDir()
				load(t, s, write(t, dir, "1.ndjson", somebody, observation("o", "")))
				rep := load(t, s, write(t, dir, "2.json", requests(typ, deleteEntry(c.url, ""))))
				wantKeys(t, s, "p", append([]string{"Patient/p"}, c.want...)...)
				if c.why == "" && rep.Problems > 0 ||
					c.why != "" &&
						(len(rep.Bad) != 1 || !strings.HasPrefix(rep.Bad[0].Why, c.why)) {
					t.Errorf("%s: problems %v", typ, rep.Bad)
				}
			}
		})
	}
}

func TestIN3AConditionalDeleteOfSeveralResourcesIsAProblem(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	load(t, s, write(t, dir, "1.ndjson", somebody, observation("o1", ""), observation("o2", "")))
	rep := load(t, s,
		write(t, dir, "2.json",
			requests("batch", deleteEntry("Observation?identifier=urn:x|1", ""))))
	wantKeys(t, s, "p", "Patient/p", "Observation/o1", "Observation/o2")
	if len(rep.Bad) != 1 || !strings.Contains(rep.Bad[0].Why, "finds 2 resources") {
		t.Errorf("problems: %v", rep.Bad)
	}
}

// Once newer states exist, it is unknown what a search found at an earlier time. Such a DELETE
// deletes nothing, so that the order of files never matters.
func TestIN3AConditionalDeleteWithATimeIsAProblem(t *testing.T) {
	for name, response := range map[string]string{
		"a time":    `,"response":{"status":"204","lastModified":"2024-01-04T00:00:00Z"}`,
		"a version": `,"response":{"status":"204","etag":"W/\"2\""}`,
	} {
		for _, typ := range []string{"batch", "transaction", "history"} {
			s, dir := openStore(t, t.TempDir()), t.TempDir()
			rep := load(t, s, write(t, dir, "1.ndjson", somebody, observation("o", "")),
				write(t, dir, "2.json",
					requests(typ, deleteEntry("Observation?identifier=urn:x|1", response))))
			wantKeys(t, s, "p", "Patient/p", "Observation/o")
			if len(rep.Bad) != 1 ||
				!strings.Contains(rep.Bad[0].Why, "by the resource's id alone") {
				t.Errorf("%s in a %s: problems %v", name, typ, rep.Bad)
			}
		}
	}
}

func TestIN3AConditionalDeleteKeepsNothingOut(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	load(t, s,
		write(t, dir, "1.json",
			requests("batch", deleteEntry("Observation?identifier=urn:x|1", ""))),
		write(t, dir, "2.ndjson", somebody, observation("o", "")))
	wantKeys(t, s, "p", "Patient/p", "Observation/o")
}

// The entries of a transaction are processed together, deletions first
// (https://hl7.org/fhir/R4/http.html#trules).
func TestIN3ATransactionDeletesFirst(t *testing.T) {
	put := `{"request":{"method":"PUT","url":"Observation/new"},"resource":` +
		observation("new", "") + `}`
	for typ, want := range map[string]string{"transaction": "Observation/new", "batch": ""} {
		s, dir := openStore(t, t.TempDir()), t.TempDir()
		load(t, s, write(t, dir, "1.ndjson", somebody),
			write(t, dir, "2.json",
				requests(typ, put, deleteEntry("Observation?identifier=urn:x|1", ""))))
		keys := []string{"Patient/p"}
		if want != "" {
			keys = append(keys, want)
		}
		wantKeys(t, s, "p", keys...)
	}
}

// https://hl7.org/fhir/R4/http.html#ccreate: if the search finds a resource, nothing changes,
// and references to the entry mean that resource.
func TestIN3AConditionalCreateChangesNothingThatIsThere(t *testing.T) {
	for name, query := range map[string]string{
		"by system and value": "identifier=urn:x|1",
		"by value":            "identifier=1",
		"with the type":       "Observation?identifier=urn:x%7C1&_format=json",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			records := write(t, dir, "1.ndjson", somebody, observation("o", `"status":"final",`))
			created := write(t, dir, "2.json", requests("transaction",
				`{"fullUrl":"urn:uuid:77777777-0000-4000-8000-000000000001",`+
					`"request":{"method":"POST","url":"Observation","ifNoneExist":"`+query+`"},`+
					`"resource":{"resourceType":"Observation","status":"preliminary",`+
					`"subject":{"reference":"Patient/p"}}}`,
				`{"request":{"method":"PUT","url":"DiagnosticReport/r"},`+
					`"resource":{"resourceType":"DiagnosticReport","id":"r",`+
					`"subject":{"reference":"Patient/p"},`+
					`"result":[{"reference":"urn:uuid:77777777-0000-4000-8000-000000000001"}]}}`))
			inBoth(t, func(t *testing.T, s *dataset.Store) {
				out := wantKeys(t, s, "p", "Patient/p", "Observation/o", "DiagnosticReport/r")
				if got := out["Observation/o"]["status"]; got != "final" {
					t.Errorf("the observation is %v", got)
				}
				got := fmt.Sprint(out["DiagnosticReport/r"]["result"])
				if got != "[map[reference:Observation/o]]" {
					t.Errorf("the report refers to %v", got)
				}
			}, records, created)
		})
	}
}

// An entry that should have a resource, but has none, is reported.
func TestIN4EntriesWithoutAResourceAreProblems(t *testing.T) {
	for bundle, why := range map[string]string{
		requests("history",
			`{"request":{"method":"PUT","url":"Patient/p"}}`): "an entry without a resource: PUT " +
			"Patient/p",
		requests("searchset",
			`{"fullUrl":"https://x.example.org/fhir/Patient/p"}`): "an entry without a resource: " +
			"https://x.example.org/fhir/Patient/p",
		requests("collection",
			`null`): "an entry without a resource: ",
		requests("collection",
			`{"Resource":`+somebody+`}`): "an entry without a resource: ",
		requests("collection",
			`{"resource":[`+somebody+`]}`): "no resource, which is a JSON object",
		`{"resourceType":"Bundle","type":"collection","entry":{"resource":` + somebody +
			`}}`: "not a valid Bundle: its entry is no array",
		requests("transaction-response", `{"response":{"status":"204"}}`): "",
		requests("searchset", `{"search":{"mode":"outcome"}}`):            "",
		`{"resourceType":"Bundle","type":"collection"}`:                   "",
		`{"resourceType":"Bundle","type":"collection","entry":null}`:      "",
	} {
		rep := load(t, openStore(t, t.TempDir()), write(t, t.TempDir(), "b.json", bundle))
		if why == "" && rep.Problems > 0 ||
			why != "" && (len(rep.Bad) != 1 || rep.Bad[0].Why != why) || len(rep.Counts) > 0 {
			t.Errorf("%s: %+v", bundle, rep)
		}
	}
}

// Requests that cannot be imported are reported by name. Requests that only read have nothing to
// import.
func TestIN4RequestsThatCannotBeImportedAreNamed(t *testing.T) {
	body := `"resource":{"resourceType":"Parameters","parameter":[]}`
	for request, why := range map[string]string{
		`{"request":{"method":"PATCH","url":"Condition/c"},"resource":{"resourceType":"Binary",` +
			`"contentType":"application/json-patch+json","data":"W10="}}`: "PATCH Condition/c",
		`{"request":{"method":"PATCH","url":"Condition/c"},` + body +
			`}`: "PATCH Condition/c",
		`{"request":{"method":"PATCH","url":"Condition?identifier=1"},` + body +
			`}`: "PATCH Condition?identifier=1",
		`{"request":{"method":"POST","url":"Patient/$match"},` + body +
			`}`: "POST Patient/$match",
		`{"request":{"method":"POST","url":"Patient/p/$everything"},` + body +
			`}`: "POST Patient/p/$everything",
		`{"request":{"method":"POST","url":"Patient/_search"},` + body +
			`}`: "POST Patient/_search",
		`{"request":{"method":"MERGE","url":"Patient/p"},"resource":` + somebody +
			`}`: "MERGE Patient/p",
		`{"request":{"method":"PUT","url":"Patient/p"}}`: "an entry without a resource: PUT " +
			"Patient/p",
		`{"request":{"method":"GET","url":"Patient/p"}}`:      "",
		`{"request":{"method":"HEAD","url":"Patient/p"}}`:     "",
		`{"request":{"method":"get","url":"Patient?name=x"}}`: "",
	} {
		for _, typ := range []string{"batch", "transaction"} {
			rep := load(t, openStore(t, t.TempDir()),
				write(t, t.TempDir(), "b.json", requests(typ, request)))
			if why == "" && rep.Problems > 0 ||
				why != "" && (len(rep.Bad) != 1 || !strings.HasPrefix(rep.Bad[0].Why, why)) ||
				len(rep.Counts) > 0 {
				t.Errorf("%s in a %s: %+v", request, typ, rep)
			}
		}
	}
}
