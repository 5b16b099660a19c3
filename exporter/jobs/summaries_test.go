package jobs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// slowRecords is a source whose records stop in the middle until a gate is opened. It counts the
// passes over them.
type slowRecords struct {
	Source
	gate  chan struct{}
	scans atomic.Int64
}

func (s *slowRecords) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := s.Source.Open(ctx, patient)
	return &slowRecord{r, s}, err
}

type slowRecord struct {
	source.Record
	of *slowRecords
}

func (r *slowRecord) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	r.of.scans.Add(1)
	n := 0
	return r.Record.Scan(ctx, q, func(res source.Resource) error {
		if n++; n == 10 {
			select {
			case <-r.of.gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return visit(res)
	})
}

// However long it takes to read a record, a preview waits no longer than it was told to. However
// many previews are requested, the record is read once, and all get its counts.
func TestAPreviewDoesNotWaitForALargeRecord(t *testing.T) {
	h := newHouse(t, nil)
	slow := &slowRecords{Source: h.counted.source, gate: make(chan struct{})}
	h.counted.source = slow
	j := h.kicked()
	form := ehi.ReleaseForm{}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			_, err := h.Preview(t.Context(), j, form, 10*time.Millisecond)
			if !errors.Is(err, ErrCounting) {
				t.Errorf("before it is counted: %v", err)
			}
		})
	}
	all.Wait()
	close(slow.gate)
	for range 10 {
		all.Go(func() {
			n, err := h.Preview(t.Context(), j, form, time.Minute)
			if err != nil || n.All.Stored < 10 {
				t.Errorf("%+v, %v", n.All, err)
			}
		})
	}
	all.Wait()
	if n := slow.scans.Load(); n != 1 {
		t.Errorf("the record was read %d times", n)
	}
}

// F1: resources without a date are withheld once there are dates, and the counts say how many
// those are.
func TestAPreviewCountsWhatHasNoDate(t *testing.T) {
	h := newHouse(t, nil)
	visit := func(id, period string) string {
		return `{"resourceType":"Encounter","id":"` + id + `","subject":{"reference":"Patient/p"}` +
			period + `}`
	}
	lines := []string{
		`{"resourceType":"Patient","id":"p"}`,
		visit("e1", ""),
		visit("e2", `,"period":{"start":"2019-03-01","end":"2019-03-01"}`),
		visit("e3", `,"period":{"start":"2018-03-01","end":"2018-03-01"}`),
	}
	file := filepath.Join(t.TempDir(), "records.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := h.Source.(*dataset.Store).Import(t.Context(), []string{file},
		source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	app := h.app()
	app.Patient = "p"
	j, err := h.KickOff(t.Context(), app, Ask{Subject: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]release.Tally{
		"":           {Stored: 3, Released: 3},
		"2019-01-01": {Stored: 3, Released: 1, Undated: 1},
	} {
		n, err := h.Preview(t.Context(), j, ehi.ReleaseForm{
			Parameters: map[ehi.Category]ehi.Choice{ehi.Visits: {From: from}},
		}, time.Minute)
		if err != nil || n.Categories[ehi.Visits] != want {
			t.Errorf("from %q: %+v, want %+v, %v", from, n.Categories[ehi.Visits], want, err)
		}
	}
}
