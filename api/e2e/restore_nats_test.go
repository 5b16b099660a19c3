package e2e

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ehi-server/api/backup"
	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// external returns the state in the NATS at a URL, with a data folder.
func (s *storm) external(url, data string) bus.Config {
	s.Helper()
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		s.Fatal(err)
	}
	return bus.Config{Flags: bus.Flags{URL: url}, Audit: &bus.AuditConfig{}, Files: store}
}

// opens returns the error of opening a state.
func (s *storm) opens(state bus.Config) error {
	b, err := bus.Open(s.Context(), state)
	if err == nil {
		b.Close()
	}
	return err
}

// again runs a restore that must succeed.
func (s *storm) again(args []string) {
	s.Helper()
	if out, err := s.run(0, args...); err != nil {
		s.Errorf("it cannot be made again: %v, %s", err, out)
	}
}

// killRestore runs a restore into the NATS at a URL and kills it: at any time or, if marked,
// soon after NATS reports that one has begun.
func (s *storm) killRestore(url string, args []string, marked bool) error {
	cmd := exec.CommandContext(s.Context(), s.binary, args...)
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	most := s.takes * 5 / 4
	if marked {
		most = 50 * time.Millisecond
		for len(ended) == 0 &&
			!errors.Is(s.opens(bus.Config{Flags: bus.Flags{URL: url}}), bus.ErrUnfinished) {
			continue // it has not begun
		}
	}
	// it may have ended
	timer := time.AfterFunc(time.Duration(s.rand.Int64N(int64(most))),
		func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return <-ended
}

// killedAtNATS kills a restore into an external NATS. Opening the state is then refused, or
// finds nothing, or finds everything that belongs to the folder. The same restore, repeated,
// restores everything.
func (s *storm) killedAtNATS(data string, marked bool) {
	nats, err := bus.Open(s.Context(), bus.Config{
		StoreDir: s.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
		Audit:    &bus.AuditConfig{},
	})
	if err != nil {
		s.Fatal(err)
	}
	defer nats.Close()
	url := nats.ClientURL()
	args := []string{"restore", "--data", data, "--nats", url, s.archive}
	err = s.killRestore(url, args, marked)
	outsider, unfinished := s.opens(bus.Config{Flags: bus.Flags{URL: url}}), backup.Unfinished(data)
	switch _, missing := os.Stat(filepath.Join(data, files.Folder)); {
	case err == nil && (outsider != nil || unfinished != nil):
		s.Errorf("it succeeded, and is not finished: %v, %v", outsider, unfinished)
	// the folder is in place, and together they are complete
	case missing == nil && unfinished == nil:
		s.outcome("restore into NATS killed: the whole (NATS knows it: %t)", outsider == nil)
	case errors.Is(outsider, bus.ErrUnfinished):
		out, e := s.run(0, "serve", "--nats", url, "--data", data+".other", "--addr", "127.0.0.1:0")
		if e == nil || !strings.Contains(out, bus.ErrUnfinished.Error()) {
			s.Errorf("a server opens what is left: %v, %s", e, out)
		}
		s.outcome("restore into NATS killed: refused until it is made again")
		s.again(args)
	case outsider != nil:
		s.Errorf("it cannot be opened: %v", outsider)
	default:
		if n := nats.Jobs.List(func(bus.Summary) bool { return true }); len(n) > 0 {
			s.Errorf("%d jobs are there, and nothing says that they are a part", len(n))
		}
		s.outcome("restore into NATS killed: nothing")
		s.again(args)
	}
	if !maps.Equal(s.held(data, s.external(url, data)), s.want) {
		s.Error("it is not the backup")
	}
	if err := s.opens(bus.Config{Flags: bus.Flags{URL: url}}); err != nil {
		s.Errorf("the restore does not end: %v", err)
	}
	second := []string{"restore", "--data", data + ".second", "--nats", url, s.archive}
	if out, err := s.run(0, second...); err == nil || !strings.Contains(out, bus.ErrHolds.Error()) {
		s.Errorf("a second restore into it: %v, %s", err, out)
	}
	s.oneAtATime(url, second)
}

// oneAtATime requires that a restore is refused while another one runs.
func (s *storm) oneAtATime(url string, args []string) {
	release, err := bus.RestoreAlone(s.Context(), url, bus.Access{})
	if err != nil {
		s.Fatal(err)
	}
	defer release()
	out, err := s.run(0, args...)
	if err == nil || !strings.Contains(out, bus.ErrRestoring.Error()) {
		s.Errorf("a restore while another one goes on: %v, %s", err, out)
	}
}

// Issue 20, item 6: a restore into an external NATS is complete, or is never taken for complete,
// wherever it was killed. It can be repeated.
func TestARestoreIntoNATSIsWholeOrRefused(t *testing.T) {
	t.Parallel()
	s, p := newStorm(t)
	rounds := backupRounds(t)
	for n := range rounds {
		s.killedAtNATS(filepath.Join(s.dir, "nats"+strconv.Itoa(n)), n%3 != 2)
	}
	for what, n := range s.counts {
		t.Logf("%4d %s", n, what)
	}
	p.terminate()
	p.ended(stopWithin)
}
