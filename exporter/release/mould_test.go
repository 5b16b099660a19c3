package release

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// billed returns the targets that a review records for the lines of a bill, as text.
func billed(x *examiner) (lines []string) {
	for i := range x.insides {
		if x.insides[i].field != "item" {
			continue
		}
		for _, e := range append([]*inside{&x.insides[i]}, x.namedBy(i)...) {
			lines = append(lines,
				fmt.Sprintf("%s: %s %v", x.insides[i].sequence, e.targets, len(e.shown) > 0))
		}
	}
	return lines
}

// fitted reports whether a line fits a mould of an earlier line.
func (c *comparison) fitted(line []byte) bool {
	typ, id, ok := identify(line)
	n := fhir.TypeNumber(typ)
	if !ok || n == 0 || c.quick.traits[n].kind == mustWalk {
		return false
	}
	rest := line[len(`{"resourceType":"","id":""`)+len(typ)+len(id):]
	return c.quick.fits(typ, id, n, rest, &c.quick.traits[n])
}

// values are replacements for texts and numbers of a line: some of them decide something at any
// place.
var values = []string{
	`"Device/d"`,
	`"Practitioner/p"`,
	`"Practitioner/p2"`,
	`"Medication/m"`,
	`"Condition/c"`,
	`"Claim/c"`,
	`"Observation/o"`,
	`"Encounter/e"`,
	`"Patient/1"`,
	`"Patient/x:/Device/d"`,
	`"Claim/c/_history/2"`,
	`"https://x.example/fhir/Device/d"`,
	`"urn:uuid:1"`,
	`"#k"`,
	`"Binary/b"`,
	`"Claim/Binary/b"`,
	`"Claim/Binary"`,
	`"Observation/%42inary/1"`,
	`"Device/%31"`,
	`"Device/"`,
	`"Device/ "`,
	`"Devices/d"`,
	`"/Device/d"`,
	`""`,
	`"x"`,
	`"HIV"`,
	`"LAB"`,
	`"laboratory"`,
	`"F10.20"`,
	`"42CFRPart2"`,
	`"a\"b"`,
	`"a\\"`,
	`"\u0048IV"`,
	`"Claim\/c"`,
	`"V1"`,
	`" v2 "`,
	`1`,
	`-1.5e3`,
	`42`,
	`true`,
	`null`,
	`"1"`,
	`{}`,
	`[]`,
	`["x"]`,
	`{"reference":"Device/d"}`,
}

var scalars = regexp.MustCompile(`([:\[,])("(?:[^"\\]|\\.)*"|-?[0-9][0-9.e+]*|true|null)([,\]}])`)

// vary changes some of the texts and numbers of a line behind its type and id.
func vary(t *rapid.T, line string, values []string) string {
	head := strings.Index(line, `"id":`) + len(`"id":`)
	end := strings.IndexByte(line[head:], ',')
	if end < 0 {
		return line
	}
	head += end
	return line[:head] + scalars.ReplaceAllStringFunc(line[head:], func(found string) string {
		if rapid.IntRange(0, 5).Draw(t, "vary") > 0 {
			return found
		}
		parts := scalars.FindStringSubmatch(found)
		return parts[1] + rapid.SampledFrom(values).Draw(t, "value") + parts[3]
	})
}

// The decision about a line that fits a mould equals that of a walk, whatever differs.
func TestDecisionsByMouldsAreThoseOfAWalk(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	fits := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		p, err := rules.Policy(drawForm(t), ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		c := compare(p, rapid.IntRange(0, 2).Draw(t, "alone") == 0)
		first, _ := drawRelated(t)
		if rapid.Bool().Draw(t, "a bill") {
			first = drawBill(t)
		}
		for range 3 { // moulds are made of only some lines
			c.check(t, []byte(first))
		}
		for range 12 {
			line := []byte(vary(t, first, values))
			c.check(t, line)
			if c.fitted(line) {
				fits[c.walk.alone]++
			}
		}
	})
	for _, alone := range []bool{true, false} {
		if fits[alone] < 5 { // the number is random: one run in fifteen has less than 30
			t.Errorf("%d lines fitted a mould where it is %v that each is decided about alone",
				fits[alone], alone)
		}
	}
}

