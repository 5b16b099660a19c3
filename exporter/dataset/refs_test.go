package dataset_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
)

// inBothWith is inBoth for stores with own base URLs.
func inBothWith(t *testing.T, own []string, check func(*testing.T, *dataset.Store), a, b string) {
	t.Helper()
	for name, order := range map[string][]string{"in order": {a, b}, "in reverse order": {b, a}} {
		t.Run(name, func(t *testing.T) {
			s, err := dataset.Open(dataset.Config{Dir: t.TempDir(), OwnBases: own})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, f := range order {
				load(t, s, f)
			}
			check(t, s)
		})
	}
}

const aUUID = "0a1b2c3d-0000-4000-8000-00000000000f"

// A reference to a resource of the store may have any spelling. It points there, and the export
// has the plain form, because the release filter and clients read type/id.
func TestIN1ReferencesInEverySpellingLeadToTheirResource(t *testing.T) {
	spellings := map[string]string{ // -> the form in the export
		"Patient/p":              "Patient/p",
		"/Patient/p":             "Patient/p",
		"./Patient/p":            "Patient/p",
		"Patient/p/":             "Patient/p",
		" Patient/p\t":           "Patient/p",
		"Patient//p":             "Patient/p",
		"Patient/%70":            "Patient/p",
		"%50atient/p":            "Patient/p",
		`Patient\p`:              "Patient/p",
		"Patient/p?_format=json": "Patient/p",
		"Patient/p/_history/2/":  "Patient/p/_history/2/",
		"/r4/Patient/p":          "Patient/p", "//ehr.example.org/r4/Patient/p": "Patient/p",
		"https://ehr.example.org/r4/Patient/p/":                         "Patient/p",
		"https://ehr.example.org/r4//Patient/p":                         "Patient/p",
		"https://ehr.example.org//r4/./x/../Patient/p":                  "Patient/p",
		"HTTPS://EHR.Example.org:443/r4/Patient/p":                      "Patient/p",
		`https:\\ehr.example.org\r4\Patient\p`:                          "Patient/p",
		"https:/ehr.example.org/r4/Patient/p":                           "Patient/p",
		" https://ehr.example.org/r4/Patient/p":                         "Patient/p",
		"https://ehr.example.org/%724/Patient/p":                        "Patient/p",
		"https://ehr.example.org/r4/Patient/p/_history/7?_format=json":  "Patient/p/_history/7",
		"https://ehr.example.org/r4/Patient/p#x":                        "Patient/p#x",
		"https://ehr.example.org/r4/Patient?_id=p&_format=json":         "Patient/p",
		"https://ehr.example.org/r4/Patient/?identifier=urn:m%7C1":      "Patient/p",
		"https://EHR.example.org/r4//Patient?_pretty=true&identifier=1": "Patient/p",
		"Patient?identifier=urn:m|1&_format=json":                       "Patient/p",
		"Patient?_format=json&identifier=urn:m|1&_summary=true":         "Patient/p",
		"Patient?_include:iterate=Patient:organization&identifier=1":    "Patient/p",
		"Patient?%69dentifier=urn%3Am%7C1&identifier=urn%3Am%7C1&name=": "Patient/p",
		"/Patient?identifier=1":                                         "Patient/p",
		"Patient?identifier=http://x/y#z|1 ":                            "Patient/p",
		"Patient?_id=p&_elements=id":                                    "Patient/p",
		"urn:uuid:" + aUUID:                                             "Patient/" + aUUID,
		"URN:UUID:" + strings.ToUpper(aUUID):                            "Patient/" + aUUID,
		"Urn:Uuid:" + aUUID + "/_history/2": "Patient/" + aUUID +
			"/_history/2",
		" urn:uuid:" + aUUID + " ": "Patient/" + aUUID,
		"urn:uuid:" + strings.ToUpper(aUUID[:8]) + aUUID[8:] + "#in": "Patient/" + aUUID +
			"#in",
		"urn:uuid:" +
			"ffffffff-0000-4000-8000-00000000000a": "Patient/FFFFFFFF-0000-4000-8000-00000000000A",
		"urn:uuid:" +
			"FFFFFFFF-0000-4000-8000-00000000000a/" +
			"_history/1/": "Patient/FFFFFFFF-0000-4000-8000-00000000000A/_history/1/",
	}
	dir := t.TempDir()
	patients := write(t, dir, "1.ndjson",
		`{"resourceType":"Patient","id":"p","identifier":[{"system":"urn:m","value":"1"},`+
			`{"system":"http://x/y#z","value":"1"}]}`,
		`{"resourceType":"Patient","id":"`+aUUID+`"}`,
		`{"resourceType":"Patient","id":"FFFFFFFF-0000-4000-8000-00000000000A"}`)
	var lines []string
	want := map[string]string{}
	for spelling, means := range spellings {
		id := fmt.Sprint("c", len(lines))
		want["Condition/"+id] = means
		lines = append(lines,
			`{"resourceType":"Condition","id":"`+id+`","subject":{"reference":`+quoted(spelling)+
				`}}`)
	}
	own := []string{"https://ehr.example.org/r4"}
	inBothWith(t, own, func(t *testing.T, s *dataset.Store) {
		for _, p := range []string{"p", aUUID, "FFFFFFFF-0000-4000-8000-00000000000A"} {
			for k, r := range export(t, s, p) {
				if subject, ok := r["subject"].(map[string]any); ok {
					if got := subject["reference"]; got != want[k] {
						t.Errorf("%s refers to %q, want %q", k, got, want[k])
					}
				}
			}
		}
		u, err := s.Import(t.Context(), []string{patients}, source.ImportOptions{})
		if err != nil || len(u.Unplaced) > 0 {
			t.Errorf("unplaced: %v, %v, of %q", u.Unplaced, err, lines)
		}
	}, patients, write(t, dir, "2.ndjson", lines...))
}

