// Package link is a process's connection to NATS. The client library reconnects by itself for as
// long as the connection is merely lost, but closes it for good over an error that it does not
// know, or over credentials that are refused twice. Then a new one is opened here, so that
// nothing short of NATS itself keeps a process from its state.
//
// With the packages kv and bus it is the only one that imports the client library, and it takes
// subjects of package subject only.
package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/subject"
)

// RetryWait is the pause between two attempts to reach a NATS that is away.
const RetryWait = 250 * time.Millisecond

// pingEvery is how often NATS is asked whether it is there.
const pingEvery = 5 * time.Second

// writeTime is how long a write to an external NATS may take before the connection is given up.
const writeTime = 5 * time.Second

// Config is how to reach NATS.
type Config struct {
	// URL of NATS, or several of one cluster with commas between them; it may be empty where
	// Options say otherwise (nats.InProcessServer).
	URL string
	// Options are those of every connection, besides those that this package sets.
	Options []nats.Option
	// Replicas is how many copies NATS is to keep of each stream, and of each bucket; 0: three
	// where it is a cluster, else one, and never fewer than there are; KeepReplicas: as many as
	// there are.
	Replicas int
	// Lost is told of each message that was published asynchronously and could not be stored.
	Lost func(m *nats.Msg, err error)
	// Log takes what happens to the connection.
	Log *slog.Logger
}

// Link is the connection. It is safe for concurrent use.
type Link struct {
	cfg Config

	mu      sync.RWMutex
	now     *session
	present context.Context // ends when the connection is lost
	end     context.CancelFunc
	failed  error // why no new connection could be opened, nil while there is one
	closed  bool
	// reopening is set while reopen runs, which alone replaces a closed connection then.
	reopening bool
	stop      chan struct{}
	reopens   sync.WaitGroup
	denied    denials
	// renewed is who is called when a new connection has been opened, by the order of their coming.
	renewed map[int]func(context.Context) error
	last    int
}

// session is one connection with what was opened over it.
type session struct {
	conn *nats.Conn
	js   jetstream.JetStream
	kv   sync.Map // jetstream.KeyValue by the bucket's name
}

// Open connects. The caller closes the Link. Errors: nats.ErrNoServers where NATS cannot be
// reached, nats.ErrAuthorization where it does not let this process in.
func Open(cfg Config) (*Link, error) {
	l := &Link{cfg: cfg, stop: make(chan struct{}), renewed: map[int]func(context.Context) error{}}
	s, err := l.connect()
	if err != nil {
		return nil, err
	}
	l.now = s
	l.present, l.end = context.WithCancel(context.Background())
	return l, nil
}

func (l *Link) connect() (*session, error) {
	log := l.cfg.Log
	opts := append([]nats.Option{
		nats.Name("ehi-server"), nats.MaxReconnects(-1), nats.ReconnectWait(RetryWait),
		// what is asked while NATS is away fails at once, and is not done later
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: closed by this process
				log.Warn("NATS is away", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			log.Info("NATS is back")
			l.forgive()
			l.renew()
		}),
		nats.ClosedHandler(l.onClosed),
		// a server that hangs is left for another
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(3),
		nats.ErrorHandler(func(conn *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS", "err", err)
			if d, ok := deniedBy(err); ok {
				l.deny(conn, d)
			}
		}),
	}, l.cfg.Options...)
	if l.cfg.URL != "" {
		// Whoever asks anything waits for the library's lock while it writes, whatever the time
		// of his context.
		opts = append(opts, nats.FlusherTimeout(writeTime), nats.ReconnectOnFlusherError())
	}
	conn, err := nats.Connect(l.cfg.URL, opts...)
	if errors.Is(err, nats.ErrAuthorization) { // it will not be let in later either
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", errors.Join(nats.ErrNoServers, err))
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncErrHandler(
		func(_ jetstream.JetStream, m *nats.Msg, err error) { l.cfg.Lost(m, err) }))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &session{conn: conn, js: js}, nil
}

// onClosed opens a new connection in place of one that the client library gave up.
func (l *Link) onClosed(conn *nats.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.reopening || l.now == nil || l.now.conn != conn {
		return
	}
	l.cfg.Log.Error("the connection to NATS was closed for good; another one is opened", "err",
		conn.LastError())
	l.failed = errors.Join(nats.ErrConnectionClosed, conn.LastError())
	l.reopening = true
	l.reopens.Go(l.reopen)
}

// reopen tries until a new connection stands, with everything open over it that was open over
// the old one.
func (l *Link) reopen() {
	for {
		s, err := l.connect()
		if err == nil {
			if !l.adopt(s) {
				return
			}
			if err = l.tell(); err == nil && l.reopened(s) {
				l.cfg.Log.Info("NATS is back")
				return
			}
			s.conn.Close()
		}
		l.mu.Lock()
		l.failed = cmp.Or(err, nats.ErrConnectionClosed)
		l.mu.Unlock()
		l.cfg.Log.Warn("NATS is away", "err", err)
		select {
		case <-time.After(RetryWait):
		case <-l.stop:
			return
		}
	}
}

// reopened ends the reopening, unless the new connection is closed already.
func (l *Link) reopened(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.conn.IsClosed() {
		return false
	}
	l.failed, l.reopening = nil, false
	l.forgive()
	l.renewLocked()
	return true
}

// adopt makes a session the present one, unless the Link is closed.
func (l *Link) adopt(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.conn.Close()
		return false
	}
	l.now = s
	return true
}

