package dataset_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/records"
)

// keysOf lists the keys of an export.
func keysOf(out map[string]records.Resource) []string { return slices.Sorted(maps.Keys(out)) }

// inBoth imports files in both orders, into a store each.
func inBoth(t *testing.T, check func(t *testing.T, s *dataset.Store), files ...string) {
	t.Helper()
	backward := slices.Clone(files)
	slices.Reverse(backward)
	for name, order := range map[string][]string{"in order": files, "in reverse order": backward} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			for _, f := range order {
				load(t, s, f)
			}
			check(t, s)
		})
	}
}

func wantKeys(
	t *testing.T, s *dataset.Store, patient string, want ...string,
) map[string]records.Resource {
	t.Helper()
	out := export(t, s, patient)
	slices.Sort(want)
	if d := cmp.Diff(want, keysOf(out)); d != "" {
		t.Errorf("the record of %s (-want +got):\n%s", patient, d)
	}
	return out
}

// IN-1: a Binary that an attachment's url points to belongs to the record.
func TestIN1AnAttachmentsBinaryBelongsToTheRecord(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, records.Cases(t, "attachment-url-binary"))
	wantKeys(t, s, "pa", "Patient/pa", "DocumentReference/d1", "Binary/note-000000000001",
		"DocumentReference/d2", "Binary/note-000000000002")
}

