package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
)

// heldTokens is how many records that expire are in a state of withTokens.
const heldTokens = 400

// withTokens makes a state with records that expire, over several blocks, and stops it in good
// order.
func withTokens(t *testing.T) (dir string) {
	t.Helper()
	dir = filled(t)
	b := opened(t, dir, nil)
	for n := range heldTokens {
		err := b.Auth.PutFor(t.Context(), account.Of("token", fmt.Sprint(n)),
			bytes.Repeat([]byte("t"), 30_000), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	if n := len(blocks(t, dir, kv.StreamOf(bucketAuth))); n < 2 {
		t.Fatalf("%d blocks", n)
	}
	return dir
}

// contents are all files below a folder, but for the lock.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "lock" {
			return err
		}
		all[at], err = os.ReadFile(at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// harm is one thing that a disk does to a file.
type harm struct {
	name string
	do   func(*rand.Rand, []byte) []byte
}

var harms = []harm{
	{"removed", func(*rand.Rand, []byte) []byte { return nil }},
	{"truncated", func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] }},
	{"zeroed", func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b))
		clear(b[at:min(len(b), at+1+r.IntN(4096))])
		return b
	}},
	{
		"flipped",
		func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b },
	},
}

// Whatever a disk does to a file of the state after an orderly stop is said with the file's
// name, of records that expire as of others, and the refused start changes nothing: with the
// file put back the state is whole. What NATS creates again is no reason to refuse.
func TestARefusedStartChangesNothing(t *testing.T) {
	t.Parallel()
	rounds := 60
	if testing.Short() {
		rounds = 12
	}
	dir := withTokens(t)
	start := contents(t, filepath.Dir(dir))
	var names []string
	for name := range start {
		rel, err := filepath.Rel(dir, name)
		if err == nil && isKept(filepath.ToSlash(rel)) && len(start[name]) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d files", seed, len(names))
	random, refused := rand.New(rand.NewPCG(seed, 1)), 0
	for round := range rounds {
		replaceAll(t, filepath.Dir(dir), start)
		name := names[random.IntN(len(names))]
		if round < len(names) { // each once
			name = names[round]
		}
		h := harms[random.IntN(len(harms))]
		damaged := h.do(random, bytes.Clone(start[name]))
		if bytes.Equal(damaged, start[name]) {
			continue
		}
		put(t, name, damaged)
		before := contents(t, dir)
		log := &lines{}
		b, err := reopen(t, dir, func(c *Config) {
			c.Log = slog.New(slog.NewTextHandler(log, nil))
		})
		rel, _ := filepath.Rel(dir, name)
		if fine := mayGo(streamOf(filepath.ToSlash(rel))) || mayGoFile(name); fine {
			if err != nil {
				t.Fatalf("%s %s: %v", name, h.name, err)
			}
			whole(t, b, name+" "+h.name)
			if !strings.Contains(log.String(), name) {
				t.Errorf("%s %s is not said: %s", name, h.name, log)
			}
			continue
		}
		if err == nil {
			b.Close()
		}
		if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), name) {
			t.Fatalf("%s %s: %v", name, h.name, err)
		}
		refused++
		if after := contents(t, dir); !maps.EqualFunc(before, after, bytes.Equal) {
			t.Fatalf("%s %s: the refused start has changed something", name, h.name)
		}
		put(t, name, start[name])
		whole(t, opened(t, dir, nil), name+" "+h.name+", put back")
	}
	if refused == 0 {
		t.Error("no start was refused")
	}
	t.Logf("%d starts of %d were refused", refused, rounds)
}

// whole holds a state to what withTokens has put into it, and closes it.
func whole(t *testing.T, b *Bus, of string) {
	t.Helper()
	defer b.Close()
	tokens := 0
	err := b.Auth.Entries(t.Context(), account.All(), func(e kv.Entry) error {
		if strings.Contains(e.Key.String(), "token") {
			tokens++
		}
		return nil
	})
	if err != nil || tokens != heldTokens {
		t.Errorf("%s: %d tokens, %v", of, tokens, err)
	}
	if n := len(b.Jobs.List(func(Summary) bool { return true })); n != heldJobs-1 {
		t.Errorf("%s: %d jobs", of, n)
	}
}

