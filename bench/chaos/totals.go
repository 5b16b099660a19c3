package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// totals are the totals of a whole run.
type totals struct {
	began time.Time

	rounds, kills, stops, starved, restarts, exits, intruders atomic.Int64
	jobs, files, bytes                                        atomic.Int64
	// jobs that failed after their last attempt, and reported it
	gaveUp atomic.Int64

	mu         sync.Mutex
	flows      map[string]int
	recoveries []time.Duration
	accepts    []time.Duration // from the death of a NATS server to the next accepted kick-off
	reads      []time.Duration // of an export while one server of three was left
}

// more reports whether another round may begin.
func (t *totals) more(limit time.Duration) bool { return limit == 0 || time.Since(t.began) < limit }

func (t *totals) flow(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows == nil {
		t.flows = map[string]int{}
	}
	t.flows[kind]++
}

func (t *totals) recovered(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recoveries = append(t.recoveries, d)
}

func (t *totals) accepted(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepts = append(t.accepts, d)
}

func (t *totals) downloaded(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads = append(t.reads, d)
}

func (t *totals) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(w,
		"%d rounds in %v: %d kills, %d stops beyond the lease, %d starvations, %d restarts; %d "+
			"exits of a process's own\n",
		t.rounds.Load(), time.Since(t.began).Round(time.Second), t.kills.Load(), t.stops.Load(),
		t.starved.Load(), t.restarts.Load(), t.exits.Load())
	fmt.Fprintf(w,
		"%d jobs, %d files and %d MB verified; %d jobs given up after their last attempt\n",
		t.jobs.Load(), t.files.Load(), t.bytes.Load()/1e6, t.gaveUp.Load())
	fmt.Fprintf(w,
		"%d exporters with other records, files or rules came; none of them had a command\n",
		t.intruders.Load())
	for _, kind := range slices.Sorted(maps.Keys(t.flows)) {
		fmt.Fprintf(w, "  %-40s %6d\n", kind, t.flows[kind])
	}
	if n := len(t.recoveries); n > 0 {
		slices.Sort(t.recoveries)
		fmt.Fprintf(w,
			"from kill -9 of a stand-alone worker to its task in other hands: p50 %.2f s, p99 "+
				"%.2f s, max %.2f s, of %d\n",
			t.recoveries[n/2].Seconds(), t.recoveries[n*99/100].Seconds(),
			t.recoveries[n-1].Seconds(), n)
	}
	if n := len(t.accepts); n > 0 {
		slices.Sort(t.accepts)
		fmt.Fprintf(w,
			"from kill -9 of one of three NATS servers to the next accepted kick-off: p50 %.2f "+
				"s, max %.2f s, of %d\n",
			t.accepts[n/2].Seconds(), t.accepts[n-1].Seconds(), n)
	}
	if n := len(t.reads); n > 0 {
		slices.Sort(t.reads)
		fmt.Fprintf(w, "downloads with one NATS server of three: %d, p50 %.2f s, max %.2f s\n", n,
			t.reads[n/2].Seconds(), t.reads[n-1].Seconds())
	}
}
