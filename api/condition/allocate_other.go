//go:build !linux

package condition

import "os"

// allocate takes so much room for a file.
func allocate(f *os.File, bytes int64) error { return fill(f, bytes) }
