package ehi

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// A name that is taken as it is would come out of the cleaning as it is.
func TestAPlainNameNeedsNoCleaning(t *testing.T) {
	known := []string{
		"letter.rtf", "", "con", "con.txt", "COM1.x", "lpt9", "nul.tar", "a.b.c", "-letter.pdf",
		"_note1.pdf", "letter.", ".letter", "conin$", "visit-note_1.rtf", "a/letter.pdf",
		"auxiliary",
	}
	plainOnes := 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(
			rapid.SampledFrom(known), rapid.String(),
			rapid.StringMatching(`[A-Za-z0-9_. -]{0,12}`),
			rapid.StringMatching(`(con|prn|aux|nul|com[0-9]|lpt[0-9])[a-z.]{0,3}`),
		).Draw(t, "name")
		if !plain(name) {
			return
		}
		plainOnes++
		if got := cleaned(name); got != name {
			t.Errorf("%q is cleaned to %q", name, got)
		}
	})
	if plainOnes == 0 {
		t.Error("no name was plain")
	}
}

// The name of an exported file is the same when the export is imported and exported again. It is
// short, and long names that differ anywhere stay different.
func TestTheFileNameOfAFileNameIsTheSame(t *testing.T) {
	part := rapid.OneOf(
		rapid.String(), rapid.SampledFrom([]string{
			"x", ".", " ", "con", "é", "e\u0301", "日", "😀", "\u200d", "?", "~", ".txt", "=",
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		name := ""
		for range rapid.IntRange(1, 5).Draw(t, "parts") {
			name += strings.Repeat(part.Draw(t, "part"), rapid.IntRange(1, 130).Draw(t, "times"))
		}
		got := FileName(name)
		if again := FileName(got); again != got || PortableName(got) != got {
			t.Errorf("%q is %q, and that is %q", name, got, again)
		}
		if len(got) > longestStem+longestExtension || got == "" || !utf8.ValidString(got) {
			t.Errorf("%q is %q", name, got)
		}
		if other := name + "x"; PortableName(other) != PortableName(name) && FileName(other) == got {
			t.Errorf("%q and %q have one name: %q", name, other, got)
		}
	})
	long := strings.Repeat("é", 60)
	for name, want := range map[string]string{
		"":                          "document",
		long + ".txt":               long + ".txt",
		long + "x.txt":              long[:110] + "~",
		"a." + long[:100]:           "a." + long[:100],
		"scan." + long + long:       "scan." + long[:106] + "~",
		long + "/a?.txt":            "a_.txt",
		long + long + ".longestext": long[:110] + "~",
	} {
		if got := FileName(name); got != want && !strings.HasPrefix(got, want) ||
			strings.HasSuffix(want, "~") == (got == want) {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if got := FileName(long + long + ".tiff"); !strings.HasSuffix(got, ".tiff") {
		t.Errorf("the extension is lost: %q", got)
	}
}
