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

// Flags are the settings of a server's connection to NATS, and of the NATS that it embeds.
type Flags struct {
	// URL is the address of an external NATS with JetStream, or comma-separated addresses of one
	// cluster. Empty: the process embeds a server.
	URL string `name:"nats" help:"URL of an external NATS with JetStream, or comma-separated URLs of the servers of a cluster. Default: an embedded NATS." env:"EHI_NATS" form:"nats"`
	Dial
	// Replicas is the number of replicas of each stream and bucket on an external NATS. 0 means
	// three in a cluster and one otherwise, and never reduces existing replicas. KeepReplicas
	// leaves them unchanged.
	Replicas int `name:"nats-replicas" help:"Replicas of each stream and bucket on an external NATS. 0: 3 in a cluster of at least three servers, otherwise 1, and never fewer than exist already." default:"0" env:"EHI_NATS_REPLICAS" range:"0..5"`
	// Listen is the address (host:port) of the embedded server for stand-alone exporters. Empty:
	// the server accepts no connections from other processes.
	Listen string `name:"nats-listen" help:"Address where the embedded NATS accepts connections from stand-alone exporters. Default: none." env:"EHI_NATS_LISTEN" form:"address"`
	// MaxQueue is how many commands may wait in a lane before kick-offs are rejected. Default
	// 100,000.
	MaxQueue int64 `help:"Limit for waiting exports. Further kick-offs get 503." default:"100000" env:"EHI_MAX_QUEUE" range:"1.."`
	// Durability is which failures the embedded server's records survive. Default Fast.
	Durability Durability `help:"What acknowledged changes survive: the crash of every process (fast), or a power failure too (safe)." enum:"fast,safe" default:"fast" env:"EHI_DURABILITY"`
	// SyncEvery is how often the embedded server syncs its records to disk if Durability is
	// Fast. Default 2 s.
	SyncEvery time.Duration `help:"Interval at which the embedded NATS syncs its records to disk, with --durability fast." default:"2s" env:"EHI_SYNC_EVERY" range:"10ms..10m"`
	// AcceptLoss accepts files and a state that do not belong together, see ErrStranger and
	// ErrLost.
	AcceptLoss bool `help:"Start although files and state do not match, or a part of the state is lost. Use it once, after restoring what can be restored." env:"EHI_ACCEPT_LOSS"`
}

// Dial is how a process reaches a NATS outside of itself.
type Dial struct {
	// Wait is how long Open waits for an external NATS that is unreachable. Default 0: Open
	// fails immediately.
	Wait time.Duration `name:"nats-wait" help:"How long to wait at startup for a NATS that cannot be reached." default:"1m" env:"EHI_NATS_WAIT" range:"0s..1h"`
	// Access holds the credentials for NATS, or those that the embedded server requires.
	Access Access `embed:"" prefix:"nats-"`
}

// Config configures a Bus.
type Config struct {
	Flags
	// StoreDir is the folder of the embedded server's streams.
	StoreDir string
	// AckWait is how long a command may go without a heartbeat before another worker receives
	// it (ehi.Limits). Default 2.5 s.
	AckWait time.Duration
	// Audit configures the audit trail; nil for a process that does not use it.
	Audit *AuditConfig
	// Files is the store of the exports that this state describes; nil for a process without
	// access to it.
	Files Identified
	// Tentative postpones the final step of AcceptLoss to Adopt, so that a start that fails
	// after Open accepts nothing.
	Tentative bool
	// Fits checks whether this process is compatible with the servers on an external NATS. Open
	// calls it before it changes anything there or in Files. nil skips the check.
	Fits func(context.Context, *Fleet) error
	// Restore opens an external NATS for a backup to be restored. NATS must be empty, or hold
	// the remains of an unfinished restore, which Open deletes. Nobody else can open the state
	// until Restored is called and the state has been opened once with its Files.
	Restore bool
	// AsIs uses the existing streams and buckets and creates none, which a full disk might
	// prevent. Open fails if one is missing.
	AsIs bool
	// Join uses the streams and buckets that the server created, and waits up to Wait for them.
	Join bool
	// Log receives messages about the connection. Default: none.
	Log *slog.Logger
}

// Durability says when JetStream's records are safe. Export files are synced before a record
// names them in either case.
type Durability string

const (
	// Fast: an acknowledged record survives the crash of every process. A power failure loses
	// the records of the last Config.SyncEvery: exports of that time start again, or are lost.
	Fast Durability = "fast"
	// Safe: an acknowledged record survives a power failure too, because each is synced first.
	Safe Durability = "safe"
)

// ErrInUse is returned by Open if another process has its embedded NATS in the folder.
var ErrInUse = errors.New("the state is held by another process (a running server?)")

// ErrExternalDurability means that Durability does not apply to an external NATS. Its own
// configuration decides (sync_interval: always).
var ErrExternalDurability = errors.New("durability safe is a setting of the embedded NATS: an " +
	"external one is told so in its own configuration, by sync_interval: always in its jetstream " +
	"block")

