// Package node puts one process together: the bus, the record store, the file store, the
// authorization server, the HTTP server and the export workers. It is the only place where they
// meet, and reads like a list of them.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ehi-server/api/abuse"
	"ehi-server/api/fhirapi"
	"ehi-server/api/listener"
	"ehi-server/api/session"

	"golang.org/x/sync/errgroup"

	"ehi-server/api/backup"
	"ehi-server/api/condition"
	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/api/server"
	"ehi-server/api/staff"
	"ehi-server/auth"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/keeper"
	"ehi-server/exporter/pairing"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Config is every setting of a serving process; the tags are the command line, its environment
// variables and defaults.
type Config struct {
	Mode             string `help:"Mode of the server: sandbox or production." enum:"sandbox,production" default:"sandbox" env:"EHI_MODE"`
	SandboxOnNetwork bool   `help:"Allow the sandbox to listen on an address that other machines can reach. Anybody who reaches it can act as any patient, and as an administrator with the default password." name:"sandbox-on-network" env:"EHI_SANDBOX_ON_NETWORK"`

	Patients session.PatientFlags `embed:""`
	Tokens   session.TokenFlags   `embed:""`

	Addr        string `help:"Address to listen on." default:"127.0.0.1:8888" env:"EHI_ADDR" form:"address" group:"HTTP"`
	kinds.Bases `group:"HTTP"`
	Proxies     request.Flags  `embed:"" group:"HTTP"`
	TLS         TLSFlags       `embed:"" group:"HTTP"`
	HTTP        server.Flags   `embed:"" group:"HTTP"`
	Connections listener.Flags `embed:"" group:"HTTP"`

	FHIR fhirapi.Flags `embed:"" group:"Status requests and manifests"`

	Quotas jobs.Quotas  `embed:"" group:"Limits for clients"`
	Abuse  abuse.Limits `embed:"" group:"Limits for clients"`

	Auth         auth.Flags             `embed:"" group:"Tokens and clients"`
	Registration auth.RegistrationFlags `embed:"" group:"Tokens and clients"`

	Admin     session.Flags   `embed:"" group:"Administrators and audit"`
	StaffOIDC openid.Config   `embed:"" prefix:"staff-oidc-" group:"Administrators and audit"`
	Audit     bus.AuditConfig `embed:"" group:"Administrators and audit"`

	Source kinds.Flags        `embed:"" group:"Records"`
	Store  kinds.StoreFlags   `embed:"" group:"Records"`
	Import source.ImportFlags `embed:"" group:"Records"`
	Demo   bool               `help:"Fill a new record store with demo patients, in sandbox mode." default:"true" negatable:"" env:"EHI_DEMO" group:"Records"`

	Jobs jobs.Flags `embed:"" group:"Jobs and files"`

	Worker  worker.Flags  `embed:"" group:"Running exports"`
	Limits  ehi.Limits    `embed:"" group:"Running exports"`
	Release release.Flags `embed:"" group:"Running exports"`

	Keeper keeper.Flags      `embed:"" group:"Cleaning up and checking files"`
	Scrub  worker.ScrubFlags `embed:"" group:"Cleaning up and checking files"`

	Bus bus.Flags `embed:"" group:"NATS"`

	Room        condition.Flags `embed:"" group:"Disk and memory"`
	MemoryLimit int64           `help:"Soft memory limit of the Go heap in bytes. It grows with the open connections beyond the first 256. 0: no limit. GOMEMLIMIT overrides it." default:"167772160" env:"EHI_MEMORY_LIMIT" range:"0.." group:"Disk and memory"`

	Trace tracing.Config `embed:"" prefix:"trace-" group:"Tracing"`
}

// Demo is the demo population (REAL-10).
var Demo = synthetic.Config{Patients: 5, Seed: 1, Native: "mixed"}

// shutdownTime bounds how long requests under way may take when the process is stopped.
const shutdownTime = 5 * time.Second

