package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/link"
)

// Config sets up a Bus.
type Config struct {
	// URL of an external NATS with JetStream, or several of one cluster with commas between
	// them. Empty: a server is embedded in this process.
	URL string
	// Replicas is how many copies an external NATS is to keep of each stream and bucket. 0:
	// three where it is a cluster, else one, and never fewer than there are. KeepReplicas: as
	// many as there are.
	Replicas int
	// Access is how this process shows itself to NATS, or others to the embedded one.
	Access Access
	// Wait is how long Open waits for an external NATS that is away. Default 0: it fails at once.
	Wait time.Duration
	// StoreDir is where the embedded server keeps its streams.
	StoreDir string
	// Listen is an address (host:port) at which the embedded server takes stand-alone exporters.
	// Empty: none; then nothing outside of this process can reach it.
	Listen string
	// AckWait is how long a command may go without a heartbeat before it is given to another
	// worker. Default 2.5 s.
	AckWait time.Duration
	// MaxQueue bounds the commands that wait in a lane; further kick-offs are refused until some
	// are done. Default 100,000.
	MaxQueue int64
	// Durability is what the embedded server's records survive. Default Fast.
	Durability Durability
	// SyncEvery is how often the embedded server syncs its records to the disk, where Durability
	// is Fast. Default 2 s.
	SyncEvery time.Duration
	// Audit is how much of the audit trail is kept; nil for a process that has no part in it.
	Audit *AuditConfig
	// Files is where the files of the exports are whose records this state holds; nil for a
	// process that has nothing to do with them.
	Files Identified
	// AcceptLoss takes files and state for one another's although they are not, see ErrStranger
	// and ErrLost.
	AcceptLoss bool
	// Tentative leaves to Adopt what makes AcceptLoss final: a start that is refused after Open
	// has accepted nothing.
	Tentative bool
	// Fits says whether this process fits the servers that are on an external NATS already. It
	// is asked before anything is changed there or with the Files: a start that is refused
	// leaves no trace. nil: it has no part in that.
	Fits func(context.Context, *Fleet) error
	// Restore says that a backup is put into an external NATS: that has to hold nothing, or what
	// another restore has left that was not finished, which is removed. Until Restored, and
	// after it until somebody has opened the state together with its Files, nobody else can open
	// it.
	Restore bool
	// AsIs takes streams and buckets as they are, and declares none: the disk may be full, and
	// have no room for that. Open fails where one is missing.
	AsIs bool
	// Join takes streams and buckets as the server has made them, whose matter they are, and
	// waits for that within Wait.
	Join bool
	// Log takes what happens to the connection. Default: nothing is told.
	Log *slog.Logger
}

// Durability is when a record of JetStream is safe. Files of exports are synced before a record
// names them in either case.
type Durability string

const (
	// Fast: as soon as it is answered, a record survives the death of every process. A power
	// loss takes the records of the last Config.SyncEvery with it: exports of that time are
	// begun anew, or gone as if they had never been kicked off.
	Fast Durability = "fast"
	// Safe: as soon as it is answered, a record survives a power loss too: each is synced before.
	Safe Durability = "safe"
)

// ErrInUse is returned by Open where another process has its NATS embedded in the folder.
var ErrInUse = errors.New("the state is held by another process (a running server?)")

// ErrExternalDurability says that it is the external NATS that syncs, by its own configuration
// (sync_interval: always).
var ErrExternalDurability = errors.New("durability safe is a setting of the embedded NATS: an " +
	"external one is told so in its own configuration, by sync_interval: always in its jetstream " +
	"block")

// KeepReplicas is Config.Replicas of a process that leaves the copies of streams as they are.
const KeepReplicas = link.KeepReplicas

// ErrOneServer says that the embedded NATS is a single server.
var ErrOneServer = errors.New("more than one copy (--nats-replicas) takes an external NATS of as " +
	"many servers (--nats): the embedded one is a single server")

// Bus is one process's connection to the shared state. All of its parts are safe for concurrent
// use.
type Bus struct {
	Jobs     *Jobs
	Tasks    *Tasks
	Auth     *kv.Bucket
	Sessions *kv.Bucket
	Fleet    *Fleet
	Audit    *Audit // nil where Config.Audit is

	cfg      Config
	embedded *embedded // nil where NATS is an external one
	locked   *os.File  // holds the embedded server's folder
	link     *link.Link
	lanes    lanes
	prober   string // names this process's probes
	pulls    pulls
	watched  watched

	identity      string // of the state
	restore       string // how far a restore had come, see resume
	behind        bool   // an external NATS has an older copy of it, and that is accepted
	stopInventory func() // nil until the bus is open
	sums          sums   // of the embedded server's files
	compared      bool   // they were found to be as the last stop has left them

	raising sync.Mutex
	raised  time.Time              // when every stream was looked at for its copies; under raising
	offline map[ehi.Lane]time.Time // since when the consumer of a lane is; under raising
}

