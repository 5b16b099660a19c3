// Package link is a process's connection to NATS. The client library reconnects by itself after
// a lost connection. It closes the connection permanently after an unknown error, or if its
// credentials are rejected twice. This package then opens a new one, so that a process keeps its
// state as long as NATS is available.
//
// Only this package, kv and bus import the client library. It takes subjects of package subject
// only.
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

// RetryWait is the pause between two attempts to reach NATS.
const RetryWait = 250 * time.Millisecond

// pingEvery is the interval of pings to NATS.
const pingEvery = 5 * time.Second

// writeTime bounds a write to an external NATS. A slower connection is closed.
const writeTime = 5 * time.Second

// embeddedTime bounds a request to the NATS server in this process when the caller sets no limit.
// That server is never away, only slow on a busy machine, so a failure would be the worse answer.
// The client library's limit, 5 s, is meant for servers across a network.
const embeddedTime = 30 * time.Second

// Config configures the connection.
type Config struct {
	// URL is the address of NATS, or comma-separated addresses of one cluster. It may be empty
	// if Options name a server (nats.InProcessServer).
	URL string
	// Options are additional options of every connection.
	Options []nats.Option
	// Replicas is the number of replicas of each stream and bucket. 0 means three in a cluster
	// and one otherwise, and never reduces existing replicas. KeepReplicas leaves them
	// unchanged.
	Replicas int
	// Lost is called with each message of StoreAsync that could not be stored.
	Lost func(m *nats.Msg, err error)
	// Log receives events of the connection.
	Log *slog.Logger
}

// Link is the connection. It is safe for concurrent use.
type Link struct {
	cfg Config

	mu      sync.RWMutex
	now     *session
	present context.Context // cancelled when the connection is lost
	end     context.CancelFunc
	failed  error // why no new connection could be opened; nil while there is one
	closed  bool
	// reopening is set while reopen runs. Only reopen replaces a closed connection then.
	reopening bool
	stop      chan struct{}
	reopens   sync.WaitGroup
	denied    denials
	// renewed holds the functions of OnReopen in the order of registration.
	renewed map[int]func(context.Context) error
	last    int
}

// session is one connection and what was opened over it.
type session struct {
	conn *nats.Conn
	js   jetstream.JetStream
	kv   sync.Map // jetstream.KeyValue by the bucket's name
}

// Open connects to NATS. The caller closes the Link. Errors: nats.ErrNoServers if NATS cannot be
// reached, nats.ErrAuthorization if it rejects the credentials.
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
		// Requests fail immediately while NATS is unreachable instead of being sent later.
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
		// Leave a server that hangs for another one.
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(3),
		nats.ErrorHandler(func(conn *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS", "err", err)
			if d, ok := deniedBy(err); ok {
				l.deny(conn, d)
			}
		}),
	}, l.cfg.Options...)
	if l.cfg.URL != "" {
		// The library holds a lock while it writes. Bound that, because other callers wait for
		// the lock whatever their contexts.
		opts = append(opts, nats.FlusherTimeout(writeTime), nats.ReconnectOnFlusherError())
	}
	conn, err := nats.Connect(l.cfg.URL, opts...)
	if errors.Is(err, nats.ErrAuthorization) { // a retry would not help
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", errors.Join(nats.ErrNoServers, err))
	}
	requests := []jetstream.JetStreamOpt{jetstream.WithPublishAsyncErrHandler(
		func(_ jetstream.JetStream, m *nats.Msg, err error) { l.cfg.Lost(m, err) })}
	if l.cfg.URL == "" {
		requests = append(requests, jetstream.WithDefaultTimeout(embeddedTime))
	}
	js, err := jetstream.New(conn, requests...)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &session{conn: conn, js: js}, nil
}

// onClosed opens a new connection after the client library gave one up.
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

// reopen retries until a new connection works and everything that was open over the old one is
// open again.
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

// adopt makes a session the current one, unless the Link is closed.
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

// tell calls the functions of OnReopen.
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

// renewTime bounds the functions of OnReopen.
const renewTime = 30 * time.Second

// OnReopen registers f to be called after each new connection that replaces a closed one, until
// stop is called. f reopens, for example, the subscriptions of the old connection.
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

// Failed returns why there is no connection and none could be opened. It returns nil while the
// connection works or the client library is reconnecting.
func (l *Link) Failed() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failed
}

// renew cancels the waits that are bound to the current connection: an answer never arrives over
// another one.
func (l *Link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewLocked()
}

func (l *Link) renewLocked() {
	if l.end == nil { // the first connection is not set up yet
		return
	}
	l.end()
	l.present, l.end = context.WithCancel(context.Background())
	if l.closed {
		l.end()
	}
}

// Bind calls cancel when the current connection ends. The caller calls done when its wait is
// over.
func (l *Link) Bind(cancel context.CancelFunc) (done func() bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return context.AfterFunc(l.present, cancel)
}

// Close closes the connection.
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

// LocalAddress returns the local address of the connection, or "" while there is none.
func (l *Link) LocalAddress() string { return l.session().conn.LocalAddr() }

// Streams returns JetStream's streams over the current connection.
func (l *Link) Streams() Streams { return Streams{l.session().js} }

// Stored returns a channel that is closed when no message of StoreAsync is pending.
func (l *Link) Stored() <-chan struct{} { return l.session().js.PublishAsyncComplete() }

// KeyValue returns a bucket over the current connection.
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

// Await waits for a working connection. Errors: those of ctx.
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

// answers reports whether NATS answers over the current connection.
func (l *Link) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, RetryWait)
	defer cancel()
	return l.session().conn.FlushWithContext(ctx) == nil
}

// Publish sends a message to the current subscribers.
func (l *Link) Publish(to subject.Subject, data []byte) error {
	return l.session().conn.Publish(to.String(), data)
}

// Ask sends a request to NATS and waits for the answer, at most askTime.
func (l *Link) Ask(ctx context.Context, to subject.Subject, data []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return l.session().conn.RequestWithContext(ctx, to.String(), data)
}

// MaxPayload returns the largest size of a message in bytes.
func (l *Link) MaxPayload() int64 { return l.session().conn.MaxPayload() }

// Store publishes a message to a stream and waits until it is stored.
func (l *Link) Store(
	ctx context.Context, to subject.Subject, h nats.Header, data []byte,
	opts ...jetstream.PublishOpt,
) (revision uint64, err error) {
	m := &nats.Msg{Subject: to.String(), Header: h, Data: data}
	err = l.AwaitLeader(ctx, func(ctx context.Context) error {
		ack, err := l.session().js.PublishMsg(ctx, m, opts...)
		if err == nil {
			revision = ack.Sequence
		}
		return err
	})
	return revision, err
}

// StoreAsync publishes a message to a stream and does not wait. Config.Lost is called if the
// message cannot be stored. If too many messages are pending, StoreAsync waits for at most
// stall.
func (l *Link) StoreAsync(to subject.Subject, data []byte, stall time.Duration) error {
	_, err := l.session().js.PublishAsync(to.String(), data, jetstream.WithStallWait(stall))
	return err
}

// Subscribe calls f with each message of a pattern, from one goroutine, until stop is called. It
// survives the loss of the connection.
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

// subscription is one of Subscribe, over the current connection.
type subscription struct {
	mu  sync.Mutex
	sub *nats.Subscription
}

// JetStream's error codes if the servers of a stream or consumer are offline.
const (
	streamOffline   jetstream.ErrorCode = 10118
	consumerOffline jetstream.ErrorCode = 10119
)

// IsAway reports whether an error is due to a lost connection to NATS. A retry may succeed.
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
