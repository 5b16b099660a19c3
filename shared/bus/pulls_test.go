package bus

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
)

// Workers whose requests have no answer for a while are told; what goes with its connection, or
// while another server comes to lead, is not, and an answer ends it.
func TestWorkersWithoutAnAnswerAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulls{}
		p.begins(ehi.Bulk)
		silent := func(times int, err error) error {
			for range times {
				time.Sleep(2 * pullHeartbeat) // by the bubble's clock
				p.note(ehi.Bulk, err)
			}
			return p.failing(ehi.Bulk, time.Now())
		}
		if err := silent(2, jetstream.ErrNoHeartbeat); err != nil {
			t.Errorf("two requests without an answer: %v", err)
		}
		if err := silent(2, jetstream.ErrNoHeartbeat); !errors.Is(err, jetstream.ErrNoHeartbeat) {
			t.Errorf("four requests without an answer: %v", err)
		}
		if err := silent(1, nil); err != nil {
			t.Errorf("after an answer: %v", err)
		}
		if err := silent(5, jetstream.ErrServerShutdown); err != nil {
			t.Errorf("a server that stops: %v", err)
		}
		if err := p.failing(ehi.Interactive, time.Now()); err != nil || p.has(ehi.Interactive) {
			t.Errorf("a lane without workers: %v", err)
		}
	})
}
