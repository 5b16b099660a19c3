//go:build unix

package disk_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"ehi-server/shared/disk"
)

// A pipe in the place of a file is not waited for.
func TestAPipeIsNoFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "0.1.seg")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.OS().Open(pipe); !errors.Is(err, disk.ErrEndless) {
		t.Errorf("it opens: %v", err)
	}
}
