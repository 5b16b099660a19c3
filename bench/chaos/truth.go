package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"ehi-server/bench/verify"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// export is the expected content of an export: its lines by type.
type export map[string]verify.Tally

// truth is the expected content of every export, read from the record store itself.
type truth struct {
	ids      []string
	patients map[string]export
	all      export // of a population's export
}

// prepare fills a record store and reads the truth from it.
func prepare(ctx context.Context, data string, patients int, seed uint64) (t *truth, err error) {
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	made := synthetic.Config{Patients: patients, Seed: seed}
	if err := store.Generate(ctx, made, time.Now(), func(int, int) {}); err != nil {
		return nil, err
	}
	list, err := store.Patients(ctx, patients)
	if err != nil {
		return nil, err
	}
	t = &truth{patients: map[string]export{}, all: export{}}
	for _, p := range list {
		r, err := store.Open(ctx, p.ID)
		if err != nil {
			return nil, err
		}
		of := export{}
		if err := of.read(ctx, r); err != nil {
			return nil, err
		}
		t.ids, t.patients[p.ID] = append(t.ids, p.ID), of
	}
	return t, t.readAll(ctx, store)
}

// readAll reads the expected content of an export of the whole store.
func (t *truth) readAll(ctx context.Context, store *dataset.Store) error {
	const name = "truth"
	population, err := store.Freeze(ctx, name)
	if err != nil {
		return err
	}
	selection := source.Selection{Level: ehi.System}
	parts, err := population.Plan(ctx, selection, 1<<30)
	if err != nil {
		return err
	}
	for _, part := range parts {
		r, err := population.Open(ctx, selection, part)
		if err != nil {
			return err
		}
		if err := t.all.read(ctx, r); err != nil {
			return err
		}
	}
	return errors.Join(population.Close(), store.Thaw(name))
}

// read adds a record and closes it.
func (e export) read(ctx context.Context, r source.Record) error {
	err := r.Scan(ctx, source.Query{}, func(res source.Resource) error {
		tally := e[res.Type]
		tally.Line(append(res.Line[:len(res.Line):len(res.Line)], '\n'))
		e[res.Type] = tally
		return nil
	})
	return errors.Join(err, r.Close())
}

// compare returns how an export differs from the expected one.
func (e export) compare(got export) error {
	for typ, want := range e {
		if got[typ] != want {
			return verify.Wrongf("%d lines and %d bytes of %s were exported, of %d and %d in the "+
				"store, or others", got[typ].Lines, got[typ].Bytes, typ, want.Lines, want.Bytes)
		}
	}
	for typ := range got {
		if _, known := e[typ]; !known {
			return verify.Wrongf("%s was exported, of which the store has none", typ)
		}
	}
	return nil
}

// binaries are the programs of a fleet.
type binaries struct{ api, exporter, nats string }

const natsServer = "github.com/nats-io/nats-server/v2"

// build builds the programs in dir, and uses those that exist in the folder ready. version is
// that of the NATS server, or "" for the embedded one's.
func build(ctx context.Context, dir, version, ready string) (b binaries, err error) {
	b.nats = filepath.Join(dir, "nats-server")
	if version != "" {
		if err := install(ctx, dir, natsServer+"@v"+version); err != nil {
			return b, err
		}
	} else if b.nats, err = command(ctx, dir, ready, "nats-server", natsServer); err != nil {
		return b, err
	}
	if b.api, err = command(ctx, dir, ready, "api", "ehi-server/api"); err != nil {
		return b, err
	}
	b.exporter, err = command(ctx, dir, ready, "exporter", "ehi-server/exporter")
	return b, err
}

// command returns the path of a program. It builds the program in dir unless it exists in the
// folder ready.
func command(ctx context.Context, dir, ready, name, of string) (string, error) {
	if ready != "" {
		if path := filepath.Join(ready, name); isFile(path) {
			return path, nil
		}
	}
	path := filepath.Join(dir, name)
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, of).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w: %s", of, err, out)
	}
	return path, nil
}

func isFile(path string) bool {
	is, err := os.Stat(path)
	return err == nil && is.Mode().IsRegular()
}

// install builds a version of a program from outside the workspace.
func install(ctx context.Context, dir, program string) error {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "install", program)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOBIN="+dir, "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w: %s", program, err, out)
	}
	return nil
}

// copyStore gives a process a record store of its own.
func copyStore(from, to string) error {
	return os.CopyFS(filepath.Join(to, dataset.Folder),
		os.DirFS(filepath.Join(from, dataset.Folder)))
}
