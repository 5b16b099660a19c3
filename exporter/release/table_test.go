package release

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A code may be in the table where one of its spellings is, of whatever system, and nowhere else: what
// only hashes like one of the table costs no walk.
func TestACodeMayBeInTheTableWhereItIsAlone(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for key := range table.exact {
		known = append(known, key[strings.LastIndexByte(key, '|')+1:])
	}
	for _, rows := range table.prefix {
		for _, r := range rows {
			known = append(known, r.prefix)
		}
	}
	slices.Sort(known)
	holds := func(code []byte) bool {
		is := func(spelling string) bool {
			_, exact := table.anyCodes[spelling]
			for _, rows := range table.prefix {
				exact = exact || slices.ContainsFunc(rows, func(r prefixRow) bool { return strings.HasPrefix(spelling, r.prefix) })
			}
			return exact
		}
		return slices.ContainsFunc(candidates(code), is)
	}
	rapid.Check(t, func(t *rapid.T) {
		code := []byte(rapid.SampledFrom(known).Draw(t, "code"))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			with := rapid.StringMatching(`[0-9A-Za-z .|-]{0,3}`).Draw(t, "with")
			at := rapid.IntRange(0, len(code)).Draw(t, "at")
			code = slices.Replace(code, at, min(len(code), at+rapid.IntRange(0, 2).Draw(t, "without")), []byte(with)...)
		}
		if len(plainCode(code)) > len(plainBytes{}.bytes) {
			return // nobody looks closer at a long one
		}
		if may := table.mayHold(code); may && !holds(code) {
			t.Fatalf("%q may be in the table, and is not", code)
		}
	})
	for _, code := range []string{"430193006", "8480-6"} {
		if table.mayHold([]byte(code)) {
			t.Errorf("%s may be in the table", code)
		}
	}
}