// A text that may decide something else than the mould's text fits no mould, or is evaluated.
func TestATextThatDecidesFitsNoMould(t *testing.T) {
	const line = `{"resourceType":"%s","id":"i-0123456789"%s,"status":"final"}`
	form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, c := range ehi.Categories() {
		if c.Key != ehi.Labs {
			form.Parameters[c.Key] = ehi.Choice{}
		}
	}
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, typ, format, mould, other string
		fits                            bool
	}{
		{
			"a text that shows a laboratory", "Observation", `,"category":[{"text":"%s"}]`, "exam",
			"lab", false,
		},
		{
			"a display that does",
			"Observation",
			`,"category":[{"coding":[{"code":"x","display":"%s"}]}]`,
			"exam",
			"Laboratory",
			false,
		},
		{
			"the code of one",
			"Observation",
			`,"category":[{"coding":[{"code":"%s","display":"x"}]}]`,
			"exam",
			"laboratory",
			false,
		},
		{
			"a sensitive code",
			"Condition",
			`,"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"%s"}]}`,
			"E11.9",
			"F10.20",
			false,
		},
		{
			"one with escapes",
			"Condition",
			`,"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"%s"}]}`,
			"E11.9",
			`F10\u002e20`,
			false,
		},
		{
			"an identifier with them", "Condition", `,"identifier":[{"value":"%s"}]`, "V1",
			`\u0056`, false,
		},
		{
			"a code that is none",
			"Condition",
			`,"code":{"coding":[{"code":"%s"}]}`,
			"E11.9",
			"E11.8",
			true,
		},
		{
			"a Binary",
			"Condition",
			`,"extension":[{"url":"http://x.example/x","valueUri":"%s"}]`,
			"http://x.example/1",
			"http://x.example/Binary/b",
			false,
		},
		{
			"another URL",
			"Condition",
			`,"extension":[{"url":"http://x.example/x","valueUri":"%s"}]`,
			"http://x.example/1",
			"http://x.example/2",
			true,
		},
		{
			"a Reference to a Binary", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1",
			"Binary/b", false,
		},
		{
			"one within another one", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1",
			"Patient/Binary", false,
		},
		{
			"one with escapes", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1",
			"Patient/%42inary", false,
		},
		{
			"a file", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1", "Patient/1.pdf",
			false,
		},
		{"no id", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1", "Patient/1 2", false},
		{"a URN", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1", "urn:uuid:1", false},
		{
			"a supporting resource", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1",
			"Device/1", true,
		},
		{
			"another resource", "Condition", `,"subject":{"reference":"%s"}`, "Patient/1",
			"Patient/2", true,
		},
		{
			"a supporting one in an entry",
			"List",
			`,"entry":[{"item":{"reference":"%s"}}]`,
			"Condition/1",
			"Device/1",
			false,
		},
		{"a number", "Observation", `,"valueQuantity":{"value":%s}`, "1", "-2.5e3", true},
		{"a text for a number", "Observation", `,"valueQuantity":{"value":%s}`, "1", `"2"`, false},
		{"nothing for a number", "Observation", `,"valueQuantity":{"value":%s}`, "1", ``, false},
	} {
		x := compare(p, false)
		for range 3 {
			first := fmt.Sprintf(line, c.typ, fmt.Sprintf(c.format, c.mould))
			if !x.check(t, []byte(first)) {
				t.Fatalf("%s: %s is not decided upon quickly", c.what, first)
			}
		}
		other := []byte(fmt.Sprintf(line, c.typ, fmt.Sprintf(c.format, c.other)))
		if fits := x.fitted(other); fits != c.fits {
			t.Errorf("%s: it is %v that %s fits the mould", c.what, fits, other)
		}
		if json.Valid(other) {
			x.check(t, other)
		}
	}
}

// drawBill draws the line of a bill.
func drawBill(t *rapid.T) string {
	b := `{"resourceType":"Claim","id":"c1-0123456789","status":"active",` +
		`"provider":{"reference":"Practitioner/p"},"item":[`
	for i := range rapid.IntRange(1, 3).Draw(t, "lines") {
		if i > 0 {
			b += ","
		}
		b += fmt.Sprintf(`{"sequence":%d,"diagnosisSequence":[1],`+
			`"productOrService":{"coding":[{"system":"x","code":"y","display":"z"}]}`, i+1)
		b += rapid.SampledFrom([]string{
			"",
			`,"encounter":[{"reference":"Encounter/e"}]`,
			`,"encounter":[{"display":"a visit"}]`,
			`,"udi":[{"reference":"Encounter/u"}]`,
		}).Draw(t, "of")
		b += "}"
	}
	return b +
		`],"diagnosis":[{"sequence":1,"diagnosisReference":{"reference":"Condition/c"}}],` +
		`"total":{"value":3}}`
}

// Lines of synthetic records are decided as by a walk, and mostly by moulds.
func TestSyntheticRecordsAreDecidedByMoulds(t *testing.T) {
	lines := madeUp(t, 4)
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	for _, without := range []ehi.Category{
		"", ehi.Visits, ehi.Labs, ehi.Billing, ehi.MedicalRecord,
	} {
		form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
		for _, c := range ehi.Categories() {
			if c.Key != without {
				form.Parameters[c.Key] = ehi.Choice{}
			}
		}
		for _, alone := range []bool{true, false} {
			p, err := rules.Policy(form, ehi.KickOff{})
			if err != nil {
				t.Fatal(err)
			}
			c, fits, quick := compare(p, alone), 0, 0
			for _, line := range lines {
				if c.check(t, line) {
					quick++
				}
				if c.fitted(line) {
					fits++
				}
			}
			if fits < quick*9/10 || quick < len(lines)*7/10 {
				t.Errorf("without %q, alone %v: of %d lines %d were decided upon quickly, %d "+
					"fitted a mould", without, alone, len(lines), quick, fits)
			}
		}
	}
}

// A record without similar lines causes few comparisons with moulds.
func TestMouldsOfNoUseAreGivenUp(t *testing.T) {
	var m moulds
	tried := 0
	for range 10_000 {
		if m.worthwhile() {
			tried++
			m.misses += 2
		}
	}
	if tried > 1_000 {
		t.Errorf("tried %d times", tried)
	}
	for range 1_000 { // from here on they are useful
		if m.worthwhile() {
			m.misses = max(0, m.misses-1)
		}
	}
	if !m.worthwhile() || m.misses != 0 {
		t.Errorf("not trusted again: %d misses", m.misses)
	}
}

// diffBills fails if a fast decision records other lines of a bill than a walk.
func (c *comparison) diffBills(t interface{ Fatalf(string, ...any) }, line []byte) {
	found, quick := billed(&c.walk), billed(&c.quick)
	slices.Sort(found)
	slices.Sort(quick)
	if d := cmp.Diff(found, quick); d != "" {
		t.Fatalf("%s: what a walk finds of its lines, and what is found quickly:\n%s", line, d)
	}
}

// FuzzMould is TestDecisionsByMouldsAreThoseOfAWalk for any two lines.
func FuzzMould(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"Observation","id":"o","code":{"coding":[{"code":"1"}]},` +
			`"subject":{"reference":"Patient/1"},"focus":[{"reference":"Claim/c"}],` +
			`"valueQuantity":{"value":1.5}}`,
		`{"resourceType":"Observation","id":"p","code":{"coding":[{"code":"F10.20"}]},` +
			`"subject":{"reference":"Device/1"},"focus":[{"reference":"Device/d"}],` +
			`"valueQuantity":{"value":-2}}`,
		`{"resourceType":"Claim","id":"c","item":[{"sequence":1,` +
			`"encounter":[{"reference":"Encounter/e"}],"x":"y"}]}`,
		`{"resourceType":"Claim","id":"d","item":[{"sequence":2,"encounter":[{"reference":"#e"}],` +
			`"x":""}]}`,
	} {
		f.Add([]byte(seed), []byte(strings.ReplaceAll(seed, "1", "22")))
	}
	rules, err := RulesFromFile("")
	if err != nil {
		f.Fatal(err)
	}
	p, err := rules.Policy(&ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.MedicalRecord: {},
		ehi.Billing:       {},
	}}, ehi.KickOff{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if !json.Valid(first) || !json.Valid(second) {
			return // the source guarantees this
		}
		for _, alone := range []bool{true, false} {
			c := compare(p, alone)
			for _, line := range [][]byte{first, first, second, first, second} {
				c.check(t, line)
			}
		}
	})
}
