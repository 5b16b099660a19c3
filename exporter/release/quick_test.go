package release

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// decidedAs is what a review records of a resource, as text.
type decidedAs struct {
	ID                             string
	Verdict                        verdict
	Abouts                         []string
	Supports, Devices, Identifiers []string
	Owned                          bool
	Shown                          []string // described by its presentedForm
	Binaries                       []string
	Parts                          []string // that it consists of
}

// asDecided returns what a review records of some facts.
func asDecided(f *facts, v verdict) (d decidedAs) {
	d.Verdict = v
	names := func(targets []target, only string) (out []string) {
		for _, t := range targets {
			if only == "" || only == string(t.typ) {
				out = append(out, string(t.typ)+"/"+string(t.id))
			}
		}
		slices.Sort(out) // a walk finds leads at the ends of objects, in another order
		return out
	}
	pointer := !v.withheld() && f.pointer()
	if pointer {
		f.abouts(func(targets []target, _ bool) {
			d.Abouts = append(d.Abouts, strings.Join(names(targets, ""), " "))
		})
	}
	if v.withheld() {
		d.Devices = names(f.supports, "Device")
	} else {
		d.Supports = names(f.supports, "")
	}
	if v.withheld() || pointer {
		d.ID = string(f.id)
		for _, value := range f.identifiers {
			d.Identifiers = append(d.Identifiers, string(value))
		}
	}
	d.Owned = f.owned
	binaries := slices.Clone(f.binaries)
	for _, t := range f.taking {
		if v.withheld() { // otherwise an entry releases targets by itself
			binaries = append(binaries, t.binaries...)
		}
	}
	for _, b := range binaries {
		d.Binaries = append(d.Binaries, string(b.target.id))
	}
	slices.Sort(d.Binaries)
	if !v.withheld() || v.unticked() {
		f.eachPart(func(t target) {
			if string(t.typ) != "Patient" {
				d.Parts = append(d.Parts, string(t.typ)+"/"+string(t.id))
			}
		})
		slices.Sort(d.Parts)
	}
	if v == 0 {
		f.shown(func(t target) { d.Shown = append(d.Shown, string(t.typ)+"/"+string(t.id)) })
	}
	return d
}

// comparison compares fast decisions with those of a walk.
type comparison struct{ quick, walk examiner }

func compare(p *Policy, alone bool) *comparison {
	c := &comparison{p.examiner(), p.examiner()}
	c.quick.alone, c.walk.alone = alone, alone
	return c
}

// check reports whether a line was decided quickly. It fails if the result differs.
func (c *comparison) check(t interface{ Fatalf(string, ...any) }, line []byte) (quick bool) {
	q, ok := c.quick.quick(line)
	if !ok {
		return false
	}
	f, err := c.walk.examine(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	v := c.walk.policy.verdict(f)
	if c.walk.alone {
		if v&^stripped != q.verdict {
			t.Fatalf("%s\nis decided %v quickly, %v by a walk", line, q.verdict, v)
		}
		return true
	}
	if d := cmp.Diff(asDecided(f, v), asDecided(q.facts, q.verdict)); d != "" {
		t.Fatalf("%s: what a walk finds, and what is found quickly:\n%s", line, d)
	}
	if isBill[f.number] && !v.withheld() {
		c.diffBills(t, line)
	}
	return true
}

// A fast decision equals that of a walk: the verdict, what the resource is about and uses, and
// its names.
func TestQuickDecisionsAreThoseOfAWalk(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	quick, follow := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p, err := rules.Policy(drawForm(t), ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		c := compare(p, rapid.IntRange(0, 4).Draw(t, "alone") == 0)
		for range 8 {
			line, typ := drawRelated(t)
			if c.check(t, []byte(line)) {
				quick++
				if c.quick.traits[fhir.TypeNumber([]byte(typ))].kind == follows {
					follow++
				}
			}
		}
	})
	if quick == 0 || follow == 0 {
		t.Errorf("%d lines were decided upon quickly, %d of them by what they are about", quick,
			follow)
	}
}

