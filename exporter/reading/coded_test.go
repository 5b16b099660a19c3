package reading

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// codedAttribute is what codedAttributes finds, as an expression.
var codedAttribute = regexp.MustCompile(
	`\b(code|codeSystem|codeSystemName)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')`)

// Attributes with a code are found in every writing, and nothing else is.
func TestEHI9AttributesWithACodeAreFound(t *testing.T) {
	part := rapid.SampledFrom([]string{
		"code", "codeSystem", "codeSystemName", "System", "Name", "xcode", "x-code", "=", " = ",
		"\n", " ", `"`, "'", "<", "B20", "code='B20'", `codeSystem = "2.16.840.1.113883.6.90"`,
		"displayName", "_", "é", ">",
	})
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		var element []byte
		for _, s := range rapid.SliceOfN(part, 0, 12).Draw(t, "parts") {
			element = append(element, s...)
		}
		var want, got []string
		for _, a := range codedAttribute.FindAllSubmatch(element, -1) {
			want = append(want, string(a[1]), string(a[2])+string(a[3]))
		}
		for name, value := range codedAttributes(element) {
			got = append(got, name, string(value))
		}
		found += len(got)
		if !slices.Equal(got, want) {
			t.Fatalf("in %q there are %q, want %q", element, got, want)
		}
	})
	if found == 0 {
		t.Error("no attribute was found")
	}
}

// A text whose codes are judged in a view that is made of it is not judged itself. Nothing is
// missed by that, whatever pieces it comes in.
func TestEHI9NoCodeIsMissedWhereTheViewsOfATextAreJudged(t *testing.T) {
	part := rapid.SampledFrom([]string{
		"code", "codeSystem", "codeSystemName", "xcode", "=", " = ", "\n", "\f", `"`, "'", "<",
		"<a ", "code='B20'", `codeSystem = "2.16"`, "_", ">", "&lt;", "&#61;", "&quot;", `\"`,
		`\u0042`, "%3C", "=3D", "<!--", "&", "\x00", "code='1' codeSystem='2'/>", `{\rtf `,
		"<!DOCTYPE a [<!ENTITY b 'code='>]>", "&b;",
		strings.Repeat("code=<a>", overlap/8), `code="`, `codeSystem="`,
		`<a code="x code='1' codeSystem='2'/><b`,
		"<a code='" + strings.Repeat(" ", maxCode) + "1' codeSystem='2'/>",
	})
	skipped := 0
	rapid.Check(t, func(t *rapid.T) {
		var text []byte
		for _, s := range rapid.SliceOfN(part, 0, 20).Draw(t, "parts") {
			text = append(text, s...)
		}
		size := rapid.IntRange(1, len(text)+1).Draw(t, "size")
		want, got := asked{pairs: map[string]bool{}}, asked{pairs: map[string]bool{}}
		all, some := 0, 0
		readAll("", text, size, Judge{Text: counted(&all, NewCodes(want.code).In)})
		readAll("", text, size, Judge{
			Text:  func([]byte) string { return "" },
			Codes: counted(&some, NewCodes(got.code).In),
		})
		for pair := range want.pairs {
			if !got.pairs[pair] {
				t.Fatalf("%q is missed in %q in pieces of %d", pair, text, size)
			}
		}
		skipped += all - some
	})
	if skipped == 0 {
		t.Error("each text was judged")
	}
}

// counted counts the calls of what decides about a text.
func counted(n *int, decide func([]byte) string) func([]byte) string {
	return func(text []byte) string {
		*n++
		return decide(text)
	}
}

// asked notes about which codes it is asked.
type asked struct{ pairs map[string]bool }

func (a asked) code(system string, code []byte) string {
	a.pairs[system+"|"+string(code)] = true
	return ""
}
