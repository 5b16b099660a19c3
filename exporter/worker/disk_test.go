package worker_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
	"ehi-server/shared/files/local"
)

// Every disk fault has one of three results. The attempt is repeated and its result is right;
// the export waits and no attempt is counted; or the job fails and says why. No file is ever
// left over or wrong.
func TestDiskFaults(t *testing.T) {
	const forever = -1
	type outcome struct {
		status   ehi.Status
		attempts int
	}
	again, failed := outcome{ehi.Retrieved, 2}, outcome{ehi.Failed, 4}
	for _, c := range []struct {
		name   string
		inject func(*filestest.Faulty)
		want   outcome
	}{
		{
			"a file cannot be made",
			func(d *filestest.Faulty) { d.Fail(filestest.Create, syscall.EIO, 1) },
			again,
		},
		{
			"a write fails",
			func(d *filestest.Faulty) { d.Fail(filestest.Write, syscall.EIO, 1) },
			again,
		},
		{"a write is cut short", func(d *filestest.Faulty) { d.FailShort(syscall.EIO, 1) }, again},
		{
			"a sync fails",
			func(d *filestest.Faulty) { d.Fail(filestest.Sync, syscall.EIO, 1) },
			again,
		},
		{
			"a close fails",
			func(d *filestest.Faulty) { d.Fail(filestest.Close, syscall.EIO, 1) },
			again,
		},
		{
			"the folder's sync fails",
			func(d *filestest.Faulty) { d.Fail(filestest.SyncDir, syscall.EIO, 1) },
			again,
		},
		{"what failed cannot be removed either", func(d *filestest.Faulty) {
			d.Fail(filestest.Sync, syscall.EIO, 1)
			d.Fail(filestest.Remove, syscall.EIO, 1)
		}, again},
		{
			"no file can be made",
			func(d *filestest.Faulty) { d.Fail(filestest.Create, syscall.EIO, forever) },
			failed,
		},
		{
			"every write fails",
			func(d *filestest.Faulty) { d.Fail(filestest.Write, syscall.EIO, forever) },
			failed,
		},
		{
			"every sync fails",
			func(d *filestest.Faulty) { d.Fail(filestest.Sync, syscall.EIO, forever) },
			failed,
		},
		{
			"the disk is read-only",
			func(d *filestest.Faulty) { d.Fail(filestest.Create, syscall.EROFS, forever) },
			failed,
		},
		{
			"writes are slow",
			func(d *filestest.Faulty) { d.Slow(200 * time.Millisecond) },
			outcome{ehi.Retrieved, 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			faulty := h.on(disk.OS())
			h.work(h.source, "w")
			c.inject(faulty)
			h.request("a", true)
			h.await("a", c.want.status)
			task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
			if err != nil || task.Attempt != c.want.attempts ||
				task.Committed != (c.want.status == ehi.Retrieved) {
				t.Errorf("task %+v, %v", task, err)
			}
			faulty.Fail(filestest.Remove, nil, 0)
			h.checkFiles("a")
		})
	}
}

// A full disk delays an export, at whichever step, and does nothing else.
func TestAFullDiskIsWaitedFor(t *testing.T) {
	for _, op := range []filestest.Op{
		filestest.Create, filestest.Write, filestest.Sync, filestest.Close, filestest.SyncDir,
	} {
		t.Run(string(op), func(t *testing.T) {
			h := newHouse(t)
			faulty := h.on(disk.OS())
			h.work(h.source, "w")
			faulty.Fail(op, syscall.ENOSPC, 1)
			faulty.Fail(filestest.Create, syscall.ENOSPC, 10) // Check finds no space for a while
			h.request("a", true)
			h.await("a", ehi.Retrieved)
			task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
			if err != nil || task.Failures() != 0 || task.Attempt < 2 {
				t.Errorf("task %+v, %v", task, err)
			}
			h.checkFiles("a")
		})
	}
}

