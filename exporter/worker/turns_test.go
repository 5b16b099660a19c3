package worker_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// Half of the workers of populations read resources, and a worker that waits for its turn is not
// stalled, however long the others read.
func TestPopulationsReadInTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	h := newHouse(t)
	h.stall = time.Second
	s := &counting{Source: h.source, lasts: 2 * h.stall}
	h.work(s, "w")
	ids := []string{"a", "b"}
	for _, id := range ids {
		h.requestPopulation(id)
	}
	for _, id := range ids {
		h.await(id, ehi.Retrieved)
		h.checkFiles(id)
		for n := range 2 { // each population has two tasks
			task, _, err := h.bus.Tasks.Get(t.Context(), id, n)
			if err != nil || task.Attempt != 1 {
				t.Errorf("task %d of %s took %d attempts, %v", n, id, task.Attempt, err)
			}
		}
	}
	if got := s.most.Load(); got != 2 {
		t.Errorf("%d tasks read at once, want 2 of 4 workers", got)
	}
}

// steps is how many resources it takes counting until it reads at full speed.
const steps = 12

// counting counts how many parts of populations are read at once. The reading of each lasts.
type counting struct {
	source.Source
	lasts     time.Duration
	now, most atomic.Int64
}

func (c *counting) Freeze(ctx context.Context, name string) (source.Population, error) {
	p, err := c.Source.Freeze(ctx, name)
	return countedPopulation{p, c}, err
}

type countedPopulation struct {
	source.Population
	of *counting
}

func (p countedPopulation) Open(
	ctx context.Context, s source.Selection, part ehi.Part,
) (source.Record, error) {
	r, err := p.Population.Open(ctx, s, part)
	return countedRecord{r, p.of}, err
}

type countedRecord struct {
	source.Record
	of *counting
}

func (r countedRecord) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	now := r.of.now.Add(1)
	defer r.of.now.Add(-1)
	for most := r.of.most.Load(); now > most; most = r.of.most.Load() {
		if r.of.most.CompareAndSwap(most, now) {
			break
		}
	}
	began, n := time.Now(), time.Duration(0)
	return r.Record.Scan(ctx, q, func(s source.Resource) error {
		if n++; n <= steps { // each is progress
			time.Sleep(time.Until(began.Add(r.of.lasts * n / steps)))
		}
		return visit(s)
	})
}
