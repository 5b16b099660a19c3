package release

import (
	"fmt"
	"testing"
)

// However many references point outside a record, only a few are held at a time, and each is
// looked up.
func TestSeekingHoldsFewOfManyReferences(t *testing.T) {
	const lines, each = 50_000, 2
	gathered, sought := seeking{}, map[Name]bool{}
	look := func(names []Name) {
		for _, n := range names {
			sought[n] = true
		}
	}
	for i := range lines {
		var strays []target
		for k := range each {
			strays = append(strays, target{
				[]byte("Device"),
				fmt.Appendf(nil, "device-%d-%d", i, k),
			})
		}
		gathered.add(strays)
		gathered.add(strays) // repeated strays are not gathered again
		if n := len(gathered.found); n > mostSought+each {
			t.Fatalf("%d are held after %d lines", n, i+1)
		}
		look(gathered.early())
	}
	if len(gathered.known) != mostKnown || len(gathered.meant) != 0 {
		t.Errorf("%d are known and %d meant", len(gathered.known), len(gathered.meant))
	}
	look(gathered.names())
	if len(sought) != lines*each {
		t.Errorf("%d were sought, want %d", len(sought), lines*each)
	}
}
