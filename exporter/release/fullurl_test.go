package release_test

import (
	"strings"
	"testing"
)

// EHI-9: a Reference may name another resource in the same Bundle by a fullUrl that does not
// contain its id.
func TestEHI9AFullUrlNamesWhatStandsBesideIt(t *testing.T) {
	const at = "urn:uuid:5f0c7d52-6b0f-4c5e-9c0e-0d3e6a0a7d11"
	for name, secret := range map[string]string{
		"with an id":    `{"resourceType":"Condition","id":"c1",` + hivLabel + `}`,
		"without an id": `{"resourceType":"Condition",` + hivLabel + `}`,
	} {
		for _, bundle := range []string{
			`{"fullUrl":"` + at + `","resource":` + secret +
				`},{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Task","id":"t",` +
				`"focus":{"reference":"` + at + `"},"description":"LEAK"}}`,
			`{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Task","id":"t",` +
				`"focus":{"reference":"` + at + `"},"description":"LEAK"}},{"fullUrl":"` + at +
				`","resource":` + secret + `}`,
		} {
			lines := []string{`{"resourceType":"Patient","id":"p"}`,
				`{"resourceType":"Bundle","id":"b","type":"collection","entry":[` + bundle +
					`,{"resource":{"resourceType":"Observation","id":"o","valueString":"KEEP"}}]}`}
			out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...),
				"\n")
			if strings.Contains(out, "LEAK") || strings.Contains(out, at) ||
				!strings.Contains(out, "KEEP") {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	const whose = "https://elsewhere.example/people/5f0c7d52"
	lines := []string{
		`{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"Bundle","id":"b","type":"collection","entry":[{"fullUrl":"` + whose +
			`","resource":{"resourceType":"Practitioner","id":"dr","name":[{"text":"KEEP"}]}},` +
			`{"resource":{"resourceType":"Observation","id":"o","performer":[{"reference":"` +
			whose + `"}]}}]}`,
	}
	out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...), "\n")
	if !strings.Contains(out, "KEEP") || !strings.Contains(out, `{"reference":"`+whose+`"}`) {
		t.Errorf("who is called by a fullUrl stays: %s", out)
	}
}

// EHI-9: a resource named by a fullUrl and used only by withheld resources is withheld, although
// the released Bundle describes it.
func TestEHI9WhoIsCalledByAFullUrlStaysWithWhatUsesHim(t *testing.T) {
	const whose = "https://elsewhere.example/people/5f0c7d52"
	lines := []string{
		`{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"Bundle","id":"b","type":"collection","entry":[{"fullUrl":"` + whose +
			`","resource":{"resourceType":"Practitioner","id":"dr","name":[{"text":"LEAK"}]}},` +
			`{"resource":{"resourceType":"Observation","id":"o",` + hivLabel +
			`,"performer":[{"reference":"` + whose +
			`"}]}},{"resource":{"resourceType":"Observation","id":"k","valueString":"KEEP"}}]}`,
	}
	out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...), "\n")
	if strings.Contains(out, "LEAK") || !strings.Contains(out, "KEEP") {
		t.Error(out)
	}
}