// KeepReplicas is the Config.Replicas that leaves the replicas of streams unchanged.
const KeepReplicas = link.KeepReplicas

// ErrOneServer means that the embedded NATS cannot have replicas.
var ErrOneServer = errors.New("more than one copy (--nats-replicas) takes an external NATS of as " +
	"many servers (--nats): the embedded one is a single server")

// Bus is a process's connection to the shared state. All parts are safe for concurrent use.
type Bus struct {
	Jobs     *Jobs
	Tasks    *Tasks
	Auth     *kv.Bucket
	Sessions *kv.Bucket
	Fleet    *Fleet
	Audit    *Audit // nil if Config.Audit is nil

	cfg      Config
	embedded *embedded // nil if NATS is external
	locked   *os.File  // the lock on the embedded server's folder
	link     *link.Link
	lanes    lanes
	prober   string // distinguishes this process's probes
	pulls    pulls
	watched  watched

	identity      string // of the state
	restore       string // progress of a restore, see resume
	behind        bool   // an external NATS has an older copy of the state, which was accepted
	stopInventory func() // nil until the bus is open
	sums          sums   // of the embedded server's files
	compared      bool   // the files match those of the last stop

	raising sync.Mutex
	raised  time.Time              // when the replicas of all streams were last checked; under raising
	offline map[ehi.Lane]time.Time // since when the consumer of a lane is offline; under raising
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

// patiently retries f while an external NATS is unreachable, up to Config.Wait.
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

// permitted calls f and cancels it if NATS denies permission. The error names the permission; a
// retry would not help.
func (b *Bus) permitted(ctx context.Context, f func(context.Context) error) error {
	inner, done := b.link.Permitted(ctx, anything)
	defer done()
	err := f(inner)
	if denied := context.Cause(inner); err != nil && link.IsDenied(denied) {
		return denied
	}
	return err
}

// connect connects to an external NATS, or embeds one and connects to it.
func (b *Bus) connect(ctx context.Context) (err error) {
	cfg := link.Config{
		URL:      b.cfg.URL,
		Replicas: b.cfg.Replicas,
		Options:  b.cfg.Access.Options(),
		Log:      b.cfg.Log,
		// Only audit events are published asynchronously.
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

// unbounded is the limit of JetStream's storage in bytes. The default is a share of the free
// space at the start. A server that started on a full disk would accept nothing until its
// restart, and the audit trail's limit alone could prevent the start.
const unbounded = 1 << 60

// embed starts a NATS server in this process, with JetStream on disk. It listens only if
// Config.Listen is set.
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

// ClientURL returns the URL of the embedded server for stand-alone exporters, or "" if NATS is
// external or does not listen.
func (b *Bus) ClientURL() string {
	if b.embedded == nil || b.cfg.Listen == "" {
		return ""
	}
	return b.embedded.now().ClientURL()
}

// IsShared reports whether NATS is external, so that other servers may share it.
func (b *Bus) IsShared() bool { return b.embedded == nil }

// Address returns the local address of the connection to an external NATS, or "" if NATS is
// embedded or unreachable.
func (b *Bus) Address() string {
	if b.embedded != nil {
		return ""
	}
	return b.link.LocalAddress()
}

// OnReopen calls f after each new connection that replaces a closed one, until stop is called.
func (b *Bus) OnReopen(f func()) (stop func()) {
	return b.link.OnReopen(func(context.Context) error { f(); return nil })
}

// Failed returns why the process has no connection to NATS and cannot open one. It returns nil
// while the connection works or the client library is reconnecting.
func (b *Bus) Failed() error { return b.link.Failed() }

// Backlog returns the number of unfinished commands of a lane and since when the oldest has been
// waiting, or the zero time if there is none.
func (b *Bus) Backlog(ctx context.Context, lane ehi.Lane) (n uint64, since time.Time, err error) {
	info, err := b.lanes.get(lane).stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return 0, time.Time{}, err
	}
	return info.State.Msgs, info.State.FirstTime, nil
}

// InHand returns how many commands of a lane workers are processing, and how many workers are
// waiting for one, in all processes.
func (b *Bus) InHand(ctx context.Context, lane ehi.Lane) (inHand, waiting int, err error) {
	info, err := b.lanes.get(lane).workers.Info(ctx)
	if err != nil {
		return 0, 0, err
	}
	return info.NumAckPending, info.NumWaiting, nil
}

// Usage describes the content of a JetStream stream.
type Usage struct {
	Stream         string
	Bytes, Records uint64
	// Readers is the number of consumers of the stream. NATS allows a thousand.
	Readers int
}

// Usage describes every stream of this project, including those of buckets.
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

// Queued returns the number of unfinished commands of a lane.
func (b *Bus) Queued(ctx context.Context, lane ehi.Lane) (uint64, error) {
	n, _, err := b.Backlog(ctx, lane)
	return n, err
}

// Close stops the watchers, the connection and the embedded server. Unfinished commands are
// delivered again later.
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

// IsAway reports whether an error is due to a lost connection to NATS. A retry may succeed.
func IsAway(err error) bool { return link.IsAway(err) }