// This holds for Attachments and urls in any element, and for every spelling of the Binary.
func TestIN1EveryKindOfAttachmentLeadsToItsBinary(t *testing.T) {
	s, err := dataset.Open(dataset.Config{
		Dir:      t.TempDir(),
		OwnBases: []string{"https://old.example.org/r4/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir := t.TempDir()
	lines := []string{
		`{"resourceType":"Patient","id":"p","photo":[{"url":"Binary/b1"}]}`,
		`{"resourceType":"Media","id":"m","subject":{"reference":"Patient/p"},` +
			`"content":{"url":"https://old.example.org/r4/Binary/b2"}}`,
		`{"resourceType":"DiagnosticReport","id":"r","subject":{"reference":"Patient/p"},` +
			`"presentedForm":[{"url":"Binary\/b3\/_history\/2"}]}`,
		`{"resourceType":"Communication","id":"c","subject":{"reference":"Patient/p"},` +
			`"payload":[{"contentAttachment":{"url":"Binary/b4"}}]}`,
		`{"resourceType":"Condition","id":"x","subject":{"reference":"Patient/p"},` +
			`"extension":[{"url":"Binary/no1","valueUrl":"Binary/b5"},` +
			`{"url":"https://old.example.org/r4/Binary/no2",` +
			`"valueAttachment":{"url":"urn:uuid:55555555-0000-4000-8000-000000000006"}}]}`,
		`{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"},` +
			`"valueString":"Binary/no3","contained":[{"resourceType":"DocumentReference",` +
			`"id":"in","content":[{"attachment":{"url":"Binary/b7"}}]}]}`,
		`{"resourceType":"Binary","id":"b8","securityContext":{"reference":"Observation/o"}}`,
		`{"resourceType":"Binary","id":"b9","securityContext":{"reference":"Patient/p"}}`,
		`{"resourceType":"Binary","id":"55555555-0000-4000-8000-000000000006"}`,
	}
	want := []string{
		"Patient/p",
		"Media/m",
		"DiagnosticReport/r",
		"Communication/c",
		"Condition/x",
		"Observation/o",
		"Binary/b8",
		"Binary/b9",
		"Binary/55555555-0000-4000-8000-000000000006",
	}
	for i := range 7 {
		if i != 5 {
			want = append(want, fmt.Sprintf("Binary/b%d", i+1))
		}
	}
	for _, id := range []string{"b1", "b2", "b3", "b4", "b5", "b7", "no1", "no2", "no3"} {
		lines = append(lines, `{"resourceType":"Binary","id":"`+id+`"}`)
	}
	load(t, s, write(t, dir, "a.ndjson", lines...),
		write(t, dir, "b.ndjson", `{"resourceType":"Patient","id":"other"}`))
	out := wantKeys(t, s, "p", want...)
	if got := out["Media/m"]["content"].(map[string]any)["url"]; got != "Binary/b2" {
		t.Errorf("a url on an own base is %v", got)
	}
	wantKeys(t, s, "other", "Patient/other")
}

func TestIN1FullURLsNameTheEntriesOfABundle(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s, records.Cases(t, "bundle-full-urls"))
	if rep.Problems > 0 || len(rep.Unplaced) > 0 {
		t.Errorf("report: %+v", rep)
	}
	wantKeys(t, s, "pb", "Patient/pb", "Condition/cb")
	out := wantKeys(t, s, "pc", "Patient/pc", "Condition/cc")
	got := out["Condition/cc"]["subject"].(map[string]any)["reference"]
	if got != "Patient/pc/_history/3" {
		t.Errorf("a versioned reference is %v", got)
	}
}

// The rules of R4, "Resolving references in Bundles": a relative reference is relative to the
// base of its own entry.
func TestIN1RelativeReferencesOfSeveralServersDoNotMix(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s,
		write(t, t.TempDir(), "b.json", `{"resourceType":"Bundle","type":"collection","entry":[
{"fullUrl":"http://example.org/fhir/Patient/23","resource":{"resourceType":"Patient","id":"23"}},
{"fullUrl":"urn:uuid:04121321-4af5-424c-a0e1-ed3aab1c349d","resource":{"resourceType":"Patient"}},
{"fullUrl":"http://example.org/fhir/Observation/123","resource":{"resourceType":"Observation","id":"123","subject":{"reference":"Patient/23"}}},
{"fullUrl":"http://example.com/fhir/Observation/14","resource":{"resourceType":"Observation","id":"14","subject":{"reference":"Patient/23"}}},
{"fullUrl":"http://example.com/fhir/Observation/15","resource":{"resourceType":"Observation","id":"15","subject":{"reference":"http://example.org/fhir/Patient/23"}}},
{"fullUrl":"urn:uuid:47600e0f-b6b5-4308-84b5-5dec157f7637","resource":{"resourceType":"Observation","subject":{"reference":"http://other.example.org/fhir/Patient/23"}}},
{"fullUrl":"http://example.com/fhir/Observation/123","resource":{"resourceType":"Observation","id":"123","subject":{"reference":"http://example.org/fhir/Patient/23"}}},
{"fullUrl":"urn:uuid:d7a5ae4d-0000-4000-8000-000000000001","resource":{"resourceType":"Observation","subject":{"reference":"urn:uuid:04121321-4af5-424c-a0e1-ed3aab1c349d"}}}]}`))
	wantKeys(t, s, "23", "Patient/23", "Observation/123", "Observation/15")
	wantKeys(t, s, "04121321-4af5-424c-a0e1-ed3aab1c349d",
		"Patient/04121321-4af5-424c-a0e1-ed3aab1c349d",
		"Observation/d7a5ae4d-0000-4000-8000-000000000001")
	if len(rep.Bad) != 1 || rep.Bad[0].Line != 8 ||
		!strings.Contains(rep.Bad[0].Why, "two servers") {
		t.Errorf("problems: %v", rep.Bad)
	}
	if u := rep.Unplaced["Observation"]; u.Count != 2 {
		t.Errorf("unplaced: %v", rep.Unplaced)
	}
}

func TestIN1OwnBasesAreLocalAndOthersAreNot(t *testing.T) {
	s, err := dataset.Open(dataset.Config{
		Dir:      t.TempDir(),
		OwnBases: []string{"https://ehr.example.org/r4", "https://new.example.org/fhir/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	load(t, s,
		write(t, t.TempDir(), "a.ndjson",
			`{"resourceType":"Patient","id":"p","identifier":[{"system":"s","value":"v"}]}`,
			`{"resourceType":"Condition","id":"c1",`+
				`"subject":{"reference":"https://ehr.example.org/r4/Patient/p"}}`,
			`{"resourceType":"Condition","id":"c2",`+
				`"subject":{"reference":"https://new.example.org/fhir/Patient/p/_history/7"}}`,
			`{"resourceType":"Condition","id":"c3",`+
				`"subject":{"reference":"https://new.example.org/fhir/Patient?identifier=s%7Cv"}}`,
			`{"resourceType":"Condition","id":"c4",`+
				`"subject":{"reference":"https://new.example.org/fhir/Patient?_id=p"}}`,
			`{"resourceType":"Condition","id":"f1",`+
				`"subject":{"reference":"https://foreign.example.org/r4/Patient/p"}}`,
			`{"resourceType":"Condition","id":"f2",`+
				`"subject":{"reference":"https://ehr.example.org/r4x/Patient/p"}}`))
	out := wantKeys(t, s, "p", "Patient/p", "Condition/c1", "Condition/c2", "Condition/c3",
		"Condition/c4")
	for id, want := range map[string]string{
		"c1": "Patient/p",
		"c2": "Patient/p/_history/7",
		"c3": "Patient/p",
		"c4": "Patient/p",
	} {
		if got := out["Condition/"+id]["subject"].(map[string]any)["reference"]; got != want {
			t.Errorf("%s refers to %v, want %s", id, got, want)
		}
	}
}

// A base URL may be written in several ways (RFC 3986, 6.2.2.1 and 6.2.3).
func TestIN1OwnBasesAreLocalHoweverTheyAreWritten(t *testing.T) {
	s, err := dataset.Open(dataset.Config{
		Dir:      t.TempDir(),
		OwnBases: []string{"HTTPS://Ehr.Example.ORG:443/R4//"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	condition := `{"resourceType":"Condition","id":"%s","subject":{"reference":"%s/Patient/p"}}`
	load(t, s, write(t, t.TempDir(), "a.ndjson", `{"resourceType":"Patient","id":"p"}`,
		fmt.Sprintf(condition, "c1", "https://ehr.example.org/R4"),
		fmt.Sprintf(condition, "c2", "https://EHR.example.org:443/R4"),
		fmt.Sprintf(condition, "c3", "Https://ehr.example.org:/R4"),
		fmt.Sprintf(condition, "f1", "https://ehr.example.org/r4"),
		fmt.Sprintf(condition, "f2", "https://ehr.example.org:8443/R4"),
		fmt.Sprintf(condition, "f3", "https://ehr.example.org.else/R4")))
	wantKeys(t, s, "p", "Patient/p", "Condition/c1", "Condition/c2", "Condition/c3")
}

// IN-1: conditional references and entries without ids, whichever file comes first.
func TestIN1ConditionalReferencesResolveWhenTheirTargetComes(t *testing.T) {
	dir := records.Cases(t, "conditional-references")
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		out := export(t, s, "21111111-1111-4111-8111-111111111111")
		types := map[string]int{}
		for key, r := range out {
			types[r["resourceType"].(string)]++
			performer, ok := r["performer"].([]any)
			if ok &&
				performer[0].(map[string]any)["reference"] !=
					"Practitioner/31111111-1111-4111-8111-111111111111" {
				t.Errorf("%s was performed by %v", key, performer)
			}
		}
		d := cmp.Diff(map[string]int{
			"Patient":      1,
			"Observation":  2,
			"Condition":    2,
			"Practitioner": 1,
		}, types)
		if d != "" {
			t.Error(d)
		}
		if out["Condition/c-from-url"] == nil ||
			out["Observation/41111111-1111-4111-8111-111111111111"] == nil {
			t.Errorf("ids: %v", keysOf(out))
		}
		before := keysOf(out)
		load(t, s, filepath.Join(dir, "b-later-results.json"), filepath.Join(dir, "a-patient.json"))
		wantKeys(t, s, "21111111-1111-4111-8111-111111111111", before...)
	}, filepath.Join(dir, "a-patient.json"), filepath.Join(dir, "b-later-results.json"))
}

// Each form of a conditional reference, also for types of the compartment.
func TestIN1ConditionalReferencesInEveryForm(t *testing.T) {
	dir := t.TempDir()
	targets := write(t, dir, "targets.ndjson",
		`{"resourceType":"Patient","id":"p","identifier":[{"system":"http://mrn","value":"A|1,`+
			`2"},{"value":"bare"}]}`,
		`{"resourceType":"Encounter","id":"e","identifier":[{"system":"urn:visits",`+
			`"value":"7+8"}],"subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"QuestionnaireResponse","id":"q","identifier":{"system":"urn:q",`+
			`"value":"1"},"subject":{"reference":"Patient/p"}}`)
	results := write(t, dir, "results.ndjson",
		`{"resourceType":"Observation","id":"o1",`+
			`"subject":{"reference":"Patient?identifier=http%3A%2F%2Fmrn%7CA%5C%7C1%5C%2C2"}}`,
		`{"resourceType":"Observation","id":"o2",`+
			`"subject":{"reference":"Patient?identifier=%7Cbare"}}`,
		`{"resourceType":"Observation","id":"o3",`+
			`"subject":{"reference":"Patient?identifier=bare"}}`,
		`{"resourceType":"Observation","id":"o4",`+
			`"encounter":{"reference":"Encounter?identifier=urn:visits|7+8"},`+
			`"derivedFrom":[{"reference":"QuestionnaireResponse?identifier=urn:q|1"}]}`,
		`{"resourceType":"Observation","id":"n1",`+
			`"subject":{"reference":"Patient?identifier=http://other|bare"}}`,
		`{"resourceType":"Observation","id":"n2",`+
			`"subject":{"reference":"Patient?identifier=|A\\|1\\,2"}}`,
		`{"resourceType":"Observation","id":"n3","subject":{"reference":"Patient?name=x"}}`,
		`{"resourceType":"Observation","id":"n4",`+
			`"subject":{"reference":"https://ehr.example.org/Patient?identifier=\"|\\\\"}}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		out := wantKeys(t, s, "p", "Patient/p", "Encounter/e", "QuestionnaireResponse/q",
			"Observation/o1", "Observation/o2", "Observation/o3", "Observation/o4")
		got := fmt.Sprint(out["Observation/o4"]["encounter"], out["Observation/o4"]["derivedFrom"])
		if got != "map[reference:Encounter/e] [map[reference:QuestionnaireResponse/q]]" {
			t.Errorf("o4 refers to %s", got)
		}
	}, targets, results)
}

// A logical reference (https://hl7.org/fhir/R4/references.html#logical) determines the owner of
// a resource: not the patient of its bundle, and in any order of imports.
func TestIN1LogicalReferencesSayWhoseAResourceIs(t *testing.T) {
	dir := t.TempDir()
	patients := write(t, dir, "1.ndjson",
		`{"resourceType":"Patient","id":"p1","identifier":[{"system":"urn:m","value":"1|,`+
			`\\ &%+"}]}`,
		`{"resourceType":"Patient","id":"p2","identifier":[{"value":"2"}]}`,
		`{"resourceType":"Encounter","id":"e","identifier":[{"system":"urn:v","value":"7"}],`+
			`"subject":{"reference":"Patient/p1"}}`)
	one := `{"system":"urn:m","value":"1|,\\ &%+"}`
	results := write(t, dir, "2.ndjson",
		`{"subject":{"identifier":`+one+`},"resourceType":"Observation","id":"o1"}`,
		`{"resourceType":"Observation","id":"o2","subj\u0065ct":{"id\u0065ntifier":{"value":"2"}}}`,
		`{"resourceType":"Observation","id":"o3","encounter":{"identifier":{"system":"urn:v",`+
			`"value":"7"}}}`,
		`{"resourceType":"Observation","id":"o4",`+
			`"subject":{"reference":"https://else.org/Patient/9",`+
			`"identifier":{"value":"2","assigner":{"identifier":{"value":"9"}}}}}`,
		`{"resourceType":"Appointment","id":"a",`+
			`"participant":[{"actor":{"reference":"Patient/p1"}},`+
			`{"actor":{"type":"Patient","identifier":{"value":"2"}}}]}`,
		`{"resourceType":"Provenance","id":"v","target":[{"type":"Encounter",`+
			`"identifier":{"system":"urn:v","value":"7"}}]}`,
		`{"resourceType":"Observation","id":"n1","subject":{"type":"Device",`+
			`"identifier":{"value":"2"}}}`,
		`{"resourceType":"Observation","id":"n2","subject":{"identifier":{"system":"urn:x",`+
			`"value":"2"}}}`)
	bundle := write(t, dir, "3.json", `{"resourceType":"Bundle","type":"collection","entry":[
		{"resource":{"resourceType":"Patient","id":"p3"}},
		{"resource":{"resourceType":"Condition","id":"c1","subject":{"identifier":`+one+`}}},
		{"resource":{"resourceType":"Condition","id":"c2","subject":{"reference":"Patient/p2",
			"identifier":`+one+`}}},
		{"resource":{"resourceType":"Condition","id":"n3","subject":{"identifier":{"value":"9"}}}}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "p1", "Patient/p1", "Encounter/e", "Observation/o1", "Observation/o3",
			"Appointment/a", "Provenance/v", "Condition/c1")
		wantKeys(t, s, "p2", "Patient/p2", "Observation/o2", "Observation/o4", "Appointment/a",
			"Condition/c2")
		wantKeys(t, s, "p3", "Patient/p3")
	}, patients, results, bundle)
}

// A resource of several patients is in the record of each, however it names them.
func TestIN1PatientsByIDAndByNameShareAResource(t *testing.T) {
	dir := t.TempDir()
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		for _, p := range []string{"p1", "p2"} {
			wantKeys(t, s, p, "Patient/"+p, "Appointment/a")
		}
	},
		write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p1"}`,
			`{"resourceType":"Patient","id":"p2","identifier":[{"system":"m","value":"2"}]}`),
		write(t, dir, "2.ndjson",
			`{"resourceType":"Appointment","id":"a",`+
				`"participant":[{"actor":{"reference":"Patient?identifier=m|2"}},`+
				`{"actor":{"reference":"Patient/p1"}}]}`))
}

// A reference that may mean two patients means neither. One that may mean two practitioners
// always means the same one.
func TestIN1AmbiguousConditionalReferences(t *testing.T) {
	dir := t.TempDir()
	one := write(t, dir, "1.ndjson",
		`{"resourceType":"Patient","id":"p1","identifier":[{"system":"m","value":"1"}]}`,
		`{"resourceType":"Practitioner","id":"d2","identifier":[{"system":"n","value":"1"}]}`)
	result := write(t, dir, "2.ndjson",
		`{"resourceType":"Observation","id":"o","subject":{"reference":"Patient?identifier=m|1"}}`,
		`{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p1"},`+
			`"recorder":{"reference":"Practitioner?identifier=n|1"}}`)
	two := write(t, dir, "3.ndjson",
		`{"resourceType":"Patient","id":"p2","identifier":[{"system":"m","value":"1"}]}`,
		`{"resourceType":"Practitioner","id":"d1","identifier":[{"system":"n","value":"1"}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "p1", "Patient/p1", "Condition/c", "Practitioner/d1")
		wantKeys(t, s, "p2", "Patient/p2")
		// Once a link says which of the two survives, the reference is unambiguous.
		load(t, s,
			write(t, t.TempDir(), "4.ndjson",
				`{"resourceType":"Patient","id":"p1","identifier":[{"system":"m","value":"1"}],`+
					`"link":[{"type":"replaced-by","other":{"reference":"Patient/p2"}}],`+
					`"meta":{"versionId":"2"}}`))
		wantKeys(t, s, "p2", "Patient/p1", "Patient/p2", "Condition/c", "Practitioner/d1",
			"Observation/o")
	}, one, result, two)
}

// A conditional update is a state of what its search finds, in any order.
func TestIN1AConditionalUpdateIsAStateOfWhatItFinds(t *testing.T) {
	dir := t.TempDir()
	patient := write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"Observation","id":"o","meta":{"lastUpdated":"2024-01-01T00:00:00Z"},`+
			`"status":"preliminary","identifier":[{"system":"x","value":"1"}],`+
			`"subject":{"reference":"Patient/p"}}`)
	update := write(t, dir, "2.json", `{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:66666666-0000-4000-8000-000000000001","resource":{"resourceType":"Observation","meta":{"lastUpdated":"2024-02-01T00:00:00Z"},"status":"final","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"Observation?identifier=x|1"}},
{"resource":{"resourceType":"DiagnosticReport","id":"r","subject":{"reference":"Patient/p"},"result":[{"reference":"urn:uuid:66666666-0000-4000-8000-000000000001"}]},"request":{"method":"PUT","url":"DiagnosticReport/r"}}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		out := wantKeys(t, s, "p", "Patient/p", "Observation/o", "DiagnosticReport/r")
		if out["Observation/o"]["status"] != "final" ||
			fmt.Sprint(out["DiagnosticReport/r"]["result"]) != "[map[reference:Observation/o]]" {
			t.Errorf("the record is %v", out)
		}
	}, patient, update)
}

// Entries without a name get an id of their own, the same one each time, and never that of
// another bundle's entry.
func TestIN1EntriesWithoutIDsGetOne(t *testing.T) {
	dir := t.TempDir()
	bundle := func(name, note string) string {
		return write(t, dir, name, `{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","name":[{"family":"Smith"}]},"request":{"method":"POST","url":"Patient"}},
{"resource":{"resourceType":"Condition","subject":{"reference":"urn:uuid:1"},"code":{"text":"`+note+`"}},"request":{"method":"POST","url":"Condition"}},
{"resource":{"resourceType":"Condition","subject":{"reference":"urn:uuid:1"},"code":{"text":"`+note+`"}},"request":{"method":"POST","url":"Condition"}}]}`)
	}
	s := openStore(t, t.TempDir())
	load(t, s, bundle("1.json", "one"), bundle("2.json", "two"))
	load(t, s, bundle("3.json", "one")) // again
	patients, err := s.Patients(t.Context(), 10)
	if err != nil || len(patients) != 2 {
		t.Fatalf("patients: %v, %v", patients, err)
	}
	for _, p := range patients {
		out := export(t, s, p.ID)
		notes := map[string]int{}
		for _, r := range out {
			if code, ok := r["code"].(map[string]any); ok {
				notes[code["text"].(string)]++
			}
		}
		if len(out) != 3 || len(notes) != 1 {
			t.Errorf("the record of %s is %v", p.ID, out)
		}
	}
}

func TestIN1IDsComeFromURLs(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s,
		write(t, t.TempDir(), "b.json", `{"resourceType":"Bundle","type":"transaction","entry":[
{"resource":{"resourceType":"Patient"},"request":{"method":"PUT","url":"Patient/p"}},
{"resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"https://x.example.org/fhir/Condition/c1"}},
{"resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"/Condition/c2"}},
{"resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"Condition?_id=c3"}},
{"fullUrl":"https://x.example.org/fhir/Condition/c4","resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},"request":{"method":"POST","url":"Condition"}},
{"fullUrl":"urn:oid:1.2.3","resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},"request":{"method":"POST","url":"Condition"}},
{"resource":{"resourceType":"Condition","id":"other","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"Condition/c5"}},
{"resource":{"resourceType":"Binary","data":"eA=="},"request":{"method":"PATCH","url":"Condition/c1"}},
{"request":{"method":"GET","url":"Condition/c1"}}]}`,
		),
		write(t, t.TempDir(), "r.json",
			`{"resourceType":"Bundle","type":"transaction-response","entry":[
{"resource":{"resourceType":"Condition","subject":{"reference":"Patient/p"}},"response":{"status":"201","location":"Condition/c6/_history/1"}},
{"resource":{"resourceType":"OperationOutcome"},"response":{"status":"404"}},
{"response":{"status":"204"}}]}`))
	wantKeys(t, s, "p", "Patient/p", "Condition/c1", "Condition/c2", "Condition/c3", "Condition/c4",
		"Condition/1.2.3", "Condition/c6")
	if len(rep.Bad) != 2 || rep.Bad[0].Line != 8 || rep.Bad[1].Line != 9 {
		t.Errorf("problems: %v", rep.Bad)
	}
}

func TestIN3AHistoryIsNewestFirstAndDeletes(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, records.Cases(t, "history-bundle"))
	out := wantKeys(t, s, "ph", "Patient/ph")
	p, err := s.Patient(t.Context(), "ph")
	if err != nil || p.Name != "Newname" ||
		fmt.Sprint(out["Patient/ph"]["name"]) != "[map[family:Newname]]" {
		t.Errorf("the patient is %v, %v", p, err)
	}
}

// The newer state wins, for any order and kind of file.
func TestIN3NewerWins(t *testing.T) {
	state := func(meta, text string) string {
		return `{"resourceType":"Condition","id":"c",` + meta + `"code":{"text":"` + text +
			`"},"subject":{"reference":"Patient/p"}}`
	}
	in := func(typ, line string) string {
		return `{"resourceType":"Bundle","type":"` + typ + `","entry":[{"resource":` + line + `}]}`
	}
	entry := func(text, response string) string {
		return `{"resource":` + state("", text) +
			`,"request":{"method":"PUT","url":"Condition/c"},` +
			`"response":{"status":"200",` + response + `}}`
	}
	bare := func(text, response string) string {
		return `{"resourceType":"Bundle","type":"history","entry":[` + entry(text, response) + `]}`
	}
	deleted := func(typ, at string) string {
		return `{"resourceType":"Bundle","type":"` + typ +
			`","entry":[{"request":{"method":"DELETE","url":"Condition/c"},` +
			`"response":{"status":"204"` + at + `}}]}`
	}
	for name, c := range map[string]struct {
		older, newer string
		want         string // "" if it is deleted
	}{
		"lastUpdated": {
			state(`"meta":{"lastUpdated":"2024-01-01T00:00:00Z","versionId":"9"},`, "old"),
			state(`"meta":{"lastUpdated":"2024-01-01T00:00:00.001Z","versionId":"1"},`, "new"),
			"new",
		},
		"time zones": {
			state(`"meta":{"lastUpdated":"2024-01-01T23:00:00+05:00"},`, "old"),
			state(`"meta":{"lastUpdated":"2024-01-01T19:00:00Z"},`, "new"),
			"new",
		},
		"versionId": {
			state(`"meta":{"versionId":"9"},`, "old"),
			state(`"meta":{"versionId":"10"},`, "new"),
			"new",
		},
		"none is the oldest": {state("", "old"), state(`"meta":{"versionId":"1"},`,
			"new"), "new"},
		"odd meta": {
			state(`"meta":{"lastUpdated":"yesterday","versionId":7},`, "old"),
			state(`"meta":{"lastUpdated":"2024-01-01T00:00:00Z"},`, "new"),
			"new",
		},
		"meta that is none": {
			state(`"meta":"x",`, "old"),
			state(`"meta":{"lastUpdated":"2024-01-01T00:00:00Z"},`, "new"),
			"new",
		},
		"a document": {
			in("document", state(`"meta":{"lastUpdated":"2024-01-01T00:00:00Z"},`, "old")),
			state(`"meta":{"lastUpdated":"2024-01-02T00:00:00Z"},`, "new"),
			"new",
		},
		"a collection of the same": {
			in("collection", state(`"meta":{"versionId":"1"},`, "copy")),
			state(`"meta":{"versionId":"1"},`, "live"),
			"live",
		},
		"an older DELETE": {
			deleted("history", `,"lastModified":"2024-01-01T00:00:00Z"`),
			state(`"meta":{"lastUpdated":"2024-01-02T00:00:00Z"},`, "new"),
			"new",
		},
		"a newer DELETE": {
			state(`"meta":{"lastUpdated":"2024-01-02T00:00:00Z"},`, "old"),
			deleted("history", `,"lastModified":"2024-01-03T00:00:00Z"`),
			"",
		},
		"a DELETE by version": {
			state(`"meta":{"versionId":"2","lastUpdated":"2024-01-02T00:00:00Z"},`, "old"),
			deleted("transaction", `,"etag":"W/\"3\""`),
			"",
		},
		"lastModified of an entry": {
			bare("old", `"lastModified":"2024-01-01T00:00:00Z"`),
			bare("new", `"lastModified":"2024-01-02T00:00:00Z"`), "new"},
		"etag of an entry": {bare("old", `"etag":"W/\"9\""`), bare("new",
			`"etag":"W/\"10\""`), "new"},
		"location of an entry": {
			bare("old", `"location":"Condition/c/_history/9"`),
			bare("new", `"location":"Condition/c/_history/10"`), "new"},
		"an entry and meta": {
			bare("old", `"lastModified":"2024-01-01T00:00:00Z"`),
			state(`"meta":{"lastUpdated":"2024-01-02T00:00:00Z"},`, "new"), "new"},
		"meta and an entry": {
			state(`"meta":{"lastUpdated":"2024-01-01T00:00:00Z","versionId":"9"},`, "old"),
			bare("new", `"lastModified":"2024-01-02T00:00:00Z","etag":"W/\"1\""`), "new"},
		"nothing and an entry": {state("", "old"), bare("new", `"etag":"W/\"1\""`), "new"},
		"an entry and a copy": {
			in("document", state("", "old")),
			bare("new", `"lastModified":"2024-01-02T00:00:00Z"`),
			"new"},
		"an entry and a newer DELETE": {
			bare("old", `"lastModified":"2024-01-02T00:00:00Z"`),
			deleted("history", `,"lastModified":"2024-01-03T00:00:00Z"`), ""},
		"an entry and an older DELETE": {
			deleted("history", `,"lastModified":"2024-01-02T00:00:00Z"`),
			bare("new", `"lastModified":"2024-01-03T00:00:00Z"`), "new"},
		"a leap second": {
			bare("old", `"lastModified":"2016-12-31T23:59:59.9Z"`),
			bare("new", `"lastModified":"2016-12-31T23:59:60Z"`), "new"},
		"after a leap second": {
			state(`"meta":{"lastUpdated":"2016-12-31T23:59:60.9Z","versionId":"2"},`, "old"),
			state(`"meta":{"lastUpdated":"2017-01-01T00:00:00Z","versionId":"1"},`, "new"), "new"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			patient := write(t, dir, "p.ndjson", `{"resourceType":"Patient","id":"p"}`)
			inBoth(t, func(t *testing.T, s *dataset.Store) {
				for range 2 {
					out := export(t, s, "p")
					got := ""
					if c := out["Condition/c"]; c != nil {
						got = c["code"].(map[string]any)["text"].(string)
					}
					if got != c.want {
						t.Errorf("the condition is %q, want %q", got, c.want)
					}
					load(t, s, write(t, dir, "again.ndjson", c.older)) // changes nothing
				}
			}, write(t, dir, "1.ndjson", c.older), patient, write(t, dir, "2.ndjson", c.newer))
		})
	}
}

// Three Bundles have the history of one resource, without a date in meta. In any order, the
// newest state is kept, even if it equals the first one.
func TestIN3HistoriesWithoutMetaComeInAnyOrder(t *testing.T) {
	bundle := func(text, at string) string {
		return `{"resourceType":"Bundle","type":"history",` +
			`"entry":[{"resource":{"resourceType":"Condition",` +
			`"id":"c","code":{"text":"` + text + `"},"subject":{"reference":"Patient/p"}},` +
			`"request":{"method":"PUT","url":"Condition/c"},"response":{"status":"200",` +
			`"lastModified":"` + at + `"}}]}`
	}
	for _, last := range []string{"third", "first"} {
		dir := t.TempDir()
		files := []string{
			write(t, dir, "1.json", bundle("first", "2024-01-01T00:00:00Z")),
			write(t, dir, "2.json", bundle("second", "2024-01-02T00:00:00Z")),
			write(t, dir, "3.json", bundle(last, "2024-01-03T00:00:00Z")),
			write(t, dir, "p.ndjson", `{"resourceType":"Patient","id":"p"}`),
		}
		for _, order := range [][]int{
			{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0},
		} {
			s := openStore(t, t.TempDir())
			load(t, s, files[3])
			for _, n := range order {
				load(t, s, files[n])
			}
			got := fmt.Sprint(export(t, s, "p")["Condition/c"]["code"])
			if got != "map[text:"+last+"]" {
				t.Errorf("in order %v the condition is %s, want %s", order, got, last)
			}
		}
	}
}

// If nothing says which state is newer, the later one in the import wins; then a DELETE is a
// command.
func TestIN3TheLaterWinsWhereNothingElseDecides(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	condition := func(text string) string {
		return `{"resourceType":"Condition","id":"c","code":{"text":"` + text +
			`"},"subject":{"reference":"Patient/p"}}`
	}
	remove := `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"DELETE",` +
		`"url":"Condition/c"}}]}`
	load(t, s,
		write(t, dir, "1.ndjson", `{"resourceType":"Patient","id":"p"}`, condition("one"),
			condition("two")))
	out := wantKeys(t, s, "p", "Patient/p", "Condition/c")
	if fmt.Sprint(out["Condition/c"]["code"]) != "map[text:two]" {
		t.Errorf("the condition is %v", out["Condition/c"])
	}
	load(t, s, write(t, dir, "2.ndjson", remove))
	wantKeys(t, s, "p", "Patient/p")
	load(t, s, write(t, dir, "3.ndjson", condition("three"), remove, condition("four")))
	wantKeys(t, s, "p", "Patient/p", "Condition/c")
}

func TestIN3DeletesTakeBackAllThatWasSaid(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	load(t, s,
		write(t, dir, "1.ndjson",
			`{"resourceType":"Patient","id":"p",`+
				`"managingOrganization":{"reference":"Organization/o"}}`,
			`{"resourceType":"Organization","id":"o","identifier":[{"value":"x"}]}`,
			`{"resourceType":"Observation","id":"b","subject":{"reference":"Patient/p"}}`,
			`{"resourceType":"Provenance","id":"v","target":[{"reference":"Observation/b"}]}`))
	wantKeys(t, s, "p", "Patient/p", "Organization/o", "Observation/b", "Provenance/v")
	rep := load(t, s,
		write(t, dir, "2.json",
			`{"resourceType":"Bundle","type":"transaction",`+
				`"entry":[{"request":{"method":"DELETE","url":"Organization/o"}},`+
				`{"request":{"method":"DELETE","url":"Observation/b"}}]}`))
	wantKeys(t, s, "p", "Patient/p")
	if rec, err := s.Open(t.Context(), "p"); err != nil || rec.Complete() || rec.Total() != 1 {
		t.Errorf("the record: %+v, %v", rec, err)
	} else if err := rec.Close(); err != nil {
		t.Error(err)
	}
	d := cmp.Diff(source.Unplaced{"Provenance": {Count: 1, Example: "Provenance/v"}}, rep.Unplaced)
	if d != "" {
		t.Error(d)
	}
	load(t, s,
		write(t, dir, "3.json",
			`{"resourceType":"Bundle","type":"transaction",`+
				`"entry":[{"request":{"method":"DELETE","url":"Patient/p"}}]}`))
	if _, err := s.Open(t.Context(), "p"); err == nil {
		t.Error("a deleted patient's record opens")
	}
}

// Version 10 is deleted, so version 9 does not come back: versions are numbers, not texts.
func TestIN3ADeletedVersionStaysDeletedWhenAnOlderOneComesAgain(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	patient := `{"resourceType":"Patient","id":"p"}`
	ninth := `{"resourceType":"Condition","id":"c","meta":{"versionId":"9",` +
		`"lastUpdated":"2024-01-02T00:00:00Z"},"subject":{"reference":"Patient/p"}}`
	load(t, s, write(t, dir, "1.ndjson", patient, ninth))
	wantKeys(t, s, "p", "Patient/p", "Condition/c")
	load(t, s, write(t, dir, "2.json", `{"resourceType":"Bundle","type":"transaction","entry":[
{"request":{"method":"DELETE","url":"Condition/c"},"response":{"status":"204","etag":"W/\"10\""}}]}`))
	wantKeys(t, s, "p", "Patient/p")
	load(t, s, write(t, dir, "3.ndjson", ninth))
	wantKeys(t, s, "p", "Patient/p")
}

func TestEachTypeOfBundleHasItsRules(t *testing.T) {
	for typ, want := range map[string]int{
		"document": 2, "message": 2, "transaction": 2, "transaction-response": 2, "batch": 2,
		"batch-response": 2, "history": 2,
		"searchset": 2, "collection": 2, "subscription-notification": 0,
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, write(t, t.TempDir(), "b.json", `{"resourceType":"Bundle","entry":[
{"resource":{"resourceType":"Patient","id":"p"},"request":{"method":"PUT","url":"Patient/p"},"response":{"status":"200"}},
{"resource":{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p"}}},{"search":{"mode":"outcome"},"resource":{"resourceType":"OperationOutcome"}}]},"request":{"method":"POST","url":"Bundle"}}],
"type":"`+typ+`"}`))
		if want == 0 {
			if len(rep.Bad) != 1 || !strings.Contains(rep.Bad[0].Why, typ) {
				t.Errorf("%s: problems %v", typ, rep.Bad)
			}
			continue
		}
		if out := export(t, s, "p"); len(out) != want || rep.Problems > 0 {
			t.Errorf("%s: the record holds %v; problems %v", typ, keysOf(out), rep.Bad)
		}
	}
}

func TestIN4WhatBelongsToNobodyIsCounted(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	results := write(t, dir, "1.ndjson",
		`{"resourceType":"Observation","id":"o2","subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"Observation","id":"o1"}`,
		`{"resourceType":"Condition","id":"c",`+
			`"subject":{"reference":"https://elsewhere.example.org/Patient/p"}}`,
		`{"resourceType":"Practitioner","id":"d"}`,
		`{"resourceType":"Provenance","id":"v","target":[{"reference":"Observation/o2"}]}`)
	rep := load(t, s, results)
	want := source.Unplaced{
		"Observation": {Count: 2, Example: "Observation/o1"},
		"Condition":   {Count: 1, Example: "Condition/c"},
		"Provenance":  {Count: 1, Example: "Provenance/v"},
	}
	if d := cmp.Diff(want, rep.Unplaced); d != "" {
		t.Error(d)
	}
	patient := write(t, dir, "2.ndjson", `{"resourceType":"Patient","id":"p"}`)
	_, err := s.Import(t.Context(), []string{patient}, source.ImportOptions{
		Strict: true,
		Now:    time.Now(),
	})
	if err == nil ||
		!strings.Contains(err.Error(),
			"1 Condition (Condition/c), 1 Observation (Observation/o1)") {
		t.Errorf("a strict import: %v", err)
	}
	wantKeys(t, s, "p", "Patient/p", "Observation/o2", "Provenance/v")
}

// A link counts in any spelling of its JSON.
func TestLinksSpelledWithEscapesMergeRecords(t *testing.T) {
	lines := write(t, t.TempDir(), "1.ndjson", `{"resourceType":"Patient","id":"a"}`,
		`{"resourceType":"Patient","id":"b","l\u0069nk":[{"typ\u0065":"replac\u0065d-by",`+
			`"oth\u0065r":{"r\u0065ference":"Patient\/a"}}]}`,
		`{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/b"}}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "a", "Patient/a", "Patient/b", "Observation/o")
	}, lines)
}

func TestTheSurvivorsRecordHoldsThoseOfTheReplaced(t *testing.T) {
	dir := t.TempDir()
	records := write(t, dir, "1.ndjson",
		`{"resourceType":"Patient","id":"a","link":[{"type":"replaced-by",`+
			`"other":{"reference":"Patient/b"}}]}`,
		`{"resourceType":"Patient","id":"b"}`,
		`{"resourceType":"Patient","id":"c","link":[{"type":"replaces",`+
			`"other":{"reference":"Patient/b"}},{"type":"seealso",`+
			`"other":{"reference":"Patient/z"}}]}`,
		`{"resourceType":"Patient","id":"z"}`,
		`{"resourceType":"Condition","id":"cz","subject":{"reference":"Patient/z"}}`,
		`{"resourceType":"Organization","id":"o"}`)
	others := write(t, dir, "2.ndjson",
		`{"resourceType":"Condition","id":"ca","subject":{"reference":"Patient/a"},`+
			`"recorder":{"reference":"Organization/o"}}`,
		`{"resourceType":"Condition","id":"cb","subject":{"reference":"Patient/b"}}`,
		`{"resourceType":"Condition","id":"cc","subject":{"reference":"Patient/c"}}`,
		`{"resourceType":"Appointment","id":"both",`+
			`"participant":[{"actor":{"reference":"Patient/a"}},`+
			`{"actor":{"reference":"Patient/c"}}]}`)
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		out := wantKeys(t, s, "c", "Patient/a", "Patient/b", "Patient/c", "Condition/ca",
			"Condition/cb", "Condition/cc", "Appointment/both", "Organization/o")
		if out["Patient/a"]["link"] == nil {
			t.Error("the link is gone")
		}
		wantKeys(t, s, "b", "Patient/a", "Patient/b", "Condition/ca", "Condition/cb",
			"Appointment/both", "Organization/o")
		wantKeys(t, s, "a", "Patient/a", "Condition/ca", "Appointment/both", "Organization/o")
		wantKeys(t, s, "z", "Patient/z", "Condition/cz")
		line, err := s.Resource(t.Context(), "c", "Condition", "ca")
		if err != nil || !strings.Contains(string(line), `"ca"`) {
			t.Errorf("a resource of the survivor: %s, %v", line, err)
		}
		if line, err := s.Resource(t.Context(), "a", "Condition", "cc"); err == nil {
			t.Errorf("the replaced reads the survivor's %s", line)
		}
		p := freeze(t, s, "job")
		seen := map[string]bool{}
		for _, line := range linesOf(t, p) {
			if seen[line] {
				t.Errorf("twice in the population: %s", line)
			}
			seen[line] = true
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		// A cycle does no harm, and removing a link removes the record.
		load(t, s,
			write(t, t.TempDir(), "3.ndjson",
				`{"resourceType":"Patient","id":"a","meta":{"versionId":"2"}}`,
				`{"resourceType":"Patient","id":"b","meta":{"versionId":"2"},`+
					`"link":[{"type":"replaces","other":{"reference":"Patient/c"}}]}`))
		wantKeys(t, s, "a", "Patient/a", "Condition/ca", "Appointment/both", "Organization/o")
		wantKeys(t, s, "b", "Patient/b", "Patient/c", "Condition/cb", "Condition/cc",
			"Appointment/both")
		wantKeys(t, s, "c", "Patient/b", "Patient/c", "Condition/cb", "Condition/cc",
			"Appointment/both")
	}, records, others)
}

// A large import also tracks owners correctly: the last state of each resource counts.
func TestIN3AnOwnerThatChangesTakesAlongWhatIsAboutItInALargeImport(t *testing.T) {
	s := openStore(t, t.TempDir())
	lines := []string{`{"resourceType":"Patient","id":"p"}`, `{"resourceType":"Patient","id":"q"}`}
	for n := range 6000 { // more than are looked up individually
		lines = append(lines,
			fmt.Sprintf(`{"resourceType":"Goal","id":"g%d","subject":{"reference":"Patient/p"}}`,
				n))
	}
	encounter := func(id, version, patient string) string {
		return `{"resourceType":"Encounter","id":"` + id + `","meta":{"versionId":"` + version +
			`"},"subject":{"reference":"Patient/` + patient + `"}}`
	}
	about := func(id, target string) string {
		return `{"resourceType":"Provenance","id":"` + id + `","target":[{"reference":"` + target +
			`"}]}`
	}
	lines = append(lines, encounter("moved", "1", "p"), encounter("kept", "1", "p"),
		encounter("moved", "2", "q"),
		about("m", "Encounter/moved"), about("k", "Encounter/kept"), about("g", "Goal/g1"))
	load(t, s, write(t, t.TempDir(), "1.ndjson", lines...))
	wantKeys(t, s, "q", "Patient/q", "Encounter/moved", "Provenance/m")
	out := export(t, s, "p")
	if len(out) != 6004 || out["Provenance/k"] == nil || out["Provenance/g"] == nil {
		t.Errorf("the record of p has %d resources, want 6004 with its Provenances", len(out))
	}
}

// A resource about another one that a bundle calls by a urn follows that one when it gets or
// loses its owner.
func TestIN3WhatIsAboutAURNFollowsItsOwner(t *testing.T) {
	dir := t.TempDir()
	const urn = "urn:uuid:77777777-0000-4000-8000-000000000001"
	chain := []string{
		write(t, dir, "1.ndjson",
			`{"resourceType":"Task","id":"t","for":{"reference":"Patient?identifier=m|1"}}`),
		write(t, dir, "2.json",
			`{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"`+urn+`",
			"resource":{"resourceType":"Provenance","id":"v","target":[{"reference":"Task/t"}]}}]}`),
		write(t, dir, "3.ndjson",
			`{"resourceType":"AuditEvent","id":"a","entity":[{"what":{"reference":"`+urn+`"}}]}`),
		write(t, dir, "4.ndjson",
			`{"resourceType":"Patient","id":"p","identifier":[{"system":"m","value":"1"}]}`),
	}
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "p", "Patient/p", "Task/t", "Provenance/v", "AuditEvent/a")
		// The owner of the task is no longer known.
		load(t, s, write(t, t.TempDir(), "5.ndjson",
			`{"resourceType":"Patient","id":"q","identifier":[{"system":"m","value":"1"}]}`))
		wantKeys(t, s, "p", "Patient/p")
		wantKeys(t, s, "q", "Patient/q")
	}, chain...)
}

// A urn:oid: without arcs numbers the entries of its bundle. Equal numbers in other bundles are
// other resources.
func TestIN1EntriesNumberedByURNsDoNotMix(t *testing.T) {
	dir := t.TempDir()
	bundle := func(name, family string) string {
		return write(t, dir, name, `{"resourceType":"Bundle","type":"transaction","entry":[
			{"fullUrl":"urn:oid:1","resource":{"resourceType":"Patient","name":[{"family":"`+family+`"}]},
				"request":{"method":"POST","url":"Patient"}},
			{"resource":{"resourceType":"Condition","subject":{"reference":"urn:oid:1"}},
				"request":{"method":"POST","url":"Condition"}}]}`)
	}
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		patients, err := s.Patients(t.Context(), 10)
		if err != nil || len(patients) != 2 {
			t.Fatalf("patients: %v, %v", patients, err)
		}
		for _, p := range patients {
			if out := export(t, s, p.ID); len(out) != 2 {
				t.Errorf("the record of %s is %v", p.ID, keysOf(out))
			}
		}
	}, bundle("1.json", "Smith"), bundle("2.json", "Jones"))
}

// If two patients share an identifier and one was merged into the other, its meaning depends on
// the name in that link, and on resources that get this name later.
func TestIN3WhoIsMeantDependsOnTheNamesInLinks(t *testing.T) {
	dir := t.TempDir()
	patient := func(id, more string, identifiers ...string) string {
		return `{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"m","value":"` +
			strings.Join(identifiers, `"},{"system":"m","value":"`) + `"}]` + more + `}`
	}
	link := `,"link":[{"type":"replaced-by","other":{"identifier":{"system":"m","value":"C"}}}]`
	pair := write(t, dir, "1.ndjson", patient("p0", link, "A"), patient("p1", "", "A", "C"),
		`{"resourceType":"Observation","id":"o","subject":{"reference":"Patient?identifier=m|A"}}`)
	third := write(t, dir, "2.ndjson", patient("p3", "", "C"))
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		for _, p := range []string{"p0", "p1", "p3"} {
			wantKeys(t, s, p, "Patient/"+p)
		}
		load(t, s, write(t, t.TempDir(), "3.ndjson",
			`{"resourceType":"Patient","id":"p3","meta":{"versionId":"2"}}`))
		wantKeys(t, s, "p1", "Patient/p0", "Patient/p1", "Observation/o")
	}, pair, third)
}
