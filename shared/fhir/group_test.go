package fhir_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/fhir"
)

var inMay = time.Date(2020, 5, 1, 12, 0, 0, 0, time.UTC)

// BULK-8: members are those of an instant.
func TestGroupsHaveTheMembersOfAnInstant(t *testing.T) {
	const patient = `"entity":{"reference":"Patient/p"}`
	p := fhir.Member{Type: "Patient", ID: "p"}
	for member, want := range map[string][]fhir.Member{
		patient: {p},
		`"entity":{"reference":"Patient/p/_history/3"}`: {
			p,
		},
		`"entity":{"reference":"Group/g"}`: {
			{Type: "Group", ID: "g"},
		},
		`"entity":{"reference":"Practitioner/d"}`: {
			{Type: "Practitioner", ID: "d"},
		},
		`"entity":{"identifier":{"system":"urn:mrn","value":"5"}}`: {
			{Identifier: fhir.Identifier{System: "urn:mrn", Value: "5"}},
		},
		`"entity":{"reference":"Patient/p","identifier":{"system":"urn:mrn","value":"5"}}`: {
			p,
		},
		`"entity":{"reference":"https://elsewhere.example/Patient/p"}`: nil,
		`"entity":{"reference":"#p"}`:                                  nil,
		`"entity":{"display":"Pat"}`:                                   nil,
		patient + `,"inactive":true`:                                   nil,
		`"inactive":true,` + patient:                                   nil,
		patient + `,"inactive":false`:                                  {p},
		patient + `,"period":{}`:                                       {p},
		patient + `,"period":{"start":"2020-05-01T12:00:00Z"}`:         {p},
		patient + `,"period":{"start":"2020-05-01T12:00:01Z"}`:         nil,
		patient + `,"period":{"end":"2020-05-01"}`:                     {p},
		patient +
			`,"period":{"end":"2020-05"},"extension":[{"url":"u","valuePeriod":{"end":"1"}}]`: {p},
		patient + `,"period":{"end":"2020-05-01T14:00:00+02:00"}`: {p},
		patient + `,"period":{"end":"2020-05-01T13:59:59+02:00"}`: nil,
		patient + `,"period":{"start":"2019","end":"2020-04-30"}`: nil,
		patient + `,"period":{"end":"one day"}`:                   nil,
	} {
		g, err := fhir.ReadGroup([]byte(`{"resourceType":"Group","member":[{`+member+`}]}`), inMay)
		if d := cmp.Diff(want, g.Members); d != "" || err != nil {
			t.Errorf("%s: %s %v", member, d, err)
		}
	}
}

// A group whose members cannot be told says why.
func TestUnusableGroupsSayWhy(t *testing.T) {
	const member, trait = `,"member":[{"entity":{"reference":"Patient/p"}}]`,
		`,"characteristic":[{"code":{"coding":[{"code":"E11","display":"diabetes"}]},` +
			`"exclude":true}]`
	for group, want := range map[string]string{
		`"type":"person","actual":true` + member:                 "",
		`"type":"person","actual":true` + member + trait:         "",
		`"type":"person","actual":true`:                          "",
		`"type":"person","actual":false` + member:                "",
		`"type":"animal","actual":true` + member:                 "",
		`"type":"person","actual":true` + trait:                  "characteristics (not diabetes)",
		`"type":"person","actual":false` + trait + `,"name":"n"`: "characteristics (not diabetes)",
		`"type":"person","actual":false`:                         "names no members",
		`"active":false,"type":"person","actual":true` + member:  "not active",
		`"type":"device","actual":true`:                          "type device",
		`"modifierExtension":[{"url":"http://x/members-filter","valueBoolean":true}],` +
			`"type":"person","actual":true` +
			member: "http://x/members-filter",
		`"type":"person","member":[{"modifierExtension":[{"url":"http://x/not"}],` +
			`"entity":{"reference":"Patient/p"}}]`: "http://x/not",
	} {
		g, err := fhir.ReadGroup([]byte(`{"resourceType":"Group",`+group+`}`), inMay)
		if err != nil {
			t.Fatal(err)
		}
		if why := g.Unusable(); (why == "") != (want == "") || !strings.Contains(why, want) {
			t.Errorf("%s: %q, want %q", group, why, want)
		}
	}
}

func FuzzReadGroup(f *testing.F) {
	f.Add([]byte(`{"member":[{"entity":{"reference":"Patient/p"},"period":{"end":"2020"}}],` +
		`"characteristic":[{"code":{"text":"x"}}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		g, err := fhir.ReadGroup(line, inMay)
		if err == nil {
			g.Unusable()
		}
		for _, m := range g.Members {
			if m.ID != "" && !fhir.ValidID(m.ID) {
				t.Errorf("a member %+v", m)
			}
		}
	})
}
