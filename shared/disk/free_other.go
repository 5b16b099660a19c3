//go:build !(linux || darwin || freebsd)

package disk

import (
	"math"
)

// Free is unknown on this system. A full disk fails when it is written to.
func (osFS) Free(string) (int64, error) { return math.MaxInt64, nil }

// FewNames is unknown on this system.
func FewNames(string) bool { return false }
