package fhir_test

import (
	"strings"
	"testing"

	"ehi-server/shared/fhir"
)

// IN-6: what stands beside a reference that leads nowhere stays, wherever it stands.
func TestALostReferenceLeavesWhatStandsBesideIt(t *testing.T) {
	const lost = `"_reference":{"extension":[{"url":"` + fhir.AbsentReasonURL +
		`","valueCode":"unknown"}]}`
	for doc, want := range map[string]string{
		`{"reference":"A/1","display":"d"}`: `{` + lost +
			`,"display":"d"}`,
		`{"display":"d" , "reference":"A/1"}`: `{"display":"d" , ` + lost +
			`}`,
		`{"x":{"type":"A","reference":"A/1","identifier":{}},"y":1}`: `{"x":{"type":"A",` + lost +
			`,"identifier":{}},"y":1}`,
		`{ "reference":"A/1" }`:                       "",
		`[{"reference":"A/1"}]`:                       "",
		`{"reference":"A/1","_reference":{"id":"r"}}`: "",
	} {
		const field = `"reference":"A/1"`
		start := strings.Index(doc, field)
		e, ok := fhir.LoseReference([]byte(doc), start, start+len(field))
		got := string(fhir.Apply(nil, []byte(doc), []fhir.Edit{e}))
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s: %v %s", doc, ok, got)
		}
	}
}
