package fhir_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"ehi-server/shared/fhir"
)

func TestWhatIsNoUnicodeTextIsFoundWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		doc, why string
		at       int
	}{
		{`{"a":"Müller \u00fc \ud83d\ude00 \\ud800 \" \u0000 😀"}`, "", 0},
		{"{\"a\":\"M\xfcller\"}", "invalid UTF-8 at byte 8 (0xfc)", 7},
		// a surrogate as CESU-8 writes it
		{"{\"a\":\"\xed\xa0\x80\"}", "invalid UTF-8 at byte 7 (0xed)", 6},
		{"{\"a\":\"\xc0\x80\"}", "invalid UTF-8 at byte 7 (0xc0)", 6}, // NUL as Java writes it
		{"{\"a\":\"x\xe2\x82", "invalid UTF-8 at byte 8 (0xe2)", 7},
		{`{"a":"\ud800"}`, `half a surrogate pair at byte 7 (\ud800)`, 6},
		{`{"a":"\\\uDC00"}`, `half a surrogate pair at byte 9 (\udc00)`, 8},
		{`{"a":"\ud83d\ud83d\ude00"}`, `half a surrogate pair at byte 7 (\ud83d)`, 6},
		{`{"\ud83dx":1}`, `half a surrogate pair at byte 3 (\ud83d)`, 2},
		{`\`, "", 0}, {`"\u`, "", 0}, {`"\ud8`, "", 0}, {"", "", 0},
	} {
		if at, why := fhir.CheckText([]byte(c.doc)); why != c.why || why != "" && at != c.at {
			t.Errorf("%q: %q at %d, want %q at %d", c.doc, why, at, c.why, c.at)
		}
	}
}

// The standard library replaces what is no text by U+FFFD: a document is text if and only if
// that happens nowhere.
func FuzzTextIsWhatTheStandardLibraryReadsWithoutReplacement(f *testing.F) {
	for _, seed := range []string{
		`"\ud83d\ude00"`, `"\ud800\\udc00"`, "\"\xff\"", `"\\ud800"`, `"\uDBFF\uDFFF\uDFFF"`, `"�"`,
		`"\ufffd"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var s string
		if json.Unmarshal(doc, &s) != nil || bytes.Contains(bytes.ToLower(doc), []byte("fffd")) ||
			bytes.Contains(doc, []byte("�")) {
			_, _ = fhir.CheckText(doc) // it only must not panic
			return
		}
		_, why := fhir.CheckText(doc)
		if replaced := strings.ContainsRune(s, utf8.RuneError); replaced != (why != "") {
			t.Errorf("%q: %q, replaced %v", doc, why, replaced)
		}
	})
}

// A name is the same name however it is spelled.
func TestNamesOfFieldsAreReadWithoutEscapes(t *testing.T) {
	var c fhir.Cursor
	for c.Reset([]byte(`{"r\u0065source\u0054ype":"Patient",` +
		`"subject":{"\"\u0072eference":"Patient\/1"}}`)); c.Next(); {
		switch path := string(c.AppendPath(nil)); {
		case c.Depth == 1 && c.Kind == fhir.Scalar && path != "resourceType":
			t.Errorf("the path is %q", path)
		case c.Depth == 2 && (path != `subject."reference` || string(c.Text()) != "Patient/1"):
			t.Errorf("%q is %q", path, c.Text())
		}
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestCommonPrefix(t *testing.T) {
	text := []byte("0123456789abcdefghijk")
	for n := range len(text) {
		other := bytes.Clone(text)
		other[n] = '!'
		if got := fhir.CommonPrefix(text, other); got != n {
			t.Errorf("texts that differ at %d: %d", n, got)
		}
		if got := fhir.CommonPrefix(text, text[:n]); got != n {
			t.Errorf("a text and its first %d bytes: %d", n, got)
		}
	}
}
