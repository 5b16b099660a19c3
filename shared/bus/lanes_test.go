package bus_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ehi-server/shared/bus"
)

// A lane is created again if the embedded NATS cannot read which commands its workers have: all
// commands can be published again.
func TestADamagedLaneIsCreatedAgain(t *testing.T) {
	dir := t.TempDir()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	states, err := filepath.Glob(
		filepath.Join(dir, "jetstream", "$G", "streams", "*", "obs", "workers", "o.dat"))
	if err != nil || len(states) == 0 {
		t.Fatalf("%v, %v", states, err)
	}
	for _, path := range states {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, damaged := range map[string][]byte{
			"flipped": append([]byte{whole[0] ^ 0x40, whole[1] ^ 0x80}, whole[2:]...),
			"cut":     slices.Clone(whole[:len(whole)/2]),
			"zeroed":  make([]byte, len(whole)),
		} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := bus.Open(t.Context(), bus.Config{StoreDir: dir})
			if err != nil {
				t.Fatalf("%s %s: %v", path, name, err)
			}
			if err := b.Mend(t.Context()); err != nil {
				t.Errorf("%s %s: %v", path, name, err)
			}
			b.Close()
		}
	}
}
