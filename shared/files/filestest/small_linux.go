package filestest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
)

// Small mounts a file system of the given size, such as 5m, at the export folder of a data
// folder until the test ends. It skips the test if that is not allowed.
func Small(t *testing.T, data, size string) (exports string) {
	t.Helper()
	exports = filepath.Join(data, files.Folder)
	if err := os.Mkdir(exports, 0o700); err != nil {
		t.Fatal(err)
	}
	Mount(t, exports, size)
	return exports
}

// Mount mounts a file system at dir until the test ends. size is such as "5m" or
// "5m,nr_inodes=1000". It skips the test if that is not allowed.
func Mount(t *testing.T, dir, size string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// Fill fills the file system of dir up to but free bytes, until clear is called.
func Fill(t *testing.T, dir string, but int64) (clear func()) {
	t.Helper()
	name := filepath.Join(dir, ".filling")
	free, err := disk.OS().Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<16)
	for left := free - but; but == 0 || left > 0; left -= int64(len(chunk)) {
		if but > 0 {
			chunk = chunk[:min(left, int64(len(chunk)))]
		}
		_, err := f.Write(chunk)
		if errors.Is(err, syscall.ENOSPC) {
			if len(chunk) == 1 {
				break
			}
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// FillNames uses up the inodes of the file system of dir, until clear is called.
func FillNames(t *testing.T, dir string) (clear func()) {
	t.Helper()
	within := filepath.Join(dir, ".names")
	if err := os.Mkdir(within, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(within, strconv.Itoa(n)), nil, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil || n > 1_000_000 {
			t.Fatalf("after %d files: %v", n, err)
		}
	}
	return func() {
		if err := os.RemoveAll(within); err != nil {
			t.Error(err)
		}
	}
}
