package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ehi-server/api/client"
)

// intruders are exporters that do not belong to the server. They come and go during all other
// faults, and must never receive a command.
type intruders struct {
	mu     sync.Mutex
	dir    string
	pids   map[string]bool // of all intruders so far, as text
	wrongs []string        // violations so far
	came   int
}

// wrongness is a difference between an intruder and the server. args returns its command line,
// in addition to that of all exporters.
type wrongness struct {
	name string
	args func(f *fleet, dir string) []string
}

var wrongnesses = []wrongness{
	{"records", func(f *fleet, dir string) []string {
		return []string{"--data", filepath.Join(dir, "empty"), "--exports", f.exports()}
	}},
	{"files", func(f *fleet, dir string) []string {
		return []string{"--data", dir, "--exports", filepath.Join(dir, "exports")}
	}},
	{"rules", func(f *fleet, dir string) []string {
		return []string{
			"--data", dir, "--exports", f.exports(), "--sensitive-table",
			filepath.Join(dir, "table.csv"),
		}
	}},
}

// joins is what an exporter logs when it takes commands.
const joins = "this exporter belongs to the server, and takes commands"

// settle gives the intruders a copy of the records, and a table of their own.
func (in *intruders) settle(dir, store string) error {
	in.dir, in.pids = dir, map[string]bool{}
	if err := copyStore(store, dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "table.csv"), []byte("# nothing is sensitive\n"), 0o600)
}

// intrusion is the fault that an exporter that does not belong starts and ends after a while.
func intrusion(f *fleet, r *rand.Rand) func(context.Context, *process) bool {
	w, stay := wrongnesses[r.IntN(len(wrongnesses))], between(r, time.Second, 3*time.Second)
	return func(ctx context.Context, _ *process) bool {
		in := &f.intruders
		if !in.mu.TryLock() { // one at a time, because they share a folder
			return false
		}
		defer in.mu.Unlock()
		in.came++
		f.totals.intruders.Add(1)
		if err := f.intrude(ctx, w, stay); err != nil {
			in.wrongs = append(in.wrongs, fmt.Sprintf("an exporter with other %s: %v", w.name, err))
		}
		return true
	}
}

// intrude runs an intruder for a while. Errors: it considers itself to belong, or does not end.
func (f *fleet) intrude(ctx context.Context, w wrongness, stay time.Duration) error {
	in := &f.intruders
	path := filepath.Join(f.dir, fmt.Sprintf("wrong-%d-%s.log", in.came, w.name))
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close() // the process writes to it
	cmd := exec.Command(f.binaries.exporter,
		append(w.args(f, in.dir), "--nats", f.natsURL, "--workers", "4")...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	in.pids[fmt.Sprint(cmd.Process.Pid)] = true
	_ = client.Sleep(ctx, stay) // also interrupted at the end of the run
	_ = cmd.Process.Signal(sigterm)
	hangs := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // it may have given up on an unreachable NATS
	if !hangs.Stop() {
		return errors.New("it does not end")
	}
	said, err := os.ReadFile(path)
	if err == nil && strings.Contains(string(said), joins) {
		err = fmt.Errorf("it says that it belongs: %s", path)
	}
	return err
}

// told reports the intruders' violations. workers are those that have had a task.
func (in *intruders) told(workers []string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	wrongs := in.wrongs
	for _, name := range workers {
		if pid := name[strings.LastIndex(name, "-")+1:]; in.pids[pid] {
			wrongs = append(wrongs,
				"a task was in the hands of an exporter that does not belong: "+name)
		}
	}
	if len(wrongs) > 0 {
		return errors.New(strings.Join(wrongs, "; "))
	}
	return nil
}