func put(t *testing.T, name string, data []byte) {
	t.Helper()
	err := os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil && data != nil {
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replaceAll makes a folder what it was.
func replaceAll(t *testing.T, dir string, to map[string][]byte) {
	t.Helper()
	names, err := os.ReadDir(dir)
	for _, e := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	for name, data := range to {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o700),
			os.WriteFile(name, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Nothing that the server itself does is taken for a loss: records are made, changed and
// deleted, expire while the server runs and while it does not, and it is stopped, or refused,
// any number of times.
func TestNoOrderlyStateIsTakenForALoss(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	b := opened(t, dir, nil)
	defer func() { b.Close() }()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r, expiring := rand.New(rand.NewPCG(seed, 1)), 0
	for step := range 300 {
		id := fmt.Sprint("id-", r.IntN(10))
		var err error
		switch r.IntN(8) {
		case 0:
			err = b.Jobs.Create(t.Context(), &ehi.Job{
				Version:   ehi.RecordVersion,
				ID:        id,
				CreatedAt: time.Now().UTC(),
			})
		case 1:
			err = b.Jobs.Delete(t.Context(), id)
		case 2:
			_, err = b.Auth.Put(t.Context(), account.Of(id), make([]byte, r.IntN(300_000)))
		case 3, 4:
			expiring++
			err = b.Auth.PutFor(t.Context(), account.Of("code", fmt.Sprint(step)),
				make([]byte, 100_000), time.Duration(1+r.IntN(3))*time.Second)
		case 5:
			err = b.Auth.PutFor(t.Context(), account.Of(id), make([]byte, r.IntN(100_000)),
				time.Hour)
		case 6:
			err = b.Auth.Forget(t.Context(), account.Of(id))
		case 7:
			b.Close()
			b, err = reopen(t, dir, nil)
		}
		_, refused := errors.AsType[*ehi.Error](err) // it exists, or does not
		if err != nil && !refused {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	awaitExpiry(t, b)
	b.Close()
	opened(t, dir, nil).Close()
	if expiring == 0 {
		t.Error("nothing expired")
	}
}

// awaitExpiry waits until all codes have expired.
func awaitExpiry(t *testing.T, b *Bus) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		left := 0
		err := b.Auth.Entries(t.Context(), account.Under("code"), func(kv.Entry) error {
			left++
			return nil
		})
		switch {
		case err != nil || time.Now().After(deadline):
			t.Fatalf("%d codes are left, %v", left, err)
		case left == 0:
			return
		}
	}
}

// A list that is damaged itself is said, and is no list any more.
func TestADamagedListOfFilesIsSaid(t *testing.T) {
	dir := filled(t)
	flip(t, listPath(dir), 0.5)
	log := &lines{}
	opened(t, dir, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) }).Close()
	if !strings.Contains(log.String(), listPath(dir)) {
		t.Errorf("the log says: %s", log)
	}
	opened(t, dir, nil).Close()
}

// What an operator has accepted is not forgotten before the server has started.
func TestAnAcceptedLossIsSaidUntilTheServerHasStarted(t *testing.T) {
	dir := filled(t)
	damages[flipped](t, dir, kv.StreamOf(bucketAuth))
	b := &Bus{
		cfg: Config{
			StoreDir: dir,
			Flags:    Flags{AcceptLoss: true},
			Log:      slog.New(slog.DiscardHandler),
		},
	}
	if err := b.checkFiles(t.Context()); err != nil { // and then it is killed
		t.Fatal(err)
	}
	if b, err := reopen(t, dir, nil); !errors.Is(err, ErrLost) {
		if err == nil {
			b.Close()
		}
		t.Error(err)
	}
}
