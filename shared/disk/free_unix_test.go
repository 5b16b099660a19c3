//go:build linux || darwin || freebsd

package disk

import (
	"math"
	"testing"
)

// A disk lacks inodes where it has few and knows that; one without a limit, or that does not know,
// does not.
func TestADiskLacksInodesOnlyWhereItSaysSo(t *testing.T) {
	for _, c := range []struct {
		total, free uint64
		want        bool
	}{
		{1 << 20, 1 << 19, false},
		{1 << 20, leastNames, false},
		{1 << 20, leastNames - 1, true},
		{1 << 20, 0, true},
		{2000, 200, false},
		{2000, 100, true},
		{0, 0, false},                  // Btrfs
		{12345, math.MaxUint64, false}, // CephFS
	} {
		if got := few(c.total, c.free); got != c.want {
			t.Errorf("%d of %d inodes free: %v", c.free, c.total, got)
		}
	}
}
