package pairing_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/exporter/pairing"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub starts a NATS that several processes join.
func hub(t *testing.T) (url string) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.ClientURL()
}

// made returns a source that any process can open; another seed gives another source.
func made(t *testing.T, seed string) source.Source {
	t.Helper()
	s, err := kinds.Open(kinds.Config{
		Flags: kinds.Flags{Spec: "synthetic:patients=2,seed=" + seed},
		Data:  t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// parts returns the parts of a process.
func parts(t *testing.T, url, folder string, s source.Source) pairing.Parts {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Flags: bus.Flags{URL: url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	return pairing.Parts{
		Bus: b, Source: s, Files: storeIn(t, folder), Rules: rules,
		Name: filepath.Base(folder), Log: slog.New(slog.DiscardHandler),
	}
}

// serve opens a server and runs it until the test ends, or stop is called.
func serve(t *testing.T, p pairing.Parts) (stop func()) {
	t.Helper()
	s, err := pairing.Open(t.Context(), p, ehi.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return running(t, s.Run)
}

func running(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return stop
}

// A second server on the same NATS is refused while the first runs, unless it has the same
// folder and records, because each would take the other's exporters. The message names both
// folders.
func TestTwoServersThatDifferAreNotOnOneNATS(t *testing.T) {
	url := hub(t)
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	s := made(t, "1")
	stop := serve(t, parts(t, url, first, s))
	said, err := parts(t, url, first, s).Bus.Fleet.Terms(t.Context())
	if err != nil || said == nil {
		t.Fatalf("%+v, %v", said, err)
	}
	other := parts(t, url, second, s)
	own, err := other.Files.DrawProof("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = pairing.Open(t.Context(), other, ehi.Limits{})
	if !errors.Is(err, pairing.ErrOtherServer) {
		t.Fatalf("another folder: %v", err)
	}
	for _, part := range []string{first, said.Files, second, own} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	_, err = pairing.Open(t.Context(), parts(t, url, first, made(t, "2")), ehi.Limits{})
	if !errors.Is(err, pairing.ErrOtherServer) ||
		!strings.Contains(err.Error(), "seed=1") || !strings.Contains(err.Error(), "seed=2") {
		t.Errorf("other records: %v", err)
	}
	if is, err := storeIn(t, first).HasProof(said.Files); err != nil || !is {
		t.Errorf("the refused servers have removed the first one's text: %v", err)
	}
	serve(t, parts(t, url, first, s))() // the same folder and records
	stop()
	serve(t, other) // the first one has stopped
}

// If servers with different folders start at the same moment, one is accepted.
func TestOneOfSeveralSimultaneousServersIsAccepted(t *testing.T) {
	url := hub(t)
	s := made(t, "1")
	var all []pairing.Parts
	for range 5 {
		all = append(all, parts(t, url, t.TempDir(), s))
	}
	var together sync.WaitGroup
	results := make([]error, len(all))
	for i := range all {
		together.Go(func() { _, results[i] = pairing.Open(t.Context(), all[i], ehi.Limits{}) })
	}
	together.Wait()
	taken := 0
	for _, err := range results {
		if err == nil {
			taken++
		} else if !errors.Is(err, pairing.ErrOtherServer) {
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("%d were taken", taken)
	}
}

func storeIn(t *testing.T, folder string) *local.Store {
	t.Helper()
	f, err := local.Open(local.Config{Root: folder})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// member returns the exporter of a process.
func member(t *testing.T, p pairing.Parts) *pairing.Member {
	t.Helper()
	m := pairing.Join(p, nil)
	running(t, m.Run)
	return m
}

// An exporter is admitted exactly while nothing differs from the server. Otherwise it learns
// what differs.
func TestAMemberIsLetInWhileNothingDiffers(t *testing.T) {
	url := hub(t)
	folder := t.TempDir()
	s := made(t, "1")
	waiting := member(t, parts(t, url, folder, s)) // before its server has started
	if err := waiting.Check(); !errors.Is(err, pairing.ErrMismatch) {
		t.Errorf("without a server: %v", err)
	}
	stop := serve(t, parts(t, url, folder, s))
	pass, done, err := waiting.Admitted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	sensitive, err := release.SensitiveTable(strings.NewReader("# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	rules := parts(t, url, folder, s)
	rules.Rules = release.NewRules(sensitive)
	for what, p := range map[string]pairing.Parts{
		ehi.OtherRecords: parts(t, url, folder, made(t, "2")),
		ehi.OtherFiles:   parts(t, url, t.TempDir(), s),
		ehi.OtherRules:   rules,
	} {
		m := member(t, p)
		await(t, what, func() bool {
			err := m.Confirm(t.Context())
			return errors.Is(err, pairing.ErrMismatch) && strings.Contains(err.Error(), what+": ")
		})
		if m.Accepts(t.Context(), p.Source.Records()) == nil != (what != ehi.OtherRecords) {
			t.Errorf("%s: its records are taken for the server's, or not", what)
		}
	}
	stop()
	if err := pass.Err(); err != nil {
		t.Errorf("exporters end with their server: %v", err)
	}
	serve(t, parts(t, url, t.TempDir(), s)) // another folder, after the first server has stopped
	select {
	case <-pass.Done():
	case <-t.Context().Done():
		t.Error("the exporter goes on for a server that it does not belong to")
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// A server that cannot write to the folder of the texts reports this for as long as exports wait
// for it.
func TestAServerThatCannotWriteItsTextIsNotReady(t *testing.T) {
	url, folder := hub(t), t.TempDir()
	blocked := filepath.Join(folder, files.ProofsFolder)
	// nobody can write to it, not even root
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := pairing.Open(t.Context(), parts(t, url, folder, made(t, "1")), ehi.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), files.ProofsFolder) {
		t.Errorf("the server says %v", err)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(
		30 * time.Second); s.Check() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the folder can be written, and the server says %v", s.Check())
		}
	}
}