// tell has everybody open anew what was open over the connection before.
func (l *Link) tell() error {
	l.mu.RLock()
	renewed := slices.Collect(maps.Values(l.renewed))
	l.mu.RUnlock()
	ctx, cancel := context.WithTimeout(context.Background(), renewTime)
	defer cancel()
	for _, f := range renewed {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// renewTime bounds what OnReopen's functions do.
const renewTime = 30 * time.Second

// OnReopen has f called whenever a new connection replaces one that was closed for good, until stop
// is called: what f opened over the old one, such as a subscription, is gone with it.
func (l *Link) OnReopen(f func(context.Context) error) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	key := l.last
	l.renewed[key] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.renewed, key)
	}
}

// Failed tells why there is no connection, and no new one could be opened; nil where there is
// one, or where the client library is reconnecting.
func (l *Link) Failed() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failed
}

// renew ends the present connection for those who wait for answers over it: what a lost connection
// was asked is never answered over the next one.
func (l *Link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewLocked()
}

func (l *Link) renewLocked() {
	if l.end == nil { // the first connection is not in place yet
		return
	}
	l.end()
	l.present, l.end = context.WithCancel(context.Background())
	if l.closed {
		l.end()
	}
}

// Bind ends a wait together with the present connection; done is called when the wait is over.
func (l *Link) Bind(cancel context.CancelFunc) (done func() bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return context.AfterFunc(l.present, cancel)
}

// Close ends the connection.
func (l *Link) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	conn := l.now.conn
	close(l.stop)
	l.end()
	l.mu.Unlock()
	conn.Close()
	l.reopens.Wait()
	l.denied.mu.Lock()
	defer l.denied.mu.Unlock()
	l.denied.rest()
}

func (l *Link) session() *session {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now
}

// LocalAddress is this process's end of the connection; "" while there is none.
func (l *Link) LocalAddress() string { return l.session().conn.LocalAddr() }

// Streams are JetStream's streams over the present connection, to declare and read them by.
func (l *Link) Streams() Streams { return Streams{l.session().js} }

// Stored is closed once nothing is on its way of what StoreAsync has published.
func (l *Link) Stored() <-chan struct{} { return l.session().js.PublishAsyncComplete() }

// KeyValue is a bucket over the present connection.
func (l *Link) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	s := l.session()
	if kv, ok := s.kv.Load(bucket); ok {
		return kv.(jetstream.KeyValue), nil
	}
	kv, err := s.js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	s.kv.Store(bucket, kv)
	return kv, nil
}

// Await waits until the connection stands, for at most the time of ctx. Errors: ctx's.
func (l *Link) Await(ctx context.Context) error {
	tick := time.NewTicker(RetryWait / 10)
	defer tick.Stop()
	for {
		if l.answers(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the connection to NATS: %w", ctx.Err())
		}
	}
}

// answers reports whether NATS answers over the present connection.
func (l *Link) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, RetryWait)
	defer cancel()
	return l.session().conn.FlushWithContext(ctx) == nil
}

// Publish sends a message to whoever listens now.
func (l *Link) Publish(to subject.Subject, data []byte) error {
	return l.session().conn.Publish(to.String(), data)
}

// Ask sends a question to NATS and waits for its answer, for at most askTime.
func (l *Link) Ask(ctx context.Context, to subject.Subject, data []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return l.session().conn.RequestWithContext(ctx, to.String(), data)
}

// MaxPayload is how many bytes a message may have.
func (l *Link) MaxPayload() int64 { return l.session().conn.MaxPayload() }

// Store publishes a message to a stream and waits until it is stored.
func (l *Link) Store(
	ctx context.Context, to subject.Subject, h nats.Header, data []byte,
	opts ...jetstream.PublishOpt,
) (revision uint64, err error) {
	m := &nats.Msg{Subject: to.String(), Header: h, Data: data}
	err = l.Steady(ctx, func(ctx context.Context) error {
		ack, err := l.session().js.PublishMsg(ctx, m, opts...)
		if err == nil {
			revision = ack.Sequence
		}
		return err
	})
	return revision, err
}

// StoreAsync publishes a message to a stream; Config.Lost is told where it cannot be stored. It
// waits for at most stall where very many are on their way.
func (l *Link) StoreAsync(to subject.Subject, data []byte, stall time.Duration) error {
	_, err := l.session().js.PublishAsync(to.String(), data, jetstream.WithStallWait(stall))
	return err
}

// Subscribe calls f with each message of a pattern, from one goroutine, until stop is called,
// also over the loss of the connection.
func (l *Link) Subscribe(p subject.Pattern, f func(*nats.Msg)) (stop func() error, err error) {
	s := &subscription{}
	open := func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		conn := l.session().conn
		sub, err := conn.Subscribe(p.String(), f)
		if err != nil {
			return err
		}
		s.sub = sub
		return conn.Flush()
	}
	if err := open(context.Background()); err != nil {
		return nil, err
	}
	forget := l.OnReopen(open)
	return func() error {
		forget()
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sub.Unsubscribe()
	}, nil
}

// subscription is one of Subscribe's, over whichever connection.
type subscription struct {
	mu  sync.Mutex
	sub *nats.Subscription
}

// JetStream's error codes where the servers that hold a stream or consumer are away.
const (
	streamOffline   jetstream.ErrorCode = 10118
	consumerOffline jetstream.ErrorCode = 10119
)

// IsAway tells an error that is due to NATS, which is away or was, from others: the same call may
// succeed a moment later.
func IsAway(err error) bool {
	for _, away := range []error{
		nats.ErrTimeout, nats.ErrNoServers, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed,
		nats.ErrStaleConnection, jetstream.ErrNoStreamResponse, jetstream.ErrJetStreamNotEnabled,
		jetstream.ErrNoHeartbeat, context.DeadlineExceeded,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok &&
		(api.Code == 503 || api.ErrorCode == streamOffline || api.ErrorCode == consumerOffline)
}
