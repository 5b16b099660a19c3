package release_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: a Binary goes only where something that goes refers to it, or where its securityContext leads
// to the patient and nothing that stays refers to it, in whatever spelling.
func TestEHI9ABinaryGoesOnlyWhereSomethingThatGoesLeadsToIt(t *testing.T) {
	const patient = `{"resourceType":"Patient","id":"p"}`
	binaries := map[string]string{
		"of the patient": `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Patient/p"},"data":"TEVBSw=="}`,
		"of nobody":      `{"resourceType":"Binary","id":"b","data":"TEVBSw=="}`,
		"of a stranger":  `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Patient/no"},"data":"TEVBSw=="}`,
	}
	urls := []string{
		"Binary/b", "/Binary/b", "/fhir/Binary/b", "fhir/Binary/b", "//h/fhir/Binary/b", "https://h/fhir/Binary/b/$op", "https://h/fhir/Binary/b/content",
		"Binary/b.pdf", "fhir/Binary/b.pdf?x=1", "Binary/b?x=1", "Binary/b/", "https://h/fhir/Binary/b?_format=json", "Binary//b", "/fhir/%42inary/b", "/fhir/Binary%2Fb",
		"https://h/Binary/b/_history/2/$x", "ftp://h/Binary/b", "urn:x:Binary/b", "Binary?_id=b", "https://h/fhir/Binary?x=1&_id=a,b", "Binary/?_id:exact=b#c", `\u0042inary\/b`,
	}
	everything := form()
	for _, c := range ehi.Categories() {
		everything.Parameters[c.Key] = ehi.Choice{}
	}
	goes := func(lines ...string) bool {
		t.Helper()
		out := released(t, review(t, everything, lines...), lines...)
		return slices.ContainsFunc(out, func(l string) bool { return strings.Contains(l, "TEVBSw") })
	}
	for whose, binary := range binaries {
		if got := goes(patient, binary); got != (whose == "of the patient") {
			t.Errorf("a Binary %s goes alone: %v", whose, got)
		}
		for _, url := range urls {
			for _, field := range []string{`"content":[{"attachment":{"url":%q}}]`, `"extension":[{"url":"x","valueUri":%q}]`, `"related":[{"reference":%q}]`} {
				field = strings.ReplaceAll(fmt.Sprintf(field, "URL"), "URL", url)
				withheld := `{"resourceType":"DocumentReference","id":"d",` + hivLabel + `,` + field + `}`
				if goes(patient, withheld, binary) || goes(binary, withheld, patient) {
					t.Errorf("a Binary %s goes where %s stays", whose, withheld)
				}
			}
			document := `{"resourceType":"DocumentReference","id":"d","content":[{"attachment":{"url":"` + url + `"}}]}`
			if !goes(patient, document, binary) {
				t.Errorf("a Binary %s stays where %s goes", whose, document)
			}
		}
	}
	if !goes(patient, binaries["of the patient"], `{"resourceType":"DocumentReference","id":"d",`+hivLabel+`,"content":[{"attachment":{"url":"NoBinary/b"}}]}`) {
		t.Error("a Binary stays for what does not name it")
	}
}
