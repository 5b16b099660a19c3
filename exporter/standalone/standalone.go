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
	"time"

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
	NATS           string         `help:"URL of the server's NATS; of a cluster: those of its servers, with commas between them." name:"nats" required:"" env:"EHI_NATS" form:"nats"`
	NATSWait       time.Duration  `help:"How long to wait at the start for a NATS that is away." name:"nats-wait" default:"1m" env:"EHI_NATS_WAIT" range:"0s..1h"`
	NATSAccess     bus.Access     `embed:"" prefix:"nats-"`
	Data           string         `help:"Folder with a record store (records) of this process's own." default:"./data" env:"EHI_DATA" form:"name"`
	Source         string         `help:"As the server's." default:"records" env:"EHI_SOURCE" form:"source"`
	Exports        string         `help:"Exports folder, shared with the server. Default: exports in --data." env:"EHI_EXPORTS" form:"text"`
	Workers        int            `help:"Exports of patients that run at once." default:"4" env:"EHI_WORKERS" range:"0..1000"`
	BulkWorkers    int            `help:"Tasks of population exports that run at once; 0: one for every two processors." default:"0" env:"EHI_BULK_WORKERS" range:"0..1000"`
	Drain          time.Duration  `help:"As the server's." default:"20s" env:"EHI_DRAIN" range:"0s..1h"`
	SensitiveTable string         `help:"As the server's." type:"existingfile" env:"EHI_SENSITIVE_TABLE"`
	MetricsAddr    string         `help:"Address to serve /metrics, /healthz and /readyz on. Default: none." env:"EHI_METRICS_ADDR" form:"address"`
	Trace          tracing.Config `embed:"" prefix:"trace-"`
	LogFormat      string         `help:"text or json." enum:"text,json" default:"text" env:"EHI_LOG_FORMAT"`
	LogLevel       slog.Level     `help:"debug, info, warn or error." default:"info" env:"EHI_LOG_LEVEL"`
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
	rules, err := release.RulesFromFile(c.SensitiveTable)
	if err != nil {
		return err
	}
	records, err := kinds.Open(kinds.Config{Spec: c.Source, Data: c.Data, Log: log})
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
		URL:      c.NATS,
		Replicas: bus.KeepReplicas,
		Join:     true,
		Access:   c.NATSAccess,
		Wait:     c.NATSWait,
		Log:      log,
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
	log.Info("working", "nats", link.Servers(c.NATS), "workers", c.Workers)
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
			Workers:    c.Workers, BulkWorkers: c.BulkWorkers, Drain: c.Drain,
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
