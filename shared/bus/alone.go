package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"ehi-server/shared/link"
	"ehi-server/shared/subject"
)

// ErrRestoring means that another process is restoring a backup into the same NATS.
var ErrRestoring = errors.New(
	"another restore into the NATS of --nats is under way: wait for its end, or end it")

// The subjects that restores into one NATS use to find each other. They depend on a live
// connection, so a killed restore blocks nobody.
var (
	askSubjects    = subject.KindOf("ehi.restore-ask")    // + ID of the asker
	answerSubjects = subject.KindOf("ehi.restore-answer") // + ID of the asker
)

// answerWait is how long a restore waits for answers of other restores.
const answerWait = time.Second

// turn decides which of several restores may run. A restore that is alone runs. Of several that
// start together, the one with the lowest ID runs.
//
//	coming --asks, nobody answers within answerWait--> holding
//	   |---- one that holds answers, or one with a lesser id is coming too ----> yielded
type turn struct {
	id   string
	link *link.Link

	mu      sync.Mutex
	holding bool
	yielded chan struct{} // closed if another restore runs first
}

// RestoreAlone makes this process the only one that restores into an external NATS, until
// release is called. Errors: ErrRestoring.
func RestoreAlone(ctx context.Context, url string, access Access) (release func(), err error) {
	l, err := link.Open(link.Config{
		URL:      url,
		Replicas: KeepReplicas,
		Options:  access.Options(),
		Log:      slog.New(slog.DiscardHandler),
		Lost:     func(*nats.Msg, error) {},
	})
	if err != nil {
		return nil, err
	}
	t := &turn{id: rand.Text(), link: l, yielded: make(chan struct{})}
	if err := t.take(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l.Close, nil
}

func (t *turn) take(ctx context.Context) error {
	_, err := t.link.Subscribe(askSubjects.Under(), t.asked)
	if err == nil {
		_, err = t.link.Subscribe(answerSubjects.Under(t.id), func(*nats.Msg) { t.yield() })
	}
	if err == nil {
		err = t.link.Publish(askSubjects.Of(t.id), nil)
	}
	if err != nil {
		return fmt.Errorf("ask for other restores: %w", err)
	}
	select {
	case <-t.yielded:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(answerWait):
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.yielded:
		return ErrRestoring
	default:
		t.holding = true
		return nil
	}
}

// asked handles the question of another restore.
func (t *turn) asked(m *nats.Msg) {
	other := strings.TrimPrefix(m.Subject, askSubjects.String())
	t.mu.Lock()
	first := t.holding || t.id < other
	t.mu.Unlock()
	switch {
	case other == t.id:
	case !first:
		t.yield()
	default:
		// If the connection is lost, the other restore cannot ask either.
		_ = t.link.Publish(answerSubjects.Of(other, "taken"), nil)
	}
}

// yield gives the turn to another restore, unless this one already holds it.
func (t *turn) yield() {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.yielded:
	default:
		if !t.holding {
			close(t.yielded)
		}
	}
}
