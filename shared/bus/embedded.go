package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ehi-server/shared/telemetry"
)

// embedded is the NATS server in this process. After a failed write a stream accepts nothing
// until the server restarts, even if the disk has space again. embedded can therefore replace
// the server over the same folder. Clients connect to the current one.
type embedded struct {
	cfg Config

	mu     sync.RWMutex
	server *server.Server
	log    *natsLog   // its log
	one    sync.Mutex // held while the server is replaced
}

// newEmbedded starts the server.
func newEmbedded(cfg Config) (*embedded, error) {
	s, log, err := embed(cfg)
	if err != nil {
		return nil, err
	}
	return &embedded{cfg: cfg, server: s, log: log}, nil
}

// begin starts a server and waits until it is ready. The limit depends on the folder's size.
func begin(s *server.Server, log *natsLog, dir string) error {
	return within(startLimit(dir), s, log, dir)
}

// starting is a server that is being started.
type starting interface {
	Start()
	ReadyForConnections(time.Duration) bool
}

// errNoStart means that the embedded NATS failed to start. Its files are unchanged.
var errNoStart = errors.New("the embedded NATS cannot start")

func within(limit time.Duration, s starting, log *natsLog, dir string) error {
	ended := make(chan error, 1)
	go func() {
		s.Start()
		if why := log.gaveUp(); why != "" {
			ended <- fmt.Errorf("%w in %s: %s", errNoStart, dir, why)
		} else if s.ReadyForConnections(limit) {
			ended <- nil
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-time.After(limit):
	}
	return fmt.Errorf("%w: the embedded NATS has not read %s within %v: is a file in there "+
		"damaged? Keep a copy, and restore a backup; NATS said last: %s", ErrLost, dir, limit,
		log.last())
}

// A start may take leastStart plus one second per startRate bytes of the folder.
const (
	leastStart = 10 * time.Second
	startRate  = 20 << 20
)

// startLimit is how long a start on a folder may take.
func startLimit(dir string) time.Duration {
	bytes := int64(0)
	// Unreadable files do not count.
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return leastStart + time.Duration(bytes/startRate)*time.Second
}

// removeProbes deletes the empty files that NATS creates to test whether it can write, left over
// if it was killed. NATS takes such a file beside the accounts' folders for an account and never
// recovers.
func removeProbes(dir string) error {
	store := filepath.Join(dir, "jetstream")
	for _, pattern := range []string{natsProbe, "$G/streams/*/" + natsProbe} {
		left, err := filepath.Glob(filepath.Join(store, pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			info, err := os.Lstat(path)
			if err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
				continue // not a file of NATS
			}
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove what a start of the embedded NATS has left: %w", err)
			}
		}
	}
	return nil
}

// natsProbe is the pattern of those files' names.
const natsProbe = "_test_*"

func (e *embedded) now() *server.Server {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.server
}

// whyUnopened is natsLog.whyUnopened of the current server.
func (e *embedded) whyUnopened(stream string) string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.log.whyUnopened(stream)
}

// InProcessConn implements nats.InProcessConnProvider.
func (e *embedded) InProcessConn() (net.Conn, error) { return e.now().InProcessConn() }

// stop stops the server. It fails if the server has not stopped after stopTime.
func (e *embedded) stop() error {
	s, ended := e.now(), make(chan struct{})
	go func() {
		defer close(ended)
		s.Shutdown()
		s.WaitForShutdown()
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(stopTime):
		return fmt.Errorf("the embedded NATS on %s has not ended after %v", e.cfg.StoreDir,
			stopTime)
	}
}

// stopTime is how long the embedded server may take to stop. After that the process exits
// without waiting, as if killed, which loses nothing.
const stopTime = 4 * time.Second

// replace stops the server and starts another one over the same folder at the same address.
func (e *embedded) replace() error {
	e.one.Lock()
	defer e.one.Unlock()
	if err := e.stop(); err != nil {
		return err
	}
	cfg := e.cfg
	if at, ok := e.now().Addr().(*net.TCPAddr); ok && cfg.Listen != "" {
		host, _, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return err
		}
		cfg.Listen = net.JoinHostPort(host, strconv.Itoa(at.Port))
	}
	s, log, err := embed(cfg)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server, e.log = s, log
	return nil
}

// ErrBroken means that the embedded NATS failed to write and accepts no records until it is
// restarted.
var ErrBroken = errors.New("the state cannot be written")

// Broken returns ErrBroken if the embedded NATS accepts no records. It returns nil for an
// external NATS.
func (b *Bus) Broken() error {
	if b.embedded == nil {
		return nil
	}
	health := b.embedded.now().Healthz(&server.HealthzOptions{Details: true})
	for _, e := range health.Errors {
		// The check of connections has a timeout of a millisecond, which may fail on a busy
		// machine.
		if e.Type != server.HealthzErrorConn {
			return fmt.Errorf("%w in %s: %s", ErrBroken, b.cfg.StoreDir, e.Error)
		}
	}
	return nil
}

// Restart restarts the embedded NATS over the same folder. All records are kept, and all clients
// reconnect. It returns when this process has reconnected. Pending requests fail.
func (b *Bus) Restart(ctx context.Context) error {
	if b.embedded == nil {
		return nil
	}
	if err := b.embedded.replace(); err != nil {
		return err
	}
	telemetry.NATSRestarts.Inc()
	return b.link.Await(ctx)
}
