package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
)

// stored reads the records that a build of a version has written, one a line.
func stored(t testing.TB, version, kind string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", version, kind+".ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(data), []byte{'\n'})
}

// What the first version wrote is read as it was meant.
func TestRecordsOfTheFirstVersionAreRead(t *testing.T) {
	byStatus := map[ehi.Status]*ehi.Job{}
	for _, record := range stored(t, "v1", "jobs") {
		j, err := decodeJob(record)
		if err != nil {
			t.Fatal(err)
		}
		byStatus[j.Status] = j
	}
	open, approved := byStatus[ehi.AwaitingInput], byStatus[ehi.Approved]
	if open == nil || !open.WithForm || open.Patient.Name != "Liam Baker" ||
		open.CanAttach() == nil {
		t.Errorf("the open form: %+v", open)
	}
	if approved == nil || approved.Counts["Patient"] != 1 || approved.Bytes < 100_000 ||
		approved.StoredBytes() != approved.Bytes+8 {
		t.Fatalf("the approved job: %+v", approved)
	}
	// Its document lies where that version put it.
	a, ok := approved.Attachment("letter.txt")
	if !ok || a.Object != "a.6c65747465722e747874" || a.Size != 8 {
		t.Errorf("the attachment: %+v", a)
	}
	for _, record := range stored(t, "v1", "tasks") {
		task, err := decodeTask(record)
		if err != nil || !task.Committed || task.Attempt != 1 || task.Failures() != 0 ||
			len(task.Files) < 20 || task.Files[0].Object != "0.1.seg" {
			t.Errorf("task %+v, %v", task, err)
		}
	}
}

// Before version 3 the headers of files organized by patient were counted with their resources:
// how many of these there are is not told then.
func TestCountsThatHaveHeadersAreNotTold(t *testing.T) {
	for version, want := range map[int]int64{1: 0, 2: 0, 3: 9} {
		task, err := decodeTask(fmt.Appendf(nil,
			`{"v":%d,"job":"a","files":[{"type":"","count":9},{"type":"Patient","count":5}]}`,
			version))
		if err != nil || task.Files[0].Count != want || task.Files[1].Count != 5 {
			t.Errorf("version %d: %+v, %v", version, task, err)
		}
		j, err := decodeJob(fmt.Appendf(nil,
			`{"v":%d,"id":"a","kickOff":{"byPatient":true},"counts":{"":9}}`, version))
		if err != nil || j.Counts[""] != want {
			t.Errorf("version %d: %+v, %v", version, j.Counts, err)
		}
	}
}

// A record of a newer build is refused, by its version and in words, and stays as it is.
func TestANewerRecordIsRefusedAndKept(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	record := []byte(`{"v":99,"id":"a","status":"levitating","future":{"x":[1,2]}}`)
	rev, err := b.Jobs.kv.Put(t.Context(), records.Of("a"), record)
	if err != nil {
		t.Fatal(err)
	}
	for name, touch := range map[string]func(context.Context) error{
		"Get":  func(ctx context.Context) error { _, err := b.Jobs.Get(ctx, "a"); return err },
		"Peek": func(ctx context.Context) error { _, err := b.Jobs.Peek(ctx, "a"); return err },
		"Update": func(ctx context.Context) error {
			_, err := b.Jobs.Update(ctx, "a", func(j *ehi.Job) error {
				return j.SetStatus(ehi.Aborted)
			})
			return err
		},
	} {
		err := touch(t.Context())
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 99") {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := b.Jobs.kv.Get(t.Context(), records.Of("a"))
	if err != nil || e.Revision != rev || !bytes.Equal(e.Value, record) {
		t.Errorf("the record is %s, %v", e.Value, err)
	}
	_, err = b.Tasks.kv.Put(t.Context(), taskKey("a", 0), []byte(`{"v":99,"job":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Tasks.Get(t.Context(), "a", 0); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer task: %v", err)
	}
}

// An older record becomes one of this version when its job changes.
func TestAnOlderRecordIsUpgradedByItsNextChange(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for _, record := range stored(t, "v1", "jobs") {
		old, err := decodeJob(record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Jobs.kv.Put(t.Context(), records.Of(old.ID), record); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Jobs.Update(t.Context(), old.ID,
			func(j *ehi.Job) error { j.BareLink = false; return nil }); err != nil {
			t.Fatal(err)
		}
		e, err := b.Jobs.kv.Get(t.Context(), records.Of(old.ID))
		if err != nil {
			t.Fatal(err)
		}
		var now ehi.Job
		err = json.Unmarshal(e.Value, &now)
		if err != nil || now.Version != ehi.RecordVersion ||
			!reflect.DeepEqual(now.Attachments, old.Attachments) {
			t.Errorf("stored: %+v, %v", now, err)
		}
	}
}

// Whatever a bucket holds, it is read without harm: as a record of this version or an older one
// that comes out as it went in, or not at all.
func FuzzRecords(f *testing.F) {
	for _, kind := range []string{"jobs", "tasks"} {
		for _, record := range stored(f, "v1", kind) {
			f.Add(record)
		}
	}
	f.Add([]byte(`{"v":99}`))
	f.Add([]byte(`{"v":2,"id":"a","status":"requested","lane":"bulk","tasks":3,"done":"Aw==",` +
		`"attachments":[{"name":"x","obj":"a.1"}]}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		if j, err := decodeJob(record); err == nil {
			if j.Version > ehi.RecordVersion {
				t.Fatalf("version %d was taken", j.Version)
			}
			again(t, j, decodeJob)
			j.StoredBytes()
			j.Expired(j.CreatedAt)
			for n := range min(j.Tasks, 100) {
				j.Done.Has(n)
			}
		}
		if task, err := decodeTask(record); err == nil {
			if task.Version > ehi.RecordVersion || task.Failures() < 0 {
				t.Fatalf("taken: %+v", task)
			}
			again(t, task, decodeTask)
		}
	})
}

// again writes a record and reads it.
func again[T any](t *testing.T, record T, decode func([]byte) (T, error)) {
	t.Helper()
	first, err := json.Marshal(record)
	if err != nil {
		return // a time outside of the years that JSON can write
	}
	read, err := decode(first)
	if err != nil {
		t.Fatalf("%s: %v", first, err)
	}
	second, err := json.Marshal(read)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%s became %s, %v", first, second, err)
	}
}
