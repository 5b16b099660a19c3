package release_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: a Binary is released only if a released resource refers to it, or if its
// securityContext points to the patient and no withheld resource refers to it, in any spelling.
func TestEHI9ABinaryGoesOnlyWhereSomethingThatGoesLeadsToIt(t *testing.T) {
	const patient = `{"resourceType":"Patient","id":"p"}`
	binaries := map[string]string{
		"of the patient": `{"resourceType":"Binary","id":"b",` +
			`"securityContext":{"reference":"Patient/p"},"data":"TEVBSw=="}`,
		"of nobody": `{"resourceType":"Binary","id":"b","data":"TEVBSw=="}`,
		"of a stranger": `{"resourceType":"Binary","id":"b",` +
			`"securityContext":{"reference":"Patient/no"},"data":"TEVBSw=="}`,
	}
	urls := []string{
		"Binary/b",
		"/Binary/b",
		"/fhir/Binary/b",
		"fhir/Binary/b",
		"//h/fhir/Binary/b",
		"https://h/fhir/Binary/b/$op",
		"https://h/fhir/Binary/b/content",
		"Binary/b.pdf",
		"fhir/Binary/b.pdf?x=1",
		"Binary/b?x=1",
		"Binary/b/",
		"https://h/fhir/Binary/b?_format=json",
		"Binary//b",
		"/fhir/%42inary/b",
		"/fhir/Binary%2Fb",
		"https://h/Binary/b/_history/2/$x",
		"ftp://h/Binary/b",
		"urn:x:Binary/b",
		"Binary?_id=b",
		"https://h/fhir/Binary?x=1&_id=a,b",
		"Binary/?_id:exact=b#c",
		`\u0042inary\/b`,
	}
	everything := form()
	for _, c := range ehi.Categories() {
		everything.Parameters[c.Key] = ehi.Choice{}
	}
	goes := func(lines ...string) bool {
		t.Helper()
		out := released(t, review(t, everything, lines...), lines...)
		return slices.ContainsFunc(out, func(l string) bool {
			return strings.Contains(l, "TEVBSw")
		})
	}
	for whose, binary := range binaries {
		if got := goes(patient, binary); got != (whose == "of the patient") {
			t.Errorf("a Binary %s goes alone: %v", whose, got)
		}
		for _, url := range urls {
			for _, field := range []string{
				`"content":[{"attachment":{"url":%q}}]`,
				`"extension":[{"url":"x","valueUri":%q}]`,
				`"related":[{"reference":%q}]`,
			} {
				field = strings.ReplaceAll(fmt.Sprintf(field, "URL"), "URL", url)
				withheld := `{"resourceType":"DocumentReference","id":"d",` + hivLabel + `,` +
					field + `}`
				if goes(patient, withheld, binary) || goes(binary, withheld, patient) {
					t.Errorf("a Binary %s goes where %s stays", whose, withheld)
				}
			}
			document := `{"resourceType":"DocumentReference","id":"d",` +
				`"content":[{"attachment":{"url":"` + url + `"}}]}`
			if !goes(patient, document, binary) {
				t.Errorf("a Binary %s stays where %s goes", whose, document)
			}
		}
	}
}

