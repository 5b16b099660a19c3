package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/fhir"
)

// looked is the result of examining a line.
type looked struct {
	line  string
	facts facts
	err   error
}

func look(x *examiner, line []byte) looked {
	out, f, err := x.compact(line)
	f.refs = bytes.Clone(f.refs)
	if len(f.refs) == 0 {
		f.refs = nil
	}
	return looked{string(out), f, err}
}

// sameAsWalked compares an examiner that makes moulds with one that walks over each line.
func sameAsWalked(t interface{ Fatalf(string, ...any) }, x *examiner, line []byte) {
	walker := incoming(x.scope)
	walker.moulds = nil
	want, got := look(&walker, line), look(x, line)
	if want.err != nil || got.err != nil {
		if want.err == nil || got.err == nil || want.err.Error() != got.err.Error() {
			t.Fatalf("%s\nerror %v, by a walk %v", line, got.err, want.err)
		}
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s\n%+v, by a walk\n%+v", line, got, want)
	}
}

var mouldLines = []string{
	`{"resourceType":"Observation","id":"o-1","meta":{"versionId":"1",` +
		`"lastUpdated":"2020-01-01T00:00:00Z"},"identifier":[{"system":"urn:a","value":"1"},` +
		`{"value":"2"}],"status":"final","subject":{"reference":"Patient/p1"},` +
		`"encounter":{"reference":"Encounter/e1"},"valueQuantity":{"value":1.5,"unit":"kg"},` +
		`"issued":null}`,
	`{"resourceType":"DocumentReference","id":"d1","identifier":{"value":"x"},` +
		`"subject":{"reference":"urn:uuid:0b8a6ef0-07c8-48ca-804d-1e64f6e44b95","display":"A B"},` +
		`"content":[{"attachment":{"url":"Binary/b1","size":12}},` +
		`{"attachment":{"url":"https://own.example/fhir/Binary/b2"}}],` +
		`"context":{"encounter":[{"reference":"Encounter/e1"},{"reference":"#c"}]}}`,
	`{"resourceType":"Patient","id":"p1","active":true,"name":[{"family":"N\u00e9","given":["A",` +
		`"B"]}],"identifier":[{"system":"urn:mrn","value":"7",` +
		`"assigner":{"reference":"Organization/o"}}],"extension":[{"url":"http://example.org/x",` +
		`"valueUri":"Patient/p2"}],"link":[{"other":{"reference":"Patient/p2"},"type":"seealso"}]}`,
	`{"resourceType":"Condition","id":"c1","subject":{"identifier":{"system":"urn:mrn",` +
		`"value":"7"}},"recorder":{"reference":"Practitioner?identifier=urn:npi|9"}}`,
	`{"resourceType":"Questionnaire","id":"q1","url":"http://example.org/q","status":"draft",` +
		`"item":[{"linkId":"1","url":"x"}]}`,
	`{"resourceType":"Procedure","id":"p1",` +
		`"subject":{"reference":"urn:uuid:0b8a6ef0-07c8-48ca-804d-1e64f6e44b96"},` +
		`"encounter":{"reference":"Encounter/e"}}`,
	`{"resourceType":"Observation","id":"o2","subject":{"display":"?"},` +
		`"focus":[{"reference":"Patient/p1"}],"encounter":{"reference":"Encounter/e1"}}`,
	`{"resourceType":"Observation","id":"o3","subject":{"reference":"foo:bar"},` +
		`"encounter":{"reference":"Encounter/e1"}}`,
	`{"resourceType":"CarePlan","id":"c1","instantiatesCanonical":["http://example.org/q|2",` +
		`"PlanDefinition/p"],` +
		`"subject":{"reference":"Patient/p1"},"activity":[{"detail":{` +
		`"instantiatesCanonical":["https://own.example/fhir/PlanDefinition/q#x"]}}]}`,
	`{"resourceType":"Flag","id":"f1","text":{"div":"<div><img src='Binary/b1'/></div>"},` +
		`"subject":{"reference":"Patient/p1"}}`,
	`{"resourceType":"Flag","id":"f2","text":{"div":"<div><a href=\"Binary/b1\"/></div>"},` +
		`"subject":{"reference":"Patient/p1"}}`,
	`{"resourceType":"Encounter","meta":{"versionId":2},"id":"e1",` +
		`"subject":{"reference":"https://own.example/fhir/Patient/p1"},"length":{"value":-0.1e+5}}`,
}

