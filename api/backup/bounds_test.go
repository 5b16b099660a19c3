package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/bus"
)

// An archive that needs more room than the disk has is refused before anything is written,
// whatever follows its headers.
func TestARestoreHasToHaveRoom(t *testing.T) {
	dir := t.TempDir()
	to, err := newTarget(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer to.root.Close()
	free, err := to.room.Free()
	if err != nil || free == math.MaxInt64 {
		t.Skip("it is not known how much room there is: ", err)
	}
	var archive bytes.Buffer
	z, err := zstd.NewWriter(&archive)
	if err != nil {
		t.Fatal(err)
	}
	err = tar.NewWriter(z).WriteHeader(&tar.Header{Name: "records/x", Mode: 0o600, Size: free * 2})
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = to.survey(reading(archive.Bytes()))
	if got := filesBelow(t, dir); !errors.Is(err, ErrNoRoom) || len(got) > 0 {
		t.Errorf("%v; %q is written", err, got)
	}
}

// A restore writes no more than the archive contained when it was checked, even if the archive
// has changed since.
func TestARestoreWritesNoMoreThanWasChecked(t *testing.T) {
	archive := backupOf(t, t.TempDir())
	other := newBackedUp(t)
	other.export("job-two", "a file", "another file")
	larger, _ := other.backup()
	reads := 0
	_, err := Restore(t.Context(), func(f func(r io.Reader) error) error {
		if reads++; reads == 1 {
			return f(bytes.NewReader(archive))
		}
		return f(bytes.NewReader(larger))
	}, To{Data: filepath.Join(t.TempDir(), "restored")})
	if !errors.Is(err, ErrChanged) || reads != 2 {
		t.Errorf("read %d times: %v", reads, err)
	}
}

// An archive with records that this build cannot read is refused, unless its table of contents
// lists damage.
func TestARestoreTakesRecordsThatCanBeRead(t *testing.T) {
	for _, e := range []bus.Entry{
		{Bucket: bus.JobRecords, Key: "j", Value: []byte("{")},
		{Bucket: bus.JobRecords, Key: "j", Value: []byte(`{"id":1}`)},
		{Bucket: bus.JobRecords, Key: "j", Value: []byte(`{"v":99}`)},
		{Bucket: bus.TaskRecords, Key: "j.1", Value: []byte(`[]`)},
		{Bucket: bus.AuditRecords, Key: "x", Value: nil},
		{Bucket: bus.AuthRecords, Key: "account.admin.ada", Value: []byte(`"x"`)},
		{Bucket: bus.AuthRecords, Key: "client.app", Value: []byte(`{"client_id":{}}`)},
		{Bucket: bus.AuthRecords, Key: "key.x", Value: []byte(`1`)},
	} {
		if err := readable(false)(e); !errors.Is(err, ErrForeign) {
			t.Errorf("%s of %s: %v", e.Key, e.Bucket, err)
		}
		if err := readable(true)(e); err != nil {
			t.Errorf("%s of %s, of a server that was broken: %v", e.Key, e.Bucket, err)
		}
	}
	b := newBackedUp(t)
	record := bus.Entry{Bucket: bus.AuthRecords, Key: "account.admin.ada", Value: []byte(`"x"`)}
	if err := b.bus.Restore(t.Context(), record, time.Now()); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "restored")
	archive, _ := b.backup()
	_, err := Restore(t.Context(), reading(archive), To{Data: data})
	if !errors.Is(err, ErrForeign) {
		t.Errorf("a backup with an account that is none: %v", err)
	}
	if got := filesBelow(t, filepath.Dir(data)); len(got) > 0 {
		t.Errorf("%q is left", got)
	}
}
