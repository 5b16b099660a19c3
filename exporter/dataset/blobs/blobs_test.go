package blobs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"ehi-server/exporter/dataset/blobs"
)

// filesIn returns how many files are in a folder and below it.
func filesIn(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return n
}

// Contents of every size, more of them than wait in memory, are stored once each, also if they come
// several times in one batch or were there before. Until Publish, a short one needs no file.
func TestEachContentIsStoredOnce(t *testing.T) {
	folder := blobs.In(t.TempDir())
	var contents [][]byte
	for i := range 150 { // 9 MiB in all
		contents = append(contents, bytes.Repeat([]byte{byte(i)}, 64<<10))
	}
	for _, size := range []int{0, 1, 64<<10 - 1, 64<<10 + 1, 1 << 20} {
		contents = append(contents, bytes.Repeat([]byte{255}, size))
	}
	for round := range 2 {
		batch := folder.Batch()
		if _, err := batch.Add(bytes.NewReader(contents[0])); err != nil {
			t.Fatal(err)
		}
		if n := filesIn(t, folder.Dir()); n != round*len(contents) {
			t.Errorf("round %d: %d files before Publish", round, n)
		}
		if err := batch.Undo(); err != nil || batch.Len() > 0 || batch.Bytes() > 0 {
			t.Fatalf("%d contents of %d bytes, %v", batch.Len(), batch.Bytes(), err)
		}
		var all []blobs.Blob
		for _, content := range append(contents, contents...) {
			blob, err := batch.Add(bytes.NewReader(content))
			if want := blobs.Of(content); err != nil || blob.Name != want.Name ||
				blob.Size != want.Size {
				t.Fatalf("%+v, %v, want %+v", blob, err, want)
			}
			all = append(all, blob)
		}
		if err := batch.Publish(); err != nil {
			t.Fatal(err)
		}
		if n := filesIn(t, folder.Dir()); n != len(contents) {
			t.Errorf("round %d: %d files of %d contents", round, n, len(contents))
		}
		for i, blob := range all {
			file, err := folder.Open(blob)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(file)
			if err = errors.Join(err, file.Close()); err != nil ||
				!bytes.Equal(got, contents[i%len(contents)]) {
				t.Errorf("content %d: %v", i, err)
			}
		}
	}
}

// A batch that ends without Publish leaves nothing.
func TestADroppedBatchLeavesNothing(t *testing.T) {
	folder := blobs.In(t.TempDir())
	batch := folder.Batch()
	for _, size := range []int{10, 1 << 20} {
		if _, err := batch.Add(bytes.NewReader(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Drop(); err != nil || filesIn(t, folder.Dir()) > 0 || batch.Bytes() > 0 {
		t.Errorf("%d files, %d bytes, %v", filesIn(t, folder.Dir()), batch.Bytes(), err)
	}
}
