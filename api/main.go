// Command api is the EHI export server: HTTP, NATS and export workers in one process. Without a subcommand it serves.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/schollz/progressbar/v3"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/doctor"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/sources"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/bus"
	"ehi-server/shared/telemetry"
)

// cli is the command line; kong fills it from flags and EHI_* variables.
type cli struct {
	Serve    serveCmd    `cmd:"" default:"withargs" help:"Serve the API with everything embedded (the default)."`
	Import   importCmd   `cmd:"" help:"Load Synthea bundles (.json) and NDJSON (.ndjson, .ndjson.gz), or folders of them."`
	Generate generateCmd `cmd:"" help:"Fill the record store with synthetic patients."`
	Backup   backupCmd   `cmd:"" help:"Write everything that a server keeps into an archive (.tar.zst): records, jobs, finished exports, keys and grants."`
	Restore  restoreCmd  `cmd:"" help:"Put an archive into an empty data folder."`
	Doctor   doctorCmd   `cmd:"" help:"Look at a set-up, with the flags of serve, and say what to change."`
	Ready    readyCmd    `cmd:"" help:"Ask a server whether it is ready, or with --live whether it lives; exit 1 where it is not. The health check of a container."`
	Keys     keysCmd     `cmd:"" help:"Print the private JWKS by which test_client_id signs assertions as a backend service in sandbox mode; it is made on first use."`
}

// common is what every subcommand takes.
type common struct {
	Data      string     `help:"Folder of all data." default:"./data" env:"EHI_DATA"`
	LogFormat string     `help:"text or json." enum:"text,json" default:"text" env:"EHI_LOG_FORMAT"`
	LogLevel  slog.Level `help:"debug, info, warn or error." default:"info" env:"EHI_LOG_LEVEL"`
}

func (c common) logger() (*slog.Logger, error) {
	return telemetry.NewLogger(os.Stderr, c.LogFormat, c.LogLevel)
}

