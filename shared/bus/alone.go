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

// ErrRestoring says that another process is restoring a backup into the same NATS.
var ErrRestoring = errors.New(
	"another restore into the NATS of --nats is under way: wait for its end, or end it")

// Subjects by which restores into one NATS hear of each other. They are bound to the connection:
// one that was killed keeps nobody out.
var (
	askSubjects    = subject.KindOf("ehi.restore-ask")    // + who asks
	answerSubjects = subject.KindOf("ehi.restore-answer") // + who is answered
)

// answerWait is how long a restore waits for others to say that they are there.
const answerWait = time.Second

// turn is a restore's place among others. Whoever is alone takes it; of several that come
// together, the one with the least id does.
//
//	coming --asks, nobody answers within answerWait--> holding
//	   |---- one that holds answers, or one with a lesser id is coming too ----> yielded
type turn struct {
	id   string
	link *link.Link

	mu      sync.Mutex
	holding bool
	yielded chan struct{} // closed where another one goes first
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

// asked is told that another restore comes.
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
		// where NATS is away, it asks nobody
		_ = t.link.Publish(answerSubjects.Of(other, "taken"), nil)
	}
}

// yield lets another one go first, unless it is this one's turn already.
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
