package node

import "testing"

// A server leaves itself files to open, whatever is asked for and however few are allowed.
func TestConnectionsLeaveFilesToOpen(t *testing.T) {
	for _, c := range []struct {
		asked   int
		allowed uint64
		want    int
	}{
		{8192, 1 << 20, 8192},
		{8192, 8192 + SpareFiles, 8192},
		{8192, 4096, 4096 - SpareFiles},
		{8192, 1024, 512},
		{100, 1024, 100},
		{8192, 3, 2},
		{8192, 0, 1},
	} {
		if got := connectionsWithin(c.asked, c.allowed); got != c.want {
			t.Errorf("%d asked, %d files: %d connections, want %d", c.asked, c.allowed, got, c.want)
		}
	}
}
