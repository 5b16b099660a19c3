package local_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
	"ehi-server/shared/files/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalIsAFileStore(t *testing.T) {
	filestest.Run(t, func(t *testing.T) filestest.Opened {
		root := t.TempDir()
		return opened(t, local.Config{Root: root}, func(name string, to func([]byte) []byte) error {
			was, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				was, err = nil, nil
			}
			if data := to(was); data != nil {
				return errors.Join(err, os.WriteFile(name, data, 0o600))
			}
			return errors.Join(err, os.Remove(name))
		})
	})
}

func TestVolatileIsAFileStore(t *testing.T) {
	filestest.Run(t, func(t *testing.T) filestest.Opened {
		v := filestest.NewVolatile()
		c := local.Config{Root: "/exports", Disk: v}
		o := opened(t, c, func(name string, to func([]byte) []byte) error {
			v.Change(name, to)
			return nil
		})
		o.Unlocked = true // locks are the operating system's
		return o
	})
}

// opened is a store under test. change puts other bytes in the place of a file's.
func opened(
	t *testing.T, c local.Config, change func(name string, to func([]byte) []byte) error,
) filestest.Opened {
	c.SpillBytes = 100
	again := func(t *testing.T) files.Store {
		s, err := local.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return filestest.Opened{
		Store: again(t),
		Again: again,
		Beside: func(t *testing.T, content []byte) string {
			path := filepath.Join(c.Root, "document")
			if err := change(path, func([]byte) []byte { return content }); err != nil {
				t.Fatal(err)
			}
			return path
		},
		Unlocked: !slices.Contains([]string{"linux", "darwin", "freebsd"}, runtime.GOOS),
		Change: func(t *testing.T, job, object string, to func([]byte) []byte) {
			place, err := local.Place(job, object)
			if err == nil {
				err = change(filepath.Join(c.Root, place), to)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
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

// On a disk that has no hard links, or for a document of another disk, a link is a copy.
func TestALinkThatIsImpossibleIsACopy(t *testing.T) {
	faulty := filestest.NewFaulty(disk.OS())
	faulty.Fail(filestest.Link, disk.ErrNotLinked, -1)
	root := t.TempDir()
	s, err := local.Open(local.Config{Root: filepath.Join(root, "exports"), Disk: faulty})
	if err != nil {
		t.Fatal(err)
	}
	content, path := []byte("a document"), filepath.Join(root, "document")
	if err := os.WriteFile(path, content, 0o400); err != nil {
		t.Fatal(err)
	}
	b, err := s.NewBatch("job", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, linked, err := b.Link(path); linked || err != nil {
		t.Fatalf("linked %t, %v", linked, err)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open("job", files.Extent{
		Object: files.LinkName(0, 1, 0), Length: int64(len(content)), Sum: files.SumOf(content),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // read only
	if got, err := io.ReadAll(r); string(got) != string(content) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
