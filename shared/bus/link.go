package bus

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// link is the present connection to NATS. What a lost connection was asked for is never answered on the next one: whoever waits for
// such an answer asks again at once, rather than when a heartbeat has been missed.
type link struct {
	mu      sync.Mutex
	present context.Context
	end     context.CancelFunc
}

// renew ends the present link and begins another one.
func (l *link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
	}
	l.present, l.end = context.WithCancel(context.Background())
}

// cut ends the link for good.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
	}
}

// bind ends a wait together with the present link; done is called when the wait is over.
func (l *link) bind(cancel context.CancelFunc) (done func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return context.AfterFunc(l.present, cancel)
}

// IsAway tells an error that is due to NATS, which is away or was, from others: the same call may succeed a moment later.
func IsAway(err error) bool {
	for _, away := range []error{
		nats.ErrTimeout, nats.ErrNoServers, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrStaleConnection,
		jetstream.ErrNoStreamResponse, jetstream.ErrJetStreamNotEnabled, jetstream.ErrNoHeartbeat, context.DeadlineExceeded,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.Code == 503
}