// Node is one running process.
type Node struct {
	// URL is where it answers.
	URL string
	// Bus is exposed for tests and benchmarks, which look at the state behind the answers.
	Bus *bus.Bus
	// Files is exposed for the same reason.
	Files files.Store
	// Keeper is exposed so that a round can be run at will.
	Keeper *keeper.Keeper

	cfg      Config
	data     string
	held     io.Closer // the folder of the exports
	log      *slog.Logger
	source   source.Source
	records  *dataset.Store // the source, where it is a record store
	auth     *auth.Server
	server   *server.Server
	workers  *worker.Pool
	scrubber *worker.Scrubber
	pairing  *pairing.Server // nil in rescue mode
	member   *pairing.Member // nil where this process has no workers
	tracer   *tracing.Tracer
	cert     *certificate // nil where the server speaks plain HTTP
	unwatch  func()
	ln       net.Listener
	heap     *heapLimit // nil where there is none
	room     condition.Room
	rescue   error // why it was opened in rescue mode, nil where it was not
	watch    *condition.Watch
}

// KeysFile is where the sandbox client's signing keys lie in a data folder.
func KeysFile(data string) string { return filepath.Join(data, backup.SandboxKeys) }

// Backup writes an archive of everything that the server keeps, while it works.
func (n *Node) Backup(ctx context.Context, w io.Writer) error { return n.BackupBy(ctx, w, "") }

// BackupBy is Backup with backup.Parts.Spool, for where the data folder's disk has no room.
func (n *Node) BackupBy(ctx context.Context, w io.Writer, spool string) error {
	return backup.Write(ctx, w, backup.Parts{
		Data: n.data, Spool: spool, Bus: n.Bus, Files: n.Files, Records: n.records, Log: n.log,
	})
}

// Options change what a Node is made of; tests use them.
type Options struct {
	// WrapSource puts something between the record store and everybody who reads it.
	WrapSource func(source.Source) source.Source
	// Disk is the file system of the exports. Default: the operating system's.
	Disk disk.FS
	// UnsummedFiles is local.Config.Unsummed, for benchmarks.
	UnsummedFiles bool
	// Level is the logger's level, which administrators may change while the server runs; nil
	// where it is fixed.
	Level *slog.LevelVar
	// Now is the clock of log-ins and tokens. Default: time.Now.
	Now func() time.Time
}

// Open puts a node together on a data folder; Run makes it work. The caller closes it.
func Open(
	ctx context.Context, cfg Config, data string, log *slog.Logger, opts Options,
) (_ *Node, err error) {
	n := &Node{cfg: cfg, data: data, log: log}
	if cfg.MemoryLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		n.heap = newHeapLimit(cfg.MemoryLimit, cfg.HTTP.MaxHeaderBytes)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	// production mode says what its state lacks, too, once that is open
	if wrong := cfg.Wrong(); cfg.sandbox() || len(wrong) > 0 {
		if err := cfg.refuse(append(wrong, cfg.Unfit()...)); err != nil {
			return nil, err
		}
	}
	if around := cfg.hindrances(data); len(around) > 0 {
		return nil, errors.New("the server cannot start: " + strings.Join(around, "; "))
	}
	if n.tracer, err = tracing.Open(ctx, cfg.Trace, "ehi-server", log); err != nil {
		return nil, err
	}
	if n.room, n.rescue, err = roomIn(data, cfg); err != nil {
		return nil, err
	}
	if n.rescue != nil {
		n.log.Error("there is too little room to start in full", "err", n.rescue)
	}
	if err := n.openStores(ctx, data, opts); err != nil {
		return nil, errors.Join(err, cfg.refuse(cfg.Unfit()))
	}
	if n.ln, err = net.Listen("tcp", cfg.Addr); err != nil {
		return nil, err
	}
	scheme := "http"
	if cfg.TLS.Cert != "" || cfg.TLS.Key != "" {
		scheme = "https"
		if n.cert, err = newCertificate(cfg.TLS.Cert, cfg.TLS.Key, log); err != nil {
			return nil, err
		}
		n.unwatch = telemetry.OnScrape(n.cert.refresh)
	}
	n.URL = reachable(scheme, n.ln.Addr())
	if n.records != nil {
		base, aliases := n.base()
		for _, b := range append(aliases, base) {
			n.records.AddOwnBases(strings.TrimRight(b, "/") + "/fhir")
		}
	}
	if err := n.openAuth(ctx, opts); err != nil {
		return nil, err
	}
	if err := n.openServices(ctx, opts); err != nil {
		return nil, err
	}
	if cfg.Bus.AcceptLoss {
		err = n.Bus.Adopt(ctx) // nothing refuses the start any more
	}
	return n, err
}

