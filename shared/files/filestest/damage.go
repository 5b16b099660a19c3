package filestest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"time"

	"ehi-server/shared/files"
)

// kept stores for a job a small output beside others, a large output and an attachment.
func kept(t *testing.T, s Opened, job string) (extents []files.Extent, contents [][]byte) {
	t.Helper()
	contents = [][]byte{
		[]byte("before"), []byte("a small output"), bytes.Repeat([]byte("large"), 50),
	}
	extents = commit(t, s, job, 1, contents...)
	document := []byte("a document of some bytes")
	object, size, sum, err := s.PutAttachment(job, bytes.NewReader(document), 1000)
	if err != nil {
		t.Fatal(err)
	}
	e := files.Extent{Object: object, Length: size, Sum: files.SHA1Sum(sum)}
	return append(extents, e), append(contents, document)
}

// ways holds how to cause each kind of damage.
var ways = map[files.Kind]func(was []byte, e files.Extent) []byte{
	files.Changed: func(was []byte, e files.Extent) []byte {
		was[e.Offset+e.Length/2] ^= 1
		return was
	},
	files.Short:   func(was []byte, e files.Extent) []byte { return was[:e.Offset+e.Length-1] },
	files.Missing: func([]byte, files.Extent) []byte { return nil },
}

// damaged causes each kind of damage to each kind of file. Reading must fail, every process must
// know the damage, and a repaired file must read as before.
func damaged(t *testing.T, s Opened) {
	for kind, way := range ways {
		job := "job-" + string(kind)
		extents, contents := kept(t, s, job)
		for i := 1; i < len(extents); i++ {
			e := extents[i]
			var good []byte
			s.Change(t, job, e.Object, func(was []byte) []byte {
				good = bytes.Clone(was)
				return way(was, e)
			})
			if got, err := readTo(s, job, e); kind == files.Missing {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a file that is not there: %v", err)
				}
				if err := s.Lost(job, e); !errors.Is(err, files.ErrDamaged) {
					t.Errorf("it is lost: %v", err)
				}
			} else if !errors.Is(err, files.ErrDamaged) || len(got) >= len(contents[i]) {
				t.Errorf("%s, %s: %d of %d bytes, %v", e.Object, kind, len(got), len(contents[i]),
					err)
			}
			wantDamage(t, s, files.Damage{Job: job, Object: e.Object, Offset: e.Offset, Kind: kind})
			for name, store := range map[string]files.Store{
				"it":              s,
				"another process": s.Again(t),
			} {
				if _, err := store.Open(job, e); !errors.Is(err, files.ErrDamaged) {
					t.Errorf("%s, %s, opened by %s: %v", e.Object, kind, name, err)
				}
			}
			s.Change(t, job, e.Object, func([]byte) []byte { return good })
			for i, e := range extents {
				if got, err := readTo(s, job, e); err != nil || !bytes.Equal(got, contents[i]) {
					t.Errorf("%s, given back: %q, %v", e.Object, got, err)
				}
			}
			wantDamage(t, s)
		}
	}
}

// readTo reads a file up to its damage.
func readTo(s files.Store, job string, e files.Extent) ([]byte, error) {
	r, err := s.Open(job, e)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	return got, errors.Join(err, r.Close())
}

// wantDamage checks that every process knows exactly this damage.
func wantDamage(t *testing.T, s Opened, want ...files.Damage) {
	t.Helper()
	for _, store := range []files.Store{s, s.Again(t)} {
		known, err := store.Damaged("")
		if err != nil || len(known) != len(want) {
			t.Fatalf("known: %+v, %v; want %+v", known, err, want)
		}
		for i, d := range known {
			if d.Damage != want[i] || time.Since(d.Since).Abs() > time.Minute {
				t.Errorf("known: %+v, want %+v", d, want[i])
			}
		}
	}
}

func forgotten(t *testing.T, s Opened) {
	extents, _ := kept(t, s, "job")
	for _, job := range []string{"job", "job2", "job3"} {
		for _, e := range extents {
			if err := s.Lost(job, e); !errors.Is(err, files.ErrDamaged) {
				t.Fatal(err)
			}
		}
	}
	count := func(job string, want int) {
		t.Helper()
		if known, err := s.Damaged(job); err != nil || len(known) != want {
			t.Errorf("%d files of job %q are damaged, not %d: %v", len(known), job, want, err)
		}
	}
	count("", 12)
	document := extents[3].Object
	if err := s.RemoveAttachment("job", document); err != nil {
		t.Error(err)
	}
	count("job", 3)
	if err := errors.Join(s.Remove("job"), s.Forget("job2")); err != nil {
		t.Error(err)
	}
	count("", 4)
	count("job3", 4)
}

func grown(t *testing.T, s Opened) {
	e := commit(t, s, "job", 1, bytes.Repeat([]byte("x"), 200))[0]
	is := func(want bool, object string) {
		t.Helper()
		if got, err := s.Grown("job", object, e.Length); err != nil || got != want {
			t.Errorf("grown: %v, %v", got, err)
		}
	}
	is(false, e.Object)
	is(false, files.SegmentName(9, 9)) // does not exist
	s.Change(t, "job", e.Object, func(was []byte) []byte { return append(was, "more"...) })
	is(true, e.Object)
	if got, err := readTo(s, "job", e); err != nil || int64(len(got)) != e.Length {
		t.Errorf("it reads %d bytes, %v", len(got), err)
	}
	wantDamage(t, s)
}

func verify(t *testing.T, s Opened) {
	e := commit(t, s, "job", 1, []byte("content"))[0]
	var got bytes.Buffer
	if err := s.Verify(t.Context(), "job", e, &got); err != nil || got.String() != "content" {
		t.Errorf("%q, %v", got.String(), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Verify(ended, "job", e, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("without a context: %v", err)
	}
	if err := s.Verify(t.Context(), "job2", e, io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	s.Change(t, "job", e.Object, func(was []byte) []byte { return ways[files.Changed](was, e) })
	if err := s.Verify(t.Context(), "job", e, io.Discard); !errors.Is(err, files.ErrDamaged) {
		t.Errorf("of a changed file: %v", err)
	}
}

func object(t *testing.T, s Opened) {
	parts := commit(t, s, "job", 1, []byte("one"), []byte("two"), []byte("three"))
	name := parts[0].Object
	whole := func(want string, damaged ...int64) {
		t.Helper()
		o, err := s.OpenObject("job", name, parts)
		if err != nil {
			t.Fatal(err)
		}
		if o.Size() != int64(len(want)) {
			t.Errorf("it has %d bytes", o.Size())
		}
		if got := read(t, o, nil); string(got) != want {
			t.Errorf("it reads %q", got)
		}
		var at []int64
		for _, d := range o.Damaged() {
			at = append(at, d.Offset)
		}
		if len(at) != len(damaged) || len(at) > 0 && at[0] != damaged[0] {
			t.Errorf("damaged at %v", at)
		}
	}
	whole("onetwothree")
	s.Change(t, "job", name, func([]byte) []byte { return []byte("oneTwothree") })
	whole("oneTwothree", 3)
	wantDamage(t, s, files.Damage{Job: "job", Object: name, Offset: 3, Kind: files.Changed})
	_, err := s.OpenObject("job", files.SegmentName(9, 9), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
}
