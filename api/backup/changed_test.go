package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// If any byte of an archive is flipped, cut off, left out, moved or added, reading the archive
// fails, or returns exactly what was written (if the change has no meaning).
func TestAnyChangeOfAnArchiveIsFound(t *testing.T) {
	archive := backupOf(t, t.TempDir())
	whole, err := Verify(bytes.NewReader(archive))
	if err != nil || whole.Seal == "" || whole.Records() != 1 || whole.Files < 2 {
		t.Fatalf("%+v, %v", whole, err)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1)) // #nosec G404 -- repeatable
	t.Log("seed", seed)
	found := 0
	for range 1000 {
		changed := slices.Clone(archive)
		at := r.IntN(len(changed))
		switch r.IntN(5) {
		case 0:
			changed[at] ^= 1 << r.IntN(8)
		case 1:
			changed = changed[:at]
		case 2: // something is left out
			changed = slices.Delete(changed, at, min(len(changed), at+1+r.IntN(600)))
		case 3: // something is there twice
			changed = slices.Insert(changed, at, changed[at:min(len(changed), at+1+r.IntN(600))]...)
		case 4: // something is zero, like a block that was not written
			for i := at; i < min(len(changed), at+512); i++ {
				changed[i] = 0
			}
		}
		got, err := Verify(bytes.NewReader(changed))
		switch {
		case err != nil:
			found++
		case got.Seal != whole.Seal:
			t.Fatalf("seed %d: a changed archive is whole", seed)
		}
	}
	if found < 900 {
		t.Errorf("only %d changes of 1,000 were found", found)
	}
}

// A table of contents that does not match the files is detected even if the compression and tar
// formats are intact.
func TestATableOfContentsIsHeldToTheFiles(t *testing.T) {
	made := time.Now()
	written := func() table {
		var w table
		w.file("records/a", 1, []byte("a"))
		w.file("records/b", 2, []byte("b"))
		return w
	}
	w := written()
	text := string(w.sealed(made, []string{"something"}, map[string]int{"x": 3}))
	read := func(change func(*table), text string) (Contents, error) {
		found := written()
		change(&found)
		return found.compare([]byte(text))
	}
	same := func(*table) {}
	c, err := read(same, text)
	if err != nil || c.Files != 2 || c.Bytes != 3 || c.Records() != 3 || len(c.Damage) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for name, change := range map[string]func(*table){
		"without its last":  func(f *table) { f.files = f.files[:1] },
		"without its first": func(f *table) { f.files = f.files[1:] },
		"in another order":  func(f *table) { slices.Reverse(f.files) },
		"with one more":     func(f *table) { f.file("records/c", 1, nil) },
		"of another size":   func(f *table) { f.files[0].Size++ },
		"of another hash":   func(f *table) { f.files[1].SHA256 = "" },
	} {
		if _, err := read(change, text); err == nil {
			t.Errorf("files %s are what was written", name)
		}
	}
	for name, text := range map[string]string{
		"another count":  strings.Replace(text, `"x":3`, `"x":4`, 1),
		"no damage":      strings.Replace(text, `{"damage":"something"}`+"\n", "", 1),
		"no seal":        text[:strings.Index(text, `{"seal"`)],
		"more behind it": text + `{"counts":{"x":9}}` + "\n",
		"nothing":        "",
	} {
		if _, err := read(same, text); err == nil {
			t.Errorf("a table with %s is taken", name)
		}
	}
}

// backedUp is the state and the files of a server to back up.
type backedUp struct {
	*testing.T
	data  string
	bus   *bus.Bus
	store *local.Store
}

func newBackedUp(t *testing.T) backedUp {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir(), Audit: &bus.AuditConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	data := t.TempDir()
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	return backedUp{t, data, b, store}
}

// job stores the record of a job.
func (b backedUp) job(j *ehi.Job) {
	b.Helper()
	j.Version = ehi.RecordVersion
	if err := b.bus.Jobs.Create(b.Context(), j); err != nil {
		b.Fatal(err)
	}
}

