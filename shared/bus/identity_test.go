package bus_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// pair opens a state for the files of a folder.
func pair(t *testing.T, state, exports string, accept bool) (*bus.Bus, *local.Store, error) {
	t.Helper()
	f, err := local.Open(local.Config{Root: exports})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), bus.Config{
		StoreDir: state,
		Files:    f,
		Flags:    bus.Flags{AcceptLoss: accept},
	})
	return b, f, err
}

// Files and state that do not belong together are not served: the keeper would take the files for
// garbage. They are where nothing says otherwise, or an operator does.
func TestFilesAndStateBelongTogether(t *testing.T) {
	state, exports := t.TempDir(), t.TempDir()
	b, f, err := pair(t, state, exports, false)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := f.Identity()
	if err != nil || mine == "" {
		t.Fatalf("identity %q, %v", mine, err)
	}
	if _, err := b.Tasks.Take(t.Context(), "job", 0, 0, "w", time.Now()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if b, _, err = pair(t, state, exports, false); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	b.Close()
	other, foreign := t.TempDir(), t.TempDir()
	if b, _, err = pair(t, other, foreign, false); err != nil {
		t.Fatal(err)
	}
	b.Close()
	for name, c := range map[string]struct {
		state, exports string
		want           error
		says           string
	}{
		"an empty state":      {t.TempDir(), exports, bus.ErrLost, mine},
		"another state":       {other, exports, bus.ErrStranger, mine},
		"others' exports":     {state, foreign, bus.ErrStranger, mine},
		"no exports any more": {state, t.TempDir(), bus.ErrLost, "1 tasks"},
	} {
		b, _, err := pair(t, c.state, c.exports, false)
		if err == nil {
			b.Close()
		}
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) ||
			!strings.Contains(err.Error(), "--accept-loss") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, f, err = pair(t, t.TempDir(), exports, true); err != nil {
		t.Fatalf("with the operator's word: %v", err)
	}
	b.Close()
	if now, err := f.Identity(); err != nil || now != mine {
		t.Errorf("the files are now of state %q, %v", now, err)
	}
}

// Exports whose identity is damaged are not those of another state: the message names the file,
// and an operator's word mends it.
func TestADamagedIdentityIsNamed(t *testing.T) {
	state, exports := t.TempDir(), t.TempDir()
	b, f, err := pair(t, state, exports, false)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	path := filepath.Join(exports, ".identity")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		damaged := slices.Clone(whole)
		damaged[at] ^= 2
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Identity(); !errors.Is(err, files.ErrIdentity) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	if _, _, err = pair(t, state, exports, false); err == nil ||
		!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), mine) {
		t.Errorf("%v", err)
	}
	if b, f, err = pair(t, state, exports, true); err != nil {
		t.Fatalf("with the operator's word: %v", err)
	}
	b.Close()
	if now, err := f.Identity(); err != nil || now != mine {
		t.Errorf("the identity is %q, %v", now, err)
	}
}

// Processes that make a state together agree about its identity.
func TestProcessesThatBeginTogetherAgree(t *testing.T) {
	nats, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Close)
	through := func(fs *local.Store) error {
		b, err := bus.Open(t.Context(), bus.Config{
			Flags: bus.Flags{URL: nats.ClientURL()},
			Files: fs,
		})
		if err == nil {
			b.Close()
		}
		return err
	}
	var group errgroup.Group
	var seen [6]string
	for i := range seen {
		group.Go(func() error {
			f, err := local.Open(local.Config{Root: t.TempDir()})
			if err != nil {
				return err
			}
			if err := through(f); err != nil {
				return err
			}
			seen[i], err = f.Identity()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, is := range seen {
		if is == "" || is != seen[0] {
			t.Errorf("identities %q", seen)
		}
	}
}

// The loss of one bucket, or of its identity, is noticed or mended.
func TestALostBucketIsNoticed(t *testing.T) {
	for _, name := range []string{bus.JobRecords, bus.TaskRecords, bus.AuthRecords} {
		state, exports := t.TempDir(), t.TempDir()
		b, _, err := pair(t, state, exports, false)
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		through(t, state, func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteKeyValue(ctx, name)
		})
		b, _, err = pair(t, state, exports, false)
		if err == nil {
			b.Close()
		}
		if !errors.Is(err, bus.ErrLost) || !strings.Contains(err.Error(), name) {
			t.Errorf("without bucket %s: %v", name, err)
		}
		if b, _, err = pair(t, state, exports, true); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if b, _, err = pair(t, state, exports, false); err != nil {
			t.Errorf("after the operator's word: %v", err)
			continue
		}
		b.Close()
	}
}

// through changes a state behind the server's back.
func through(t *testing.T, state string, f func(context.Context, jetstream.JetStream) error) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{
		StoreDir: state,
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	conn, err := nats.Connect(b.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := f(t.Context(), js); err != nil {
		t.Fatal(err)
	}
}

// A start that is refused after the state was opened has accepted nothing: the next one, without
// the operator's word, is refused as before; and the right one goes on as if there had been
// none.
func TestALossIsAcceptedOnlyByASuccessfulStart(t *testing.T) {
	state, exports := t.TempDir(), t.TempDir()
	first, f, err := pair(t, state, exports, false)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Tasks.Take(t.Context(), "job", 0, 0, "w", time.Now()); err != nil {
		t.Fatal(err)
	}
	first.Close()
	other, foreign := t.TempDir(), t.TempDir()
	second, _, err := pair(t, other, foreign, false)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	tentative := func(state, exports string) *bus.Bus {
		t.Helper()
		f, err := local.Open(local.Config{Root: exports})
		if err != nil {
			t.Fatal(err)
		}
		b, err := bus.Open(t.Context(), bus.Config{
			StoreDir:  state,
			Files:     f,
			Flags:     bus.Flags{AcceptLoss: true},
			Tentative: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	empty, gone := t.TempDir(), t.TempDir()
	for name, c := range map[string]struct {
		state, exports string
		want           error
	}{
		"an empty state":      {empty, exports, bus.ErrLost},
		"another state":       {other, exports, bus.ErrStranger},
		"no exports any more": {state, gone, bus.ErrLost},
	} {
		tentative(c.state, c.exports).Close()
		b, _, err := pair(t, c.state, c.exports, false)
		if err == nil {
			b.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if is, err := f.Identity(); err != nil || is != mine {
			t.Errorf("%s: the exports are of state %s now, and were of %s; %v", name, is, mine, err)
		}
	}
	if first, _, err = pair(t, state, exports, false); err != nil {
		t.Fatalf("what belongs together: %v", err)
	}
	first.Close()
	b := tentative(other, exports)
	if err := b.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if b, _, err = pair(t, other, exports, false); err != nil {
		t.Fatalf("what was adopted: %v", err)
	}
	b.Close()
}
