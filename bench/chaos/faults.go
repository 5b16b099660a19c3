package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"ehi-server/api/client"
)

const (
	sigterm = syscall.SIGTERM
	sigkill = syscall.SIGKILL
)

// fault is an event that happens to a process. It reports whether it happened: a process that is
// down cannot be stopped.
type fault struct {
	name   string
	weight int
	// draw makes all random choices immediately, so that a seed gives the same faults whatever
	// the processes do meanwhile.
	draw func(f *fleet, r *rand.Rand) func(ctx context.Context, p *process) bool
}

var faults = []fault{
	{"killed", 10, func(f *fleet, r *rand.Rand) func(context.Context, *process) bool {
		down := between(r, 0, time.Second)
		return func(ctx context.Context, p *process) bool {
			f.watch.killed(p)
			if !p.end(ctx, ending{signal: syscall.SIGKILL, down: down}) {
				return false
			}
			f.totals.kills.Add(1)
			return true
		}
	}},
	{
		"stopped beyond its lease",
		3,
		func(f *fleet, r *rand.Rand) func(context.Context, *process) bool {
			d := between(r, f.AckWait*6/5, f.AckWait*2)
			return func(_ context.Context, p *process) bool {
				f.totals.stops.Add(1)
				return p.freeze(d)
			}
		},
	},
	{"starved", 2, func(f *fleet, r *rand.Rand) func(context.Context, *process) bool {
		stop, run, times := between(r, 20*time.Millisecond, 200*time.Millisecond),
			between(r, time.Millisecond, 20*time.Millisecond), 5+r.IntN(15)
		return func(ctx context.Context, p *process) bool {
			f.totals.starved.Add(1)
			for range times {
				if !p.freeze(stop) || client.Sleep(ctx, run) != nil {
					return false
				}
			}
			return true
		}
	}},
	{"told to stop", 3, func(f *fleet, r *rand.Rand) func(context.Context, *process) bool {
		down := between(r, 0, time.Second)
		return func(ctx context.Context, p *process) bool {
			if !p.end(ctx, ending{signal: sigterm, down: down}) {
				return false
			}
			f.totals.restarts.Add(1)
			return true
		}
	}},
	{"with a wrong exporter beside it", 2, intrusion},
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// drawFault chooses a fault by its weight.
func drawFault(r *rand.Rand) fault {
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	n := r.IntN(total)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	return faults[0]
}

// disturb causes faults during a round, at most one per process at a time, and returns when all
// are over.
func (f *fleet) disturb(ctx context.Context, r *rand.Rand) string {
	end := time.Now().Add(f.Faults)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := map[string]int{}
	for time.Now().Before(end) &&
		client.Sleep(ctx, between(r, 100*time.Millisecond, 900*time.Millisecond)) == nil {
		kind, p := drawFault(r), f.all[r.IntN(len(f.all))]
		do := kind.draw(f, r)
		if !p.fault.TryLock() {
			continue
		}
		wg.Go(func() {
			defer p.fault.Unlock()
			if do(ctx, p) {
				mu.Lock()
				defer mu.Unlock()
				done[kind.name]++
			}
		})
	}
	wg.Wait()
	var told []string
	for _, k := range faults {
		if n := done[k.name]; n > 0 {
			told = append(told, fmt.Sprintf("%d %s", n, k.name))
		}
	}
	return strings.Join(told, ", ")
}
