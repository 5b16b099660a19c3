package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// heldJobs is how many jobs filled makes.
const heldJobs = 40

// filled makes a state with jobs, accounts, codes that expire, and an audit trail, and stops it
// in good order.
func filled(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "nats")
	b := opened(t, dir, nil)
	for n := range heldJobs {
		j := &ehi.Job{
			Version:   ehi.RecordVersion,
			ID:        fmt.Sprintf("job-%d", n),
			Status:    ehi.AwaitingInput,
			ClientID:  strings.Repeat("x", 4000),
			CreatedAt: time.Now().UTC(),
		}
		if err := b.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		_, err := b.Auth.Put(t.Context(), account.Of(j.ID), []byte(strings.Repeat("z", 3000)))
		if err != nil {
			t.Fatal(err)
		}
		err = b.Auth.PutFor(t.Context(), account.Of("code", j.ID), []byte("{}"), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		b.Audit.Record(ehi.Event{
			At:      time.Now(),
			Action:  ehi.ActionLogIn,
			Outcome: ehi.Succeeded,
			Patient: "p",
			Detail:  strings.Repeat("y", 200),
		})
	}
	if err := b.Jobs.Delete(t.Context(), "job-0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Audit.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	b.Close()
	return dir
}

var account = subject.KindOf("account")

func opened(t *testing.T, dir string, change func(*Config)) *Bus {
	t.Helper()
	b, err := reopen(t, dir, change)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func reopen(t *testing.T, dir string, change func(*Config)) (*Bus, error) {
	cfg := Config{StoreDir: dir, Audit: &AuditConfig{TTL: time.Hour}}
	if change != nil {
		change(&cfg)
	}
	return Open(t.Context(), cfg)
}

// blocks are the files in which a stream's messages are.
func blocks(t *testing.T, dir, stream string) []string {
	t.Helper()
	all, err := filepath.Glob(
		filepath.Join(dir, "jetstream", "$G", "streams", stream, "msgs", "*.blk"))
	if err != nil || len(all) == 0 {
		t.Fatalf("blocks of %s: %q, %v", stream, all, err)
	}
	return all
}

func flip(t *testing.T, path string, share float64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[int(float64(len(data))*share)] ^= 0x40
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const flipped = "a flipped byte"

// damages are what can befall the blocks of a stream.
var damages = map[string]func(t *testing.T, dir, stream string){
	flipped: func(t *testing.T, dir, stream string) { flip(t, blocks(t, dir, stream)[0], 0.4) },
	"a flipped byte, and no state file": func(t *testing.T, dir, stream string) {
		path := blocks(t, dir, stream)[0]
		flip(t, path, 0.5)
		if err := os.Remove(filepath.Join(filepath.Dir(path), "index.db")); err != nil {
			t.Fatal(err)
		}
	},
	"a truncated block": func(t *testing.T, dir, stream string) {
		path := blocks(t, dir, stream)[0]
		info, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, info.Size()/2)
		}
		if err != nil {
			t.Fatal(err)
		}
	},
	"an empty block": func(t *testing.T, dir, stream string) {
		if err := os.Truncate(blocks(t, dir, stream)[0], 0); err != nil {
			t.Fatal(err)
		}
	},
	"a removed block": func(t *testing.T, dir, stream string) {
		if err := os.Remove(blocks(t, dir, stream)[0]); err != nil {
			t.Fatal(err)
		}
	},
	"a removed stream": func(t *testing.T, dir, stream string) {
		if err := os.RemoveAll(filepath.Dir(filepath.Dir(blocks(t, dir, stream)[0]))); err != nil {
			t.Fatal(err)
		}
	},
	"a flipped byte in the stream's description": func(t *testing.T, dir, stream string) {
		flip(t, filepath.Join(filepath.Dir(filepath.Dir(blocks(t, dir, stream)[0])), "meta.inf"),
			0.5)
	},
}

// What the embedded NATS has lost of jobs, accounts or the audit trail since the last stop is
// said, and nothing is served, until an operator accepts it; then that is so for good.
func TestALossSinceTheLastStopIsSaid(t *testing.T) {
	for _, stream := range []string{kv.StreamOf(bucketJobs), kv.StreamOf(bucketAuth), auditStream} {
		for name, damage := range damages {
			t.Run(stream+": "+name, func(t *testing.T) {
				t.Parallel()
				dir := filled(t)
				damage(t, dir, stream)
				log := &lines{}
				for range 2 { // it is not forgotten by the first start that says so
					b, err := reopen(t, dir, func(c *Config) {
						c.Log = slog.New(slog.NewTextHandler(log, nil))
					})
					if err == nil {
						all := b.Jobs.List(func(Summary) bool { return true })
						b.Close()
						t.Fatalf("it is served, with %d jobs; the log: %s", len(all), log)
					}
					if !errors.Is(err, ErrLost) ||
						!strings.Contains(err.Error(), strings.TrimPrefix(stream, "KV_")) &&
							!strings.Contains(err.Error(), "audit trail") ||
						!strings.Contains(err.Error(), "--accept-loss") {
						t.Fatal(err)
					}
					t.Log(err)
				}
				b, err := reopen(t, dir, func(c *Config) { c.AcceptLoss = true })
				if err != nil {
					t.Fatal(err)
				}
				b.Close()
				if b, err = reopen(t, dir, nil); err != nil {
					t.Fatalf("after the operator's word: %v", err)
				}
				err = b.Jobs.Create(t.Context(), &ehi.Job{
					Version:   ehi.RecordVersion,
					ID:        "new",
					CreatedAt: time.Now().UTC(),
				})
				if err != nil {
					t.Error(err)
				}
				b.Close()
			})
		}
	}
}

// A state without a loss is taken as it is: after an orderly stop, and after records have
// expired, after a kill, which leaves the inventory of a running server, and where a newer state
// is than the inventory knows.
func TestAWholeStateIsNotMistrusted(t *testing.T) {
	dir := filled(t)
	b := opened(t, dir, nil)
	v, err := readInventory(dir)
	if err != nil || v == nil || !v.Stopped.IsZero() ||
		v.Streams[kv.StreamOf(bucketJobs)].Last == 0 {
		t.Fatalf("the inventory of a running server: %+v, %v", v, err)
	}
	if err := b.Jobs.Delete(t.Context(), "job-1"); err != nil { // as if it were killed after this
		t.Fatal(err)
	}
	b.link.Close()
	b.stopInventory()
	b.Jobs.close()
	if err := b.embedded.stop(); err != nil {
		t.Fatal(err)
	}
	b.Jobs, b.embedded, b.link = nil, nil, nil
	if err := b.locked.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b = opened(t, dir, nil)
		if n := len(b.Jobs.List(func(Summary) bool { return true })); n != heldJobs-2 {
			t.Errorf("%d jobs", n)
		}
		b.Close()
	}
	if v, err = readInventory(dir); err != nil || v.Stopped.IsZero() || v.Identity == "" {
		t.Fatalf("the inventory of a stopped server: %+v, %v", v, err)
	}
}

// A killed server's state is compared too, with what is known to have been there at least.
func TestALossAfterAKillIsSaid(t *testing.T) {
	dir := filled(t)
	v, err := readInventory(dir)
	if err != nil {
		t.Fatal(err)
	}
	v.Stopped = time.Time{}
	if err := errors.Join(v.write(dir), removeFileList(dir)); err != nil {
		t.Fatal(err)
	}
	damages["a truncated block"](t, dir, kv.StreamOf(bucketJobs))
	damages["a flipped byte, and no state file"](t, dir, kv.StreamOf(bucketJobs))
	b, err := reopen(t, dir, nil)
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "lacks the newest") {
		if err == nil {
			b.Close()
		}
		t.Error(err)
	}
}

// An inventory that cannot be read is no reason to go on as if there were none.
func TestADamagedInventoryIsSaid(t *testing.T) {
	dir := filled(t)
	if err := os.WriteFile(inventoryFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := reopen(t, dir, nil)
	if err == nil || !strings.Contains(err.Error(), inventoryFile(dir)) {
		if err == nil {
			b.Close()
		}
		t.Error(err)
	}
	opened(t, dir, func(c *Config) { c.AcceptLoss = true }).Close()
	opened(t, dir, nil).Close()
}
