package find_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/find"
	"ehi-server/shared/ehi"
)

const anna = `{"resourceType":"Patient","id":"a","birthDate":"1970-05-17",
	"identifier":[{"system":"urn:mrn","value":"12|3"},{"value":"bare"},{"system":"http://x.test/,y","value":"MRN7"},{"system":"urn:none"}],
	"name":[{"family":"van der Bërg-O'Neil","given":["Änna Maria","Lea"],"prefix":["Dr."]},{"text":"Nickname  Only","use":"nickname"}]}`

// criteria reads name=value pairs.
func criteria(t *testing.T, pairs ...string) (out []find.Criterion) {
	t.Helper()
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		c, known, err := find.Parse("Patient", name, value)
		if err != nil || !known {
			t.Fatalf("%s: known %t, %v", pair, known, err)
		}
		out = append(out, c)
	}
	return out
}

// R4, "Search": tokens, strings and dates.
func TestBULK8PatientsAreFoundAsR4Says(t *testing.T) {
	entries, err := find.Entries("Patient", []byte(anna))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pairs string
		found bool
	}{
		{`identifier=bare`, true},
		{`identifier=|bare`, true},
		{`identifier=urn:mrn|bare`, false},
		{`identifier=bar`, false},
		{`identifier=BARE`, false},
		{`identifier=MRN7`, true},
		{`identifier=|MRN7`, false},
		{`identifier=http://x.test/\,y|MRN7`, true},
		{`identifier=http://x.test/\,y|`, true},
		{`identifier=urn:mrn|12\|3`, true},
		{`identifier=urn:mrn|12|3`, true},
		{`identifier=urn:mrn|`, true},
		{`identifier=urn:MRN|`, false},
		{`identifier=urn:none|`, false},
		{`identifier=x,bare`, true},
		{`identifier=x,y`, false},
		{`identifier=x&identifier=bare`, false},
		{`identifier=MRN7&identifier=bare`, true},
		{`family=van`, true},
		{`family=VAN DER BERG`, true},
		{`family=van der berg oneil`, false},
		{`family=van der bergoneil`, true},
		{`family=berg`, false},
		{`family=anna`, false},
		{`given=anna`, true},
		{`given=ann`, true},
		{`given=Änna`, true},
		{`given=maria`, false},
		{`given=LEA`, true},
		{`given=ea`, false},
		{`given=dr`, false},
		{`name=anna`, true},
		{`name=maria`, true},
		{`name=berg`, true},
		{`name=oneil`, true},
		{`name=o'neil`, true},
		{`name=DR`, true},
		{`name=nick`, true},
		{`name=only`, true},
		{`name=erg`, false},
		{`name=anna maria lea van`, true},
		{`name=Van der Berg-O'Neil, Änna`, true},
		{`name=x,anna`, true},
		{`name=zoe`, false},
		{`birthdate=1970-05-17`, true},
		{`birthdate=1970-05`, true},
		{`birthdate=1970`, true},
		{`birthdate=eq1971`, false},
		{`birthdate=ne1970-05-17`, false},
		{`birthdate=ne1971`, true},
		{`birthdate=gt1970-05-16`, true},
		{`birthdate=gt1970-05-17`, false},
		{`birthdate=ge1970-05-17`, true},
		{`birthdate=lt1970-05-17`, false},
		{`birthdate=le1970`, true},
		{`birthdate=lt1970`, false},
		{`birthdate=sa1969`, true},
		{`birthdate=sa1970`, false},
		{`birthdate=eb1971`, true},
		{`birthdate=eb1970-05-17`, false},
		{`birthdate=1969,1970`, true},
		{`birthdate=ge1960&birthdate=lt1980&name=anna`, true},
		{`birthdate=ge1980&name=anna`, false},
	} {
		got := find.Matches(criteria(t, strings.Split(c.pairs, "&")...), entries)
		if got != c.found {
			t.Errorf("%s: %t", c.pairs, got)
		}
	}
}

