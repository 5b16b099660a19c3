package native

import (
	"regexp"
	"slices"
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
