package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/shared/records"
)

// EHI-8, IN-6: without a form, a dangling reference causes nothing else to be left out: neither
// the text next to it nor parts of the record to which nothing refers, in exports of one patient
// and of all.
func TestEHI8AReferenceThatLeadsNowhereTakesNothingAlong(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "records.ndjson")
	if err := os.WriteFile(file, []byte(`{"resourceType":"Patient","id":"a"}
{"resourceType":"BiologicallyDerivedProduct","id":"graft","collection":{"source":{"reference":"Patient/a"}}}
{"resourceType":"MedicationRequest","id":"m","status":"active","intent":"order","subject":{"reference":"Patient/a"},`+
		`"medicationReference":{"reference":"Medication/none","display":"Warfarin 5 mg"}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startOn(t, file)
	one, text := w.export("a", nil)
	exportHas(t, one, "Patient/a", "MedicationRequest/m", "BiologicallyDerivedProduct/graft")
	all, _ := w.bulk(w.service("system/*.rs"), http.MethodGet, "/fhir/$export", nil)
	exportHas(t, all, "Patient/a", "MedicationRequest/m", "BiologicallyDerivedProduct/graft")
	if strings.Contains(text, "Medication/none") {
		t.Errorf("a reference leads nowhere: %s", text)
	}
	for _, got := range []map[string]records.Resource{one, all} {
		r, ok := got["MedicationRequest/m"]["medicationReference"].(map[string]any)
		if !ok || r["display"] != "Warfarin 5 mg" || r["reference"] != nil ||
			r["_reference"] == nil {
			t.Errorf("the drug is %v", r)
		}
	}
}
