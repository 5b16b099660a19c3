package e2e

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/records"
)

// The cases of shared/cases, each imported into an empty store and exported over HTTP.
// group-membership is in TestBULK8GroupsAreThoseOfTheTransactionTime.

// exportHas requires that an export has certain resources.
func exportHas(t *testing.T, got map[string]records.Resource, want ...string) {
	t.Helper()
	slices.Sort(want)
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(got))); d != "" {
		t.Errorf("exported (-want +got):\n%s", d)
	}
}

// IN-1: both notes come with the record, and are withheld with their documents.
func TestCaseAttachmentURLBinary(t *testing.T) {
	t.Parallel()
	w := startOn(t, records.Cases(t, "attachment-url-binary"))
	got, text := w.export("pa", nil)
	notes := []string{"<p>hello</p>", "hello"}
	for _, note := range notes {
		if !strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(note))) {
			t.Errorf("the note %q is not in the export: %s", note, text)
		}
	}
	exportHas(t, got, "Patient/pa", "DocumentReference/d1", "DocumentReference/d2",
		"Binary/note-000000000001", "Binary/note-000000000002")
	got, _ = w.export("pa", everything("dischargeSummary", "operative", "other", "medicalRecord"))
	exportHas(t, got, "Patient/pa")
}

// IN-1: a fullUrl identifies its entry, with and without a version. An entry with only an
// outcome is accepted.
func TestCaseBundleFullURLs(t *testing.T) {
	t.Parallel()
	w := startOn(t, records.Cases(t, "bundle-full-urls"))
	for patient, condition := range map[string]string{"pb": "cb", "pc": "cc"} {
		got, text := w.export(patient, nil)
		exportHas(t, got, "Patient/"+patient, "Condition/"+condition)
		if strings.Contains(text, "https://ehr.example.org") {
			t.Errorf("a reference to an entry of the bundle stays absolute: %s", text)
		}
	}
}

// IN-3: a history has the newest version first, and its DELETE deletes.
func TestCaseHistoryBundle(t *testing.T) {
	t.Parallel()
	w := startOn(t, records.Cases(t, "history-bundle"))
	got, text := w.export("ph", nil)
	exportHas(t, got, "Patient/ph")
	if !strings.Contains(text, "Newname") || strings.Contains(text, "Oldname") {
		t.Error(text)
	}
}

// IN-4: a byte order mark is accepted. Text that is not UTF-8 is never exported.
func TestCaseEncodings(t *testing.T) {
	t.Parallel()
	dir := records.Cases(t, "encodings")
	w := startOn(t, dir)
	lines, err := os.ReadFile(filepath.Join(dir, "bom.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	got, text := w.export("bom1", nil)
	if want := strings.Count(string(lines), `"resourceType"`); len(got) != want {
		t.Errorf("%d of %d resources of bom.ndjson: %v", len(got), want, got)
	}
	if !utf8.ValidString(text) {
		t.Errorf("exported: %q", text)
	}
	all, _ := w.bulk(w.service("system/*.rs"), http.MethodGet, "/fhir/$export", nil)
	if all["Patient/lat1"] != nil {
		t.Error("a line that is no UTF-8 is exported")
	}
}

// IN-1: a conditional reference points to the resource with the identifier, even if that comes
// later.
func TestCaseConditionalReferences(t *testing.T) {
	t.Parallel()
	dir := records.Cases(t, "conditional-references")
	patient, results :=
		filepath.Join(dir, "a-patient.json"), filepath.Join(dir, "b-later-results.json")
	for _, order := range [][]string{{patient, results}, {results, patient}} {
		w := startOn(t, order...)
		got, text := w.export("21111111-1111-4111-8111-111111111111", nil)
		types := map[string]int{}
		for _, r := range got {
			types[r["resourceType"].(string)]++
		}
		want := map[string]int{"Patient": 1, "Observation": 2, "Condition": 2, "Practitioner": 1}
		if d := cmp.Diff(want, types); d != "" {
			t.Errorf("%s first: %s", filepath.Base(order[0]), d)
		}
		unresolved := strings.Contains(text, "identifier=") || strings.Contains(text, "urn:uuid:")
		if unresolved || got["Condition/c-from-url"] == nil {
			t.Errorf("%s first: %s", filepath.Base(order[0]), text)
		}
	}
}

// BULK-1: the export includes the Provenance about its output.
func TestCaseRelevantProvenance(t *testing.T) {
	t.Parallel()
	w := startOn(t, records.Cases(t, "relevant-provenance"))
	c := w.service("system/*.rs system/$ehi-export")
	got, _ := w.bulk(c, http.MethodGet,
		"/fhir/$export?_type=Observation&_typeFilter=Observation%3Fstatus%3Dfinal"+
			"&includeAssociatedData=RelevantProvenanceResources", nil)
	exportHas(t, got, "Observation/elo1", "Provenance/elp1")
}

// IN-2: the patient compartment is the one of R4.
func TestCaseCompartment(t *testing.T) {
	t.Parallel()
	w := startOn(t, records.Cases(t, "compartment"))
	got, _ := w.export("sup1", nil)
	for _, key := range []string{
		"Patient/sup1", "SupplyRequest/sr-deliver", "ImagingStudy/im1", "Practitioner/p9",
		"Device/dev-sup1",
		"Contract/con1", "Binary/bin-sec1", "Task/task-focus", "Linkage/link1",
		"BiologicallyDerivedProduct/bdp1",
	} {
		if got[key] == nil {
			t.Errorf("%s is not in the record", key)
		}
	}
	if got["Substance/sub1"] != nil {
		t.Error("what is nobody's is in the record")
	}
}

// EHI-9: labelled resources are withheld, and their Provenance too, however its keys are
// spelled.
func TestCaseReleaseLeaks(t *testing.T) {
	t.Parallel()
	w := startOn(t, records.Cases(t, "release-leaks"))
	got, text := w.export("rel-patient-0001",
		everything("a:hiv", "a:alcoholAndDrug", "a:mentalHealth",
			"a:confidential", "a:domesticViolence", "a:sexualAssault", "a:genetic", "a:other"))
	for _, key := range []string{
		"Observation/hiv-observation-withheld-0001", "MedicationRequest/mr-hiv-0001",
		"Condition/cond-escaped-0001", "Provenance/prov-order-0001", "DiagnosticReport/dr-absolute",
	} {
		if got[key] != nil {
			t.Errorf("%s was released", key)
		}
	}
	if got["Patient/rel-patient-0001"] == nil {
		t.Error("the patient is missing")
	}
	for _, leak := range []string{"LEAK", "SECRET", "LAB-777", "hiv-observation-withheld"} {
		if strings.Contains(text, leak) {
			t.Error(text)
		}
	}
}

// EHI-9: sensitive codes and labels are withheld; the control resource is not.
func TestCaseSensitiveSpellings(t *testing.T) {
	t.Parallel()
	dir := records.Cases(t, "sensitive-spellings")
	w := startOn(t, filepath.Join(dir, "records.ndjson"))
	data, err := os.ReadFile(filepath.Join(dir, "form.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f form
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	got, _ := w.export("sens", f)
	for key, released := range map[string]bool{
		"Patient/sens": true, "Condition/control-plain": true,
		"Condition/c1-cm-dot": false, "Condition/c2-cm-nodot": false, "Condition/c4-who": false,
		"Condition/l1-hiv-r4": false, "Condition/l2-hiv-stu3": false,
	} {
		if (got[key] != nil) != released {
			t.Errorf("%s: released is %v", key, !released)
		}
	}
}
