package filestest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ehi-server/shared/files"
)

// Small puts the exports of a data folder on a file system of their own, of a size such as 5m, until the test ends. It skips where that is
// not allowed.
func Small(t *testing.T, data, size string) (exports string) {
	t.Helper()
	exports = filepath.Join(data, files.Folder)
	if err := os.Mkdir(exports, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", exports, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(exports, 0); err != nil {
			t.Error(err)
		}
	})
	return exports
}