func (n *Node) openStores(ctx context.Context, data string, opts Options) error {
	err := backup.Unfinished(data)
	if err != nil {
		return err
	}
	n.source, err = kinds.Open(kinds.Config{
		Flags:      n.cfg.Source,
		Data:       data,
		StoreFlags: n.cfg.Store,
		ReadOnly:   n.rescue != nil,
		Demo:       n.demo(),
		Bases:      n.cfg.Bases,
		Log:        n.log,
	})
	if err != nil {
		return err
	}
	n.records, _ = n.source.(*dataset.Store)
	if n.records != nil && n.demo() {
		if err := fillDemo(ctx, data, n.records, n.log); err != nil {
			return err
		}
	}
	if opts.WrapSource != nil {
		n.source = opts.WrapSource(n.source)
	}
	if n.Files, err = n.openFiles(opts); err != nil {
		return err
	}
	if n.held, err = n.Files.Hold(); err != nil {
		return err
	}
	n.Bus, err = bus.Open(ctx, bus.Config{
		Flags:     n.cfg.Bus,
		StoreDir:  filepath.Join(data, backup.NATSFolder),
		AckWait:   n.cfg.Limits.AckWait,
		Audit:     n.cfg.Audit.Resolved(n.cfg.sandbox()),
		Files:     n.Files,
		Tentative: true,
		AsIs:      n.rescue != nil && n.cfg.Bus.URL == "",
		Log:       n.log,
		Fits: func(ctx context.Context, fleet *bus.Fleet) error {
			return pairing.Fits(ctx, fleet, n.source, n.Files)
		},
	})
	return err
}

// reachable is a URL of a listener: one on every interface is reached on loopback.
func reachable(scheme string, a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("%s://127.0.0.1:%d", scheme, tcp.Port)
	}
	return scheme + "://" + a.String()
}

// demo reports whether a record store that is new is filled with demo patients.
func (n *Node) demo() bool { return n.cfg.Demo && n.cfg.sandbox() && n.rescue == nil }

// fillDemo makes the demo patients in a store that this start has made, or one before it that
// was ended before it had made them. Any other store, even without a patient, is a hospital's.
func fillDemo(ctx context.Context, data string, store *dataset.Store, log *slog.Logger) error {
	unfilled, err := kinds.Unfilled(data)
	if err != nil || !unfilled {
		return err
	}
	there, err := store.Patients(ctx, Demo.Patients+1)
	if err != nil {
		return err
	}
	for _, p := range there {
		if !isDemo(p.ID) {
			log.Warn(
				"the record store was to get demo patients, and has others meanwhile: it gets none")
			return kinds.Filled(data)
		}
	}
	log.Info("the record store is new: making demo patients", "patients", Demo.Patients)
	if err := store.Generate(ctx, Demo, time.Now(), func(int, int) {}); err != nil {
		return err
	}
	return kinds.Filled(data)
}

// isDemo reports whether a patient is one of the demo population.
func isDemo(id string) bool {
	for k := range Demo.Patients {
		if Demo.PatientID(k) == id {
			return true
		}
	}
	return false
}

// base is the origin that clients see, and others by which a listener on loopback is reached.
func (n *Node) base() (origin string, aliases []string) {
	if n.cfg.BaseURL != "" {
		return n.cfg.BaseURL, nil
	}
	return n.URL, server.LoopbackAliases(n.URL)
}

