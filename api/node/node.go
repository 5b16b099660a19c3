// Package node puts one process together: the bus, the record store, the file store, the authorization server, the HTTP server and
// the export workers. It is the only place where they meet, and reads like a list of them.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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

// Config is every setting of a serving process; the tags are the command line, its environment variables and defaults.
type Config struct {
	Addr               string          `help:"Address to listen on." default:"127.0.0.1:8888" env:"EHI_ADDR" form:"address"`
	TLSCert            string          `help:"File with the certificate, and the chain behind it, in PEM: the server speaks HTTPS. It is read anew when it changes." name:"tls-cert" env:"EHI_TLS_CERT" form:"text"`
	TLSKey             string          `help:"File with the key of --tls-cert, in PEM." name:"tls-key" env:"EHI_TLS_KEY" form:"text"`
	BaseURL            string          `help:"Origin that clients see, such as https://ehi.example.org. Default: the listener's address." env:"EHI_BASE_URL" form:"origin"`
	OwnBase            []string        `help:"FHIR bases of the systems that the records came from, such as https://ehr.example.org/r4: absolute references to them in what is imported are local, like those to this server. May be repeated." placeholder:"URL" env:"EHI_OWN_BASE" form:"url"`
	Mode               string          `help:"sandbox or production." enum:"sandbox,production" default:"sandbox" env:"EHI_MODE"`
	SandboxOnNetwork   bool            `help:"Let the sandbox listen on an address that other machines reach. Everybody who reaches it may be any patient, and an administrator by the password that everybody knows." name:"sandbox-on-network" env:"EHI_SANDBOX_ON_NETWORK"`
	Source             string          `help:"Where records come from: records (the store in --data), or synthetic:patients=1000000,seed=7,... which makes them up as they are read." default:"records" env:"EHI_SOURCE" form:"source"`
	NATS               string          `help:"URL of an external NATS with JetStream; of a cluster: those of its servers, with commas between them. Default: embedded." name:"nats" env:"EHI_NATS" form:"nats"`
	NATSReplicas       int             `help:"Copies that an external NATS keeps of each stream and bucket; 0: 3 where it is a cluster (of three servers or more), else 1. Those that there are already are raised to it; 0 never lowers them." name:"nats-replicas" default:"0" env:"EHI_NATS_REPLICAS" range:"0..5"`
	NATSWait           time.Duration   `help:"How long to wait at the start for an external NATS that is away." name:"nats-wait" default:"1m" env:"EHI_NATS_WAIT" range:"0s..1h"`
	NATSAccess         bus.Access      `embed:"" prefix:"nats-"`
	NATSListen         string          `help:"Address at which the embedded NATS takes stand-alone exporters." name:"nats-listen" env:"EHI_NATS_LISTEN" form:"address"`
	AcceptLoss         bool            `help:"Start although files and state do not belong together, or a part of the state is lost: once, after what can be given back was given back." env:"EHI_ACCEPT_LOSS"`
	OrphanGrace        time.Duration   `help:"How long a file is kept that no record names, before it is removed: records that were lost can be given back so long." default:"24h" env:"EHI_ORPHAN_GRACE" range:"0s..8760h"`
	ScrubRate          int64           `help:"Bytes a second that are read of finished exports' files in the background, to compare them with their checksums; less while exports run. 0: not at all." default:"4194304" env:"EHI_SCRUB_RATE" range:"0.."`
	Durability         bus.Durability  `help:"fast or safe: whether what was answered survives the death of every process, or a power loss too." enum:"fast,safe" default:"fast" env:"EHI_DURABILITY"`
	SyncEvery          time.Duration   `help:"How often the embedded NATS syncs its records to the disk where --durability is fast." default:"2s" env:"EHI_SYNC_EVERY" range:"10ms..10m"`
	Workers            int             `help:"Exports of patients that run at once in this process; 0 makes it an API only." default:"4" env:"EHI_WORKERS" range:"0..1000"`
	BulkWorkers        int             `help:"Tasks of population exports that run at once in this process; 0: one for every two processors." default:"0" env:"EHI_BULK_WORKERS" range:"0..1000"`
	BulkYield          time.Duration   `help:"How long a population's task waits, before each 256 KiB that it reads, while patients' exports run in this process; 0: not at all." default:"3ms" env:"EHI_BULK_YIELD" range:"0s..1s"`
	TaskBytes          int64           `help:"About how much one task of a population export reads, in bytes." default:"67108864" env:"EHI_TASK_BYTES" range:"1..1099511627776"`
	FileResources      int64           `help:"Resources of an export file before the next one is begun." default:"100000" env:"EHI_FILE_RESOURCES" range:"1..1000000000"`
	ManifestTasks      int             `help:"Tasks whose files a page of the manifest lists, for clients that allow partial manifests." default:"100" env:"EHI_MANIFEST_TASKS" range:"1..10000"`
	ClientJobs         int             `help:"Exports of patients that one client may have running; further kick-offs are answered 429." default:"50000" env:"EHI_CLIENT_JOBS" range:"1.."`
	ClientBulkJobs     int             `help:"Exports of populations that one client may have running; further kick-offs are answered 429." default:"20" env:"EHI_CLIENT_BULK_JOBS" range:"1.."`
	PollBurst          int             `help:"Status requests about one job that are free at any moment; further ones may come twice a second, else they are answered 429. Polls that are held do not count. 0 sets no limit." default:"100" env:"EHI_POLL_BURST" range:"0.."`
	Hold               time.Duration   `help:"How long a status request is held while its export runs, to be answered the moment it ends; 0: not at all." default:"250ms" env:"EHI_HOLD" range:"0s..1m"`
	MaxHold            time.Duration   `help:"How long a client may have a status request held by Prefer: wait=SECONDS; less than 1s: not at all." default:"30s" env:"EHI_MAX_HOLD" range:"0s..1h"`
	MaxHeld            int             `help:"Status requests that are held at once; further ones are answered at once." default:"6000" env:"EHI_MAX_HELD" range:"0..1000000"`
	AckWait            time.Duration   `help:"How long a worker may be silent before its export goes to another." default:"2500ms" env:"EHI_ACK_WAIT" range:"200ms..1h"`
	MaxDeliver         int             `help:"Attempts at an export before its job is failed." default:"5" env:"EHI_MAX_DELIVER" range:"1..1000"`
	MaxQueue           int64           `help:"Exports that may wait; further kick-offs are answered 503." default:"100000" env:"EHI_MAX_QUEUE" range:"1.."`
	MinFreeBytes       int64           `help:"Space on the disk of the exports, in bytes, below which kick-offs are answered 503 and the server is not ready." default:"268435456" env:"EHI_MIN_FREE_BYTES" range:"0.."`
	RescueBelow        int64           `help:"Space on a disk of the data folder, in bytes, below which the server is in rescue mode: downloads, status, deletions and pages work, and nothing new is taken. Exports leave as much free for the state. 0: never." default:"67108864" env:"EHI_RESCUE_BELOW" range:"0.."`
	ReserveBytes       int64           `help:"Space that is kept in reserve beside the state, in bytes, and given up in rescue mode, so that deletions can be recorded. 0: none." default:"16777216" env:"EHI_RESERVE_BYTES" range:"0.."`
	MaxExportBytes     int64           `help:"Bytes that may be stored of exports; while there are as many, kick-offs are answered 503. 0 sets no limit." default:"0" env:"EHI_MAX_EXPORT_BYTES" range:"0.."`
	MaxBodyBytes       int64           `help:"Largest body of a request other than an upload, in bytes; larger ones are answered 413." default:"1048576" env:"EHI_MAX_BODY_BYTES" range:"1024..1073741824"`
	MaxHeaderBytes     int             `help:"Largest head of a request, in bytes; larger ones are answered 431." default:"16384" env:"EHI_MAX_HEADER_BYTES" range:"1024..1048576"`
	MaxConnections     int             `help:"Connections served at once; further ones are answered 503 and closed." default:"8192" env:"EHI_MAX_CONNECTIONS" range:"1..1000000"`
	ReadTimeout        time.Duration   `help:"How long a request may take to arrive, or an upload to go on; slower ones are answered 408." default:"60s" env:"EHI_READ_TIMEOUT" range:"100ms..24h"`
	WriteStall         time.Duration   `help:"How long a client may take less than a kilobyte a second of its answers, all of a connection together, before the connection is cut." default:"60s" env:"EHI_WRITE_STALL" range:"100ms..24h"`
	IdleTimeout        time.Duration   `help:"How long a connection may do nothing." default:"120s" env:"EHI_IDLE_TIMEOUT" range:"1s..24h"`
	ReviewDue          time.Duration   `help:"How long an export may wait for review before the pages of administrators call it late; 0: never." default:"72h" env:"EHI_REVIEW_DUE" range:"0s.."`
	JobTTL             time.Duration   `help:"How long a job may take until it is approved." default:"168h" env:"EHI_JOB_TTL" range:"1s..87600h"`
	FileTTL            time.Duration   `help:"How long approved files are kept." default:"24h" env:"EHI_FILE_TTL" range:"1s..87600h"`
	Stall              time.Duration   `help:"How long an export may go on without reading a resource, before its attempt is given up." default:"5m" env:"EHI_STALL" range:"100ms..24h"`
	Drain              time.Duration   `help:"How long running exports may go on when the process is stopped, before they are handed back." default:"20s" env:"EHI_DRAIN" range:"0s..1h"`
	KeeperEvery        time.Duration   `help:"Pause between two rounds of the janitor and the reconciler." default:"10s" env:"EHI_KEEPER_EVERY" range:"10ms..1h"`
	AttachmentBytes    int64           `help:"Largest attachment, in bytes." default:"10000000" env:"EHI_ATTACHMENT_BYTES" range:"1..1073741824"`
	AttachmentsPerCall int             `help:"Most attachments of one upload." default:"10" env:"EHI_ATTACHMENTS_PER_CALL" range:"1..1000"`
	MaxResource        int64           `help:"Size of the largest resource that an import takes, in bytes as it stands in the input; a larger one is skipped and reported." default:"67108864" env:"EHI_MAX_RESOURCE" range:"1024..1073741824"`
	Compression        ehi.Compression `help:"How export files are stored where a kick-off's _compression does not say: identity, gzip or zstd." enum:"identity,gzip,zstd" default:"identity" env:"EHI_COMPRESSION"`
	SpillBytes         int             `help:"Size from which an export file is kept apart rather than in its task's segment, in bytes." default:"524288" env:"EHI_SPILL_BYTES" range:"1..1073741824"`
	CacheBytes         int64           `help:"Memory for blocks of the record store, in bytes." default:"33554432" env:"EHI_CACHE_BYTES" range:"1048576..1099511627776"`
	MemoryLimit        int64           `help:"Soft limit of the Go heap, in bytes, to which what open connections take beyond the first 256 is added; 0 sets none. GOMEMLIMIT overrides it." default:"167772160" env:"EHI_MEMORY_LIMIT" range:"0.."`
	SensitiveTable     string          `help:"CSV of sensitive codes (system,code,authorization) in place of the shipped one." type:"existingfile" env:"EHI_SENSITIVE_TABLE"`
	BareLink           bool            `help:"Send the Link header without angle brackets to every client." env:"EHI_BARE_LINK"`
	TrustedProxies     []string        `help:"Addresses or CIDR ranges whose X-Forwarded-Proto, X-Forwarded-For and, without --base-url, X-Forwarded-Host are believed." env:"EHI_TRUSTED_PROXIES" form:"network"`
	MetricsFrom        []netip.Prefix  `help:"Networks (CIDR) that may read /metrics, unless a proxy forwards them. Without any: everybody in sandbox mode; loopback and private networks in production mode." env:"EHI_METRICS_FROM"`
	AdminUser          string          `help:"Name of the administrator. No account may be called so, or nearly so, unless --admin-password is empty." default:"admin" env:"EHI_ADMIN_USER" form:"name"`
	AdminPassword      string          `help:"Password of the administrator." secret:"" default:"admin-password" env:"EHI_ADMIN_PASSWORD" form:"text"`
	SandboxSecret      string          `secret:"" help:"Secret by which test_client_id is a backend service in sandbox mode; empty: only by an assertion signed with a key of the keys command." default:"test_client_secret" env:"EHI_SANDBOX_SECRET" form:"text"`
	FourEyes           bool            `help:"Ask for the approval of two administrators before files are released." env:"EHI_FOUR_EYES"`
	PatientLogin       string          `help:"How patients log in: picker (choose any, in sandbox mode only) or accounts. Default: picker in sandbox mode, else accounts." enum:",picker,accounts" default:"" env:"EHI_PATIENT_LOGIN"`
	RegistrationToken  string          `secret:"" help:"Initial access token of dynamic client registration (RFC 7591), of at least 20 bytes; empty: registration is off." env:"EHI_REGISTRATION_TOKEN" form:"text"`
	RegistrationScopes []string        `help:"Scopes that clients may register with that token; none: those of a patient's application, and never one of system/." env:"EHI_REGISTRATION_SCOPES" form:"text"`
	RegistrationGrants []string        `help:"Grant types that clients may register with that token: authorization_code, refresh_token, client_credentials; none: the first two." env:"EHI_REGISTRATION_GRANTS" form:"grant"`
	RegistrationHosts  []string        `help:"Hosts that https redirect URIs may have of clients that register with that token: app.example.org, or .example.org for all below it; none: any." env:"EHI_REGISTRATION_HOSTS" form:"host"`
	AccessTTL          time.Duration   `help:"How long an access token is good." default:"1h" env:"EHI_ACCESS_TTL" range:"1s..24h"`
	RefreshTTL         time.Duration   `help:"How long a refresh token is good, counted anew whenever it is used." default:"2160h" env:"EHI_REFRESH_TTL" range:"1s..87600h"`
	TokenAlg           string          `help:"Algorithm that access tokens are signed by: ES256, ES384 or RS256." enum:"ES256,ES384,RS256" default:"ES256" env:"EHI_TOKEN_ALG"`
	KeyAge             time.Duration   `help:"Age at which signing keys are rotated." default:"2160h" env:"EHI_KEY_AGE" range:"1m..87600h"`
	PrivateKeySets     []netip.Prefix  `help:"Address ranges of private networks from which clients' keys may be fetched by their jwks_uri, also over plain HTTP. Default: none; public addresses over HTTPS only." env:"EHI_PRIVATE_KEY_SETS"`
	AddressFailures    int             `help:"Requests of one address that may fail in --failure-window on the routes of log-ins, authorization, tokens and kick-offs; further ones are answered 429. 0 sets no limit; -1: 100 in production mode, none in the sandbox." default:"-1" env:"EHI_ADDRESS_FAILURES" range:"-1.."`
	ClientFailures     int             `help:"The same of one client; -1: 500 in production mode, none in the sandbox." default:"-1" env:"EHI_CLIENT_FAILURES" range:"-1.."`
	FailureWindow      time.Duration   `help:"For how long failures are counted together." default:"1m" env:"EHI_FAILURE_WINDOW" range:"0s..24h"`
	QuotaWindow        time.Duration   `help:"For how long the kick-offs and exports are counted together of --client-kickoffs and the like." default:"1h" env:"EHI_QUOTA_WINDOW" range:"0s..8760h"`
	ClientKickoffs     int             `help:"Kick-offs of one client that are accepted in --quota-window; further ones are answered 429. 0 sets no limit; -1: 10000 in production mode, none in the sandbox." default:"-1" env:"EHI_CLIENT_KICKOFFS" range:"-1.."`
	PatientKickoffs    int             `help:"Kick-offs for one patient, of all clients together, in the same way; -1: 200 in production mode, none in the sandbox." default:"-1" env:"EHI_PATIENT_KICKOFFS" range:"-1.."`
	ClientExports      int             `help:"Exports of one client that begin in --quota-window, at the kick-off or when the form is sent; further ones are answered 429. 0 sets no limit; -1: 10000 in production mode, none in the sandbox." default:"-1" env:"EHI_CLIENT_EXPORTS" range:"-1.."`
	PatientExports     int             `help:"Exports for one patient, of all clients together, in the same way; -1: 100 in production mode, none in the sandbox." default:"-1" env:"EHI_PATIENT_EXPORTS" range:"-1.."`
	ClientBytes        int64           `help:"Bytes that may be stored of one client's exports; while there are as many, its kick-offs are answered 429. Each export that is under way counts with the size of its records. 0 sets no limit." default:"0" env:"EHI_CLIENT_BYTES" range:"0.."`
	PatientBytes       int64           `help:"Bytes that may be stored of the exports for one patient, of all clients together, in the same way; -1: 10 GiB in production mode, none in the sandbox." default:"-1" env:"EHI_PATIENT_BYTES" range:"-1.."`
	AddressConnections int             `help:"Connections that one address may have open (of IPv6: one network of 64 bits), at most half of --max-connections; further ones are closed. Loopback and --trusted-proxies have no limit. 0 sets none; -1: 500 in production mode, none in the sandbox." default:"-1" env:"EHI_ADDRESS_CONNECTIONS" range:"-1.."`
	AuditTTL           time.Duration   `help:"How long the audit trail keeps an event." default:"52560h" env:"EHI_AUDIT_TTL" range:"1h..876000h"`
	AuditMaxBytes      int64           `help:"Size of the audit trail, in bytes, from which its oldest events go before their time; 0 sets no limit; -1: none in production mode, 64 MiB in the sandbox." default:"-1" env:"EHI_AUDIT_MAX_BYTES" range:"-1.."`
	Open               bool            `help:"Answer requests without a token as a backend service with every right. For tests on a closed machine; refused in production mode." env:"EHI_OPEN"`
	Trace              tracing.Config  `embed:"" prefix:"trace-"`
	Demo               bool            `help:"Fill an empty record store with demo patients in sandbox mode." default:"true" negatable:"" env:"EHI_DEMO"`

	StaffOIDC           openid.Config `embed:"" prefix:"staff-oidc-"`
	RequireSecondFactor *bool         `negatable:"" help:"Make administrators set up a second factor (codes of an authenticator app) when they first sign in. Default: in production mode, not in the sandbox." env:"EHI_REQUIRE_SECOND_FACTOR"`
	ReauthenticateAfter time.Duration `help:"How long after they have proved who they are administrators may approve, and change accounts and clients, before they are asked again; 0: for as long as their session lasts; less: 10m in production mode, 0 in the sandbox." default:"-1s" env:"EHI_REAUTHENTICATE_AFTER" range:"-1s..24h"`
}