// A reference to a resource elsewhere, or to none, determines no owner.
func TestIN1ReferencesThatLeadElsewhereStay(t *testing.T) {
	s, err := dataset.Open(dataset.Config{
		Dir:      t.TempDir(),
		OwnBases: []string{"https://ehr.example.org/r4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lines := []string{
		`{"resourceType":"Patient","id":"p","identifier":[{"value":"1"}],"name":[{"family":"x"}]}`,
	}
	for i, elsewhere := range []string{
		"Patient%2Fp",
		"x/Patient/p",
		"Patient/p/Condition/1",
		"Patient/p/_history",
		"patient/p",
		"Patient/P",
		"Patient/",
		"https://ehr.example.org/Patient/p",
		"https://ehr.example.org/r4x/Patient/p",
		"https://ehr.example.org:8443/r4/Patient/p",
		"https://user@ehr.example.org/r4/Patient/p",
		"https://other.example.org/r4//Patient/p",
		"ftp://ehr.example.org/r4/Patient/p",
		"Patient?name=x",
		"Patient?identifier=1&name=x",
		"Patient?identifier=1&identifier=2",
		"Patient?identifier=1,2",
		"Patient?identifier:not=1",
		"Patient?_id=p&identifier=1",
		"Patient?_format=json",
		"urn:uuid:p",
		"urn:p",
		"p",
		"?identifier=1",
		" ",
	} {
		lines = append(lines,
			fmt.Sprintf(`{"resourceType":"Condition","id":"c%d","subject":{"reference":%s}}`, i,
				quoted(elsewhere)))
	}
	rep := load(t, s, write(t, t.TempDir(), "1.ndjson", lines...))
	wantKeys(t, s, "p", "Patient/p")
	if got := rep.Unplaced["Condition"].Count; got != int64(len(lines)-1) || rep.Problems > 0 {
		t.Errorf("unplaced: %v; problems: %v", rep.Unplaced, rep.Bad)
	}
}

// An attachment's url is read like a reference, and keeps its fragment.
func TestIN1AttachmentURLsInEverySpellingLeadToTheirBinary(t *testing.T) {
	s, err := dataset.Open(dataset.Config{
		Dir:      t.TempDir(),
		OwnBases: []string{"https://ehr.example.org/r4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	spellings := []string{
		"Binary/b#page=1",
		"/Binary/b",
		"./Binary/b",
		"Binary/b/",
		" Binary/b",
		"/r4/Binary/b",
		"Binary/%62?_format=pdf#page=1",
		"https://ehr.example.org/r4//Binary/b#page=1",
		"HTTPS://ehr.example.org:443/r4/Binary/b",
		"../Binary/b",
	}
	for i, url := range spellings {
		p := fmt.Sprint("p", i)
		load(t, s,
			write(t, t.TempDir(), "1.ndjson", `{"resourceType":"Patient","id":"`+p+`"}`,
				`{"resourceType":"Binary","id":"b"}`,
				`{"resourceType":"DocumentReference","id":"d`+p+
					`","subject":{"reference":"Patient/`+p+`"},"content":[{"attachment":{"url":`+
					quoted(url)+`}}]}`))
		out := wantKeys(t, s, p, "Patient/"+p, "DocumentReference/d"+p, "Binary/b")
		want := "Binary/b"
		if strings.Contains(url, "#") {
			want = "Binary/b#page=1"
		}
		got := out["DocumentReference/d"+
			p]["content"].([]any)[0].(map[string]any)["attachment"].(map[string]any)["url"]
		if got != want {
			t.Errorf("%q is exported as %q, want %q", url, got, want)
		}
	}
}

// A bundle's fullUrls and the references to them need not have the same spelling.
func TestIN1FullURLsAreComparedAsAddresses(t *testing.T) {
	for name, c := range map[string]struct{ fullURL, reference string }{
		"case of a UUID":   {"urn:uuid:" + strings.ToUpper(aUUID), "urn:uuid:" + aUUID},
		"case of a scheme": {"urn:uuid:" + aUUID, "URN:Uuid:" + aUUID},
		"version":          {"urn:uuid:" + aUUID, "urn:uuid:" + aUUID + "/_history/1"},
		"port": {
			"https://x.example.org:443/fhir/Patient/1",
			"https://x.example.org/fhir/Patient/1",
		},
		"host": {
			"https://X.example.org/fhir/Patient/1",
			"https://x.example.org/fhir/Patient/1/_history/1",
		},
		"slashes": {
			"https://x.example.org/fhir//Patient/1/",
			"https://x.example.org/fhir/Patient/1",
		},
		"relative":         {"https://x.example.org/fhir/Patient/1", "Patient/1"},
		"relative fullUrl": {"Patient/1", "Patient/1"},
		"no server's":      {"https://x.example.org/people/1", "https://x.example.org/people/1"},
		"escapes": {
			"https://x.example.org/fhir/Patient/%31",
			"https://x.example.org/fhir/Patient/1",
		},
		"query": {
			"https://x.example.org/fhir/Patient/1",
			"https://x.example.org/fhir/Patient/1?_format=json",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"", `"id":"p",`} {
				s := openStore(t, t.TempDir())
				rep := load(t, s,
					write(t, t.TempDir(), "b.json",
						`{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"`+c.fullURL+`","resource":{`+id+`"resourceType":"Patient"},"request":{"method":"POST","url":"Patient"}},
{"fullUrl":"https://x.example.org/fhir/Condition/2","resource":{"resourceType":"Condition","id":"2","subject":{"reference":"`+c.reference+`"}},
 "request":{"method":"POST","url":"Condition"}}]}`))
				if rep.Problems > 0 || len(rep.Unplaced) > 0 {
					t.Errorf("with id %q: report %+v", id, rep)
				}
			}
		})
	}
}

// Addresses in requests and responses are read by the same rules.
func TestIN1RequestsAreReadAsAddresses(t *testing.T) {
	s := openStore(t, t.TempDir())
	put := func(url string) string {
		return `{"resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},` +
			`"request":{"method":"PUT","url":"` + url + `"}}`
	}
	rep := load(t, s,
		write(t, t.TempDir(), "b.json",
			`{"resourceType":"Bundle","type":"batch","entry":[`+strings.Join([]string{
				`{"resource":{"resourceType":"Patient","id":"p"},"request":{"method":"PUT",` +
					`"url":"Patient/p"}}`,
				put("./Condition/c1"),
				put("Condition/c2/"),
				put("https://X.example.org/fhir//Condition/c3?_format=json"),
				put("Condition/c%34"),
				put("/fhir/Condition/c5"),
				put("Condition?_id=c6&_pretty=true"),
				put(" Condition/c7/_history/2"),
			}, ",\n")+`]}`))
	wantKeys(t, s, "p", "Patient/p", "Condition/c1", "Condition/c2", "Condition/c3", "Condition/c4",
		"Condition/c5", "Condition/c6", "Condition/c7")
	if rep.Problems > 0 {
		t.Errorf("problems: %v", rep.Bad)
	}
}

// A link may name the other patient by an identifier alone, as a subject may. That patient may
// be imported later, and the replaced one may have the same identifier.
func TestPatientsMergedByIdentifier(t *testing.T) {
	dir := t.TempDir()
	other := func(kind, other string) string {
		return `"link":[{"type":"` + kind + `","other":` + other + `}]`
	}
	links := write(t, dir, "1.ndjson",
		`{"resourceType":"Patient","id":"a","identifier":[{"system":"m","value":"3"}],`+
			other("replaced-by", `{"identifier":{"system":"m","value":"2"}}`)+`}`,
		`{"resourceType":"Patient","id":"b","identifier":[{"system":"m","value":"2"},`+
			`{"system":"m","value":"3"}],`+
			other("replaced-by",
				`{"type":"Patient","identifier":{"system":"m","value":"3"},`+
					`"reference":"https://else.org/Patient/9"}`)+`}`,
		`{"resourceType":"Patient","id":"d",`+other("replaces", `{"identifier":{"value":"7"}}`)+`}`,
		`{"resourceType":"Patient","id":"f",`+
			other("replaced-by", `{"reference":"Patient?identifier=m|4&_format=json"}`)+`}`,
		`{"resourceType":"Patient","id":"n",`+
			other("replaces", `{"type":"RelatedPerson","identifier":{"value":"7"}}`)+`}`,
		`{"resourceType":"Patient","id":"o",`+other("seealso", `{"identifier":{"value":"7"}}`)+`}`,
		`{"resourceType":"Patient","id":"q",`+
			other("replaces", `{"reference":"Patient/a","identifier":{"value":"7"}}`)+`}`)
	others := write(t, dir, "2.ndjson",
		`{"resourceType":"Patient","id":"c","identifier":[{"system":"m","value":"3"},`+
			`{"system":"m","value":"4"}]}`,
		`{"resourceType":"Patient","id":"e","identifier":[{"value":"7"}]}`,
		`{"resourceType":"Condition","id":"ca","subject":{"reference":"Patient/a"}}`,
		`{"resourceType":"Condition","id":"ce","subject":{"reference":"Patient/e"}}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "a", "Patient/a", "Condition/ca")
		wantKeys(t, s, "d", "Patient/d", "Patient/e", "Condition/ce")
		wantKeys(t, s, "n", "Patient/n")
		wantKeys(t, s, "o", "Patient/o")
		wantKeys(t, s, "q", "Patient/q", "Patient/a", "Condition/ca")
		// b has "3" too, and means the other patient with that name: not a, whom b replaced.
		wantKeys(t, s, "b", "Patient/a", "Patient/b", "Condition/ca")
		wantKeys(t, s, "c", "Patient/c", "Patient/f")
		load(t, s,
			write(t, t.TempDir(), "3.ndjson",
				`{"resourceType":"Patient","id":"a","meta":{"versionId":"2"},`+
					other("replaced-by", `{"identifier":{"system":"m","value":"2"}}`)+`}`))
		wantKeys(t, s, "c", "Patient/a", "Patient/b", "Patient/c", "Patient/f", "Condition/ca")
		// A patient without the identifier is no longer meant.
		load(t, s,
			write(t, t.TempDir(), "4.ndjson",
				`{"resourceType":"Patient","id":"e","meta":{"versionId":"2"}}`))
		wantKeys(t, s, "d", "Patient/d")
	}, links, others)
}

// Patients who were merged into each other, in a circle or in a chain, are one patient for
// references by an identifier that they share.
func TestIN1AnIdentifierOfMergedPatientsMeansTheOneWhoGoesOn(t *testing.T) {
	for name, c := range map[string]struct{ links, want string }{
		"a chain":                 {"a>b b>c", "c"},
		"a chain from behind":     {"c<b b<a", "c"},
		"a circle":                {"a>b b>a", "a"}, // c is none of them
		"a circle of three":       {"a>b b>c c>a", "a"},
		"a circle that goes on":   {"a>b b>a b>c", "c"},
		"a fork":                  {"a>b a>c", ""},
		"nobody was merged":       {"", ""},
		"one who replaces itself": {"a>a b>a c>a", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string][]string{"a": nil, "b": nil, "c": nil}
			if name == "a circle" {
				delete(all, "c")
			}
			for _, l := range strings.Fields(c.links) {
				kind := map[byte]string{'>': "replaced-by", '<': "replaces"}[l[1]]
				all[l[:1]] = append(all[l[:1]],
					`{"type":"`+kind+`","other":{"reference":"Patient/`+l[2:]+`"}}`)
			}
			var lines []string
			for id, links := range all {
				lines = append(lines,
					`{"resourceType":"Patient","id":"`+id+`","identifier":[{"value":"1"}],"link":[`+
						strings.Join(links, ",")+`]}`)
			}
			dir := t.TempDir()
			inBoth(t, func(t *testing.T, s *dataset.Store) {
				for id := range all {
					r := export(t, s, id)["Condition/x"]
					if c.want == "" || id == c.want {
						if got := r != nil; got != (id == c.want) {
							t.Errorf("the condition is in the record of %s: %v", id, got)
						}
					}
				}
			}, write(t, dir, "1.ndjson", lines...), write(t, dir, "2.ndjson",
				`{"resourceType":"Condition","id":"x","subject":{"identifier":{"value":"1"}}}`))
		})
	}
}

// Resources of types that R4's compartment omits are in the record of the patient they are
// about. Those about nobody are in none.
func TestIN2WhatIsAboutARecordBelongsToIt(t *testing.T) {
	dir := t.TempDir()
	records := write(t, dir, "1.ndjson",
		`{"resourceType":"Patient","id":"p","identifier":[{"value":"1"}]}`,
		`{"resourceType":"Patient","id":"other"}`,
		`{"resourceType":"Device","id":"d","patient":{"reference":"Patient/p"}}`,
		`{"resourceType":"Device","id":"shared"}`,
		`{"resourceType":"ClaimResponse","id":"r","patient":{"reference":"Patient/p"}}`,
		`{"resourceType":"EnrollmentRequest","id":"e","candidate":{"reference":"Patient/p"}}`)
	about := write(t, dir, "2.ndjson",
		`{"resourceType":"BiologicallyDerivedProduct","id":"1",`+
			`"collection":{"source":{"reference":"Patient/p"}}}`,
		`{"resourceType":"DeviceMetric","id":"1","source":{"reference":"Device/d"}}`,
		`{"resourceType":"DeviceMetric","id":"2","source":{"reference":"Device/shared"}}`,
		`{"resourceType":"EnrollmentResponse","id":"1",`+
			`"request":{"reference":"EnrollmentRequest/e"}}`,
		`{"resourceType":"Linkage","id":"1","item":[{"resource":{"reference":"ClaimResponse/r"}}]}`,
		`{"resourceType":"MessageHeader","id":"1","focus":[{"reference":"Patient/p"}]}`,
		`{"resourceType":"PaymentNotice","id":"1","response":{"reference":"ClaimResponse/r"}}`,
		`{"resourceType":"VerificationResult","id":"1",`+
			`"target":[{"reference":"Patient?identifier=1"}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "other", "Patient/other")
		wantKeys(t, s, "p", "Patient/p", "Device/d", "ClaimResponse/r", "EnrollmentRequest/e",
			"BiologicallyDerivedProduct/1", "DeviceMetric/1",
			"EnrollmentResponse/1", "Linkage/1", "MessageHeader/1", "PaymentNotice/1",
			"VerificationResult/1")
	}, records, about)
}

// A resource that a record names only by an identifier is exported with it, in any order.
func TestIN1WhatARecordNamesByIdentifierGoesOutWithIt(t *testing.T) {
	dir := t.TempDir()
	line := `{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"},` +
		`"performer":[` +
		`{"type":"Practitioner","identifier":{"system":"npi","value":"9",` +
		`"assigner":{"reference":"Organization/a"}},"display":"x"},` +
		`{"reference":"https://else.org/Organization/1","type":"Organization",` +
		`"identifier":{"value":"7"}},` +
		`{"type":"Location","identifier":{"value":"no"}},` +
		`{"reference":"PractitionerRole?identifier=r"}]}`
	supporting := write(t, dir, "2.ndjson",
		`{"resourceType":"Practitioner","id":"d","identifier":[{"system":"npi","value":"9"}]}`,
		`{"resourceType":"Organization","id":"a"}`,
		`{"resourceType":"Organization","id":"b","identifier":[{"value":"7"}]}`,
		`{"resourceType":"PractitionerRole","id":"r","identifier":[{"value":"r"}],`+
			`"organization":{"type":"Organization","identifier":{"value":"8"}}}`,
		`{"resourceType":"Organization","id":"c","identifier":[{"value":"8"}]}`,
		`{"resourceType":"Practitioner","id":"other","identifier":[{"value":"9"}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		want := []string{
			"Patient/p", "Observation/o", "Practitioner/d", "Organization/a", "Organization/b",
			"Organization/c", "PractitionerRole/r",
		}
		out := wantKeys(t, s, "p", want...)
		got := fmt.Sprint(out["Observation/o"]["performer"])
		if !strings.Contains(got, "PractitionerRole/r") ||
			!strings.Contains(got, "map[display:x identifier:") {
			t.Errorf("performers: %s", got)
		}
		load(t, s, write(t, t.TempDir(), "3.ndjson", line)) // again: no change
		wantKeys(t, s, "p", want...)
		load(t, s,
			write(t, t.TempDir(), "4.ndjson",
				`{"resourceType":"Practitioner","id":"d","meta":{"versionId":"2"}}`))
		wantKeys(t, s, "p", "Patient/p", "Observation/o", "Organization/a", "Organization/b",
			"Organization/c", "PractitionerRole/r")
	}, write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p"}`, line), supporting)
}

// A Reference by an identifier without a type means what R4 allows in its field. So the drug of
// a prescription is part of the record, and its code can withhold the prescription (EHI-9).
func TestIN1AnIdentifierWithoutATypeMeansWhatItsFieldLeadsTo(t *testing.T) {
	dir := t.TempDir()
	named := func(value string) string {
		return `{"identifier":{"system":"urn:m","value":"` + value + `"}}`
	}
	records := write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"MedicationRequest","id":"r","subject":{"reference":"Patient/p"},`+
			`"medicationReference":`+named("1")+`}`,
		`{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"},"performer":[`+
			named("2")+`,`+named("3")+`]}`)
	supporting := write(t, dir, "2.ndjson",
		`{"resourceType":"Medication","id":"m","identifier":[{"system":"urn:m","value":"1"}],`+
			`"ingredient":[{"itemReference":`+named("4")+`}]}`,
		`{"resourceType":"Organization","id":"1","identifier":[{"system":"urn:m","value":"1"}]}`,
		`{"resourceType":"Organization","id":"2","identifier":[{"system":"urn:m","value":"2"}]}`,
		`{"resourceType":"Practitioner","id":"3","identifier":[{"system":"urn:m","value":"3"}]}`,
		`{"resourceType":"Substance","id":"4","identifier":[{"system":"urn:m","value":"4"}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "p", "Patient/p", "MedicationRequest/r", "Observation/o", "Medication/m",
			"Organization/2", "Practitioner/3", "Substance/4")
	}, records, supporting)
}

// The resources in a Parameters would be in nobody's record.
func TestIN4AParametersIsAProblem(t *testing.T) {
	rep := load(t, openStore(t, t.TempDir()),
		write(t, t.TempDir(), "1.ndjson", `{"resourceType":"Parameters","id":"x","parameter":[]}`))
	if rep.Problems != 1 || len(rep.Counts) > 0 ||
		!strings.Contains(rep.Bad[0].Why, "take the resources out of it") {
		t.Errorf("%+v", rep)
	}
}

// IN-4: files that an export has in addition to the records are no problems of an import. Each
// kind is listed once.
func TestIN4WhatAnExportHasBesideTheRecordsIsLeftOut(t *testing.T) {
	header := func(id string) string {
		return `{"resourceType":"Parameters","parameter":[` +
			`{"name":"header","valueReference":{"reference":"Patient/` + id + `"}}]}`
	}
	outcome := `{"resourceType":"OperationOutcome","issue":[{"severity":"warning",` +
		`"code":"suppressed"}]}`
	dir := t.TempDir()
	blocks := write(t, dir, "1.ndjson",
		header("p"), somebody, observation("o", ""), header("q"),
		`{"resourceType":"Patient","id":"q"}`)
	messages := write(t, dir, "error.ndjson", outcome, outcome, header("r"))
	document := write(t, dir, "one.json", outcome)
	s := openStore(t, t.TempDir())
	rep, err := s.Import(t.Context(), []string{dir}, source.ImportOptions{
		Strict: true,
		Now:    time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	const (
		headers = "headers of the blocks of an export (organizeOutputBy)"
		said    = "OperationOutcomes without an id: what a server had to say about an export"
	)
	want := []source.Ignored{
		{File: blocks, Why: headers},
		{File: messages, Why: said},
		{File: messages, Why: headers},
		{File: document, Why: said},
	}
	d := cmp.Diff(want, rep.Ignored)
	if d != "" || rep.Problems > 0 || rep.Files != 3 || rep.Resources() != 3 {
		t.Errorf("%+v\n%s", rep, d)
	}
	wantKeys(t, s, "p", "Patient/p", "Observation/o")
	if again := load(t, s, dir); again.Skipped != 3 {
		t.Errorf("the second time: %+v", again)
	}
	for _, hides := range []string{
		`{"name":"header","resource":` + somebody + `}`,
		`{"name":"header","part":[]}`,
		`{"name":"header"},{"name":"return","resource":` + somebody + `}`,
	} {
		line := `{"resourceType":"Parameters","parameter":[` + hides + `]}`
		rep := load(t, openStore(t, t.TempDir()), write(t, t.TempDir(), "1.ndjson", line))
		if rep.Problems != 1 || len(rep.Ignored) > 0 {
			t.Errorf("%s: %+v", hides, rep)
		}
	}
}

// Programs remove "." and ".." from paths, however they are escaped (RFC 3986 5.2.4). A resource
// with such an id could be imported, but never requested.
func TestIN4AnIDThatNoURLLeadsToIsAProblem(t *testing.T) {
	for _, id := range []string{".", ".."} {
		rep := load(t, openStore(t, t.TempDir()), write(t, t.TempDir(), "1.ndjson",
			`{"resourceType":"Patient","id":"`+id+`"}`,
			`{"id":"`+id+`","resourceType":"Device","patient":{"reference":"Patient/p"}}`))
		if rep.Problems != 2 || len(rep.Counts) > 0 ||
			!strings.Contains(rep.Bad[0].Why, "no URL leads to that") {
			t.Errorf("%s: %+v", id, rep)
		}
	}
	rep := load(t, openStore(t, t.TempDir()), write(t, t.TempDir(), "1.ndjson",
		`{"resourceType":"Patient","id":"..."}`, `{"resourceType":"Patient","id":".a"}`))
	if rep.Problems > 0 || rep.Counts["Patient"] != 2 {
		t.Errorf("%+v", rep)
	}
}

// quoted returns a text as JSON.
func quoted(text string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`)
	return `"` + r.Replace(text) + `"`
}
