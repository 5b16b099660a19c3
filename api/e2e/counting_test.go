package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
)

// slowRecords is a source whose records stop in the middle until a gate is opened. It counts the
// passes over them.
type slowRecords struct {
	source.Source
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

// However long it takes to read a record, the form appears immediately, says that counting goes
// on, and gets the numbers when they are known. However many requests come, the record is read
// once.
func TestTheFormDoesNotWaitForALargeRecord(t *testing.T) {
	t.Parallel()
	slow := &slowRecords{gate: make(chan struct{})}
	w := start(t, t.TempDir(), config(), node.Options{
		WrapSource: func(s source.Source) source.Source {
			slow.Source = s
			return slow
		},
	})
	p := w.demoPatient()
	j := w.kickOff(w.patient(p), "", p, nil)
	form := w.open.Base + "/jobs/" + j.ID + "/customize?_patient=" + p
	var group sync.WaitGroup
	for range 10 {
		b := newBrowser(t)
		group.Go(func() {
			b.visit(form)
			b.sees(200, "We are still counting the entries in your record", "data-counting",
				"Visits")
			if strings.Contains(b.page, "would be shared.") {
				t.Error("the form has a number that nobody counted")
			}
		})
	}
	group.Wait()
	if n := slow.scans.Load(); n != 1 {
		t.Errorf("the record was gone through %d times", n)
	}
	close(slow.gate)
	await(t, "the numbers", func() bool {
		b := newBrowser(t)
		b.visit(form)
		return strings.Contains(b.page, "With these choices") &&
			!strings.Contains(b.page, "data-counting")
	})
}

// F1: resources without a date are withheld once there are dates, and the form says how many
// those are.
func TestTheFormTellsWhatHasNoDate(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	records := filepath.Join(t.TempDir(), "records.ndjson")
	lines := `{"resourceType":"Patient","id":"p"}
{"resourceType":"Encounter","id":"e1","subject":{"reference":"Patient/p"}}
{"resourceType":"Encounter","id":"e2","subject":{"reference":"Patient/p"},"period":{"start":"2019-03-01","end":"2019-03-01"}}
{"resourceType":"Encounter","id":"e3","subject":{"reference":"Patient/p"},"period":{"start":"2018-03-01","end":"2018-03-01"}}
`
	if err := os.WriteFile(records, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Import(t.Context(), []string{records}, source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w := start(t, data, config(), node.Options{})
	_, b := w.formOf("p")
	b.submit("p.visits", "on", "do", "preview")
	b.counted()
	b.sees(200, "3 of 3 entries would be shared")
	b.submit("p.visits", "on", "p.visits.from", "2019-01-01", "do", "preview")
	b.counted()
	b.sees(200,
		"1 of 3 entries would be shared. Not shared because of the dates you entered: 1 entry "+
			"without a date")
}
