//go:build !(linux || darwin || freebsd)

package local

import "io"

// lock does nothing on this system: several processes may do the same work.
func lock(string, bool) (io.Closer, error) { return io.NopCloser(nil), nil }