// Demo is the demo population (REAL-10).
var Demo = synthetic.Config{Patients: 5, Seed: 1}

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
	// Level is the logger's level, which administrators may change while the server runs; nil where it is fixed.
	Level *slog.LevelVar
	// Now is the clock of log-ins and tokens. Default: time.Now.
	Now func() time.Time
}

// Open puts a node together on a data folder; Run makes it work. The caller closes it.
func Open(ctx context.Context, cfg Config, data string, log *slog.Logger, opts Options) (_ *Node, err error) {
	n := &Node{cfg: cfg, data: data, log: log}
	if cfg.MemoryLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		n.heap = newHeapLimit(cfg.MemoryLimit, cfg.MaxHeaderBytes)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if wrong := cfg.Wrong(); cfg.sandbox() || len(wrong) > 0 { // production mode says what its state lacks, too, once that is open
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
	if cfg.TLSCert != "" || cfg.TLSKey != "" {
		scheme = "https"
		if n.cert, err = newCertificate(cfg.TLSCert, cfg.TLSKey, log); err != nil {
			return nil, err
		}
		n.unwatch = telemetry.OnScrape(n.cert.refresh)
	}
	n.URL = reachable(scheme, n.ln.Addr())
	if n.records != nil {
		base, aliases := n.base()
		for _, b := range append(aliases, base) {
			n.records.AlsoOwn(strings.TrimRight(b, "/") + "/fhir")
		}
	}
	if err := n.openAuth(ctx, opts); err != nil {
		return nil, err
	}
	if err := n.openServices(ctx, opts); err != nil {
		return nil, err
	}
	if cfg.AcceptLoss {
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
		Spec: n.cfg.Source, Data: data, CacheBytes: n.cfg.CacheBytes, ReadOnly: n.rescue != nil, Demo: n.demo(),
		BaseURL: n.cfg.BaseURL, OwnBase: n.cfg.OwnBase, Log: n.log,
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
		URL: n.cfg.NATS, Replicas: n.cfg.NATSReplicas, Access: n.cfg.NATSAccess, Wait: n.cfg.NATSWait, StoreDir: filepath.Join(data, backup.NATSFolder), Listen: n.cfg.NATSListen, AckWait: n.cfg.AckWait, MaxQueue: n.cfg.MaxQueue,
		Durability: n.cfg.Durability, SyncEvery: n.cfg.SyncEvery, Audit: n.cfg.audit(), Files: n.Files,
		AcceptLoss: n.cfg.AcceptLoss, Tentative: true, AsIs: n.rescue != nil && n.cfg.NATS == "", Log: n.log,
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

// fillDemo makes the demo patients in a store that this start has made, or one before it that was ended before
// it had made them. Any other store, even without a patient, is a hospital's.
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
			log.Warn("the record store was to get demo patients, and has others meanwhile: it gets none")
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
		KV: n.Bus.Auth, Issuer: base, CheckIssuer: n.cfg.BaseURL != "",
		Sandbox: n.cfg.sandbox(), ByAccounts: !n.cfg.sandbox(),
		SandboxSecret: n.cfg.SandboxSecret, SandboxKeys: KeysFile(n.data),
		Algorithm: n.cfg.TokenAlg, KeyAge: n.cfg.KeyAge, PrivateKeySets: n.cfg.PrivateKeySets, AccessTTL: n.cfg.AccessTTL, RefreshTTL: n.cfg.RefreshTTL,
		Lasts: n.cfg.JobTTL + n.cfg.FileTTL, Reserved: n.cfg.reserved(), Now: opts.Now,
	})
	if err != nil {
		return err
	}
	return n.cfg.refuse(slices.Concat(n.cfg.Unfit(), n.cfg.lacking(n.auth), n.cfg.ambiguous(n.auth)))
}

