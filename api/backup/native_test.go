package backup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/native"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// scanned is the content of a document that is an object of its own.
var scanned = strings.Repeat("scan ", 40_000)

// exportNative stores an export with a linked document, and returns the record of its task and the
// path of the blob.
func (b backedUp) exportNative(id string) (task ehi.Task, blob string) {
	b.Helper()
	j := &ehi.Job{
		ID: id, Status: ehi.Requested, Lane: ehi.Interactive, Tasks: 1,
		Patient: ehi.Patient{ID: "p"}, ExpiresAt: time.Now().Add(time.Hour),
	}
	b.job(j)
	scan := nativetest.Document(b.T, b.TempDir(), "scan.pdf", ehi.MedicalRecord, []byte(scanned))
	nativetest.Export(b.T, b.bus, b.store, j, nativetest.NewRecord(b.T, scan,
		nativetest.Document(b.T, "", "letter.pdf", "", []byte("a letter"))))
	task, ok, err := b.bus.Tasks.Get(b.Context(), id, 0)
	if err != nil || !ok || task.Links != 1 {
		b.Fatalf("%t, %d links, %v", ok, task.Links, err)
	}
	return task, scan.Path
}

// A backup holds linked documents, whose blobs may be gone, and what waits for a decision. It
// reports one that the disk has changed.
func TestABackupHoldsLinkedDocuments(t *testing.T) {
	b := newBackedUp(t)
	task, blob := b.exportNative("native")
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	archive, c := b.backup()
	if len(c.Damage) != 0 {
		t.Fatalf("nothing is damaged, but: %q", c.Damage)
	}
	data := filepath.Join(t.TempDir(), "restored")
	if err := restoreInto(t, bytes.NewReader(archive), data); err != nil {
		t.Fatal(err)
	}
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	read := func(e files.Extent) string {
		t.Helper()
		r, err := store.Open("native", e)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Error(err)
		}
		return string(content)
	}
	restored := map[string]string{}
	for _, kind := range []ehi.FileKind{ehi.Index, ehi.HeldIndex} {
		f, _ := native.IndexOf(&task, kind)
		index := read(files.Extent{
			Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum),
		})
		err := native.Each(strings.NewReader(index), func(f ehi.NativeFile) error {
			at, _ := native.Extent(&task, kind, f)
			restored[f.Name] = read(at)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(restored) != 6 || restored["documents/000001-scan.pdf"] != scanned ||
		restored["documents/r000001-letter.pdf"] != "a letter" {
		t.Errorf("%d files are restored", len(restored))
	}

	object := files.LinkName(0, task.Attempt, 0)
	path := b.path("native", object)
	err = errors.Join(os.Chmod(path, 0o600),
		os.WriteFile(path, []byte(strings.ToUpper(scanned)), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if _, c := b.backup(); len(c.Damage) != 1 || !strings.Contains(c.Damage[0], object) {
		t.Errorf("damaged are %q", c.Damage)
	}
}

// An export that runs again after a restore counts its files anew.
func TestARestoredExportCountsItsFilesAnew(t *testing.T) {
	j := restart(ehi.Job{
		Lane: ehi.Bulk, Tasks: 2, Done: ehi.Bits{}.With(0), Files: 3, Documents: 1, Bytes: 10,
	})
	if j.Files != 0 || j.Documents != 0 || j.Bytes != 0 || j.Tasks != 0 || j.Done.Count() != 0 {
		t.Errorf("%+v", j)
	}
}