// EHI-9: a withheld resource withholds a Binary that it may point to in another way: by
// urn:uuid, by an id alone, by the source's own URL, by an image in its text. If it has a link
// to something unknown, the patient's Binaries without other references are withheld.
func TestEHI9ABinaryStaysWithWhatMayLeadToIt(t *testing.T) {
	const (
		patient = `{"resourceType":"Patient","id":"p"}`
		note    = `{"resourceType":"DocumentReference","id":"n","description":"x"}`
		binary  = `{"resourceType":"Binary","id":"b1f0",` +
			`"securityContext":{"reference":"Patient/p"},"data":"TEVBSw=="}`
	)
	goes := func(f *ehi.ReleaseForm, lines ...string) bool {
		t.Helper()
		out := released(t, review(t, f, lines...), lines...)
		return slices.ContainsFunc(out, func(l string) bool {
			return strings.Contains(l, "TEVBSw")
		})
	}
	attached := func(url string) string {
		return `"content":[{"attachment":{"url":"` + url + `"}}]`
	}
	everything := form(everyLine()...)
	noDocuments := form(ehi.MedicalRecord)
	for says, unread := range map[string]bool{
		attached("urn:uuid:b1f0"):                                                  false,
		attached("https://h/documents/b1f0"):                                       false,
		attached("https://h/Patient/p/documents/b1f0.pdf"):                         false,
		attached("https://h/api/blobs/b1f0/download"):                              false,
		attached("https://h/fhir/$binary?id=b1f0"):                                 false,
		attached("b1f0"):                                                           false,
		attached("#b1f0"):                                                          false,
		attached("binary/b1f0"):                                                    false,
		attached("https://h/fhir/BINARY/B1F0"):                                     false,
		attached("https://h/fhir/Binary/B1F0"):                                     false,
		attached("https://h/Binary;v=1/b1f0"):                                      false,
		attached(`Binary\\b1f0`):                                                   false,
		`"text":{"status":"generated","div":"<div><img src=\"b1f0.png\"/></div>"}`: false,
		`"extension":[{"url":"x","valueString":"Binary/b1f0"}]`:                    false,
		`"related":[{"type":"Binary","reference":"urn:uuid:b1f0"}]`:                false,
		`"related":[{"reference":"https://h/documents/b1f0"}]`:                     false,
		attached("https://h/documents/77"):                                         true,
		attached("urn:uuid:77"):                                                    true,
		`"related":[{"reference":"urn:uuid:77"}]`:                                  true,
	} {
		released := `{"resourceType":"DocumentReference","id":"d",` + says + `}`
		withheld := strings.Replace(released, `"id":"d"`, `"id":"d",`+hivLabel, 1)
		if goes(everything, patient, withheld, binary) ||
			goes(everything, binary, withheld, patient) {
			t.Errorf("%s goes where %s stays", binary, withheld)
		}
		if goes(noDocuments, patient, released, binary) {
			t.Errorf("%s goes where the line of %s is not ticked", binary, released)
		}
		if !goes(everything, patient, released, binary) {
			t.Errorf("%s stays where %s goes", binary, released)
		}
		secured := strings.Replace(binary, "Patient/p", "DocumentReference/n", 1)
		if goes(everything, patient, note, withheld, secured) != unread {
			t.Errorf("%s of a document that goes: %v where %s stays", secured, !unread, withheld)
		}
		held := `{"resourceType":"DocumentReference","id":"h",` +
			`"content":[{"attachment":{"url":"Binary/b1f0"}}]}`
		if !goes(everything, patient, withheld, held, binary) {
			t.Errorf("%s stays where %s goes, too", binary, held)
		}
	}
	for _, says := range []string{
		`"related":[{"reference":"Observation/77"}]`,
		`"subject":{"identifier":{"value":"77"}}`,
		`"subject":{"reference":"#x"}`,
		`"description":"nothing that leads anywhere"`,
		`"extension":[{"url":"https://h/documents/77","valueString":"x"}]`,
	} {
		withheld := `{"resourceType":"DocumentReference","id":"d",` + hivLabel + `,` + says + `}`
		if !goes(everything, patient, withheld, binary) {
			t.Errorf("%s stays with %s", binary, withheld)
		}
	}
}

// EHI-9: the image in a narrative is not released by that narrative alone, and is withheld with
// its resource.
func TestEHI9TheImageOfANarrativeStaysWithItsResource(t *testing.T) {
	const (
		patient = `{"resourceType":"Patient","id":"p"}`
		shown   = `{"resourceType":"Binary","id":"b","data":"TEVBSw=="}`
		secured = `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Patient/p"},` +
			`"data":"TEVBSw=="}`
		of = `{"resourceType":"Condition","id":"c",%s"text":{"status":"generated",` +
			`"div":"<div><img src=\"Binary/b\"/></div>"}}`
	)
	for _, c := range []struct {
		label, binary string
		form, goes    bool
	}{
		{hivLabel + ",", shown, true, false},
		{hivLabel + ",", secured, true, false},
		{"", shown, true, false},
		{"", secured, true, true},
		{hivLabel + ",", shown, false, true},
		{"", shown, false, true},
	} {
		lines := []string{patient, fmt.Sprintf(of, c.label), c.binary}
		var f *ehi.ReleaseForm
		if c.form {
			f = form(everyLine()...)
		}
		for range 2 {
			out := strings.Join(released(t, review(t, f, lines...), lines...), "\n")
			if strings.Contains(out, "TEVBSw") != c.goes {
				t.Errorf("%+v: %s", c, out)
			}
			slices.Reverse(lines)
		}
	}
}