func (n *Node) openAuth(ctx context.Context, opts Options) (err error) {
	base, _ := n.base()
	n.auth, err = auth.New(ctx, auth.Config{
		KV:          n.Bus.Auth,
		Issuer:      base,
		CheckIssuer: n.cfg.BaseURL != "",
		Sandbox:     n.cfg.sandbox(),
		ByAccounts:  !n.cfg.sandbox(),
		Flags:       n.cfg.Auth,
		SandboxKeys: KeysFile(n.data),
		Lasts:       n.cfg.Jobs.JobTTL + n.cfg.Limits.FileTTL,
		Reserved:    n.cfg.reserved(),
		Now:         opts.Now,
	})
	if err != nil {
		return err
	}
	return n.cfg.refuse(
		slices.Concat(n.cfg.Unfit(), n.cfg.lacking(n.auth), n.cfg.ambiguous(n.auth)))
}

func (n *Node) openServices(ctx context.Context, opts Options) (err error) {
	base, aliases := n.base()
	rules, err := n.cfg.Release.Rules()
	if err != nil {
		return err
	}
	provider, err := n.provider(base)
	if err != nil {
		return err
	}
	n.watch = condition.New(condition.Parts{
		State: n.Bus, Room: n.room, Opened: n.rescue, Log: n.log,
		Others: map[string]func(context.Context) error{
			"the record store": n.source.Check,
			"the folder of the exports": func(context.Context) error {
				return errors.Join(n.Files.Check(), n.pairing.Check())
			},
		},
	})
	n.Keeper = &keeper.Keeper{Bus: n.Bus, Files: n.Files, Log: n.log, Flags: n.cfg.Keeper}
	n.scrubber = &worker.Scrubber{Bus: n.Bus, Files: n.Files, Log: n.log, ScrubFlags: n.cfg.Scrub}
	n.server, err = server.New(server.Config{
		Config: n.cfg.exports(),
		Origins: request.Origins{
			BaseURL: base, Fixed: n.cfg.BaseURL != "", Aliases: aliases,
			Flags: n.cfg.Proxies,
		},
		FHIR:         n.cfg.FHIR,
		TLS:          n.cert.config(),
		Admins:       n.cfg.Admin.In(n.cfg.sandbox()),
		Patients:     n.cfg.Patients,
		Tokens:       n.cfg.Tokens,
		Flags:        n.cfg.HTTP.Resolved(n.cfg.sandbox()),
		Registration: n.cfg.Registration,
		Abuse:        n.cfg.Abuse.Resolved(n.cfg.sandbox()),
		Connections:  n.connections(),
		OnConnection: n.heap.count,
		MaxResource:  n.cfg.Import.MaxResource,
		MoveFrom:     source.MoveFrom(n.cfg.Import.InlineBytes),
		LeastFree:    n.cfg.Room.RescueBelow,
	}, server.Deps{
		Bus: n.Bus, Auth: n.auth, OpenID: provider, Source: n.source, Rules: rules, Files: n.Files,
		Log: n.log, Level: opts.Level, Tracer: n.tracer, Settings: n.cfg.settings(),
		Sweeps: n.Keeper, Condition: n.watch, Backup: n.Backup,
	})
	if err != nil {
		return err
	}
	if err = n.server.NoteConfiguration(ctx); err != nil && n.rescue == nil {
		return err
	}
	n.Keeper.Also = n.server.DeleteUnauthorized
	if n.rescue != nil {
		return nil
	}
	return n.openWorkers(ctx, rules)
}

// exports is what the settings say of exports.
func (c Config) exports() jobs.Config {
	return jobs.Config{
		Sandbox: c.sandbox(),
		Flags:   c.Jobs,
		FileTTL: c.Limits.FileTTL,
		Quotas:  c.Quotas,
	}
}

// connections are the limits of connections, within what the system lets the process open.
func (n *Node) connections() listener.Flags {
	f := n.cfg.Connections.Resolved(n.cfg.sandbox())
	f.Most = connections(f.Most, n.log)
	return f
}