// drawRelated draws a line that refers to other resources, at the places of aboutPaths and
// others.
func drawRelated(t *rapid.T) (line, typ string) {
	typ = rapid.SampledFrom(slices.Concat(slices.Sorted(mapsKeys(aboutPaths)), []string{
		"Claim", "Observation", "Encounter", "Condition", "ServiceRequest", "ImagingStudy",
	})).Draw(t, "type")
	places := []string{
		"subject", "performer", "contained.claim", "focus.device", "reference", "patient", "a.b.c",
		"",
	}
	for _, group := range aboutPaths[typ] {
		for _, path := range group {
			places = append(places, path, path, path, "contained."+path, path+".x", "."+path,
				path+".", strings.ReplaceAll(path, ".", ""))
		}
	}
	fields := []string{`"resourceType":"` + typ + `"`, `"id":"i1-0123456789"`}
	for range rapid.IntRange(0, 5).Draw(t, "fields") {
		var leaf string
		path := rapid.SampledFrom(places).Draw(t, "path")
		switch rapid.IntRange(0, 6).Draw(t, "leaf") {
		case 0:
			path = rapid.SampledFrom([]string{
				"identifier", "contained.identifier", "groupIdentifier", "masterIdentifier",
				"x.identifier", "requisition", "related.reference", "requestIdentifier", path,
			}).Draw(t, "identifier")
			leaf = `{"system":"s","value":` + rapid.SampledFrom([]string{
				`"V1"`, `" v2 "`, `""`, `"\/"`, `["V3"]`, `5`, `"É"`,
			}).Draw(t, "value") + `}`
		case 1:
			leaf = rapid.SampledFrom([]string{
				`"x"`, `["a","b",{"c":1}]`, `-1.5e3`, `null`, `{}`, `[]`,
				`[[{"reference":"Device/d"}]]`, `"{[\"}"`,
			}).Draw(t, "other")
		case 2:
			system := rapid.SampledFrom([]string{
				"x",
				"http://terminology.hl7.org/CodeSystem/v3-ActCode",
			}).Draw(t, "system")
			code := rapid.SampledFrom([]string{
				`"x"`, `"y"`, `"HIV"`, `"LAB"`, `"laboratory"`, `["HIV"]`, `"42CFRPart2"`, `"\/"`,
			}).Draw(t, "code")
			leaf = `{"coding":[{"system":"` + system + `","code":` + code + `}]}`
		default:
			leaf = drawReference(t)
		}
		fields = append(fields, nest(t, path, leaf))
	}
	if rapid.IntRange(0, 9).Draw(t, "twice") == 0 {
		fields = append(fields,
			rapid.SampledFrom([]string{
				`"id":"i2"`, `"id":["i2"]`, `"x":{"id":"i2"}`, `"resourceType":"Task"`, `"id":7`,
			}).Draw(t, "again"))
	}
	line = "{" +
		strings.Join(fields, rapid.SampledFrom([]string{",", ",", ",", " , "}).Draw(t, "comma")) +
		"}"
	if rapid.IntRange(0, 9).Draw(t, "escape") == 0 {
		at := rapid.IntRange(0, len(line)-1).Draw(t, "at")
		if c := line[at]; c >= 'a' && c <= 'z' {
			line = line[:at] + `\u00` + string("0123456789abcdef"[c>>4]) +
				string("0123456789abcdef"[c&15]) + line[at+1:]
		}
	}
	return line, typ
}

func mapsKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func drawReference(t *rapid.T) string {
	text := rapid.SampledFrom([]string{
		"Device/d", "Practitioner/p", "Medication/m", "Condition/c", "Claim/c/_history/2",
		"https://x.example/fhir/Device/d", "urn:uuid:1", "#k", "Binary/b", "",
		`Claim\/c`, "Medication/m#x", "https://x/%42inary/1", "https://x/%44evice/1", "x",
		"Encounter/",
	}).Draw(t, "reference")
	field := `"reference":` + rapid.SampledFrom([]string{"", "", "", " "}).Draw(t, "space") + `"` +
		text + `"`
	if rapid.IntRange(0, 9).Draw(t, "several") == 0 {
		field = `"reference":["` + text + `"]`
	}
	others := rapid.SampledFrom([]string{
		"", "", `,"display":"reference"`, `,"identifier":{"value":"X"}`, `,"type":"Device"`,
	}).Draw(t, "others")
	return "{" + field + others + "}"
}

// nest puts a value at a path in which each name may be an array.
func nest(t *rapid.T, path, leaf string) string {
	names := strings.Split(path, ".")
	for i, name := range slices.Backward(names) {
		switch rapid.IntRange(0, 4).Draw(t, "array") {
		case 0, 1:
			leaf = "[" + leaf + "]"
		case 2:
			leaf = "[" + leaf + `,{"z":{}},` + leaf + "]"
		}
		leaf = `"` + name + `":` + leaf
		if i > 0 {
			leaf = `{"y":"z",` + leaf + `,"x":1}`
		}
	}
	return leaf
}

// FuzzQuick is TestQuickDecisionsAreThoseOfAWalk for any line.
func FuzzQuick(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"ExplanationOfBenefit","id":"e","identifier":[{"value":"X"}],` +
			`"claim":{"reference":"Claim/c"}}`,
		`{"resourceType":"MedicationRequest","id":"m",` +
			`"medicationReference":{"reference":"Medication/m"},"request":[{"x":[1,` +
			`{"reference":"Device/d"}]}]}`,
		`{"resourceType":"Provenance","id":"p","target":[{"reference":["Claim/c"]}],` +
			`"contained":[{"id":"k"}]}`,
		`{"resourceType":"Goal","id":"g",` +
			`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode",` +
			`"code":"HIV"}]}]}`,
		`{"resourceType":"Claim","id":"c","contained":[{"identifier":{"value":" V"}}],` +
			`"provider":{"reference":"Device/d"}}`,
	} {
		f.Add([]byte(seed))
	}
	rules, err := RulesFromFile("")
	if err != nil {
		f.Fatal(err)
	}
	var all []*comparison
	for _, form := range []*ehi.ReleaseForm{
		nil,
		{},
		{Parameters: map[ehi.Category]ehi.Choice{ehi.MedicalRecord: {}, ehi.Labs: {}}},
	} {
		p, err := rules.Policy(form, ehi.KickOff{})
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, compare(p, false), compare(p, true))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if !json.Valid(line) {
			return // the source guarantees this
		}
		for _, c := range all {
			for range 3 { // the second round may make a mould, which the third fits
				c.check(t, line)
			}
		}
	})
}

// A sensitive code withholds its resource, whatever codes were remembered as harmless.
func TestHarmlessCodesMakeNoOtherHarmless(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(&ehi.ReleaseForm{}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	x := p.examiner()
	harmless := 0
	for i := range 20_000 {
		code := fmt.Appendf(nil, "%d-%d", i, i%10)
		held := p.sensitive.mayHold(code)
		for _, time := range []string{"first", "second"} { // by then it may be remembered
			if x.keeps(code, goes) != held {
				t.Fatalf("%s keeps a resource the %s time: %v, want %v", code, time, !held, held)
			}
		}
		if !held {
			harmless++
		}
		for _, sensitive := range []string{"HIV", "42CFRPart2", "F10.20"} {
			if !x.keeps([]byte(sensitive), goes) {
				t.Fatalf("%s keeps nothing after %s", sensitive, code)
			}
		}
	}
	if harmless < 10_000 {
		t.Errorf("%d of the codes are harmless", harmless)
	}
}
