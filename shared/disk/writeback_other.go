//go:build !linux

package disk

import (
	"os"
)

// writeBack does nothing where the system cannot be told.
func writeBack(*os.File, int64, int64) {}

// forget does nothing where the system cannot be told.
func forget(*os.File, int64, int64) {}
