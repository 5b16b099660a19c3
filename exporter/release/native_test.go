package release_test

import (
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: what belongs to a resource that is withheld stays, however it names it: as a Reference
// can, in a list, in any case and disguise, or by a business identifier.
func TestEHI9WhatBelongsToAResourceStaysHoweverItNamesIt(t *testing.T) {
	hidden := `{"resourceType":"Condition","id":"h1",` + hivLabel +
		`,"identifier":[{"system":"urn:acc","value":"HX7"},{"value":"ACC 2024/42"}]}`
	upper := `{"resourceType":"Condition","id":"UP2",` + hivLabel + `}`
	number := `{"resourceType":"Condition","id":"77",` + hivLabel + `}`
	fine := `{"resourceType":"Condition","id":"ok1","identifier":[{"value":"FINE-1"}]}`
	n := review(t, everything(ehi.HIV), hidden, upper, number, fine).Native()
	for text, stays := range map[string]bool{
		"h1": true, "H1": true, "up2": true, "77": true, "Condition/h1": true, "condition/H1": true,
		"Condition%2Fh1": true, "Condition%252Fh1": true, "urn:uuid:h1": true,
		"h1/_history/1": true, "https://x/fhir/Condition/h1": true, " h1 ": true,
		"\u00a0h1": true, `"h1"`: true, "h&#49;": true, "h%31": true, "h\u200b1": true,
		"\uff481": true, "Condition?_id=h1": true, "h1,ok1": true, "ok1;h1": true,
		`{"reference":"Condition/h1"}`: true, "#h1": true, "h1|2": true,
		"Condition?identifier=urn:acc%7CHX7": true, "HX7": true, "urn:acc|HX7": true, "hx7": true,
		"acc 2024/42": true, "ok1;HX7": true, "\uff28X7": true,
		"ok1": false, "Condition/ok1": false, "FINE-1": false, "absent": false, "": false,
		"h": false, "h12": false, "https://x/fhir/Condition/ok1": false, "7": false,
	} {
		reason := n.Resource("Condition", []byte(text))
		n.Named("Condition", []byte(text), func(typ string, name []byte) {
			if reason == "" {
				reason = n.Called(name)
			}
		})
		if (reason != "") != stays {
			t.Errorf("%q stays for %q", text, reason)
		}
	}
}

// EHI-9: a text stays that holds the ID of a withheld resource in any case, or as a URN.
func TestEHI9ATextStaysThatHoldsAnIDInAnyCaseOrAsAURN(t *testing.T) {
	n := review(t, everything(ehi.HIV),
		`{"resourceType":"Condition","id":"h1",`+hivLabel+`}`,
		`{"resourceType":"Condition","id":"both",`+hivLabel+`}`,
		`{"resourceType":"Observation","id":"both"}`,
		`{"resourceType":"Condition","id":"cond-secret-01",`+hivLabel+`}`,
		`{"resourceType":"Condition","id":"cond-much-longer-secret-01",`+hivLabel+`}`,
		`{"resourceType":"Condition","id":"Mixed-Secret-01",`+hivLabel+`}`,
		`{"resourceType":"Condition","id":"UP-SECRET-0001",`+hivLabel+`}`,
	).Native()
	for text, stays := range map[string]bool{
		"see Cond-Secret-01.": true, "CoND-SECret-01": true, "COND-SECRET-01": true,
		"xCond-Much-Longer-Secret-01": true, "cond-much-longer-SECRET-01": true,
		"up-secret-0001": true, "Up-Secret-0001": true, "UP-SECRET-0001": true,
		"Mixed-Secret-01": true, "mixed-secret-01": false, "Cond-Secret-012": false,
		"urn:uuid:h1": true, "<a href='URN:UUID:H1'>": true, "is urn:oid:h1.": true,
		"urn%3Auuid%3Ah1": true, "urn&#58;uuid:h1": true,
		"urn:uuid:h12": false, "urn:x:h1": false, "uuid:h1": false, "urn:uuid:both": false,
		"urn:uuid:": false, ":": false,
	} {
		if reason := n.Mentions([]byte(text)); (reason != "") != stays {
			t.Errorf("%q stays for %q", text, reason)
		}
	}
}

// EHI-9: of the resources outside a record, other patients' count as withheld, and what is
// sensitive; other things do not belong to anybody.
func TestEHI9OtherPatientsResourcesCountAsWithheld(t *testing.T) {
	n := review(t, everything(ehi.HIV)).Native()
	for line, stays := range map[string]bool{
		`{"resourceType":"Encounter","id":"x","subject":{"reference":"Patient/p2"}}`: true,
		`{"resourceType":"Patient","id":"p2"}`:                                       true,
		`{"resourceType":"Organization","id":"x"}`:                                   false,
		`{"resourceType":"Organization","id":"x",` + hivLabel + `}`:                  true,
	} {
		if reason, err := n.Beside([]byte(line)); err != nil || (reason != "") != stays {
			t.Errorf("%s: %q, %v", line, reason, err)
		}
	}
	if reason, err := n.Beside([]byte("{")); err == nil {
		t.Errorf("what is no JSON is decided: %q", reason)
	}
}

// EHI-9: what belongs to a resource that the application did not ask for stays with it, in a
// population.
func TestEHI9WhatBelongsToAResourceOutsideTheDatesOfAPopulationStays(t *testing.T) {
	p, err := rules(t).Policy(nil, ehi.KickOff{
		Categories: []ehi.Category{ehi.Visits}, From: "2024-03-10", To: "2024-03-20",
	})
	if err != nil {
		t.Fatal(err)
	}
	for line, stays := range map[string]bool{
		`{"resourceType":"Encounter","id":"x","period":{"start":"2024-03-15"}}`: false,
		`{"resourceType":"Encounter","id":"x","period":{"end":"2020-03-15"}}`:   true,
		`{"resourceType":"Claim","id":"x","created":"2024-03-15"}`:              true,
		`{"resourceType":"Patient","id":"x"}`:                                   false,
	} {
		n := p.Filter().Native()
		reason, err := n.Beside([]byte(line))
		if err != nil || (reason != "") != stays {
			t.Errorf("%s: %q, %v", line, reason, err)
		}
		named := ""
		n.Named("Encounter", []byte("x"), func(typ string, name []byte) {
			named += typ + "/" + string(name)
		})
		if named != "Encounter/x" || n.Called([]byte("x")) != "" {
			t.Errorf("%q is named", named)
		}
	}
}
