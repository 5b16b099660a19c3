package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// kept is a store on the operating system's disk with one job: small outputs in a segment, a large
// one and an attachment.
type kept struct {
	root     string
	job      string
	store    *local.Store
	extents  []files.Extent
	contents [][]byte
}

func keep(t interface{ Fatal(...any) }, root, job string, contents ...[]byte) kept {
	k := kept{root: root, job: job, contents: contents}
	k.reopen(t)
	b, err := k.store.NewBatch(k.job, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		o := b.Create()
		for len(c) > 0 {
			n := min(len(c), 33)
			if _, err := o.Write(c[:n]); err != nil {
				t.Fatal(err)
			}
			c = c[n:]
		}
	}
	if k.extents, err = b.Commit(); err != nil {
		t.Fatal(err)
	}
	document := bytes.Repeat([]byte("a document "), 20)
	object, size, sum, err := k.store.PutAttachment(k.job, bytes.NewReader(document), 1000)
	if err != nil {
		t.Fatal(err)
	}
	k.extents = append(k.extents, files.Extent{
		Object: object,
		Length: size,
		Sum:    files.SHA1Sum(sum),
	})
	k.contents = append(k.contents, document)
	return k
}

// reopen opens the store as another process does.
func (k *kept) reopen(t interface{ Fatal(...any) }) {
	store, err := local.Open(local.Config{Root: k.root, SpillBytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	k.store = store
}

// path is where an output lies.
func (k *kept) path(t interface{ Fatal(...any) }, i int) string {
	place, err := local.Place(k.job, k.extents[i].Object)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(k.root, place)
}

// read reads an output in pieces of some size; what it returns beside an error is what a client has
// got.
func (k *kept) read(i, piece int) ([]byte, error) {
	r, err := k.store.Open(k.job, k.extents[i])
	if err != nil {
		return nil, err
	}
	var got []byte
	buf := make([]byte, piece)
	for {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return got, r.Close()
		}
		if err != nil {
			return got, errors.Join(err, r.Close())
		}
	}
}

// Whatever happens to the bytes of a file, who reads it to its end gets an error before the last of
// them, then and at once whoever opens it next, in every process; the files beside it are as
// before, and so is the damaged one when it was given back.
func TestADamagedFileNeverReadsAsWhole(t *testing.T) {
	root, jobs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		jobs++
		small := rapid.SliceOfN(rapid.Byte(), 1, 99)
		k := keep(t, root, fmt.Sprint("job", jobs), small.Draw(t, "a"), small.Draw(t, "b"),
			rapid.SliceOfN(rapid.Byte(), 101, 3000).Draw(t, "large"))
		i := rapid.IntRange(0, len(k.extents)-1).Draw(t, "file")
		e, path, piece := k.extents[i], k.path(t, i), rapid.IntRange(1, 4000).Draw(t, "piece")
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad, within := bytes.Clone(good), int(e.Offset)+
			rapid.IntRange(0, int(e.Length)-1).Draw(t, "at")
		kind := rapid.SampledFrom([]files.Kind{
			files.Changed, files.Short, files.Missing,
		}).Draw(t, "kind")
		switch kind {
		case files.Changed:
			bad[within] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		case files.Short:
			bad = bad[:within]
		}
		if err := errors.Join(os.Remove(path), os.WriteFile(path, bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		if kind == files.Missing {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, err := k.read(i, piece); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("a file that is not there: %v", err)
			}
			if err := k.store.Lost(k.job, e); !errors.Is(err, files.ErrDamaged) {
				t.Fatal(err)
			}
		} else if got, err := k.read(i, piece); !errors.Is(err, files.ErrDamaged) ||
			len(got) >= int(e.Length) {
			t.Fatalf("%d of %d bytes, %v", len(got), e.Length, err)
		}
		if _, err := k.store.Open(k.job, e); !errors.Is(err, files.ErrDamaged) {
			t.Fatalf("opened again: %v", err)
		}
		k.reopen(t)
		if _, err := k.store.Open(k.job, e); !errors.Is(err, files.ErrDamaged) {
			t.Fatalf("opened by another process: %v", err)
		}
		known, err := k.store.Damaged(k.job)
		if err != nil || len(known) != 1 || known[0].Since.IsZero() ||
			known[0].Damage != (files.Damage{
				Job:    k.job,
				Object: e.Object,
				Offset: e.Offset,
				Kind:   kind,
			}) {
			t.Fatalf("known: %+v, %v", known, err)
		}
		for j := range k.extents {
			if k.extents[j].Object == e.Object {
				continue // of one segment more may be cut off
			}
			if got, err := k.read(j, piece); err != nil || !bytes.Equal(got, k.contents[j]) {
				t.Fatalf("a file beside it: %v", err)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		k.reopen(t)
		for j := range k.extents {
			if got, err := k.read(j, piece); err != nil || !bytes.Equal(got, k.contents[j]) {
				t.Fatalf("given back: %v", err)
			}
		}
		if known, err := k.store.Damaged(""); err != nil || len(known) > 0 {
			t.Fatalf("still known: %+v, %v", known, err)
		}
	})
}

// A flipped byte in a segment is told of the output that it belongs to, and of no other.
func TestDamageIsOfOneOutput(t *testing.T) {
	k := keep(t, t.TempDir(), "job", []byte("the first"), []byte("the second"), []byte("the third"))
	data, err := os.ReadFile(k.path(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	data[k.extents[1].Offset] ^= 1
	if err := os.WriteFile(k.path(t, 1), data, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range k.extents {
		got, err := k.read(i, 5)
		if i == 1 != errors.Is(err, files.ErrDamaged) ||
			i != 1 && !bytes.Equal(got, k.contents[i]) {
			t.Errorf("output %d: %q, %v", i, got, err)
		}
	}
}

// What is behind the outputs of an object is read by nobody, and a range of an output is not
// compared.
func TestAPartOfAFileIsReadAsItIs(t *testing.T) {
	k := keep(t, t.TempDir(), "job", bytes.Repeat([]byte("0123456789"), 30))
	f, err := os.OpenFile(k.path(t, 0), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if got, err := k.read(0, 7); err != nil || !bytes.Equal(got, k.contents[0]) {
		t.Errorf("%q, %v", got, err)
	}
	r, err := k.store.Open(k.job, k.extents[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // read only
	for _, at := range []int64{1, 0} {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, k.contents[0][at:]) {
			t.Errorf("from %d: %q, %v", at, got, err)
		}
	}
}

// An output of a build that took no sums, or by an algorithm of a later one, is read as it is.
func TestAFileWithoutASumIsServed(t *testing.T) {
	k := keep(t, t.TempDir(), "job", []byte("an old file"))
	for _, sum := range []files.Sum{"", "blake9:00"} {
		k.extents[0].Sum = sum
		if got, err := k.read(0, 3); err != nil || !bytes.Equal(got, k.contents[0]) {
			t.Errorf("sum %q: %q, %v", sum, got, err)
		}
	}
}

// With a job its marks go.
func TestMarksGoWithTheirJob(t *testing.T) {
	k := keep(t, t.TempDir(), "job", []byte("one"))
	for _, e := range k.extents {
		if err := k.store.Lost(k.job, e); !errors.Is(err, files.ErrDamaged) {
			t.Fatal(err)
		}
	}
	if err := k.store.Lost("other", k.extents[0]); !errors.Is(err, files.ErrDamaged) {
		t.Fatal(err)
	}
	if err := k.store.Remove(k.job); err != nil {
		t.Fatal(err)
	}
	if known, err := k.store.Damaged(""); err != nil || len(known) != 1 || known[0].Job != "other" {
		t.Errorf("%+v, %v", known, err)
	}
}
