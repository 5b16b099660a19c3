package jobs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// uploading is an export under review.
type uploading struct {
	*house
	job *ehi.Job
}

// add uploads documents with the given size.
func (u uploading) add(size int64, names ...string) error {
	latest, err := u.Record(u.t.Context(), u.job.ID)
	if err != nil {
		return err
	}
	up, err := u.Upload(reviewer, latest)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err = up.Add(name, "", io.LimitReader(endless{}, size)); err != nil {
			break
		}
	}
	_, err = up.Commit(u.t.Context(), err)
	return err
}

// atOnce uploads several sets of documents at once, and counts the results by code.
func (u uploading) atOnce(sets ...[]string) map[ehi.Code]int {
	var (
		all sync.WaitGroup
		mu  sync.Mutex
		got = map[ehi.Code]int{}
	)
	for _, names := range sets {
		all.Go(func() {
			err := u.add(10, names...)
			mu.Lock()
			defer mu.Unlock()
			got[ehi.CodeOf(err)]++
		})
	}
	all.Wait()
	return got
}

// holds requires that the export has n documents with different names, and that the store has
// the same.
func (u uploading) holds(what string, n int) (record *ehi.Job) {
	u.t.Helper()
	record, err := u.Bus.Jobs.Get(u.t.Context(), u.job.ID)
	if err != nil {
		u.t.Fatal(err)
	}
	names, stored := map[string]bool{}, 0
	for _, a := range record.Attachments {
		names[ehi.NameKey(a.Name)] = true
	}
	err = u.Files.(files.Store).Walk(func(job string, all []files.Stored) error {
		if job != u.job.ID {
			return errors.New(job + " has files")
		}
		stored += len(all)
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	if len(record.Attachments) != n || len(names) != n || stored != n {
		u.t.Errorf("%s: %d documents of %d names, and %d are stored; want %d", what,
			len(record.Attachments), len(names), stored, n)
	}
	return record
}

// numbered returns the names of n documents.
func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d.txt", prefix, i))
	}
	return names
}

// EHI-11: the limits of uploads hold to the byte and the document, also for simultaneous uploads.
// A refused upload leaves nothing.
func TestEHI11TheBoundsOfUploadsHold(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.AttachmentBytes, c.AttachmentsPerCall = 1000, 10 })
	u := uploading{h, h.retrieved()}
	for _, c := range []struct {
		what  string
		bytes int64
		n     int
		want  ehi.Code
		holds int
	}{
		{"a byte too many", 1001, 1, ehi.TooLarge, 0},
		{"two that are too large", 1001, 2, ehi.TooLarge, 0},
		{"a document too many", 10, 11, ehi.Invalid, 0},
		{"as large as may be", 1000, 1, "", 1},
		{"as many as may be", 10, 9, "", 10},
	} {
		wantCode(t, c.what, u.add(c.bytes, numbered(c.what, c.n)...), c.want)
		u.holds(c.what, c.holds)
	}
	var sets [][]string
	for n := range 15 {
		sets = append(sets, numbered(fmt.Sprintf("set-%d", n), 10))
	}
	if got := u.atOnce(sets...); got[""] != 9 || got[ehi.Invalid] != 6 {
		t.Errorf("fifteen times ten at once where ninety have room: %v", got)
	}
	u.holds("fifteen uploads at once", ehi.MaxAttachments)
	wantCode(t, "one more than an export may have", u.add(10, "one-more.txt"), ehi.Invalid)
	u.holds("one more", ehi.MaxAttachments)
}

// EHI-11: if names of simultaneous uploads differ only in case or Unicode form, each document
// gets a unique name, or its upload must be repeated. No two names are the same to any file
// system.
func TestEHI11NamesOfUploadsAtOnceAreUnique(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	u := uploading{h, h.retrieved()}
	spelt := []string{
		"Straße.txt", "STRASSE.TXT", "strasse.txt", "StraSSe.txt", "stra\u200dsse.txt",
		"ｓｔｒａｓｓｅ.txt",
	}
	taken := 0
	var record *ehi.Job
	for range 5 {
		var sets [][]string
		for _, name := range spelt {
			sets = append(sets, []string{name})
		}
		got := u.atOnce(sets...)
		if got[""]+got[ehi.Transient] != len(spelt) {
			t.Errorf("at once: %v", got)
		}
		taken += got[""]
		record = u.holds("names at once", taken)
	}
	numbered := func(a ehi.Attachment) bool {
		return strings.Contains(ehi.NameKey(a.Name), "strasse-")
	}
	if !slices.ContainsFunc(record.Attachments, numbered) {
		t.Errorf("none is numbered: %+v", record.Attachments)
	}
}