// export stores a finished export with files of these contents in one segment.
func (b backedUp) export(id string, contents ...string) []ehi.File {
	b.Helper()
	b.job(&ehi.Job{ID: id, Status: ehi.Approved, Tasks: 1})
	batch, err := b.store.NewBatch(id, 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	for _, text := range contents {
		if _, err := io.WriteString(batch.Create(), text); err != nil {
			b.Fatal(err)
		}
	}
	extents, err := batch.Commit()
	if err != nil {
		b.Fatal(err)
	}
	var table []ehi.File
	for i, e := range extents {
		f := ehi.File{
			Type:   contents[i],
			Object: e.Object,
			Offset: e.Offset,
			Length: e.Length,
			Sum:    string(e.Sum),
		}
		table = append(table, f)
	}
	task := ehi.Task{Version: ehi.RecordVersion, Job: id, Committed: true, Files: table}
	text, err := json.Marshal(task)
	if err != nil {
		b.Fatal(err)
	}
	record := bus.Entry{Bucket: bus.TaskRecords, Key: id + ".0", Value: text}
	if err := b.bus.Restore(b.Context(), record, time.Now()); err != nil {
		b.Fatal(err)
	}
	return table
}

// path returns where an object is stored.
func (b backedUp) path(job, object string) string {
	b.Helper()
	place, err := local.Place(job, object)
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(b.data, files.Folder, place)
}

// backup returns a backup and its table of contents.
func (b backedUp) backup() ([]byte, Contents) {
	b.Helper()
	var archive bytes.Buffer
	if err := Write(b.Context(), &archive,
		Parts{Data: b.data, Bus: b.bus, Files: b.store}); err != nil {
		b.Fatal(err)
	}
	c, err := Verify(bytes.NewReader(archive.Bytes()))
	if err != nil {
		b.Fatal(err)
	}
	return archive.Bytes(), c
}

// A backup reports what is missing from a finished export, and contains everything else,
// including the rest of the export.
func TestABackupSaysWhatIsDamaged(t *testing.T) {
	b := newBackedUp(t)
	kept, size, _, err := b.store.PutAttachment("finished", strings.NewReader("kept"), 100)
	if err != nil {
		t.Fatal(err)
	}
	b.job(&ehi.Job{ID: "finished", Status: ehi.Approved, Tasks: 1, Attachments: []ehi.Attachment{
		{Name: "gone", Object: "a.gone", Size: 3}, {Name: "short", Object: kept, Size: size + 1},
	}})
	b.job(&ehi.Job{ID: "open", Status: ehi.AwaitingInput})
	b.job(&ehi.Job{ID: "begun", Status: ehi.Requested, Tasks: 3})
	_, c := b.backup()
	want := []string{"lacks the record of part 0", "lacks its file a.gone", "at 0 is short"}
	if len(c.Damage) != len(want) || c.Counts[bus.JobRecords] != 3 {
		t.Fatalf("%q, %v", c.Damage, c.Counts)
	}
	for i, what := range want {
		if !strings.Contains(c.Damage[i], "export finished ") ||
			!strings.Contains(c.Damage[i], what) {
			t.Errorf("%q, want %q", c.Damage[i], what)
		}
	}
}

// A backup reports a changed byte in the record store by its file, and contains the parts of the
// store that are whole.
func TestABackupSaysWhatIsDamagedOfTheRecords(t *testing.T) {
	b := newBackedUp(t)
	dir := filepath.Join(b.data, "records")
	open := func() *dataset.Store {
		store, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	made := open()
	err := made.Generate(t.Context(), synthetic.Config{Patients: 30, Resources: 200, Seed: 1},
		time.Now(), func(int, int) {})
	if err := errors.Join(err, made.Close()); err != nil {
		t.Fatal(err)
	}
	backup := func() Contents {
		t.Helper()
		records := open()
		defer records.Close() // read only
		var archive bytes.Buffer
		err := Write(t.Context(), &archive, Parts{
			Data:    b.data,
			Bus:     b.bus,
			Files:   b.store,
			Records: records,
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := Verify(&archive)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := backup(); len(c.Damage) != 0 {
		t.Fatalf("nothing is damaged, but: %q", c.Damage)
	}
	// list the files now: the store may have merged some while it was open
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	var largest []byte // of resources: opening a store reads only the others
	var path string
	for _, table := range tables {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > len(largest) {
			largest, path = text, table
		}
	}
	largest[len(largest)/3] ^= 1
	if err := os.WriteFile(path, largest, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := backup(); len(c.Damage) != 1 || !strings.Contains(c.Damage[0], filepath.Base(path)) {
		t.Errorf("%q", c.Damage)
	}
}

// A backup reports a changed byte by its file. Everything else is backed up and restored. The
// damaged file is never taken for intact, neither here nor after a restore.
func TestABackupSaysWhatTheDiskHasChanged(t *testing.T) {
	b := newBackedUp(t)
	changed := b.export("changed", "one", "two", "three")
	missing := b.export("missing", "four")
	b.export("sound", "five")
	if _, c := b.backup(); len(c.Damage) != 0 {
		t.Fatalf("nothing is damaged, but: %q", c.Damage)
	}
	path := b.path("changed", changed[1].Object)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[changed[1].Offset] ^= 1
	err = errors.Join(os.WriteFile(path, text, 0o600),
		os.Remove(b.path("missing", missing[0].Object)))
	if err != nil {
		t.Fatal(err)
	}
	archive, c := b.backup()
	slices.Sort(c.Damage)
	want := []string{
		fmt.Sprintf("export changed has a damaged file: %s at %d is changed", changed[1].Object,
			changed[1].Offset),
		"export missing lacks its file " + missing[0].Object,
	}
	if !slices.Equal(c.Damage, want) {
		t.Fatalf("%q, want %q", c.Damage, want)
	}
	data := filepath.Join(t.TempDir(), "restored")
	if err := restoreInto(t, bytes.NewReader(archive), data); err != nil {
		t.Fatal(err)
	}
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range changed {
		var got bytes.Buffer
		e := files.Extent{
			Object: f.Object,
			Offset: f.Offset,
			Length: f.Length,
			Sum:    files.Sum(f.Sum),
		}
		err := store.Verify(t.Context(), "changed", e, &got)
		if i == 1 && !errors.Is(err, files.ErrDamaged) ||
			i != 1 && (err != nil || got.String() != f.Type) {
			t.Errorf("restored, %s is %q, %v", f.Type, &got, err)
		}
	}
}

// A backup has the contents of documents, and a restore brings them back. It reports those that
// are missing or changed.
func TestABackupHasTheContentsOfDocuments(t *testing.T) {
	b := newBackedUp(t)
	dir := filepath.Join(b.data, "records")
	from := t.TempDir()
	for name, text := range map[string]string{
		"p.ndjson":      `{"resourceType":"Patient","id":"p"}`,
		"documents.csv": "patient,path\np,x.txt\np,y.txt\n", "x.txt": "x", "y.txt": "y",
	} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Import(t.Context(), []string{from}, source.ImportOptions{Now: time.Now()})
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	backup := func() (archive bytes.Buffer, c Contents) {
		t.Helper()
		records, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		err = Write(t.Context(), &archive, Parts{
			Data: b.data, Bus: b.bus, Files: b.store, Records: records,
		})
		if err := errors.Join(err, records.Close()); err != nil {
			t.Fatal(err)
		}
		if c, err = Verify(bytes.NewReader(archive.Bytes())); err != nil {
			t.Fatal(err)
		}
		return archive, c
	}
	archive, c := backup()
	if len(c.Damage) != 0 {
		t.Fatalf("nothing is damaged, but: %q", c.Damage)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := restoreInto(t, &archive, data); err != nil {
		t.Fatal(err)
	}
	restored, err := dataset.Open(dataset.Config{Dir: filepath.Join(data, "records")})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := restored.Open(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var paths []string
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		content, err := os.ReadFile(d.Path)
		got, paths = append(got, d.Name+" "+string(content)), append(paths, filepath.Base(d.Path))
		return err
	})
	if err := errors.Join(err, rec.Close(), restored.Close()); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"x.txt x", "y.txt y"}) {
		t.Errorf("restored %q", got)
	}
	blob := func(name string) string {
		path := filepath.Join(b.data, dataset.BlobFolder, name[:2], name)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	err = errors.Join(os.Remove(blob(paths[0])), os.WriteFile(blob(paths[1]), []byte("z"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if _, c := backup(); len(c.Damage) != 2 || !strings.Contains(c.Damage[0]+c.Damage[1], paths[0]) {
		t.Errorf("%q", c.Damage)
	}
}
