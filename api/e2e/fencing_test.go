package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// scene is a server without workers and two processes that join it. The first one stops in the
// middle of an export.
type scene struct {
	*world
	records string // a data folder with a copy of the server's records
	first   *child
	pat     *client.Client
	job     client.Job
}

func stopInTheMiddle(t *testing.T) *scene {
	t.Helper()
	data := t.TempDir()
	ids := demoRecords(t, data)
	records := t.TempDir()
	copyRecords(t, data, records)
	cfg := config()
	cfg.Worker.Workers, cfg.Bus.Listen, cfg.Keeper.Every = 0, "127.0.0.1:0", 100*time.Millisecond
	w := start(t, data, cfg, node.Options{})
	s := &scene{world: w, records: records, pat: w.patient(ids[0])}
	s.first = spawn(t, s.joining(50))
	s.job = w.kickOff(s.pat, "/no-form/auto-approve", ids[0], nil)
	if line := s.first.line(); line != "at the gate" {
		t.Fatal(line)
	}
	s.first.signal(syscall.SIGSTOP)
	return s
}

// joining describes a process that joins the server, with a copy of its records and the same
// exports folder.
func (s *scene) joining(gate int) childSpec {
	s.t.Helper()
	data := s.t.TempDir()
	copyRecords(s.t, s.records, data)
	err := os.Symlink(filepath.Join(s.data, "exports"), filepath.Join(data, "exports"))
	if err != nil {
		s.t.Fatal(err)
	}
	return childSpec{Data: data, Addr: "127.0.0.1:0", NATS: s.node.Bus.ClientURL(), Gate: gate}
}

// wake lets the first process continue through its gate, and waits for its message.
func (s *scene) wake(says string) {
	s.t.Helper()
	s.first.signal(syscall.SIGUSR1)
	s.first.signal(syscall.SIGCONT)
	s.until("the first process says: "+says, func() bool {
		return strings.Contains(s.first.said(), says)
	})
}

// A worker that was stopped for longer than its lease can neither commit nor
// delete when it wakes up.
func TestAWorkerThatWakesUpTooLateChangesNothing(t *testing.T) {
	t.Parallel()
	s := stopInTheMiddle(t)
	second := spawn(t, s.joining(0))
	before, _ := s.download(s.pat, s.manifest(s.pat, s.job))
	task, _, err := s.node.Bus.Tasks.Get(t.Context(), s.job.ID, 0)
	if err != nil || task.Attempt != 2 ||
		!strings.HasSuffix(task.Worker, "-"+strconv.Itoa(second.cmd.Process.Pid)) {
		t.Fatalf("task %+v, %v", task, err)
	}
	exports := filepath.Join(s.data, "exports")
	files := filesByJob(t, exports)
	s.wake("superseded by another worker")
	awaitFiles(t, exports, files)
	after, _ := s.download(s.pat, s.manifest(s.pat, s.job))
	sameExport(t, before, after)
	s.nothingQueued()
}

// The same with a job that is deleted meanwhile: nothing of it comes back.
func TestAWorkerThatWakesUpAfterADeletionLeavesNothing(t *testing.T) {
	t.Parallel()
	s := stopInTheMiddle(t)
	if err := s.pat.Delete(t.Context(), s.job.StatusURL); err != nil {
		t.Fatal(err)
	}
	s.wake("export cancelled")
	awaitFiles(t, filepath.Join(s.data, "exports"), map[string]int{})
	s.want(s.do(s.pat, "GET", s.job.StatusURL), 404, "Export job not found!")
	if _, there, err := s.node.Bus.Tasks.Get(t.Context(), s.job.ID, 0); there || err != nil {
		t.Errorf("the deleted job's task is there: %v", err)
	}
	s.nothingQueued()
}

func (s *scene) nothingQueued() {
	s.t.Helper()
	s.until("no command is left", func() bool {
		n, err := s.node.Bus.Queued(s.t.Context(), ehi.Interactive)
		return n == 0 && err == nil
	})
}