// mouldTexts are replacements for texts.
var mouldTexts = []string{
	"",
	"x",
	"p1",
	"Patient/p1",
	"Patient/p2",
	"Patient/p2/_history/3",
	"Encounter/9",
	"#c",
	"urn:uuid:0b8a6ef0-07c8-48ca-804d-1e64f6e44b95",
	"Patient?identifier=urn:mrn|7",
	"https://own.example/fhir/Patient/p3",
	"https://other.example/Patient/p3",
	" Patient/p1",
	"Patient/%70",
	"<img src='Binary/b2'/>", "<a href='#x' src='https://own.example/fhir/Binary/b3'/>",
	"not an id!",
	`a\"b`,
	`\u0050atient/p1`,
	`a\qb`,
	"tab\there",
	"line\nbreak",
	`a","b`,
	"äöü",
	"2021-02-03T04:05:06.789+01:00",
	`"`,
	`\`,
}

var mouldScalars = []string{
	"0", "-0", "12", "1.5e3", "01", "1.", "-", "+1", "true", "false", "null", "nul", "12x", `"5"`,
	"{}", "[]", "1e", "9999999999999999999999",
}

// TestAMouldFindsWhatAWalkFinds: a line that differs from earlier ones in texts, numbers or
// anything else has the same facts as without the earlier lines.
func TestAMouldFindsWhatAWalkFinds(t *testing.T) {
	fitted := 0
	rapid.Check(t, func(t *rapid.T) {
		x := incoming(scope{own: []string{"https://own.example/fhir/"}})
		if rapid.Bool().Draw(t, "bundle") {
			x.names = map[string]string{
				"urn:uuid:0b8a6ef0-07c8-48ca-804d-1e64f6e44b95": "Patient/p9",
			}
		}
		line := []byte(rapid.SampledFrom(mouldLines).Draw(t, "line"))
		for range 12 {
			sameAsWalked(t, &x, line)
			if !x.walked {
				fitted++
			}
			line = changed(t, line)
		}
	})
	if fitted == 0 {
		t.Error("no line fitted a mould")
	}
}

// TestEachFactIsInALineOfAMould: each kind of fact is in some line that a mould reads, so that a
// kind that moulds do not support is noticed.
func TestEachFactIsInALineOfAMould(t *testing.T) {
	known := map[string]bool{}
	for _, line := range mouldLines {
		x := incoming(scope{})
		var f facts
		for range 4 {
			f = look(&x, []byte(line)).facts
		}
		if x.walked {
			continue
		}
		for v, i := reflect.ValueOf(f), 0; i < v.NumField(); i++ {
			if !v.Field(i).IsZero() {
				known[v.Type().Field(i).Name] = true
			}
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[facts]()) {
		if !known[field.Name] {
			t.Errorf("no line that is read by a mould has %s", field.Name)
		}
	}
}

// changed returns a line with one change, usually in a text or another scalar.
func changed(t *rapid.T, line []byte) []byte {
	var spots []spot
	var c fhir.Cursor
	for c.Reset(line); c.Next(); {
		if start, end := c.Span(); c.Kind == fhir.Scalar {
			if c.IsString() {
				start, end = start+1, end-1
			}
			spots = append(spots, spot{start, end, c.IsString()})
		}
	}
	if c.Err() != nil || len(spots) == 0 { // start over
		return []byte(rapid.SampledFrom(mouldLines).Draw(t, "another line"))
	}
	at := rapid.SampledFrom(spots).Draw(t, "spot")
	var with string
	switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); {
	case kind == 0:
		start := rapid.IntRange(0, len(line)-1).Draw(t, "from")
		at = spot{start: start, end: min(len(line), start+rapid.IntRange(0, 3).Draw(t, "bytes"))}
		with = rapid.StringOfN(rapid.RuneFrom([]rune(`"{}[],: 0ax\`)), 0, 2, -1).Draw(t, "with")
	case at.text:
		with = rapid.SampledFrom(mouldTexts).Draw(t, "text")
	default:
		with = rapid.SampledFrom(mouldScalars).Draw(t, "scalar")
	}
	return fhir.Apply(nil, line, []fhir.Edit{{Start: at.start, End: at.end, With: []byte(with)}})
}

// TestMouldsAreGivenUp: a type without similar lines causes comparisons only for a short time,
// and a record of similar lines has few moulds.
func TestMouldsAreGivenUp(t *testing.T) {
	x := incoming(scope{})
	for i := range 1000 {
		line := fmt.Appendf(nil, `{"resourceType":"Basic","id":"b","x%d":1}`, i)
		if _, _, err := x.compact(line); err != nil {
			t.Fatal(err)
		}
	}
	all := x.moulds[fhir.TypeNumber([]byte("Basic"))]
	if all.misses != mostMisses || len(all.of) != mouldsOfAType {
		t.Errorf("%d misses, %d moulds", all.misses, len(all.of))
	}
	for i := range 1000 {
		line := fmt.Appendf(nil, `{"resourceType":"Flag","id":"f%d","status":"active","n":%d}`, i,
			i)
		if _, _, err := x.compact(line); err != nil {
			t.Fatal(err)
		}
		if i > 2 && x.walked {
			t.Fatalf("line %d was walked over", i)
		}
	}
	if n := len(x.moulds[fhir.TypeNumber([]byte("Flag"))].of); n != 1 {
		t.Errorf("%d moulds of lines that are alike", n)
	}
}

// FuzzAMouldFindsWhatAWalkFinds reads a line after others, some of them similar.
func FuzzAMouldFindsWhatAWalkFinds(f *testing.F) {
	for i, line := range mouldLines {
		f.Add([]byte(line), []byte(mouldLines[(i+1)%len(mouldLines)]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		x := incoming(scope{own: []string{"https://own.example/fhir/"}})
		for range 2 {
			_, _, err := x.compact(first)
			if _, unfit := errors.AsType[errResource](err); err != nil && !unfit {
				t.Fatal(err)
			}
		}
		sameAsWalked(t, &x, second)
		sameAsWalked(t, &x, second)
	})
}