// A partial birth date stands for its span.
func TestBULK8PartialBirthDates(t *testing.T) {
	entries, err := find.Entries("Patient",
		[]byte(`{"resourceType":"Patient","id":"p","birthDate":"1970"}`))
	if err != nil {
		t.Fatal(err)
	}
	for search, want := range map[string]bool{
		"1970": true, "1970-05": false, "ge1970": true, "gt1970-06": true, "lt1970-06": true,
		"sa1969-12-31": true, "eb1971-01-01": true, "sa1970-01-01": false,
	} {
		if got := find.Matches(criteria(t, "birthdate="+search), entries); got != want {
			t.Errorf("%s: %t", search, got)
		}
	}
}

// What is not supported is told apart from what is wrong; a modifier is never passed over.
func TestBULK8WhatIsNoSearch(t *testing.T) {
	for name, c := range map[string]struct {
		parameter, value string
		known            bool
		code             ehi.Code
	}{
		"another parameter":  {"address", "x", false, ""},
		"one of no type":     {"nope", "x", false, ""},
		"a chain":            {"general-practitioner.name", "x", false, ""},
		"exact":              {"name:exact", "Anna", true, ehi.Unsupported},
		"contains":           {"family:contains", "a", true, ehi.Unsupported},
		"missing":            {"birthdate:missing", "true", true, ehi.Unsupported},
		"no date":            {"birthdate", "soon", true, ehi.Invalid},
		"no such day":        {"birthdate", "1970-02-31", true, ehi.Invalid},
		"about":              {"birthdate", "ap1970", true, ehi.Invalid},
		"nothing of a token": {"identifier", "|", true, ehi.Invalid},
		"no letter":          {"name", "--", true, ehi.Invalid},
	} {
		_, known, err := find.Parse("Patient", c.parameter, c.value)
		if known != c.known || ehi.CodeOf(err) != c.code {
			t.Errorf("%s: known %t, %v", name, known, err)
		}
	}
}

// Long and strange texts are found as a whole, and the end of an entry is its own.
func TestEntriesAreBoundedAndDistinct(t *testing.T) {
	long := strings.Repeat("x", 5000)
	entries, err := find.Entries("Patient",
		fmt.Appendf(nil,
			`{"identifier":[{"system":"urn:s","value":%q},{"system":"a","value":"b\u0000c"}],`+
				`"name":[{"family":%q}]}`, long, long))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if len(e) > 2<<10 {
			t.Errorf("an entry of %d bytes", len(e))
		}
	}
	for pair, want := range map[string]bool{
		"identifier=urn:s|" + long: true, "identifier=" + long + "x": false,
		"identifier=" + long[1:]: false, "identifier=b": false, "identifier=a|b\x00c": true,
		"identifier=b\x00c": true, "family=" + long[:100]: true,
	} {
		if got := find.Matches(criteria(t, pair), entries); got != want {
			t.Errorf("%.40q: %t", pair, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{"identifier", `a\|b|c,d`}, {"birthdate", "ge1970,sa"}, {"name", "Änna\xff"},
		{"family:exact", ""},
	} {
		f.Add(seed[0], seed[1], anna)
	}
	f.Fuzz(func(t *testing.T, name, value, line string) {
		c, known, err := find.Parse("Patient", name, value)
		if err != nil && ehi.CodeOf(err) != ehi.Invalid && ehi.CodeOf(err) != ehi.Unsupported ||
			!known && (c != nil || err != nil) {
			t.Fatalf("%v, known %t, %v", c, known, err)
		}
		entries, err := find.Entries("Patient", []byte(line))
		if err != nil {
			return
		}
		found := find.Matches([]find.Criterion{c}, entries)
		if found &&
			!slices.ContainsFunc(c,
				func(r find.Range) bool { return find.Matches([]find.Criterion{{r}}, entries) }) {
			t.Fatal("found by none of the alternatives")
		}
	})
}
