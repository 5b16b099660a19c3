package e2e

import (
	"strings"
	"testing"

	"ehi-server/api/node"
	"ehi-server/shared/fhir"
)

// REAL-15 (existence is information): in production, the public page of the format describes
// what the server can export, and does not change when records with new systems and profiles are
// imported. In the sandbox it describes the records.
func TestREAL15TheDocumentationInProductionIsNotMadeFromRecords(t *testing.T) {
	t.Parallel()
	const record = `{"resourceType":"Patient","id":"pw"}
{"resourceType":"Condition","id":"c","meta":{"profile":["https://clinic.example/profile"]},"subject":{"reference":"Patient/pw"},"code":{"coding":[{"system":"https://clinic.example/hiv","code":"x"}]}}
`
	p := startProduction(t, nil)
	before := p.do(p.open, "GET", "/docs/ehi", "Accept", "text/html")
	p.load(record)
	after := p.do(p.open, "GET", "/docs/ehi", "Accept", "text/html")
	p.want(after, 200, "What an export contains")
	if string(before.Body) != string(after.Body) {
		t.Error("the page changes with the records")
	}
	for _, typ := range fhir.Types() {
		if !strings.Contains(string(after.Body), `id="type-`+typ+`"`) {
			t.Errorf("it does not describe %s", typ)
		}
	}
	p.want(after, 200, `<code>onset[x]</code>`)
	p.want(after, 200, `<code>clinicalStatus</code>`)
	p.want(after, 200, `An example`)
	if strings.Contains(string(after.Body), "clinic.example") {
		t.Error("it tells the code systems of records")
	}
	w := start(t, t.TempDir(), config(), node.Options{})
	w.load(record)
	w.want(w.do(w.open, "GET", "/docs/ehi", "Accept", "text/html"), 200, "clinic.example")
}
