package fhir_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/fhir"
)

// EHI-8: partial dates are widened to their span.
func TestPartialDatesCoverTheirSpan(t *testing.T) {
	for in, want := range map[string][2]string{
		"2019":                          {"2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z"},
		"2019-05":                       {"2019-05-01T00:00:00Z", "2019-06-01T00:00:00Z"},
		"2019-05-07":                    {"2019-05-07T00:00:00Z", "2019-05-08T00:00:00Z"},
		"2019-05-07T10:00:00+02:00":     {"2019-05-07T08:00:00Z", "2019-05-07T08:00:01Z"},
		"2019-05-07T10:00:00.500Z":      {"2019-05-07T10:00:00.5Z", "2019-05-07T10:00:00.501Z"},
		"2020-02-29":                    {"2020-02-29T00:00:00Z", "2020-03-01T00:00:00Z"},
		"2019-12-31T23:59:59.999-05:00": {"2020-01-01T04:59:59.999Z", "2020-01-01T05:00:00Z"},
	} {
		got, err := fhir.ParseSpan(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		s, e := got.Start.UTC().Format(time.RFC3339Nano), got.End.UTC().Format(time.RFC3339Nano)
		if s != want[0] || e != want[1] {
			t.Errorf("%s covers %s to %s, want %s to %s", in, s, e, want[0], want[1])
		}
	}
	for _, bad := range []string{
		"", "19", "2019-13", "2019-02-30", "yesterday", "2019-05-07T10:00", "2019-05-07 10:00:00Z",
	} {
		if _, err := fhir.ParseSpan(bad); err == nil {
			t.Errorf("%q was taken for a date", bad)
		}
	}
}

func TestCursorKnowsWhereItStands(t *testing.T) {
	doc := []byte(`{"a":[{"b":"x"},{"b":"y\u0041"}],"c":{"d":1},"e":true}`)
	var c fhir.Cursor
	got := map[string]string{}
	for c.Reset(doc); c.Next(); {
		if c.Kind == fhir.Scalar {
			got[string(c.AppendPath(nil))+"="+string(c.Raw())] = string(c.Key()) + "<" +
				string(c.KeyAt(1)) + ">" + string(c.Text())
		}
		if c.Kind == fhir.Close && string(c.Key()) == "c" && string(c.Raw()) != `{"d":1}` {
			t.Errorf("closed c is %s", c.Raw())
		}
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	want := map[string]string{
		`a.b="x"`:       "b<a>x",
		`a.b="y\u0041"`: "b<a>yA",
		`c.d=1`:         "d<c>",
		`e=true`:        "e<e>",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestReferencesAreTakenApart(t *testing.T) {
	for ref, want := range map[string]string{
		"Patient/1": "Patient 1", "Patient/1/_history/2": "Patient 1",
		"Binary/1#page=2":            "Binary 1",
		"Binary/1/_history/2#page=2": "Binary 1",
		"Binary/#page=2":             "",
		"http://x/Patient/1":         "",
		"#p":                         "",
		"urn:uuid:1":                 "",
		"Nobody/1":                   "",
		"Patient/":                   "",
		"Patient":                    "",
	} {
		typ, id, ok := fhir.Local([]byte(ref))
		got := ""
		if ok {
			got = string(typ) + " " + string(id)
		}
		if got != want {
			t.Errorf("Local(%s) = %q, want %q", ref, got, want)
		}
	}
}

func TestParametersMustBePrimitive(t *testing.T) {
	got, err := fhir.ParseParameters([]byte("\ufeff" +
		`{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient"},` +
		`{"name":"n","valueInteger":3}]}`))
	if err != nil {
		t.Fatal(err)
	}
	d := cmp.Diff([]fhir.Parameter{{Name: "_type", Value: "Patient"}, {Name: "n", Value: "3"}}, got)
	if d != "" {
		t.Error(d)
	}
	for _, bad := range []string{
		`{"name":"x"}`,
		`{"name":"x","valueCoding":{}}`,
		`{"name":"x","valueReference":{"display":"y"}}`,
		`{"name":"x","part":[{"name":"y","valueString":"z"}]}`,
		`{"name":"x","valueString":[]}`,
	} {
		got, err := fhir.ParseParameters(
			[]byte(`{"resourceType":"Parameters","parameter":[` + bad + `]}`))
		if err != nil || len(got) != 1 || got[0].Name != "x" || got[0].Problem == "" {
			t.Errorf("%s: %+v, %v", bad, got, err)
		}
	}
	for _, bad := range []string{
		`{`,
		`{"resourceType":"Patient"}`,
		`{"resourceType":"Parameters","parameter":[{"valueString":"x"}]}`,
		`{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient"}],` +
			`"parameter":[]}`,
		`{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient"}],` +
			`"par\u0061meter":[]}`,
		`{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient"}],` +
			`"Parameter":[]}`,
		`{"resourceType":"Patient","resourceType":"Parameters"}`, `{"ResourceType":"Parameters"}`,
		`{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient",` +
			`"valueString":"Basic"}]}`,
		`{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient",` +
			`"valueCode":"Basic"}]}`,
		`{"resourceType":"Parameters","parameter":[{"name":"_type","name":"x",` +
			`"valueString":"Patient"}]}`,
	} {
		if _, err := fhir.ParseParameters([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzCursorNeverPanicsAndSeesWhatTheStandardLibrarySees(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"reference":"Patient/1"},null],"b":"\\\"\u00e9"}`))
	f.Add([]byte(`{"a":[{},"no key",null],"b":{}}`))
	f.Add([]byte(`[]`))
	for _, bad := range []string{
		`{"a":`, `{"a":1,}`, `[1,]`, `[,1]`, `{"a" 1}`, `{1:2}`, `{"a":1]`, `[1}`, `1 2`, `{}{}`,
		`{"a":1 "b":2}`, `[1 2]`, `{"a"}`, `,`, ``, ` `,
		`[1]]`, `{{}}`, `{"a":,}`, `{"a"::1}`, "\"\x01\"", `01`, `1.`, `-`, `"\x"`, `"\u12"`,
		` [1 ] `, "{\n}",
	} {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var c fhir.Cursor
		strings := 0
		for c.Reset(doc); c.Next(); {
			c.AppendPath(nil)
			c.KeyStart()
			if c.IsString() {
				strings++
				c.Text()
			}
		}
		if errors.Is(c.Err(), fhir.ErrTooDeep) {
			return
		}
		if valid := json.Valid(doc); valid != (c.Err() == nil) {
			t.Fatalf("%q: valid is %t, the cursor says %v", doc, valid, c.Err())
		}
		if c.Err() != nil {
			return
		}
		if c.Broken() != bytes.ContainsAny(doc, "\r\n") { // which strings cannot hold
			t.Fatalf("%q: broken is %t", doc, c.Broken())
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if want := count(v); want > strings { // duplicate keys make the library see fewer
			t.Fatalf("%d strings seen, the library sees %d", strings, want)
		}
	})
}

func count(v any) (n int) {
	switch v := v.(type) {
	case string:
		return 1
	case []any:
		for _, e := range v {
			n += count(e)
		}
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
	}
	return n
}

func FuzzParseSpanIsNeverEmpty(f *testing.F) {
	for _, s := range []string{"2019", "2019-05", "2019-05-07", "2019-05-07T10:00:00Z", "0000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if span, err := fhir.ParseSpan(s); err == nil && !span.Start.Before(span.End) {
			t.Fatalf("%q covers %v to %v", s, span.Start, span.End)
		}
	})
}

// An instant that is written is read as the millisecond that it was.
func FuzzInstantIsReadAsWritten(f *testing.F) {
	f.Add(int64(0), int64(0))
	f.Add(int64(1_700_000_000), int64(999_999_999))
	f.Add(int64(-62_135_596_800), int64(1))
	f.Fuzz(func(t *testing.T, seconds, nanos int64) {
		at := time.Unix(seconds, nanos).UTC()
		if at.Year() < 0 || at.Year() > 9999 { // RFC 3339 has no others
			return
		}
		text := fhir.FormatInstant(at)
		span, err := fhir.ParseSpan(text)
		if at.Year() == 0 {
			return // FHIR's years begin with 1
		}
		if err != nil ||
			!span.Start.Equal(at.Truncate(time.Millisecond)) &&
				!span.Start.Equal(at.Truncate(time.Second)) {
			t.Fatalf("%v is written as %s and read as %+v, %v", at, text, span, err)
		}
	})
}

// A _typeFilter is refused or matched against whatever resource, without harm and each time alike.
func FuzzSearches(f *testing.F) {
	resource := `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"s",` +
		`"code":"c"}]},"effectiveDateTime":"2020-01-01","subject":{"reference":"Patient/1"}}`
	for _, q := range []string{
		"Observation?date=ge2020,Condition?category=a|b,c",
		"Observation?code=s|c",
		"Observation?status:not=final",
		"Observation?",
		"?",
		"Observation?code=a\\,b&date=lt2021-02-30",
	} {
		f.Add(q, []byte(resource))
	}
	f.Fuzz(func(t *testing.T, query string, line []byte) {
		searches, err := fhir.ParseSearches(query)
		if err != nil {
			return
		}
		m := fhir.NewMatcher(searches)
		for _, typ := range []string{"Observation", "Condition", "Patient"} {
			first, err := m.Match(typ, line)
			second, again := m.Match(typ, line)
			if first != second || (err == nil) != (again == nil) {
				t.Fatalf("%q on %s: %v, %v, then %v, %v", query, line, first, err, second, again)
			}
		}
	})
}
