package worker

import (
	"context"
	"sync"
	"time"

	"ehi-server/shared/telemetry"
)

// precedence gives patients' exports priority over exports of populations. While a patient's
// export runs in this process, the reader of a population waits before each slab. The wait is
// bounded, so that a continuous stream of patients' exports slows a population down but does not
// stop it.
type precedence struct {
	mu   sync.Mutex
	busy int
	idle chan struct{} // closed when busy becomes 0; nil while busy is 0
}

// enter starts a patient's export.
func (p *precedence) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy++; p.busy == 1 {
		p.idle = make(chan struct{})
	}
}

// leave ends a patient's export.
func (p *precedence) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy--; p.busy == 0 {
		close(p.idle)
		p.idle = nil
	}
}

// yield waits until no patient's export runs, but at most d. Errors: those of ctx.
func (p *precedence) yield(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	if idle == nil || d <= 0 {
		return nil
	}
	start := time.Now()
	defer func() { telemetry.BulkYielded.Add(time.Since(start).Seconds()) }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
