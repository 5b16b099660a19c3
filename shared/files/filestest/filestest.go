// Package filestest is the conformance test of file stores: every kind passes it.
package filestest

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/files"
)

// Store is what a file store does.
type Store interface {
	NewBatch(job string, task, attempt int) (files.Batch, error)
	Open(job string, e files.Extent) (files.Reader, error)
	Remove(job string) error
	Walk(f func(job string, stored []files.Stored) error) error
	RemoveObject(job string, s files.Stored) error
	PutAttachment(job string, r io.Reader, limit int64) (object string, size int64, sum []byte, err error)
	RemoveAttachment(job, object string) error
	Check() error
}

// Run checks a kind of store; open makes an empty one that spills outputs over so many bytes.
func Run(t *testing.T, open func(t *testing.T, spill int) Store) {
	t.Run("what is committed reads back, small and large", func(t *testing.T) { roundTrip(t, open(t, 100)) })
	t.Run("a discarded batch leaves nothing", func(t *testing.T) { discard(t, open(t, 100)) })
	t.Run("attempts do not touch each other", func(t *testing.T) { attempts(t, open(t, 100)) })
	t.Run("attachments", func(t *testing.T) { attachments(t, open(t, 100)) })
	t.Run("names from outside are refused", func(t *testing.T) { names(t, open(t, 100)) })
	t.Run("a deleted job is gone, and an open reader stays good", func(t *testing.T) { removal(t, open(t, 100)) })
	t.Run("check", func(t *testing.T) {
		if err := open(t, 100).Check(); err != nil {
			t.Error(err)
		}
	})
}

// commit writes outputs in chunks and returns where they lie.
func commit(t *testing.T, s Store, job string, attempt int, contents ...[]byte) []files.Extent {
	t.Helper()
	b, err := s.NewBatch(job, 0, attempt)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		o := b.Create()
		for chunk := range slices.Chunk(c, 7) {
			if _, err := o.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
	}
	extents, err := b.Commit()
	if err != nil || len(extents) != len(contents) {
		t.Fatalf("%d extents, %v", len(extents), err)
	}
	return extents
}

// list is what a store holds of a job.
func list(t *testing.T, s Store, job string) (out []files.Stored) {
	t.Helper()
	err := s.Walk(func(j string, stored []files.Stored) error {
		if j == job {
			out = stored
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, r files.Reader, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func roundTrip(t *testing.T, s Store) {
	contents := [][]byte{[]byte("small"), bytes.Repeat([]byte("large "), 1000), {}, []byte("another"), bytes.Repeat([]byte("x"), 100), bytes.Repeat([]byte("y"), 101)}
	for i, e := range commit(t, s, "job", 1, contents...) {
		if e.Length != int64(len(contents[i])) {
			t.Errorf("output %d is %d bytes long", i, e.Length)
		}
		if e.Length == 0 {
			continue
		}
		r, err := s.Open("job", e)
		if got := read(t, r, err); !bytes.Equal(got, contents[i]) {
			t.Errorf("output %d reads %.50q", i, got)
		}
	}
	e := commit(t, s, "job2", 1, []byte("abc"))[0]
	e.Length = 1000
	if _, err := s.Open("job2", e); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an extent over the end: %v", err)
	}
}

func discard(t *testing.T, s Store) {
	for _, finish := range []bool{false, true} {
		b, err := s.NewBatch("job", 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{10, 1000} {
			if _, err := b.Create().Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		if finish {
			if _, err := b.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Discard(); err != nil {
			t.Fatal(err)
		}
		if stored := list(t, s, "job"); len(stored) != 0 {
			t.Errorf("left after Discard: %+v", stored)
		}
	}
}

func attempts(t *testing.T, s Store) {
	slow, err := s.NewBatch("job", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Create().Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	e := commit(t, s, "job", 2, []byte("second"))[0]
	if err := slow.Discard(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open("job", e)
	if got := read(t, r, err); string(got) != "second" {
		t.Errorf("after the first attempt's Discard: %q", got)
	}
	stored := list(t, s, "job")
	if len(stored) != 1 || stored[0].Task != 0 || stored[0].Attempt != 2 || stored[0].Name != e.Object {
		t.Errorf("stored %+v", stored)
	}
	if err := s.RemoveObject("job", stored[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("job", e); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed object: %v", err)
	}
}

func attachments(t *testing.T, s Store) {
	const content = "content"
	object, size, sum, err := s.PutAttachment("job", strings.NewReader(content), 7)
	want := sha1.Sum([]byte(content))
	if err != nil || size != 7 || !bytes.Equal(sum, want[:]) {
		t.Fatalf("%d %x, %v", size, sum, err)
	}
	r, err := s.Open("job", files.Extent{Object: object, Length: size, Sum: files.SHA1Sum(sum)})
	if got := read(t, r, err); string(got) != content {
		t.Errorf("reads %q", got)
	}
	if stored := list(t, s, "job"); len(stored) != 1 || stored[0].Name != object || stored[0].Task != -1 {
		t.Errorf("stored %+v", stored)
	}
	if _, _, _, err := s.PutAttachment("job", strings.NewReader(content), 6); !errors.Is(err, files.ErrTooLarge) {
		t.Errorf("a large attachment: %v", err)
	}
	if _, _, _, err := s.PutAttachment("job", io.MultiReader(strings.NewReader("x"), failing{}), 100); !errors.Is(err, errBroken) {
		t.Errorf("a broken upload: %v", err)
	}
	if stored := list(t, s, "job"); len(stored) != 1 {
		t.Errorf("refused uploads left %+v", stored)
	}
	for range 2 {
		if err := s.RemoveAttachment("job", object); err != nil {
			t.Error(err)
		}
	}
	if stored := list(t, s, "job"); len(stored) != 0 {
		t.Errorf("after the removal: %+v", stored)
	}
}

var errBroken = errors.New("broken")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

func names(t *testing.T, s Store) {
	for _, job := range []string{"", "..", "a/b", "../x", "a\x00", strings.Repeat("x", 65)} {
		if _, err := s.NewBatch(job, 0, 1); !errors.Is(err, files.ErrName) {
			t.Errorf("NewBatch(%q): %v", job, err)
		}
		if err := s.Remove(job); !errors.Is(err, files.ErrName) {
			t.Errorf("Remove(%q): %v", job, err)
		}
	}
	for _, object := range []string{"", "..", "../0.1.seg", "/etc/passwd", "0.1.seg/..", "0.1", "a.00"} {
		if _, err := s.Open("job", files.Extent{Object: object}); object != "a.00" && !errors.Is(err, files.ErrName) {
			t.Errorf("Open(%q): %v", object, err)
		}
		if err := s.RemoveAttachment("job", object); object != "a.00" && !errors.Is(err, files.ErrName) {
			t.Errorf("RemoveAttachment(%q): %v", object, err)
		}
	}
}

func removal(t *testing.T, s Store) {
	e := commit(t, s, "job", 1, []byte("content"))[0]
	r, err := s.Open("job", e)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove("job"); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, r, nil); string(got) != "content" {
		t.Errorf("the open reader reads %q", got)
	}
	if _, err := s.Open("job", e); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a deleted job opens: %v", err)
	}
	if stored := list(t, s, "job"); len(stored) != 0 {
		t.Errorf("stored %+v", stored)
	}
}
