package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
	"ehi-server/shared/files/local"
)

// segment are the outputs of k that lie in the object of the first.
func (k *kept) segment() (parts []files.Extent) {
	for _, e := range k.extents {
		if e.Object == k.extents[0].Object {
			parts = append(parts, e)
		}
	}
	return parts
}

// readObject reads an object whole.
func readObject(t interface{ Fatal(...any) }, o files.Object, piece int) (got []byte) {
	buf := make([]byte, piece)
	for {
		n, err := o.Read(buf)
		got = append(got, buf[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

// An object that is read whole comes as it is, and which of its outputs are damaged is known then:
// those in which a byte was changed, and no other.
func TestAnObjectIsHeldToTheSumsOfItsOutputs(t *testing.T) {
	root, jobs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		jobs++
		small := rapid.SliceOfN(rapid.Byte(), 1, 99)
		k := keep(t, root, fmt.Sprint("job", jobs), small.Draw(t, "a"), small.Draw(t, "b"),
			small.Draw(t, "c"))
		path, parts := k.path(t, 0), k.segment()
		stored, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := map[int64]bool{}
		for range rapid.IntRange(0, 3).Draw(t, "flips") {
			e := rapid.SampledFrom(parts).Draw(t, "part")
			if changed[e.Offset] {
				continue // a second flip may undo the first
			}
			stored[e.Offset+rapid.Int64Range(0, e.Length-1).Draw(t, "at")] ^= byte(
				rapid.IntRange(1, 255).Draw(t, "by"))
			changed[e.Offset] = true
		}
		if err := os.WriteFile(path, stored, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := k.store.OpenObject(k.job, parts[0].Object, parts)
		if err != nil {
			t.Fatal(err)
		}
		got := readObject(t, o, rapid.IntRange(1, 400).Draw(t, "piece"))
		if !bytes.Equal(got, stored) {
			t.Fatal("other bytes are read than are there")
		}
		for _, d := range o.Damaged() {
			if d.Kind != files.Changed || !changed[d.Offset] {
				t.Fatalf("%+v was not damaged", d)
			}
		}
		if len(o.Damaged()) != len(changed) {
			t.Fatalf("%d of %d damaged outputs are found", len(o.Damaged()), len(changed))
		}
		if known, err := k.store.Damaged(k.job); err != nil || len(known) != len(changed) {
			t.Fatalf("others know of %d, %v", len(known), err)
		}
	})
}

// What the disk does not give is zeros, and damaged; what lies beside it is read. Where a part has
// no sum that could show it, the object cannot be opened.
func TestAnObjectIsReadAroundWhatTheDiskDoesNotGive(t *testing.T) {
	root := t.TempDir()
	k := keep(t, root, "job", []byte("first"), []byte("second"))
	faulty := filestest.NewFaulty(disk.OS())
	store, err := local.Open(local.Config{Root: root, Disk: faulty})
	if err != nil {
		t.Fatal(err)
	}
	o, err := store.OpenObject(k.job, k.extents[0].Object, k.segment())
	if err != nil {
		t.Fatal(err)
	}
	faulty.Fail(filestest.Read, syscall.EIO, 1)
	if got := readObject(t, o, 3); string(got) != "\x00\x00\x00\x00\x00second" {
		t.Errorf("%q", got)
	}
	want := files.Damage{Job: k.job, Object: k.extents[0].Object, Kind: files.Unreadable}
	if found := o.Damaged(); len(found) != 1 || found[0] != want {
		t.Errorf("%+v", found)
	}
	without := k.segment()
	without[1].Sum = ""
	faulty.Fail(filestest.Read, syscall.EIO, 1)
	_, err = store.OpenObject(k.job, without[1].Object, without)
	if !errors.Is(err, files.ErrDamaged) {
		t.Errorf("without a sum: %v", err)
	}
}

// Damage that a build before found, which did not note when, is known.
func TestMarksWithoutATimeAreKnown(t *testing.T) {
	root := t.TempDir()
	k := keep(t, root, "job", []byte("first"))
	mark := filepath.Join(root, ".damaged", "job.0.1.seg.0")
	if err := errors.Join(os.Mkdir(filepath.Dir(mark), 0o700),
		os.WriteFile(mark, []byte("changed"), 0o600)); err != nil {
		t.Fatal(err)
	}
	known, err := k.store.Damaged("")
	if err != nil || len(known) != 1 || known[0].Kind != files.Changed || !known[0].Since.IsZero() {
		t.Errorf("%+v, %v", known, err)
	}
}
