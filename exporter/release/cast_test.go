package release

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// casting compares lines released by casts with those of a walk.
type casting struct {
	quick, walk *reviewed
	fitted      int
}

func castingOf(r *Review) *casting {
	return &casting{quick: &reviewed{Review: r}, walk: &reviewed{Review: r}}
}

// check fails if the masked References and texts of a line differ from those of a walk.
func (c *casting) check(t interface{ Fatalf(string, ...any) }, line []byte) {
	v, known, err := c.quick.verdict(line)
	if err != nil || !known || v.withheld() || v&stripped != 0 {
		return
	}
	if !c.quick.quickly(line) {
		return
	}
	if c.quick.bare {
		c.fitted++
	}
	if err := c.walk.plan(line, v); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	quick, walk := fhir.Apply(nil, line, c.quick.edits), fhir.Apply(nil, line, c.walk.edits)
	if !bytes.Equal(quick, walk) {
		t.Fatalf("%s\nis released as\n%s, by a walk as\n%s", line, quick, walk)
	}
	telling := func(edits []fhir.Edit) (at []int) {
		for _, e := range edits {
			if isTelling(e.With) {
				at = append(at, e.Start)
			}
		}
		return at
	}
	if !slices.Equal(telling(c.quick.edits), telling(c.walk.edits)) {
		t.Fatalf("%s: not the same masks tell of what stays", line)
	}
}

// madeUp returns the lines of some synthetic records.
func madeUp(t testing.TB, patients int) (lines [][]byte) {
	t.Helper()
	take := func(r source.Resource) error {
		lines = append(lines, bytes.Clone(r.Line))
		return nil
	}
	g := synthetic.NewGenerator(synthetic.Config{Seed: 1})
	err := g.Shared(take)
	for k := range patients {
		err = errors.Join(err, g.Patient(k, take))
	}
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// reviewOf returns the concluded review of some lines, for a form without some of its lines.
func reviewOf(
	t interface{ Fatalf(string, ...any) }, lines [][]byte, resolved bool, without ...ehi.Category,
) *Review {
	form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, c := range ehi.Categories() {
		if !slices.Contains(without, c.Key) {
			form.Parameters[c.Key] = ehi.Choice{}
		}
	}
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatalf("%v", err)
	}
	p, err := rules.Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	all := make([]string, len(lines))
	for i, line := range lines {
		all[i] = string(line)
	}
	return Decided(t, p, resolved, all...)
}

// Casts mask the same as a walk in synthetic records, and handle most lines.
func TestSyntheticRecordsAreReleasedByCasts(t *testing.T) {
	lines := madeUp(t, 4)
	for _, without := range [][]ehi.Category{
		nil, {ehi.Visits}, {ehi.Labs, ehi.Billing}, {ehi.MedicalRecord},
	} {
		for _, resolved := range []bool{true, false} {
			r := reviewOf(t, lines, resolved, without...)
			c, goes := castingOf(r), 0
			for _, line := range lines {
				if _, ok, err := c.walk.Release(line); err == nil && ok {
					goes++
				}
				c.check(t, line)
			}
			if c.fitted < goes*9/10 {
				t.Errorf("without %v, resolved %v: %d of %d lines were released as others", without,
					resolved, c.fitted, goes)
			}
		}
	}
}

// A line that fits a cast is masked as by a walk, in whatever texts it differs.
func TestCastsMaskWhatAWalkMasks(t *testing.T) {
	fitted := 0
	rapid.Check(t, func(t *rapid.T) {
		kept := []string{
			`{"resourceType":"Encounter","id":"e-0123456789","identifier":[{"system":"s",` +
				`"value":"VISIT-77"}],"subject":{"reference":"Patient/1"}}`,
			`{"resourceType":"Encounter","id":"e1","subject":{"reference":"Patient/1"}}`,
			`{"resourceType":"Encounter","id":"00000000-0000-4000-8000-0000000000e2",` +
				`"subject":{"reference":"Patient/1"}}`,
			`{"resourceType":"Condition","id":"c-0123456789",` +
				`"code":{"coding":[{"code":"F10.20"}]},"subject":{"reference":"Patient/1"}}`,
			`{"resourceType":"Procedure","id":"123456789012","subject":{"reference":"Patient/1"}}`,
		}
		kept = kept[rapid.IntRange(0, len(kept)-1).Draw(t, "first"):]
		goes := []string{
			`{"resourceType":"Patient","id":"1"}`,
			`{"resourceType":"Condition","id":"c2","subject":{"reference":"Patient/1"}}`,
		}
		drawn := []string{
			`{"resourceType":"Observation","id":"o-0","status":"final",` +
				`"code":{"coding":[{"system":"x","code":"y","display":"z"}],"text":"w"},` +
				`"subject":{"reference":"Patient/1"},` +
				`"encounter":{"reference":"Encounter/e9"},"note":[{"text":"nothing"}],` +
				`"valueQuantity":{"value":1.5,"unit":"u"},"focus":[{"reference":"Condition/c2"}]}`,
			`{"resourceType":"Goal","id":"g-0","addresses":[{"reference":"Condition/c2",` +
				`"display":"x"}],"identifier":[{"system":"s","value":"G1"}],"note":[{"text":"a"}]}`,
			`{"resourceType":"Immunization","id":"i-0","encounter":{"reference":"Encounter/e1"},` +
				`"patient":{"reference":"Patient/1"},"extension":[{"url":"u","valueUri":"v"}],` +
				`"lotNumber":"L"}`,
		}
		var lines [][]byte
		for _, line := range slices.Concat(kept, goes, drawn) {
			lines = append(lines, []byte(line))
		}
		r := reviewOf(t, lines, false, ehi.Visits)
		c := castingOf(r)
		first := rapid.SampledFrom(drawn).Draw(t, "line")
		for range 3 {
			c.check(t, []byte(first))
		}
		for i := range 10 {
			line := vary(t, strings.Replace(first, `-0"`, fmt.Sprintf(`-%d"`, i+1), 1), castValues)
			c.check(t, []byte(line))
		}
		fitted += c.fitted
	})
	if fitted < 100 {
		t.Errorf("%d lines were released as others", fitted)
	}
}

// castValues are replacements for texts that the second pass examines.
var castValues = []string{
	`"Encounter/e-0123456789"`,
	`"Encounter/e1"`,
	`"Encounter/e9"`,
	`"Condition/c-0123456789"`,
	`"Condition/c2"`,
	`"https://x.example/fhir/Encounter/e1"`,
	`"https://x.example/e-0123456789"`,
	`"urn:uuid:e-0123456789"`,
	`"urn:uuid:00000000-0000-4000-8000-0000000000e2"`,
	`"#k"`,
	`""`,
	`"see e-0123456789"`,
	`"see Encounter/e1."`,
	`"x00000000-0000-4000-8000-0000000000e2x"`,
	`"VISIT-77"`,
	`" visit-77 "`,
	`"urn:oid:VISIT-77"`,
	`123456789012`,
	`"123456789012"`,
	`12`,
	`true`,
	`null`,
	`"e\u002d0123456789"`,
	`"a\"b"`,
	`"Encounter%2Fe1"`,
	`"Encounter?identifier=VISIT-77"`,
	`"Patient/1"`,
	`"contained"`,
	`"Procedure/123456789012"`,
	`"\"contained\""`,
}
