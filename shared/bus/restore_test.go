package bus_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// external is a NATS that others join.
func external(t *testing.T) (url string) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
		Audit:    &bus.AuditConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.ClientURL()
}

// opened opens a state that is to be opened.
func opened(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.Audit = &bus.AuditConfig{}
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// restore stores a record as a backup has it.
func restore(t *testing.T, b *bus.Bus, bucket, key string) {
	t.Helper()
	e := bus.Entry{Bucket: bucket, Key: key, Value: []byte("{}")}
	if err := b.Restore(t.Context(), e, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// A restore that did not end is opened by nobody but the next one, which begins with nothing;
// one of which state and files are in their places ends when somebody opens both.
func TestAnUnfinishedRestoreIsOpenedByNobody(t *testing.T) {
	url := external(t)
	store, err := local.Open(local.Config{Root: filepath.Join(t.TempDir(), files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := local.Open(local.Config{Root: filepath.Join(t.TempDir(), files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	everybody := map[string]bus.Config{
		"without files": {Flags: bus.Flags{URL: url}},
		"with files":    {Flags: bus.Flags{URL: url}, Files: store},
		"with others":   {Flags: bus.Flags{URL: url}, Files: stranger},
		"after a loss":  {Flags: bus.Flags{URL: url, AcceptLoss: true}, Files: stranger},
	}
	refused := func(when string, who ...string) {
		t.Helper()
		for _, name := range who {
			b, err := bus.Open(t.Context(), everybody[name])
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, bus.ErrUnfinished) {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
	}
	begun := opened(t, bus.Config{Flags: bus.Flags{URL: url}, Files: store, Restore: true})
	restore(t, begun, bus.AuthRecords, "account.admin.first")
	restore(t, begun, bus.AuditRecords, "login.x")
	begun.Close() // as by a kill
	refused("begun", "without files", "with files", "with others", "after a loss")

	again := opened(t, bus.Config{Flags: bus.Flags{URL: url}, Files: store, Restore: true})
	restore(t, again, bus.AuthRecords, "account.admin.second")
	if err := again.Restored(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.Close()
	refused("loaded", "without files", "with others", "after a loss")

	whole := opened(t, bus.Config{Flags: bus.Flags{URL: url}, Files: store})
	defer whole.Close()
	var keys []string
	keep := func(e bus.Entry) error { keys = append(keys, e.Key); return nil }
	err = errors.Join(whole.Entries(t.Context(), bus.AuthRecords, keep),
		whole.AuditEntries(t.Context(), keep))
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || keys[0] != "account.admin.second" {
		t.Errorf("%q are there", keys)
	}
	opened(t, bus.Config{Flags: bus.Flags{URL: url}}).Close()
}

// A backup is restored into a NATS that holds nothing at all.
func TestARestoreNeedsAnEmptyNATS(t *testing.T) {
	for bucket, key := range map[string]string{
		bus.AuthRecords:  "key.a",
		bus.TaskRecords:  "a.0",
		bus.AuditRecords: "login.x",
	} {
		url := external(t)
		b := opened(t, bus.Config{Flags: bus.Flags{URL: url}})
		restore(t, b, bucket, key)
		b.Close()
		b, err := bus.Open(t.Context(), bus.Config{
			Flags:   bus.Flags{URL: url},
			Restore: true,
			Audit:   &bus.AuditConfig{},
		})
		if err == nil {
			b.Close()
		}
		if !errors.Is(err, bus.ErrHolds) {
			t.Errorf("%s: %v", bucket, err)
		}
		opened(t, bus.Config{Flags: bus.Flags{URL: url}}).Close() // it is as it was
	}
}
