// Command api is the EHI export server: HTTP, NATS and export workers in one process. Without a
// subcommand it runs the server.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"

	"ehi-server/api/backup"
	"ehi-server/api/condition"
	"ehi-server/api/doctor"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ending"
	"ehi-server/shared/settings"
	"ehi-server/shared/telemetry"
)

// cli is the command line. kong fills it from flags and EHI_* variables.
type cli struct {
	Serve    serveCmd    `cmd:"" default:"withargs" help:"Serve the API with everything embedded (the default)."`
	Import   importCmd   `cmd:"" help:"Import Bundles (.json) and NDJSON (.ndjson, .jsonl), gzipped or not, or folders of them."`
	Generate generateCmd `cmd:"" help:"Fill the record store with synthetic patients."`
	Backup   backupCmd   `cmd:"" help:"Write all data of a server to an archive (.tar.zst): records, jobs, finished exports, keys and grants."`
	Restore  restoreCmd  `cmd:"" help:"Restore an archive into a data folder, completely or not at all."`
	Doctor   doctorCmd   `cmd:"" help:"Check a configuration, given by the flags of serve, and report problems."`
	Ready    readyCmd    `cmd:"" help:"Check whether a server is ready, or with --live whether it responds at all, and exit with 1 if not. For health checks of containers."`
	Client   clientCmd   `cmd:"" help:"Register applications and backend services."`
	Account  accountCmd  `cmd:"" help:"Manage the accounts of patients and administrators."`
	Keys     keysCmd     `cmd:"" help:"Manage the keys that sign tokens, and those of the sandbox client."`
}

// common has the flags of every subcommand.
type common struct {
	Data      string     `help:"Folder for all data." default:"./data" env:"EHI_DATA" form:"name"`
	LogFormat string     `help:"Format of the log: text or json." enum:"text,json" default:"text" env:"EHI_LOG_FORMAT"`
	LogLevel  slog.Level `help:"Log level: debug, info, warn or error." default:"info" env:"EHI_LOG_LEVEL"`
}

func (c common) logger() (*slog.Logger, error) {
	return telemetry.NewLogger(telemetry.Stderr, c.LogFormat, c.LogLevel)
}

// withStore opens the record store for f. GOMEMLIMIT overrides the limit of memory.
func (c common) withStore(own kinds.Bases, f func(*dataset.Store) error) error {
	log, err := c.logger()
	if err == nil {
		err = backup.Unfinished(c.Data)
	}
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(kinds.ImportMemory)
	}
	store, err := kinds.Store(kinds.Config{
		Data:  c.Data,
		Bulk:  true,
		Stuck: giveUp,
		Bases: own,
		Log:   log,
	})
	if err != nil {
		return err
	}
	return errors.Join(f(store), store.Close())
}

// giveUp ends a command whose writes wait for a disk that accepts none. Waiting writes cannot be
// cancelled.
func giveUp(why error) {
	fmt.Fprintf(telemetry.Stderr, "\n%s: error: %v; check the disk, then run the command again\n",
		filepath.Base(os.Args[0]), why)
	telemetry.Exit(1)
}

func main() {
	private() // only the owner may read new files
	ctx := ending.OnSignal()
	var c cli
	k := kong.Parse(&c, kong.Description("EHI export server"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Writers(os.Stdout, telemetry.Stderr), kong.Exit(telemetry.Exit))
	if k.Command() != "doctor" { // doctor reports the problems itself
		k.FatalIfErrorf(settings.Refuse(settings.Problems(k.Flags(), node.Forms)))
	}
	drain := time.Duration(0)
	if k.Command() == "serve" {
		drain = c.Serve.Worker.Drain
	}
	ending.Within(ctx, drain)
	k.FatalIfErrorf(k.Run())
	telemetry.Exit(0)
}

type serveCmd struct {
	common
	node.Config
}

// Run runs the server until SIGTERM, SIGINT or SIGHUP.
func (s *serveCmd) Run(ctx context.Context) error { return ending.Orderly(ctx, s.serve(ctx)) }

func (s *serveCmd) serve(ctx context.Context) error {
	ending.Unheard()
	level := new(slog.LevelVar)
	level.Set(s.LogLevel)
	log, err := telemetry.NewLogger(telemetry.Stderr, s.LogFormat, level)
	if err != nil {
		return err
	}
	for {
		n, err := node.Open(ctx, s.Config, s.Data, log, node.Options{Level: level})
		if err != nil {
			return err
		}
		err = errors.Join(n.Run(ctx), n.Close())
		if !errors.Is(err, condition.ErrRoom) {
			return err
		}
		log.Info("reopened", "why", err)
		s.Addr = n.Addr() // clients know this address already
	}
}

type doctorCmd struct {
	common
	node.Config
}

// Run checks the configuration and prints the findings.
func (d *doctorCmd) Run(ctx context.Context) error {
	return doctor.Print(os.Stdout, doctor.Examine(ctx, d.Config, d.Data))
}
