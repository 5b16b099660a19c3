//go:build !linux

package condition

import "os"

// allocate reserves disk space for a file.
func allocate(f *os.File, bytes int64) error { return fill(f, bytes) }