func (n *Node) openServices(ctx context.Context, opts Options) (err error) {
	base, aliases := n.base()
	rules, err := release.RulesFromFile(n.cfg.SensitiveTable)
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
	n.Keeper = &keeper.Keeper{Bus: n.Bus, Files: n.Files, Log: n.log, Every: n.cfg.KeeperEvery, Grace: n.cfg.OrphanGrace}
	n.scrubber = &worker.Scrubber{Bus: n.Bus, Files: n.Files, Log: n.log, Rate: n.cfg.ScrubRate}
	n.server, err = server.New(server.Config{
		Config: n.cfg.exports(),
		Origins: request.Origins{
			BaseURL: base, Fixed: n.cfg.BaseURL != "", Aliases: aliases,
			TrustedProxies: n.cfg.TrustedProxies,
		},
		BareLink: n.cfg.BareLink, MetricsFrom: n.cfg.metricsFrom(), TLS: n.cert.config(),
		AdminUser: n.cfg.AdminUser, AdminPassword: n.cfg.AdminPassword, Accounts: n.cfg.accounts(),
		RequireSecondFactor: n.cfg.secondFactor(), ProofAge: n.cfg.proofAge(), ReviewDue: n.cfg.ReviewDue,
		RegistrationToken: n.cfg.RegistrationToken,
		Registration: auth.RegistrationLimits{
			Scopes: n.cfg.RegistrationScopes, GrantTypes: n.cfg.RegistrationGrants, Hosts: n.cfg.RegistrationHosts,
		},
		AddressFailures: n.cfg.limit(n.cfg.AddressFailures, addressFailures),
		ClientFailures:  n.cfg.limit(n.cfg.ClientFailures, clientFailures),
		FailureWindow:   n.cfg.FailureWindow,
		PollBurst:       n.cfg.PollBurst, Hold: n.cfg.Hold, MaxHold: n.cfg.MaxHold, MaxHeld: n.cfg.MaxHeld,
		PageTasks:    n.cfg.ManifestTasks,
		MaxBodyBytes: n.cfg.MaxBodyBytes, MaxHeaderBytes: n.cfg.MaxHeaderBytes,
		MaxConnections: connections(n.cfg.MaxConnections, n.log), OnConnection: n.heap.count,
		AddressConnections: n.cfg.limit(n.cfg.AddressConnections, 500),
		ReadTimeout:        n.cfg.ReadTimeout, WriteStall: n.cfg.WriteStall, IdleTimeout: n.cfg.IdleTimeout,
		MaxResource: n.cfg.MaxResource, LeastFree: n.cfg.RescueBelow,
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
		Sandbox: c.sandbox(), Open: c.Open, FourEyes: c.FourEyes, JobTTL: c.JobTTL, FileTTL: c.FileTTL,
		ClientJobs: c.ClientJobs, ClientBulkJobs: c.ClientBulkJobs,
		MinFreeBytes: c.MinFreeBytes, MaxExportBytes: c.MaxExportBytes, Quotas: c.quotas(),
		Compression: c.Compression, AttachmentBytes: c.AttachmentBytes, AttachmentsPerCall: c.AttachmentsPerCall,
	}
}

// openWorkers says what exporters must have, and makes this process's own.
func (n *Node) openWorkers(ctx context.Context, rules *release.Rules) (err error) {
	parts := pairing.Parts{Bus: n.Bus, Source: n.source, Files: n.Files, Rules: rules, Name: worker.Name(), Log: n.log}
	if n.pairing, err = pairing.Open(ctx, parts, n.cfg.limits()); err != nil {
		return err
	}
	if n.cfg.Workers > 0 {
		n.member = pairing.Join(parts, n.pairing)
		n.workers = worker.New(worker.Config{
			Bus: n.Bus, Source: n.source, Files: n.Files, Rules: rules, Log: n.log, Tracer: n.tracer, Name: worker.Name(), Membership: n.member,
			Workers: n.cfg.Workers, BulkWorkers: n.cfg.BulkWorkers, Drain: n.cfg.Drain,
		})
	}
	return nil
}

// limits are what exports are made within, in whatever process.
func (c Config) limits() ehi.Limits {
	return ehi.Limits{
		BulkYield:     c.BulkYield,
		TaskBytes:     c.TaskBytes,
		FileResources: c.FileResources,
		SpillBytes:    c.SpillBytes,
		AckWait:       c.AckWait,
		MaxDeliver:    c.MaxDeliver,
		FileTTL:       c.FileTTL,
		Stall:         c.Stall,
	}
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

// Run serves until ctx ends. Then it is not ready any more and takes no kick-off; running exports end or are handed back while their
// clients can still ask; then it stops taking requests, and returns. Errors: condition.ErrRoom, where the node was opened in rescue
// mode and can be opened in full.
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
