// Package standalone runs an export worker as a process of its own. It joins the NATS of a
// server and takes export commands from it. It reads its own record store, because only one
// process can open a Pebble folder, and writes to the exports folder that it shares with the
// server. It takes commands only while it belongs to that server (exporter/pairing), and works
// within the server's limits.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"ehi-server/exporter/pairing"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
	"ehi-server/shared/link"
	"ehi-server/shared/settings"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Command is the command line. kong fills it from flags and EHI_* variables.
type Command struct {
	Data        string         `help:"Data folder of this process, with its own record store." default:"./data" env:"EHI_DATA" form:"name"`
	Source      kinds.Flags    `embed:""`
	Exports     string         `help:"Folder of export files, shared with the server. Default: exports in --data." env:"EHI_EXPORTS" form:"text"`
	Worker      worker.Flags   `embed:""`
	Release     release.Flags  `embed:""`
	MetricsAddr string         `help:"Address to serve /metrics, /healthz and /readyz on. Default: none." env:"EHI_METRICS_ADDR" form:"address"`
	Trace       tracing.Config `embed:"" prefix:"trace-"`
	NATS        string         `group:"NATS" name:"nats" help:"URL of the server's NATS, or comma-separated URLs of the servers of a cluster." required:"" env:"EHI_NATS" form:"nats"`
	bus.Dial    `group:"NATS"`
	LogFormat   string     `help:"Format of the log: text or json." enum:"text,json" default:"text" env:"EHI_LOG_FORMAT"`
	LogLevel    slog.Level `help:"Log level: debug, info, warn or error." default:"info" env:"EHI_LOG_LEVEL"`
}

// Run runs the worker until ctx ends.
func (c *Command) Run(ctx context.Context) (err error) {
	if wrong, err := settings.Of(c, kinds.Forms); err != nil || len(wrong) > 0 {
		return errors.Join(err, settings.Refuse(wrong))
	}
	log, err := telemetry.NewLogger(telemetry.Stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		return err
	}
	rules, err := c.Release.Rules()
	if err != nil {
		return err
	}
	records, err := kinds.Open(kinds.Config{Flags: c.Source, Data: c.Data, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	exports, err := c.openFiles(log)
	if err != nil {
		return err
	}
	held, err := exports.Hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	b, err := bus.Open(ctx, bus.Config{
		Flags: bus.Flags{URL: c.NATS, Replicas: bus.KeepReplicas, Dial: c.Dial},
		Join:  true,
		Log:   log,
	})
	if err != nil {
		return fmt.Errorf("join the server: %w", err)
	}
	defer b.Close()
	tracer, err := tracing.Open(ctx, c.Trace, "ehi-exporter", log)
	if err != nil {
		return err
	}
	defer tracer.Close()
	member := pairing.Join(pairing.Parts{
		Bus:    b,
		Source: records,
		Files:  exports,
		Rules:  rules,
		Name:   worker.Name(),
		Log:    log,
	}, nil)
	if c.MetricsAddr != "" {
		stop, err := watch(c.MetricsAddr, log, func(ctx context.Context) error {
			return errors.Join(b.Check(ctx), records.Check(ctx), exports.Check(), member.Check())
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	log.Info("working", "nats", link.Servers(c.NATS), "workers", c.Worker.Workers)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return member.Run(ctx) })
	group.Go(func() error {
		return worker.New(worker.Config{
			Bus:        b,
			Source:     records,
			Files:      exports,
			Rules:      rules,
			Log:        log,
			Tracer:     tracer,
			Name:       worker.Name(),
			Membership: member,
			Flags:      c.Worker,
		}).Run(ctx)
	})
	return group.Wait()
}

// openFiles opens the export file store. It decides which kind of store to use.
func (c *Command) openFiles(log *slog.Logger) (files.Store, error) {
	if c.Exports == "" {
		c.Exports = filepath.Join(c.Data, files.Folder)
	}
	return local.Open(local.Config{Root: c.Exports, Log: log})
}
