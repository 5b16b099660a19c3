package ehi

import (
	"testing"

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
