package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A population continues immediately while no patient's export runs, as soon as the last one
// ends, and in any case after its time limit.
func TestPopulationsLetPatientsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p precedence
		waited := func(ctx context.Context) (time.Duration, error) {
			start := time.Now()
			err := p.yield(ctx, time.Second)
			return time.Since(start), err
		}
		if d, err := waited(t.Context()); d != 0 || err != nil {
			t.Errorf("idle: %v, %v", d, err)
		}
		p.enter()
		p.enter()
		if d, err := waited(t.Context()); d != time.Second || err != nil {
			t.Errorf("busy: %v, %v", d, err)
		}
		go func() {
			p.leave()
			<-time.After(100 * time.Millisecond) // of the bubble's clock
			p.leave()
		}()
		if d, err := waited(t.Context()); d != 100*time.Millisecond || err != nil {
			t.Errorf("until the last one ended: %v, %v", d, err)
		}
		p.enter()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := waited(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		p.leave()
	})
}