// withStore opens the record store for f.
func (c common) withStore(f func(*dataset.Store) error) error {
	log, err := c.logger()
	if err != nil {
		return err
	}
	store, err := sources.Store(sources.Config{Data: c.Data, Bulk: true, Log: log})
	if err != nil {
		return err
	}
	return errors.Join(f(store), store.Close())
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var c cli
	k := kong.Parse(&c, kong.Name("api"), kong.Description("EHI export server"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

type serveCmd struct {
	common
	node.Config
}

// Run serves until SIGTERM or SIGINT.
func (s *serveCmd) Run(ctx context.Context) error {
	level := new(slog.LevelVar)
	level.Set(s.LogLevel)
	log, err := telemetry.NewLogger(os.Stderr, s.LogFormat, level)
	if err != nil {
		return err
	}
	n, err := node.Open(ctx, s.Config, s.Data, log, node.Options{Level: level})
	if err != nil {
		return err
	}
	return errors.Join(n.Run(ctx), n.Close())
}

type importCmd struct {
	common
	Strict        bool     `help:"Stop at the first bad line or bundle entry."`
	URL           string   `help:"Import through the server at this URL, which may hold the record store meanwhile." name:"url" env:"EHI_URL"`
	AdminUser     string   `help:"Administrator of that server." default:"admin" env:"EHI_ADMIN_USER"`
	AdminPassword string   `help:"Password of that administrator." default:"admin-password" env:"EHI_ADMIN_PASSWORD"`
	Paths         []string `arg:"" help:"Files and folders." type:"existingpath"`
}

// errIncomplete makes the process exit with 1 after an import that left something out.
var errIncomplete = errors.New("some input could not be imported")

// Run imports, with a progress bar.
func (i *importCmd) Run(ctx context.Context) error {
	bar := progressbar.DefaultBytes(-1, "importing")
	progress := func(done, total int64) {
		bar.ChangeMax64(total)
		_ = bar.Set64(done) // a bar that cannot be drawn stops no import
	}
	var report source.Report
	var err error
	if i.URL != "" {
		report, err = i.send(ctx, progress)
	} else {
		err = i.withStore(func(store *dataset.Store) (err error) {
			records := sync.OnceValue(func() *progressbar.ProgressBar { // begins when all is read
				fmt.Fprintln(os.Stderr)
				return progressbar.Default(-1, "completing records")
			})
			report, err = store.Import(ctx, i.Paths, source.ImportOptions{
				Strict: i.Strict, Now: time.Now(), Progress: progress, Settled: func(patients int) { _ = records().Set(patients) },
			})
			return err
		})
	}
	if errors.Is(err, dataset.ErrInUse) {
		return fmt.Errorf("%w; import through that server: import --url URL PATH", err)
	}
	fmt.Fprintln(os.Stderr)
	printReport(report)
	if err == nil && report.Problems > 0 {
		err = errIncomplete
	}
	return err
}

// send imports through a running server, file by file.
func (i *importCmd) send(ctx context.Context, progress func(done, total int64)) (sum source.Report, err error) {
	inputs, err := dataset.Inputs(i.Paths)
	if err != nil {
		return sum, err
	}
	open := client.New(strings.TrimSuffix(i.URL, "/"))
	defer open.Close()
	admin, err := open.AdminLogin(ctx, i.AdminUser, i.AdminPassword)
	if err != nil {
		return sum, err
	}
	var done, total int64
	for _, in := range inputs {
		total += in.Info.Size()
	}
	for _, in := range inputs {
		contentType := "application/fhir+ndjson"
		if strings.HasSuffix(in.Path, ".json") {
			contentType = "application/fhir+json"
		}
		report, err := admin.Import(ctx, in.Path, contentType, i.Strict, func() (io.ReadCloser, error) {
			f, err := os.Open(in.Path)
			at := done
			return &reporting{f, func(n int) { at += int64(n); progress(at, total) }}, err
		})
		sum.Add(report)
		if err != nil {
			return sum, err
		}
		if i.Strict && report.Problems > 0 {
			return sum, fmt.Errorf("%w: %s", source.ErrBad, report.Bad[0])
		}
		done += in.Info.Size()
	}
	return sum, nil
}

// reporting tells how much of a file is read.
type reporting struct {
	*os.File
	read func(n int)
}

func (r *reporting) Read(p []byte) (int, error) {
	n, err := r.File.Read(p)
	r.read(n)
	return n, err
}

func printReport(r source.Report) {
	for _, t := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Printf("%-24s %8d\n", t, r.Counts[t])
	}
	fmt.Printf("%d resources read from %d files; %d files unchanged since an earlier import; %d problems\n", r.Resources(), r.Files, r.Skipped, r.Problems)
	for _, p := range r.Bad {
		fmt.Fprintln(os.Stderr, p)
	}
	if more := r.Problems - int64(len(r.Bad)); more > 0 {
		fmt.Fprintf(os.Stderr, "and %d more\n", more)
	}
}

type backupCmd struct {
	common
	URL           string `help:"Back the server at this URL up, which may hold the data folder meanwhile." name:"url" env:"EHI_URL"`
	AdminUser     string `help:"Administrator of that server." default:"admin" env:"EHI_ADMIN_USER"`
	AdminPassword string `help:"Password of that administrator." default:"admin-password" env:"EHI_ADMIN_PASSWORD"`
	Archive       string `arg:"" help:"File to write; it must not be there yet."`
}

// Run writes the archive; what fails leaves no file.
func (b *backupCmd) Run(ctx context.Context) (err error) {
	f, err := os.OpenFile(b.Archive, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(b.Archive))
		}
	}()
	if b.URL != "" {
		err = b.fetch(ctx, f)
	} else {
		err = b.take(ctx, f)
	}
	return errors.Join(err, f.Sync())
}