// Open starts or joins NATS, declares the topology and loads the index of jobs. The caller
// closes the Bus.
func Open(ctx context.Context, cfg Config) (_ *Bus, err error) {
	if cfg.AckWait <= 0 {
		cfg.AckWait = 2500 * time.Millisecond
	}
	if cfg.MaxQueue <= 0 {
		cfg.MaxQueue = 100_000
	}
	if cfg.SyncEvery <= 0 {
		cfg.SyncEvery = 2 * time.Second
	}
	if cfg.Durability == Safe && cfg.URL != "" {
		return nil, ErrExternalDurability
	}
	if cfg.Replicas > 1 && cfg.URL == "" {
		return nil, ErrOneServer
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bus{cfg: cfg, prober: rand.Text()}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if err := b.patiently(ctx, func() error { return b.connect(ctx) }); err != nil {
		return nil, err
	}
	if err := b.patiently(ctx, func() error { return b.permitted(ctx, b.declare) }); err != nil {
		return nil, err
	}
	b.link.OnReopen(b.declareLanes)
	if !cfg.AcceptLoss || !cfg.Tentative {
		err = b.Adopt(ctx)
	}
	return b, err
}

// patiently calls f until it succeeds, fails for another reason than that an external NATS is
// away, or Config.Wait is over.
func (b *Bus) patiently(ctx context.Context, f func() error) error {
	begun := time.Now()
	for {
		err := f()
		wait := b.cfg.Wait
		if advice := b.advise(err); advice != err {
			err, wait = advice, min(wait, accountWait)
		}
		if err == nil || !link.IsAway(err) && !errors.Is(err, ErrNoServer) ||
			time.Since(begun) > wait {
			return err
		}
		b.cfg.Log.Warn("wait for NATS", "err", err)
		select {
		case <-time.After(link.RetryWait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// permitted calls f, and ends its waiting where NATS denies what it asks for: the error says
// what, and no other attempt would help.
func (b *Bus) permitted(ctx context.Context, f func(context.Context) error) error {
	inner, done := b.link.Permitted(ctx, anything)
	defer done()
	err := f(inner)
	if denied := context.Cause(inner); err != nil && link.IsDenied(denied) {
		return denied
	}
	return err
}

// connect joins an external NATS, or embeds one and joins that.
func (b *Bus) connect(ctx context.Context) (err error) {
	cfg := link.Config{
		URL:      b.cfg.URL,
		Replicas: b.cfg.Replicas,
		Options:  b.cfg.Access.Options(),
		Log:      b.cfg.Log,
		// only audit events are published so
		Lost: func(m *nats.Msg, err error) { lostEvent(b.cfg.Log, m.Data, err) },
	}
	if cfg.URL == "" {
		if b.locked, err = lock(b.cfg.StoreDir); err != nil {
			return err
		}
		if err = b.checkFiles(ctx); err != nil {
			return err
		}
		if b.embedded, err = newEmbedded(b.cfg); err != nil {
			return err
		}
		cfg.Options = append(cfg.Options, nats.InProcessServer(b.embedded))
	}
	b.link, err = link.Open(cfg)
	return b.unreached(err)
}

// unbounded is how many bytes JetStream may store. Its own default is a share of what is free
// when it starts: one that started on a full disk would take nothing for as long as it runs, and
// the audit trail's limit alone would keep it from starting.
const unbounded = 1 << 60

// embed starts a NATS server in this process, with JetStream on disk and, unless Listen says so,
// no listener.
func embed(cfg Config) (*server.Server, *natsLog, error) {
	opts := &server.Options{
		ServerName: "ehi", JetStream: true, StoreDir: cfg.StoreDir, DontListen: true,
		JetStreamMaxStore: unbounded,
		NoSigs:            true,
		NoLog:             true,
		MaxPayload:        8 << 20,
		SyncAlways:        cfg.Durability == Safe,
		SyncInterval:      cfg.SyncEvery,
	}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, nil, fmt.Errorf("NATS listen address: %w", err)
		}
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, nil, fmt.Errorf("NATS listen port: %w", err)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
		if cfg.Access.Password == "" && open(host) {
			return nil, nil, ErrOpen
		}
		opts.Host, opts.DontListen = host, false
	}
	if cfg.Access.Password != "" {
		opts.Username, opts.Password = user, cfg.Access.Password
	}
	if err := removeProbes(cfg.StoreDir); err != nil {
		return nil, nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, nil, fmt.Errorf("embed NATS: %w", err)
	}
	log := newNATSLog(cfg.Log)
	s.SetLoggerV2(log, false, false, false)
	err = begin(s, log, cfg.StoreDir)
	if errors.Is(err, errNoStart) {
		s.Shutdown()
		s.WaitForShutdown()
	}
	if err != nil {
		return nil, nil, err
	}
	return s, log, nil
}

// ClientURL is where a stand-alone exporter can reach the embedded server; "" where it does not
// listen or is external.
func (b *Bus) ClientURL() string {
	if b.embedded == nil || b.cfg.Listen == "" {
		return ""
	}
	return b.embedded.now().ClientURL()
}

// IsShared reports whether NATS is an external one, on which other servers can be.
func (b *Bus) IsShared() bool { return b.embedded == nil }

// Address is by which this process reaches an external NATS; "" where it is within the process,
// or away.
func (b *Bus) Address() string {
	if b.embedded != nil {
		return ""
	}
	return b.link.LocalAddress()
}

// OnReopen calls f whenever another connection replaces one that was closed for good, until stop
// is called.
func (b *Bus) OnReopen(f func()) (stop func()) {
	return b.link.OnReopen(func(context.Context) error { f(); return nil })
}

// Failed tells why this process has no connection to NATS and cannot open another one; nil where
// it has one, or where it was merely lost and the client library is about to restore it.
func (b *Bus) Failed() error { return b.link.Failed() }

// Backlog tells how many commands of a lane no worker has finished, and since when the oldest of
// them waits; the zero time where there is none.
func (b *Bus) Backlog(ctx context.Context, lane ehi.Lane) (n uint64, since time.Time, err error) {
	info, err := b.lanes.get(lane).stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return 0, time.Time{}, err
	}
	return info.State.Msgs, info.State.FirstTime, nil
}

// Hands tells how many commands of a lane are in the hands of workers, and how many workers wait
// for one, in all processes.
func (b *Bus) Hands(ctx context.Context, lane ehi.Lane) (inHand, waiting int, err error) {
	info, err := b.lanes.get(lane).workers.Info(ctx)
	if err != nil {
		return 0, 0, err
	}
	return info.NumAckPending, info.NumWaiting, nil
}

// Usage is what a stream of JetStream holds.
type Usage struct {
	Stream         string
	Bytes, Records uint64
	// Readers are the consumers that NATS keeps of it, of which there may be a thousand.
	Readers int
}

// Usage tells what every stream of this project holds: the lanes' and the buckets'.
func (b *Bus) Usage(ctx context.Context) (out []Usage, err error) {
	streams := b.link.Streams().ListStreams(ctx)
	for info := range streams.Info() {
		if isOurs(info.Config.Name) {
			out = append(out, Usage{
				Stream:  info.Config.Name,
				Bytes:   info.State.Bytes,
				Records: info.State.Msgs,
				Readers: info.State.Consumers,
			})
		}
	}
	return out, streams.Err()
}

// Queued is the number of commands of a lane that no worker has finished.
func (b *Bus) Queued(ctx context.Context, lane ehi.Lane) (uint64, error) {
	n, _, err := b.Backlog(ctx, lane)
	return n, err
}

// Close ends the watchers and the connection and stops the embedded server. Commands in hand are
// redelivered to whoever comes next.
func (b *Bus) Close() {
	if b.Jobs != nil {
		b.Jobs.close()
	}
	var held map[string]holding
	if b.stopInventory != nil {
		b.stopInventory()
		if b.embedded != nil {
			held = b.closing()
		}
	}
	if b.link != nil {
		b.link.Close()
	}
	if b.embedded != nil {
		if err := b.embedded.stop(); err != nil {
			b.cfg.Log.Error("stop the embedded NATS", "err", err)
		} else {
			b.closed(held)
		}
	}
	if b.locked != nil {
		_ = b.locked.Close() // nothing was written to it
	}
}

// IsAway tells an error that is due to NATS, which is away or was, from others: the same call may
// succeed a moment later.
func IsAway(err error) bool { return link.IsAway(err) }
