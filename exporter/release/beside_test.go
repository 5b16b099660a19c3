package release_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/release"
)

// EHI-9: elements that describe a masked target beside it are removed too: the title of an
// attachment, a visit's diagnosis with its use and rank, the texts of an appointment.
func TestEHI9WhatTellsOfTheMaskedStaysWithIt(t *testing.T) {
	lines := []string{
		`{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"Condition","id":"cc-0123456789ab",` + hivLabel + `}`,
		`{"resourceType":"Condition","id":"goes"}`,
		`{"resourceType":"Binary","id":"bb-0123456789","data":"xx",` + hivLabel + `}`,
		`{"resourceType":"HealthcareService","id":"hs",` + hivLabel + `}`,
		`{"resourceType":"HealthcareService","id":"other"}`,
		`{"resourceType":"DocumentReference","id":"d1","content":[{"attachment":{"title":"LEAK",` +
			`"contentType":"KEEP1","url":"Binary/bb-0123456789"}}]}`,
		`{"resourceType":"DocumentReference","id":"d2",` +
			`"content":[{"attachment":{"url":"Binary/bb-0123456789","title":"LEAK"}},` +
			`{"attachment":{"url":"https://h/else","title":"KEEP2"}}]}`,
		`{"resourceType":"Encounter","id":"e",` +
			`"diagnosis":[{"condition":{"reference":"Condition/cc-0123456789ab"},` +
			`"use":{"text":"LEAK"},"rank":1},{"condition":{"reference":"Condition/goes"},` +
			`"use":{"text":"KEEP3"}}]}`,
		`{"resourceType":"Appointment","id":"a","status":"KEEP4","description":"LEAK",` +
			`"comment":"LEAK","patientInstruction":"LEAK",` +
			`"participant":[{"actor":{"reference":"HealthcareService/hs"}}]}`,
		`{"resourceType":"Appointment","id":"b","description":"KEEP5",` +
			`"participant":[{"actor":{"reference":"HealthcareService/other"}}]}`,
	}
	out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...), "\n")
	for _, keep := range []string{"KEEP1", "KEEP2", "KEEP3", "KEEP4", "KEEP5"} {
		if !strings.Contains(out, keep) {
			t.Errorf("%s is missing", keep)
		}
	}
	if strings.Contains(out, "LEAK") {
		t.Errorf("%s", out)
	}
}

// EHI-9: a meta.source that points to something withheld is masked like a Reference, by an id of
// any length or by a business identifier. One that points to something released, or to nothing,
// remains.
func TestEHI9TheSourceOfAResourceLeadsToNothingWithheld(t *testing.T) {
	const condition = `{"resourceType":"Condition","id":"%s","meta":{"source":"%s"}}`
	for source, masked := range map[string]bool{
		"https://h/fhir/Procedure/w1":            true,
		"https://h/documents/w1":                 true,
		"urn:uuid:w1":                            true,
		"Procedure/w1":                           true,
		"https://h/fhir/Procedure/w1/_history/2": true,
		"https://h/x?identifier=urn:x|N-77":      true,
		"urn:oid:N-77":                           true,
		"https://h/%77%31":                       true,
		"https://h/fhir/Procedure/k1":            false,
		"urn:uuid:k1":                            false,
		"https://h/x":                            false,
		"#w2":                                    false,
	} {
		for _, label := range []string{hivLabel, `"implicitRules":"urn:r"`} {
			for _, many := range []int{1, 40} { // with 40, some lines fit casts
				lines := []string{
					`{"resourceType":"Procedure","id":"w1",` + label +
						`,"identifier":[{"value":"N-77"}]}`,
					`{"resourceType":"Procedure","id":"k1"}`,
				}
				for i := range many {
					lines = append(lines,
						fmt.Sprintf(condition, fmt.Sprint("d", i), fmt.Sprint("urn:d:", i)))
				}
				for i := range many {
					lines = append(lines, fmt.Sprintf(condition, fmt.Sprint("c", i), source))
				}
				for _, resolved := range []bool{false, true} {
					r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), resolved, nil,
						lines...)
					got := released(t, r, lines...)
					want := many
					if masked && label == hivLabel {
						want = 0
					}
					n := strings.Count(strings.Join(got, "\n"), `"`+source+`"`)
					if n != want || len(got) < 2*many+1 {
						t.Errorf("resolved: %v, %s, source %s went %d times, want %d", resolved,
							label, source, n, want)
					}
				}
			}
		}
	}
}

// EHI-9: the value of an extension is removed with its masked url.
func TestEHI9AnExtensionGoesWithItsURL(t *testing.T) {
	const gone = `{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason",` +
		`"valueCode":"masked"}`
	const kept, outer = `{"url":"https://h/Procedure/k1","valueString":"SAID"}`,
		`{"url":"urn:x","extension":[`
	for extension, want := range map[string]string{
		`{"url":"https://h/Procedure/w1","valueString":"SAID"}`:                               gone,
		`{"valueString":"SAID","url":"https://h/w-0123456789ab"}`:                             gone,
		`{"url":"https://h/Procedure/w1","extension":[{"url":"urn:x","valueString":"SAID"}]}`: gone,
		outer +
			`{"url":"https://h/Procedure/w1"}]}`: outer + gone + `]}`,
		kept: kept,
	} {
		for _, field := range []string{
			`"extension":[%s]`,
			`"modifierExtension":[{"url":"urn:a"},%s]`,
			`"_recordedDate":{"extension":[%s]}`,
		} {
			lines := []string{
				`{"resourceType":"Procedure","id":"w1",` + hivLabel + `}`,
				`{"resourceType":"Procedure","id":"w-0123456789ab",` + hivLabel + `}`,
				`{"resourceType":"Procedure","id":"k1"}`,
				`{"resourceType":"Condition","id":"c1",` + fmt.Sprintf(field, extension) + `}`,
			}
			r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), true, nil, lines...)
			want := `{"resourceType":"Condition","id":"c1",` + fmt.Sprintf(field, want) + `}`
			if got := released(t, r, lines...); len(got) != 2 || got[1] != want {
				t.Errorf("of %s went %q, want %s", extension, got, want)
			}
		}
	}
}
