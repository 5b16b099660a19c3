package release_test

import (
	"strings"
	"testing"
)

// EHI-9: elements that describe a masked target beside its Reference are removed: an insurer's
// approval number of a bill, the reason of a Provenance, the text of a warning.
func TestEHI9WhatTellsOfAMaskedTargetBesideItStaysWithIt(t *testing.T) {
	withheld := []string{
		`{"resourceType":"Coverage","id":"cov-0123456789",` + hivLabel + `}`,
		`{"resourceType":"Condition","id":"cond-0123456789",` + hivLabel + `}`,
		`{"resourceType":"Patient","id":"p"}`,
	}
	for _, line := range []string{
		`{"resourceType":"Claim","id":"a","insurance":[{"sequence":1,` +
			`"coverage":{"reference":"Coverage/cov-0123456789"},"preAuthRef":["LEAK"],` +
			`"identifier":{"value":"LEAK"}},{"sequence":2,"preAuthRef":["KEEP"]}]}`,
		`{"resourceType":"ExplanationOfBenefit","id":"a","status":"KEEP",` +
			`"insurance":[{"focal":true,"coverage":{"reference":"Coverage/cov-0123456789"},` +
			`"preAuthRef":["LEAK"]}]}`,
		`{"resourceType":"ClaimResponse","id":"a","status":"KEEP",` +
			`"insurance":[{"coverage":{"reference":"Coverage/cov-0123456789"},` +
			`"businessArrangement":"LEAK"}]}`,
		`{"resourceType":"CoverageEligibilityRequest","id":"a","status":"KEEP",` +
			`"insurance":[{"coverage":{"reference":"Coverage/cov-0123456789"},` +
			`"businessArrangement":"LEAK"}]}`,
		`{"resourceType":"Provenance","id":"a","recorded":"KEEP",` +
			`"target":[{"reference":"Patient/p"},{"reference":"Condition/cond-0123456789"}],` +
			`"reason":[{"text":"LEAK"}],"activity":{"text":"LEAK"}}`,
		`{"resourceType":"DetectedIssue","id":"a","status":"KEEP",` +
			`"implicated":[{"reference":"Patient/p"},{"reference":"Condition/cond-0123456789"}],` +
			`"detail":"LEAK"}`,
		`{"resourceType":"Communication","id":"a","status":"KEEP",` +
			`"about":[{"reference":"Patient/p"},{"reference":"Condition/cond-0123456789"}],` +
			`"reasonCode":[{"text":"LEAK"}],"topic":{"text":"LEAK"}}`,
	} {
		lines := append(withheld[:len(withheld):len(withheld)], line)
		out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...), "\n")
		if strings.Contains(out, "LEAK") || !strings.Contains(out, "KEEP") {
			t.Errorf("%s became\n%s", line, out)
		}
	}
	goes := `{"resourceType":"Provenance","id":"a","target":[{"reference":"Patient/p"}],` +
		`"reason":[{"text":"KEEP"}]}`
	lines := append(withheld[:len(withheld):len(withheld)], goes)
	out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...), "\n")
	if !strings.Contains(out, "KEEP") {
		t.Errorf("%s", out)
	}
}

// EHI-9: an identifier in an extension of something withheld, and its id in capitals, name it.
func TestEHI9ExtensionsAndCapitalsNameTheWithheld(t *testing.T) {
	lines := []string{
		`{"resourceType":"Patient","id":"p","identifier":[{"value":"mrn-1"}]}`,
		`{"resourceType":"Condition","id":"5a0ee1a6-1111-4222-8333-123456789abc",` + hivLabel +
			`,"extension":[{"url":"urn:e","valueIdentifier":{"system":"urn:p",` +
			`"value":"PROB-77"}},{"url":"urn:m","valueIdentifier":{"value":"mrn-1"}}]}`,
		`{"resourceType":"Condition","id":"short-0a1b2c",` + hivLabel + `}`,
		`{"resourceType":"Procedure","id":"a","extension":[{"url":"urn:x",` +
			`"valueReference":{"identifier":{"value":"prob-77"},"display":"LEAK"}}],` +
			`"subject":{"identifier":{"value":"mrn-1"},"display":"KEEP1"}}`,
		`{"resourceType":"Procedure","id":"b",` +
			`"note":[{"text":"LEAK 5A0EE1A6-1111-4222-8333-123456789ABC"},` +
			`{"text":"LEAK, see SHORT-0A1B2C."},{"text":"KEEP2 Short-0A1B2C"}]}`,
	}
	for _, resolved := range []bool{false, true} {
		out := strings.Join(
			released(t, reviewOf(t, form(everyLine()...), resolved, lines...), lines...), "\n")
		if strings.Contains(out, "LEAK") || !strings.Contains(out, "KEEP1") ||
			!strings.Contains(out, "KEEP2") {
			t.Errorf("%s", out)
		}
	}
}
