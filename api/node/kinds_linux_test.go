package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// used makes a data folder that has been served from.
func used(t *testing.T) (cfg Config, data string) {
	t.Helper()
	cfg, err := Defaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr, cfg.Demo, data = "127.0.0.1:0", false, t.TempDir()
	n, err := Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(n.Run(ctx), n.Close()); err != nil {
		t.Fatal(err)
	}
	if found := Misplaced(data); len(found) > 0 {
		t.Fatalf("it has made what it refuses: %q", found)
	}
	return cfg, data
}

// others are what can be in the place of a path, and is not what it has to be.
var others = map[string]func(path string) error{
	"a file": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	"a folder": func(path string) error {
		return os.MkdirAll(filepath.Join(path, "within"), 0o700)
	},
	"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
}

// Whatever is in the place of any path that the server owns is named in one sentence, and
// nothing is opened or changed. All that the server makes is among those paths.
func TestAPathOfTheWrongKindIsNamed(t *testing.T) {
	cfg, data := used(t)
	var owned []string
	shards := 0
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == data {
			return err
		}
		name, err := filepath.Rel(data, path)
		if k, ok := kindOf(filepath.ToSlash(name)); !ok || k.folder != e.IsDir() {
			t.Errorf("the server has made %s, and does not know it, or as another kind", name)
		}
		if filepath.Dir(name) == "exports" && len(filepath.Base(name)) == 2 {
			if shards++; shards > 1 { // they are 256
				return err
			}
		}
		owned = append(owned, path)
		return err
	})
	if err != nil || len(owned) < 50 {
		t.Fatalf("%d paths, %v", len(owned), err)
	}
	for _, path := range owned {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		for kind, put := range others {
			if kind == named(info.Mode()) {
				continue
			}
			aside := filepath.Join(t.TempDir(), "aside")
			if err := errors.Join(os.Rename(path, aside), put(path)); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
			if err == nil ||
				!strings.Contains(err.Error(),
					path+" is "+kind+", and has to be "+named(info.Mode())) {
				t.Errorf("%s in place of %s: %v", kind, path, err)
			}
			if err := errors.Join(os.RemoveAll(path), os.Rename(aside, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, err := Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
	if err != nil {
		t.Fatalf("with everything put back: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// What is nobody's business below the data folder is left alone.
func TestOtherFilesInTheDataFolderAreIgnored(t *testing.T) {
	cfg, data := used(t)
	for _, name := range []string{
		"lost+found", "notes", "records/lost+found", "nats/lost+found", "exports/lost+found",
		"nats.damaged-x",
	} {
		if err := os.MkdirAll(filepath.Join(data, name, "within"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n, err := Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
