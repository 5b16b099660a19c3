package release

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
)

var drawnReference = regexp.MustCompile(`\{"reference":"(\w+)/([^"\\]+)"`)

// The counts of a summary equal what a review releases, even if References name their targets
// only by an identifier.
func TestSummariesFollowIdentifiers(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	rapid.Check(t, func(t *rapid.T) {
		lines := drawRecord(t)
		for i, line := range lines {
			typ, id, err := new(walk).identify([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			called := `,"identifier":[{"system":"urn:s","value":"Value-` + string(typ) + "-" +
				string(id) + `"}]}`
			line = drawnReference.ReplaceAllStringFunc(line, func(ref string) string {
				if rapid.IntRange(0, 2).Draw(t, "as it is") == 0 {
					return ref
				}
				differ++
				return drawnReference.ReplaceAllString(ref, `{"identifier":{"value":"value-$1-$2"}`)
			})
			lines[i] = strings.TrimSuffix(line, "}") + called
		}
		summary := summarize(t, rules, ehi.KickOff{}, lines, false)
		for range 3 {
			form := drawForm(t)
			got, want := counted(t, rules, summary, form),
				countedByReview(t, rules, form, ehi.KickOff{}, lines, false)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%s\n%s", strings.Join(lines, "\n"), d)
			}
		}
	})
	t.Logf("%d References by identifiers", differ)
}
