// Package filestest is the conformance test that every kind of file store passes. It also has
// disks that fail, disks with little space, and disks that lose what was not synced.
package filestest

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/shared/files"
)

// Opened is an empty store to test. It stores outputs of more than 100 bytes on their own.
type Opened struct {
	files.Store
	// Again opens the same store as another process would.
	Again func(t *testing.T) files.Store
	// Change replaces the bytes of an object behind the store's back. nil stands for an object
	// that does not exist.
	Change func(t *testing.T, job, object string, to func(was []byte) []byte)
	// Beside keeps content as a file on the disk of the store, durably, and returns its path,
	// which is always the same. nil removes the file.
	Beside func(t *testing.T, content []byte) (path string)
	// Unlocked means that the store cannot lock on this system.
	Unlocked bool
}

// Run tests a kind of store.
func Run(t *testing.T, open func(t *testing.T) Opened) {
	for name, check := range map[string]func(*testing.T, Opened){
		"what is committed reads back, small and large":     roundTrip,
		"outputs and batches are written at the same time":  together,
		"a reader goes where it is told":                    seek,
		"an output of many bytes lies by itself":            spill,
		"a file that never changes becomes an object":       link,
		"a discarded batch leaves nothing":                  discard,
		"attempts do not touch each other":                  attempts,
		"attachments":                                       attachments,
		"names from outside are refused":                    names,
		"a deleted job is gone, and an open reader is good": removal,
		"a store is empty until a file is in it":            empty,
		"it takes files, and has room":                      room,
		"what is damaged never reads as whole":              damaged,
		"damage is forgotten with its job":                  forgotten,
		"what is behind an output is noticed, and not read": grown,
		"a verification ends with its context":              verify,
		"an object is read whole, and held to its sums":     object,
		"the identity of the state":                         identity,
		"how far the state had come":                        reached,
		"when a server ran last":                            served,
		"when all files were last read":                     scrubbed,
		"orphans are known since they were first seen":      orphans,
		"recalls are noted until they are forgotten":        recalls,
		"proofs: the latest two are there":                  proofs,
		"one process at a time has a lock":                  lock,
		"several processes hold a store":                    held,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

// commit writes outputs in chunks and returns their extents.
func commit(t *testing.T, s Opened, job string, attempt int, contents ...[]byte) []files.Extent {
	t.Helper()
	b, err := s.NewBatch(job, 0, attempt)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		if err := write(b.Create(), c); err != nil {
			t.Fatal(err)
		}
	}
	extents, err := b.Commit()
	if err != nil || len(extents) != len(contents) {
		t.Fatalf("%d extents, %v", len(extents), err)
	}
	return extents
}

// write writes an output in chunks.
func write(o files.Output, content []byte) error {
	for chunk := range slices.Chunk(content, 7) {
		if n, err := o.Write(chunk); err != nil || n != len(chunk) {
			return fmt.Errorf("%d bytes written: %w", n, err)
		}
	}
	return nil
}

// list lists the objects of a job.
func list(t *testing.T, s Opened, job string) (out []files.Stored) {
	t.Helper()
	seen := map[string]bool{}
	err := s.Walk(func(j string, stored []files.Stored) error {
		if seen[j] {
			t.Errorf("job %s is shown twice", j)
		}
		if seen[j] = true; j == job {
			out = stored
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, r io.ReadCloser, err error) []byte {
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

// link checks that a linked file outlives the name that it had, and goes with its batch.
func link(t *testing.T, s Opened) {
	content := bytes.Repeat([]byte("a document "), 10_000)
	path := s.Beside(t, content)
	b, err := s.NewBatch("job", 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	for want := range 2 {
		if n, _, err := b.Link(path); n != want || err != nil {
			t.Fatalf("link %d is %d, %v", want, n, err)
		}
	}
	if err := write(b.Create(), []byte("an output")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	s.Beside(t, nil)
	for n := range 2 {
		e := files.Extent{
			Object: files.LinkName(3, 2, n), Length: int64(len(content)), Sum: files.SumOf(content),
		}
		r, err := s.Open("job", e)
		if got := read(t, r, err); !bytes.Equal(got, content) {
			t.Errorf("link %d reads %.50q", n, got)
		}
		if err := s.Verify(t.Context(), "job", e, io.Discard); err != nil {
			t.Error(err)
		}
	}
	if n, err := s.Attempts("job"); n != 2 || err != nil {
		t.Errorf("the highest attempt is %d, %v", n, err)
	}
	if all := list(t, s, "job"); len(all) != 3 || all[0].Task != 3 || all[0].Attempt != 2 {
		t.Errorf("the objects are %+v", all)
	}
	if b, err = s.NewBatch("gone", 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Link(s.Beside(t, content)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Link(path + ".absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
	if err := b.Discard(); err != nil {
		t.Fatal(err)
	}
	if all := list(t, s, "gone"); len(all) != 0 {
		t.Errorf("left of a discarded batch: %+v", all)
	}
}

func roundTrip(t *testing.T, s Opened) {
	contents := [][]byte{
		[]byte("small"), bytes.Repeat([]byte("large "), 1000), {}, []byte("another"),
		bytes.Repeat([]byte("x"), 100), bytes.Repeat([]byte("y"), 101),
	}
	for i, e := range commit(t, s, "job", 1, contents...) {
		if e.Length != int64(len(contents[i])) || e.Sum != files.SumOf(contents[i]) {
			t.Errorf("output %d is %d bytes long, with the sum %s", i, e.Length, e.Sum)
		}
		if e.Length == 0 {
			continue
		}
		r, err := s.Open("job", e)
		if got := read(t, r, err); !bytes.Equal(got, contents[i]) {
			t.Errorf("output %d reads %.50q", i, got)
		}
		r, err = s.Again(t).Open("job", e)
		if got := read(t, r, err); !bytes.Equal(got, contents[i]) {
			t.Errorf("output %d reads %.50q to another process", i, got)
		}
	}
	e := commit(t, s, "job2", 1, []byte("abc"))[0]
	e.Length = 1000
	if _, err := s.Open("job2", e); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an extent over the end: %v", err)
	}
}

// together writes many batches at the same time, each with one goroutine per output. The batches
// differ in which outputs are large.
func together(t *testing.T, s Opened) {
	const batches, outputs = 8, 6
	content := func(batch, output int) []byte {
		return bytes.Repeat([]byte{byte('a' + batch), byte('0' + output)}, 20*(output+1))
	}
	var all sync.WaitGroup
	for n := range batches {
		all.Go(func() {
			job := fmt.Sprintf("job%d", n%3)
			b, err := s.NewBatch(job, n, 1)
			if err != nil {
				t.Error(err)
				return
			}
			numbers := make([]int, outputs)
			var writers sync.WaitGroup
			for i := range outputs {
				writers.Go(func() {
					o := b.Create()
					numbers[i] = o.Number()
					if err := write(o, content(n, i)); err != nil {
						t.Error(err)
					}
				})
			}
			writers.Wait()
			extents, err := b.Commit()
			if err != nil {
				t.Error(err)
				return
			}
			for i, number := range numbers {
				var got bytes.Buffer
				err := s.Verify(t.Context(), job, extents[number], &got)
				if err != nil || !bytes.Equal(got.Bytes(), content(n, i)) {
					t.Errorf("output %d of batch %d reads %.50q, %v", i, n, got.Bytes(), err)
				}
			}
		})
	}
	all.Wait()
}

func seek(t *testing.T, s Opened) {
	content := []byte("0123456789")
	for _, e := range commit(t, s, "job", 1, content, bytes.Repeat(content, 20))[:2] {
		r, err := s.Open("job", e)
		if err != nil {
			t.Fatal(err)
		}
		if r.Size() != e.Length {
			t.Errorf("it has %d bytes of %d", r.Size(), e.Length)
		}
		if at, err := r.Seek(-3, io.SeekEnd); err != nil || at != e.Length-3 {
			t.Errorf("at %d, %v", at, err)
		}
		if got := read(t, r, nil); string(got) != "789" {
			t.Errorf("from the end it reads %q", got)
		}
	}
}

func spill(t *testing.T, s Opened) {
	s.SetSpillBytes(10)
	two := commit(t, s, "job", 1, make([]byte, 11), make([]byte, 11))
	if two[0].Object == two[1].Object {
		t.Errorf("two large outputs lie in %s", two[0].Object)
	}
	s.SetSpillBytes(0) // not a valid size
	three := commit(t, s, "job", 2, make([]byte, 11))
	if three[0].Object == files.SegmentName(0, 2) {
		t.Errorf("a large output lies in %s", three[0].Object)
	}
}

func discard(t *testing.T, s Opened) {
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

func attempts(t *testing.T, s Opened) {
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
	if highest, err := s.Attempts("job"); err != nil || highest != 2 {
		t.Errorf("the highest attempt is %d, %v", highest, err)
	}
	if none, err := s.Attempts("jo"); err != nil || none != 0 {
		t.Errorf("a job without files has %d attempts, %v", none, err)
	}
	stored := list(t, s, "job")
	if len(stored) != 1 || stored[0].Task != 0 || stored[0].Attempt != 2 ||
		stored[0].Name != e.Object {
		t.Errorf("stored %+v", stored)
	}
	if err := s.RemoveObject("job", stored[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("job", e); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed object: %v", err)
	}
}

func attachments(t *testing.T, s Opened) {
	const content = "content"
	object, size, sum, err := s.PutAttachment("job", strings.NewReader(content), 7)
	want := sha1.Sum([]byte(content))
	if err != nil || size != 7 || !bytes.Equal(sum, want[:]) {
		t.Fatalf("%d %x, %v", size, sum, err)
	}
	if !files.IsAttachment(object) || files.Named("job", object) != nil {
		t.Errorf("it is called %s", object)
	}
	r, err := s.Open("job", files.Extent{Object: object, Length: size, Sum: files.SHA1Sum(sum)})
	if got := read(t, r, err); string(got) != content {
		t.Errorf("reads %q", got)
	}
	stored := list(t, s, "job")
	if len(stored) != 1 || stored[0].Name != object || stored[0].Task != -1 {
		t.Errorf("stored %+v", stored)
	}
	_, _, _, err = s.PutAttachment("job", strings.NewReader(content), 6)
	if !errors.Is(err, files.ErrTooLarge) {
		t.Errorf("a large attachment: %v", err)
	}
	_, _, _, err = s.PutAttachment("job", io.MultiReader(strings.NewReader("x"), failing{}), 100)
	if !errors.Is(err, errBroken) {
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

func names(t *testing.T, s Opened) {
	for _, job := range []string{"", "..", "a/b", "../x", "a\x00", strings.Repeat("x", 65)} {
		e := files.Extent{Object: "0.1.seg", Length: 1}
		_, batch := s.NewBatch(job, 0, 1)
		_, open := s.Open(job, e)
		_, whole := s.OpenObject(job, e.Object, nil)
		_, _, _, put := s.PutAttachment(job, strings.NewReader("x"), 1)
		_, grown := s.Grown(job, e.Object, 1)
		_, attempts := s.Attempts(job)
		_, orphan := s.OrphanSince(job, time.Now())
		for method, err := range map[string]error{
			"NewBatch":      batch,
			"Open":          open,
			"OpenObject":    whole,
			"PutAttachment": put,
			"Grown":         grown,
			"Verify":        s.Verify(t.Context(), job, e, io.Discard), "Attempts": attempts,
			"RemoveAttachment": s.RemoveAttachment(job, "a.0"), "Remove": s.Remove(job),
			"OrphanSince": orphan, "Adopted": s.Adopted(job),
			"NoteRecall": s.NoteRecall(job), "ForgetRecall": s.ForgetRecall(job),
		} {
			if !errors.Is(err, files.ErrName) {
				t.Errorf("%s of job %q: %v", method, job, err)
			}
		}
	}
	for _, object := range []string{"", "..", "../0.1.seg", "/etc/passwd", "0.1.seg/..", "0.1"} {
		_, open := s.Open("job", files.Extent{Object: object})
		_, whole := s.OpenObject("job", object, nil)
		_, grown := s.Grown("job", object, 1)
		for method, err := range map[string]error{
			"Open": open, "OpenObject": whole, "Grown": grown,
			"RemoveAttachment": s.RemoveAttachment("job", object),
		} {
			if !errors.Is(err, files.ErrName) {
				t.Errorf("%s of object %q: %v", method, object, err)
			}
		}
	}
	if err := s.RemoveAttachment("job", "0.1.seg"); !errors.Is(err, files.ErrName) {
		t.Errorf("an output is removed as an attachment: %v", err)
	}
}

func removal(t *testing.T, s Opened) {
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

func empty(t *testing.T, s Opened) {
	is := func(want bool) {
		t.Helper()
		if got, err := s.Empty(); err != nil || got != want {
			t.Errorf("empty: %v, %v", got, err)
		}
	}
	if err := errors.Join(s.SetIdentity(stateA), s.NoteRecall("job")); err != nil {
		t.Fatal(err)
	}
	is(true)
	commit(t, s, "job", 1, []byte("content"))
	is(false)
	if err := s.Remove("job"); err != nil {
		t.Fatal(err)
	}
	is(true)
}

func room(t *testing.T, s Opened) {
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if free, err := s.Free(); err != nil || free <= 0 {
		t.Errorf("%d bytes are free, %v", free, err)
	}
	if is, err := s.Empty(); err != nil || !is {
		t.Errorf("Check leaves a file, %v", err)
	}
	if s.Root() == "" {
		t.Error("nobody is told where the store is")
	}
}
