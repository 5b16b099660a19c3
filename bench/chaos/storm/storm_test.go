package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each kind of harm changes only the file that it names. A seed always draws the same harm, and
// in the long run every kind.
func TestHarmIsWhereItIsSaidToBe(t *testing.T) {
	kinds := map[string]bool{}
	for seed := range uint64(300) {
		var drawn [2]harm
		for i := range drawn {
			dir := t.TempDir()
			for n, name := range []string{
				"records/1.sst", "records/2.log", "exports/00/a.seg", "exports/01/b.seg",
				"nats/1.blk", "key",
			} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				err := os.WriteFile(path, []byte(strings.Repeat(fmt.Sprint(n+1), 50)), 0o600)
				if err != nil {
					t.Fatal(err)
				}
			}
			before := contents(t, dir)
			var err error
			if drawn[i], err = harmOne(rand.New(rand.NewPCG(seed, 1)), dir); err != nil {
				t.Fatal(err)
			}
			after, changed := contents(t, dir), 0
			for name, was := range before {
				if after[name] == was {
					continue
				}
				changed++
				if name != drawn[i].path && !strings.HasPrefix(name, drawn[i].path+"/") {
					t.Errorf("%v changed %s", drawn[i], name)
				}
			}
			if changed == 0 {
				t.Errorf("%v changed nothing", drawn[i])
			}
		}
		if drawn[0] != drawn[1] {
			t.Errorf("seed %d drew %v and %v", seed, drawn[0], drawn[1])
		}
		kinds[drawn[0].kind] = true
	}
	if len(kinds) != len(damages)+2 {
		t.Errorf("only %v were drawn", kinds)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, _, err := tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(data)
	}
	return out
}

// Every violation in a round is reported as a fault.
func TestFaultsAreFoundOut(t *testing.T) {
	for said, crash := range map[string]bool{
		"time=1 level=INFO msg=serving":                    false,
		"panic: runtime error: index out of range\n":       true,
		"fatal error: all goroutines are asleep":           true,
		"api: error: the record store is damaged: a/b.sst": false,
	} {
		if got := crashed(said) != ""; got != crash {
			t.Errorf("%q: %v", said, got)
		}
	}
	dir := t.TempDir()
	r := &round{storm: &storm{}, dir: dir}
	seg := filepath.Join(dir, "data", "exports", "00", "a.0.1.seg")
	if err := os.MkdirAll(filepath.Dir(seg), 0o700); err != nil {
		t.Fatal(err)
	}
	before := []string{"00/a.0.1.seg"}
	if err := r.removed(before); err != nil || len(r.faults) != 1 {
		t.Errorf("a whole file that is gone: %v, %v", r.faults, err)
	}
	r.faults, r.harms = nil, []harm{{"lost", "exports/00/a.0.1.seg"}}
	if err := r.removed(before); err != nil || len(r.faults) != 0 {
		t.Errorf("a damaged file that is gone: %v, %v", r.faults, err)
	}
	r.failed("an answer", context.DeadlineExceeded)
	if len(r.faults) != 1 || r.outcome() != "FAULT" {
		t.Errorf("a hang: %v, %s", r.faults, r.outcome())
	}
}
