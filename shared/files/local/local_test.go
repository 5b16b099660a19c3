package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
	"ehi-server/shared/files/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalIsAFileStore(t *testing.T) {
	filestest.Run(t, func(t *testing.T, spill int) filestest.Store {
		s, err := local.Open(local.Config{Root: t.TempDir(), SpillBytes: spill})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// What has to be gone is noted once and forgotten for good; a file that is none of ours is no job.
func TestRecallsAreNotedUntilTheyAreForgotten(t *testing.T) {
	root := t.TempDir()
	l, err := local.Open(local.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.NoteRecall("job-1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, ".recalls", ".stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if jobs, err := l.Recalls(); err != nil || !slices.Equal(jobs, []string{"job-1"}) {
		t.Errorf("noted: %q, %v", jobs, err)
	}
	for range 2 {
		if err := l.ForgetRecall("job-1"); err != nil {
			t.Fatal(err)
		}
	}
	if jobs, err := l.Recalls(); err != nil || len(jobs) > 0 {
		t.Errorf("forgotten: %q, %v", jobs, err)
	}
	if err := l.NoteRecall("../job"); !errors.Is(err, files.ErrName) {
		t.Errorf("a name that is none: %v", err)
	}
}
