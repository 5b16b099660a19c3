package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// uploading is an export under review, with the folder of its documents.
type uploading struct {
	*world
	job, folder string
}

func (w *world) uploading(folder string) uploading {
	w.t.Helper()
	p := w.demoPatient()
	j := w.kickOff(w.patient(p), "/no-form", p, nil)
	w.wait(j.ID, ehi.Retrieved)
	return uploading{w, j.ID, folder}
}

// add uploads documents with the given size, and returns the status.
func (u uploading) add(bytes int, names ...string) (int, error) {
	var docs []client.File
	for _, name := range names {
		docs = append(docs, client.File{Name: name, Data: []byte(strings.Repeat("x", bytes))})
	}
	a, err := u.admin.AddFiles(u.t.Context(), u.job, docs...)
	if err != nil {
		return 0, err
	}
	return a.Status, nil
}

// atOnce uploads several sets of documents at once, and counts the responses by status.
func (u uploading) atOnce(sets ...[]string) map[int]int {
	u.t.Helper()
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		got  = map[int]int{}
		errs error
	)
	for _, names := range sets {
		all.Go(func() {
			status, err := u.add(10, names...)
			mu.Lock()
			defer mu.Unlock()
			got[status]++
			errs = errors.Join(errs, err)
		})
	}
	all.Wait()
	if errs != nil {
		u.t.Fatal(errs)
	}
	return got
}

// holds requires that the export has n documents with different names, and that the store has
// the same.
func (u uploading) holds(what string, n int) {
	u.t.Helper()
	j, err := u.admin.Job(u.t.Context(), u.job)
	if err != nil {
		u.t.Fatal(err)
	}
	record, err := u.node.Bus.Jobs.Get(u.t.Context(), u.job)
	if err != nil {
		u.t.Fatal(err)
	}
	names := map[string]bool{}
	for _, a := range record.Attachments {
		names[ehi.NameKey(a.Name)] = true
	}
	stored, err := filepath.Glob(filepath.Join(u.folder, files.Folder, "*", u.job+".a.*"))
	if err != nil {
		u.t.Fatal(err)
	}
	if len(j.Attachments) != n || len(names) != n || len(stored) != n {
		u.t.Errorf("%s: %d documents of %d names, and %d are stored; want %d", what,
			len(j.Attachments), len(names), len(stored), n)
	}
}

// lettersOf returns the names of n documents.
func lettersOf(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d.txt", prefix, i))
	}
	return names
}

// EHI-11: the limits of uploads hold over HTTP, to the byte and the document, also for
// simultaneous uploads. A refused upload leaves nothing.
func TestEHI11TheBoundsOfUploadsHold(t *testing.T) {
	t.Parallel()
	cfg, folder := config(), t.TempDir()
	cfg.Jobs.AttachmentBytes, cfg.Jobs.AttachmentsPerCall = 1000, 10
	u := start(t, folder, cfg, node.Options{}).uploading(folder)
	for _, c := range []struct {
		what          string
		bytes, n      int
		status, holds int
	}{
		{"a byte too many", 1001, 1, 413, 0},
		{"the second too large", 1001, 2, 413, 0},
		{"a document too many", 10, 11, 400, 0},
		{"as large as may be", 1000, 1, 200, 1},
		{"as many as may be", 10, 9, 200, 10},
	} {
		status, err := u.add(c.bytes, lettersOf(c.what, c.n)...)
		if status != c.status || err != nil {
			t.Errorf("%s: %d, %v", c.what, status, err)
		}
		u.holds(c.what, c.holds)
	}
	var sets [][]string
	for n := range 15 {
		sets = append(sets, lettersOf(fmt.Sprintf("set-%d", n), 10))
	}
	if got := u.atOnce(sets...); got[200] != 9 || got[400] != 6 {
		t.Errorf("fifteen times ten at once where ninety have room: %v", got)
	}
	u.holds("fifteen uploads at once", ehi.MaxAttachments)
	if status, err := u.add(10, "one-more.txt"); status != 400 || err != nil {
		t.Errorf("one more than an export may have: %d, %v", status, err)
	}
	u.holds("one more", ehi.MaxAttachments)
}

// EHI-11: if names of simultaneous uploads differ only in case or Unicode form, each document
// gets a unique name, or its upload must be repeated. No two names are the same to any file
// system.
func TestEHI11NamesOfUploadsAtOnceAreUnique(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	u := start(t, folder, config(), node.Options{}).uploading(folder)
	spelt := []string{
		"Straße.txt", "STRASSE.TXT", "strasse.txt", "StraSSe.txt", "stra\u200dsse.txt",
		"ｓｔｒａｓｓｅ.txt",
	}
	taken := 0
	for range 5 {
		var sets [][]string
		for _, name := range spelt {
			sets = append(sets, []string{name})
		}
		got := u.atOnce(sets...)
		if got[200]+got[503] != len(spelt) {
			t.Errorf("at once: %v", got)
		}
		taken += got[200]
		u.holds("names at once", taken)
	}
	record, err := u.node.Bus.Jobs.Get(t.Context(), u.job)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(record.Attachments,
		func(a ehi.Attachment) bool { return strings.Contains(ehi.NameKey(a.Name), "strasse-") }) {
		t.Errorf("none is numbered: %+v", record.Attachments)
	}
}