// on moves the house's files to a disk that can be made to fail. Outputs of 10 kB and more get a
// file of their own.
func (h *house) on(over disk.FS) *filestest.Faulty {
	h.t.Helper()
	root := h.t.TempDir()
	if _, err := local.Open(local.Config{Root: root, Disk: over}); err != nil {
		h.t.Fatal(err)
	}
	faulty := filestest.NewFaulty(over)
	var err error
	if h.files, err = local.Open(local.Config{
		Root:       root,
		Disk:       faulty,
		SpillBytes: 10_000,
	}); err != nil {
		h.t.Fatal(err)
	}
	h.keeper.Files = h.files
	return faulty
}

// checkFiles reads the files that the records of a job name, runs the keeper, and checks that
// no other file is left.
func (h *house) checkFiles(id string) {
	h.t.Helper()
	job, err := h.bus.Jobs.Get(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.keeper.Sweep(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	objects := map[string]bool{}
	for n := range job.Tasks {
		task, _, err := h.bus.Tasks.Get(h.t.Context(), id, n)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range task.Files {
			objects[f.Object] = true
			h.checkFile(id, f)
		}
	}
	for _, s := range h.stored(id) {
		kept := s.Attempt > 0 && s.Attempt <= job.Attempts // its record was lost
		if !objects[s.Name] && !kept {
			h.t.Errorf("%s is left over", s.Name)
		}
	}
}

// checkFile compares a file with its record.
func (h *house) checkFile(id string, f ehi.File) {
	h.t.Helper()
	r, err := h.files.Open(id, files.Extent{Object: f.Object, Offset: f.Offset, Length: f.Length})
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		h.t.Fatal(err)
	}
	n := int64(bytes.Count(data, []byte{'\n'}))
	if n != f.Count || !bytes.HasSuffix(data, []byte{'\n'}) {
		h.t.Errorf("%s has %d lines, its record says %d", f.Type, n, f.Count)
	}
}

// A keeper that stops between listing the files and reading the records removes nothing that a
// record names by then.
func TestAKeeperThatWakesUpTooLateRemovesNothing(t *testing.T) {
	h := newHouse(t)
	paused := &pausing{FS: disk.OS()}
	root := t.TempDir()
	var err error
	if h.files, err = local.Open(local.Config{
		Root:       root,
		Disk:       paused,
		SpillBytes: 10_000,
	}); err != nil {
		t.Fatal(err)
	}
	h.keeper.Files = h.files
	waiting := &door{Source: h.source, reached: make(chan struct{}, 10), open: make(chan struct{})}
	h.work(waiting, "w")
	h.request("a", true)
	h.request("b", true)
	<-waiting.reached
	<-waiting.reached
	// the files of an earlier attempt, which the keeper must remove; those of this attempt are
	// not written yet
	for _, id := range []string{"a", "gone"} {
		batch, err := h.files.NewBatch(id, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := batch.Create().Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := batch.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	// the keeper stops after each folder in turn, while exports finish
	for round := range 20 {
		paused.pauseAfter(round)
		swept := make(chan error, 1)
		go func() { swept <- h.keeper.Sweep(t.Context()) }()
		<-paused.paused
		if round == 3 {
			close(waiting.open)
			h.await("a", ehi.Retrieved)
			h.await("b", ehi.Retrieved)
		}
		close(paused.goOn)
		if err := <-swept; err != nil {
			t.Fatal(err)
		}
	}
	h.checkFiles("a")
	h.checkFiles("b")
	if s := h.stored("gone"); len(s) != 0 {
		t.Errorf("left of a job that never was: %+v", s)
	}
}

// pausing is a disk that stops after the listing of a folder.
type pausing struct {
	disk.FS
	mu           sync.Mutex
	left         int
	paused, goOn chan struct{}
}

func (p *pausing) pauseAfter(folders int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.paused, p.goOn = folders*12+1, make(chan struct{}), make(chan struct{})
}

func (p *pausing) ReadDir(name string) ([]string, error) {
	names, err := p.FS.ReadDir(name)
	p.mu.Lock()
	p.left--
	stop, paused, goOn := p.left == 0, p.paused, p.goOn
	p.mu.Unlock()
	if stop {
		close(paused)
		<-goOn
	}
	return names, err
}
