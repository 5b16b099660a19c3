//go:build unix

package files_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"ehi-server/shared/files"
)

// A pipe in the place of a file is not waited for.
func TestAPipeIsNoFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "0.1.seg")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := files.OS().Open(pipe); !errors.Is(err, files.ErrEndless) {
		t.Errorf("it opens: %v", err)
	}
}