// fetch backs a running server up.
func (b *backupCmd) fetch(ctx context.Context, w io.Writer) error {
	open := client.New(strings.TrimSuffix(b.URL, "/"))
	defer open.Close()
	admin, err := open.AdminLogin(ctx, b.AdminUser, b.AdminPassword)
	if err != nil {
		return err
	}
	return admin.Stream(ctx, "/admin/backup", func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// take backs a data folder up that no server holds.
func (b *backupCmd) take(ctx context.Context, w io.Writer) error {
	log, err := b.logger()
	if err != nil {
		return err
	}
	c, err := node.Defaults()
	if err != nil {
		return err
	}
	c.Addr, c.Demo, c.Workers = "127.0.0.1:0", false, 0
	n, err := node.Open(ctx, c, b.Data, log, node.Options{})
	if errors.Is(err, dataset.ErrInUse) || errors.Is(err, bus.ErrInUse) {
		return fmt.Errorf("%w; back that server up: backup --url URL ARCHIVE", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(n.Backup(ctx, w), n.Close())
}

type restoreCmd struct {
	common
	NATS    string `help:"URL of an external NATS that takes the state. Default: the embedded one's folder in --data." name:"nats" env:"EHI_NATS"`
	Archive string `arg:"" help:"File to read." type:"existingfile"`
}

// Run restores the archive.
func (r *restoreCmd) Run(ctx context.Context) error {
	f, err := os.Open(r.Archive)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	return backup.Restore(ctx, f, r.Data, r.NATS)
}

type doctorCmd struct {
	common
	node.Config
}

// Run examines and prints.
func (d *doctorCmd) Run(ctx context.Context) error {
	return doctor.Print(os.Stdout, doctor.Examine(ctx, d.Config, d.Data))
}

type readyCmd struct {
	Addr    string        `help:"Address that the server listens on, on this machine." default:"127.0.0.1:8888" env:"EHI_ADDR"`
	TLSCert string        `help:"Its certificate, where it speaks HTTPS." name:"tls-cert" env:"EHI_TLS_CERT"`
	Live    bool          `help:"Ask whether the process answers, whatever it depends on."`
	Timeout time.Duration `help:"How long it may take to answer." default:"5s"`
}

// Run asks.
func (r *readyCmd) Run(ctx context.Context) error {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	origin, secured := "http://"+net.JoinHostPort(host, port), (*tls.Config)(nil)
	if r.TLSCert != "" {
		origin = "https" + strings.TrimPrefix(origin, "http")
		if secured, err = trusting(r.TLSCert); err != nil {
			return err
		}
	}
	path := "/readyz"
	if r.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	open := client.NewSecured(origin, secured)
	defer open.Close()
	a, err := open.Do(ctx, "GET", path, nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%s%s answers %d", origin, path, a.Status)
	}
	return err
}

// trusting trusts a server's own certificate, by whatever name it has.
func trusting(path string) (*tls.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	name := ""
	if len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	return &tls.Config{RootCAs: pool, ServerName: name}, nil
}

type keysCmd struct{ common }

// Run prints the keys.
func (k *keysCmd) Run() error {
	keys, err := auth.SandboxKeys(node.KeysFile(k.Data))
	if err != nil {
		return err
	}
	fmt.Println(string(keys))
	return nil
}

type generateCmd struct {
	common
	Patients  int    `help:"How many." default:"100"`
	Seed      uint64 `help:"The same seed makes the same patients." default:"1"`
	Resources int    `help:"Resources of each patient. Default: 300 to 900."`
	Size      int    `help:"Least size of a resource in bytes. Default: as it comes, about 700."`
}

// Run generates, with a progress bar.
func (g *generateCmd) Run(ctx context.Context) error {
	return g.withStore(func(store *dataset.Store) error {
		bar := progressbar.Default(int64(g.Patients), "generating")
		made := synthetic.Config{Patients: g.Patients, Seed: g.Seed, Resources: g.Resources, Size: g.Size}
		err := store.Generate(ctx, made, time.Now(), func(done, _ int) {
			_ = bar.Set(done) // a bar that cannot be drawn stops nothing
		})
		fmt.Fprintln(os.Stderr)
		return err
	})
}
