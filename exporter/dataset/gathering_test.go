package dataset

import (
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"
)

// For any order of writes to keys of several kinds, the store has the last write of each key
// after a commit, and the previous value until then.
func TestGatheredWritesOfAKeyStayInOrder(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	keys := [][]byte{
		key(kCompartment, "p", "x"), key(kShared, "x"), key(kOwner, "x"), key(kOwner, "y"),
	}
	rapid.Check(t, func(t *rapid.T) {
		g := s.newGathering()
		defer func() {
			if err := g.close(); err != nil {
				t.Error(err)
			}
		}()
		stored := map[string]string{}
		for _, k := range keys {
			if err := s.db.Delete(k, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		gathered := map[string]string{}
		for range 30 {
			k := rapid.SampledFrom(keys).Draw(t, "key")
			switch rapid.SampledFrom([]string{"set", "delete", "commit"}).Draw(t, "step") {
			case "set":
				v := rapid.StringN(1, 4, -1).Draw(t, "value")
				gathered[string(k)] = v
				err = g.set(k, []byte(v))
			case "delete":
				delete(gathered, string(k))
				err = g.delete(k)
			case "commit":
				stored = maps.Clone(gathered)
				err = g.commit(pebble.NoSync)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				if got, err := get(s.db, k); err != nil || string(got) != stored[string(k)] {
					t.Fatalf("%q holds %q, %v; want %q", k, got, err, stored[string(k)])
				}
			}
		}
	})
}
