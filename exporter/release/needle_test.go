package release

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestNeedleIsFoundWhereItStandsFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SliceOfN(rapid.SampledFrom([]byte(`"adiyC:\`)), 0, 80)
		line := letters.Draw(t, "line")
		text := rapid.StringMatching(`"?[adiyC]{2,5}"?`).Draw(t, "text")
		n := newNeedle(text)
		if got, want := n.index(line), bytes.Index(line, []byte(text)); got != want {
			t.Fatalf("%q stands at %d of %q, found at %d", text, want, line, got)
		}
	})
}
