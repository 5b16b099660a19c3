package backup

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Whatever is flipped, cut off, left out, moved or put into an archive, reading it fails, or gives exactly
// what was written (where the change means nothing).
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
		case 4: // something is empty, as a block that was not written
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

// A table of contents that does not fit is found where the formats around it are sound.
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

// What is missing of a finished export is said, and takes nothing else with it: not the rest of the export.
func TestABackupSaysWhatIsDamaged(t *testing.T) {
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir(), Audit: &bus.AuditConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	data := t.TempDir()
	store, err := files.NewLocal(files.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	kept, size, _, err := store.PutAttachment("finished", strings.NewReader("kept"), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range []*ehi.Job{
		{ID: "finished", Status: ehi.Approved, Tasks: 1, Attachments: []ehi.Attachment{
			{Name: "gone", Object: "a.gone", Size: 3}, {Name: "short", Object: kept, Size: size + 1},
		}},
		{ID: "open", Status: ehi.AwaitingInput},
		{ID: "begun", Status: ehi.Requested, Tasks: 3},
	} {
		j.Version = ehi.RecordVersion
		if err := b.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	if err := Write(t.Context(), &archive, Parts{Data: data, Bus: b, Files: store}); err != nil {
		t.Fatal(err)
	}
	c, err := Verify(&archive)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"record of its part 0", "its file a.gone", "4 bytes of 5 are there"}
	if len(c.Damage) != len(want) || c.Counts[bus.JobRecords] != 3 {
		t.Fatalf("%q, %v", c.Damage, c.Counts)
	}
	for i, what := range want {
		if !strings.Contains(c.Damage[i], "export finished lacks") || !strings.Contains(c.Damage[i], what) {
			t.Errorf("%q, want %q", c.Damage[i], what)
		}
	}
}
