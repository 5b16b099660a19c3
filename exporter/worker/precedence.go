package worker

import (
	"context"
	"sync"
	"time"

	"ehi-server/shared/telemetry"
)

// precedence lets patients' exports go before populations': while one runs in this process, a
// population's reader waits before each slab. It waits for a bounded time, so that patients who
// come without end slow a population down and do not stop it.
type precedence struct {
	mu   sync.Mutex
	busy int
	idle chan struct{} // closed when busy gets to 0; nil while it is
}

// enter begins a patient's export.
func (p *precedence) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy++; p.busy == 1 {
		p.idle = make(chan struct{})
	}
}

// leave ends it.
func (p *precedence) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy--; p.busy == 0 {
		close(p.idle)
		p.idle = nil
	}
}

// yield waits while patients' exports run, for at most d. Errors: ctx's.
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