// openWorkers says what exporters must have, and makes this process's own.
func (n *Node) openWorkers(ctx context.Context, rules *release.Rules) (err error) {
	parts := pairing.Parts{
		Bus:    n.Bus,
		Source: n.source,
		Files:  n.Files,
		Rules:  rules,
		Name:   worker.Name(),
		Log:    n.log,
	}
	if n.pairing, err = pairing.Open(ctx, parts, n.cfg.Limits); err != nil {
		return err
	}
	if n.cfg.Worker.Workers > 0 {
		n.member = pairing.Join(parts, n.pairing)
		n.workers = worker.New(worker.Config{
			Bus:        n.Bus,
			Source:     n.source,
			Files:      n.Files,
			Rules:      rules,
			Log:        n.log,
			Tracer:     n.tracer,
			Name:       worker.Name(),
			Membership: n.member,
			Flags:      n.cfg.Worker,
		})
	}
	return nil
}

// provider is the OpenID provider of the administrators, nil where there is none.
func (n *Node) provider(base string) (*openid.Provider, error) {
	if !n.cfg.StaffOIDC.On() {
		return nil, nil
	}
	return openid.New(n.cfg.StaffOIDC, staff.OpenIDCallback(base))
}

// Addr is where it listens.
func (n *Node) Addr() string { return n.ln.Addr().String() }

// Config is what the node runs with.
func (n *Node) Config() Config { return n.cfg }

// Patients lists patients of the record store, for tests and benchmarks.
func (n *Node) Patients(ctx context.Context, limit int) ([]ehi.Patient, error) {
	return n.source.Patients(ctx, limit)
}

// Run serves until ctx ends. Then it is not ready any more and takes no kick-off; running
// exports end or are handed back while their clients can still ask; then it stops taking
// requests, and returns. Errors: condition.ErrRoom, where the node was opened in rescue mode and
// can be opened in full.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.server.Serve(n.ln) })
	group.Go(func() error { return n.Keeper.Run(ctx) })
	group.Go(func() error { return n.scrubber.Run(ctx) })
	group.Go(func() error { return n.tendKeys(ctx) })
	group.Go(func() error { return n.watch.Run(ctx) })
	group.Go(func() error { return n.Bus.WatchForLoss(ctx) })
	if n.pairing != nil {
		group.Go(func() error { return n.pairing.Run(ctx) })
	}
	if n.member != nil {
		group.Go(func() error { return n.member.Run(ctx) })
	}
	group.Go(func() error {
		context.AfterFunc(ctx, n.server.Drain)
		var err error
		if n.workers != nil {
			err = n.workers.Run(ctx)
		}
		if err == nil {
			<-ctx.Done()
		}
		return errors.Join(err, n.server.Shutdown(shutdownTime))
	})
	n.log.Info("serving", "url", n.URL)
	return group.Wait()
}

// tendEvery is the pause between two looks at the age of the signing keys.
const tendEvery = 10 * time.Minute

// tendKeys rotates the signing keys when their time has come, until ctx ends.
func (n *Node) tendKeys(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		if err := n.auth.Tend(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("rotate signing keys", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// auditFlush is how long the last audit events may take to be stored.
const auditFlush = 2 * time.Second

// Close releases everything that Open took; Run has returned before.
func (n *Node) Close() error {
	var errs []error
	if n.unwatch != nil {
		n.unwatch()
	}
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.auth != nil {
		n.auth.Close()
	}
	if n.Bus != nil {
		if n.Bus.Audit != nil {
			flush, cancel := context.WithTimeout(context.Background(), auditFlush)
			errs = append(errs, n.Bus.Audit.Flush(flush))
			cancel()
		}
		n.Bus.Close()
	}
	if n.held != nil {
		errs = append(errs, n.held.Close())
	}
	if n.source != nil {
		errs = append(errs, n.source.Close())
	}
	n.tracer.Close()
	if n.ln != nil {
		if err := n.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
