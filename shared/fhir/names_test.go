package fhir_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

func walked(doc string) error {
	c := fhir.Cursor{Unique: true}
	for c.Reset([]byte(doc)); c.Next(); {
	}
	return c.Err()
}

// Of two fields of one name nobody knows which counts (RFC 8259, 4).
func TestANameThatAnObjectHasTwiceIsAnError(t *testing.T) {
	many := func(n int, last string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":{"k%d":1},`, i, i)
		}
		return `{` + b.String() + last + `}`
	}
	for doc, name := range map[string]string{
		`{"a":1,"a":1}`:            "a",
		`{"a":1,"b":2,"\u0061":3}`: "a",
		`{"":1,"":2}`:              "",
		`[{"a":{"b":[{"c":1},{"c":1,"d":2,"c":3}]}}]`:      "c",
		`{"resourceType":1,"x":{"y":{}},"resourceType":2}`: "resourceType",
		many(10, `"k3":1`):                               "k3",
		many(1000, `"k3":1`):                             "k3",
		many(1000, `"k999":1`):                           "k999",
		many(100, `"in":`+many(100, `"k5":1`)):           "k5",
		many(100, `"in":`+many(100, `"x":1`)+`,"k99":1`): "k99",
	} {
		repeated, ok := errors.AsType[fhir.ErrRepeated](walked(doc))
		if !ok || repeated.Name != name {
			t.Errorf("%.60s: %v", doc, walked(doc))
		}
		var c fhir.Cursor
		for c.Reset([]byte(doc)); c.Next(); {
		}
		if c.Err() != nil {
			t.Errorf("%.60s is no error where names need not be unique: %v", doc, c.Err())
		}
	}
	for _, doc := range []string{
		`{"a":{"a":{"a":[{"a":1},{"a":1}]}},"A":1,"_a":1}`, `[]`, `{}`, many(1000, `"x":1`),
		`{"abcdefgh12345678":1,"abcdefgX12345678":1,"abcdefgh1X345678":1,"abcdefgh":1,` +
			`"12345678":1}`,
		`{"abcdefgh--12345678":1,"abcdefgh-+12345678":1}`, // which only their middles tell apart
	} {
		if err := walked(doc); err != nil {
			t.Errorf("%.60s: %v", doc, err)
		}
	}
}

// A document that is walked without an error means the same to a reader that takes the first of
// two names and to one that takes the last.
func FuzzUniqueNames(f *testing.F) {
	for _, doc := range []string{
		`{"a":1,"\u0061":2}`, `{"a":[{"b":1,"b":1}]}`, `{"a":{"a":1}}`, `{"k":"\"}","k":{}}`,
	} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		if !json.Valid([]byte(doc)) || fhir.CheckDepth([]byte(doc)) != nil {
			return
		}
		_, repeated := errors.AsType[fhir.ErrRepeated](walked(doc))
		if want := repeats(t, []byte(doc)); repeated != want {
			t.Errorf("%s: repeated %v, want %v", doc, repeated, want)
		}
	})
}

// repeats looks for two fields of one name with the paths of all that a plain Cursor shows.
func repeats(t *testing.T, doc []byte) bool {
	var c fhir.Cursor
	seen := map[string]bool{}
	for c.Reset(doc); c.Next(); {
		if c.Kind == fhir.Close || c.KeyStart() < 0 {
			continue
		}
		at := fmt.Sprintf("%d %s", c.ParentStart(), c.Key())
		if seen[at] {
			return true
		}
		seen[at] = true
	}
	if c.Err() != nil {
		t.Fatalf("%s: %v", doc, c.Err())
	}
	return false
}
