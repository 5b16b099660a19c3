package worker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// leave writes a file for a job without a record.
func (h *house) leave(job string) {
	h.t.Helper()
	b, err := h.files.NewBatch(job, 0, 1)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := b.Create().Write([]byte("x")); err != nil {
		h.t.Fatal(err)
	}
	if _, err := b.Commit(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) sweep() {
	h.t.Helper()
	if err := h.keeper.Sweep(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// Files without a record are kept for the grace period, also across a restart. If the record was
// back meanwhile, the period starts again.
func TestFilesWithoutARecordAreQuarantined(t *testing.T) {
	h := newHouse(t)
	h.keeper.Grace = time.Hour
	h.leave("lost")
	h.sweep()
	if len(h.stored("lost")) != 1 {
		t.Fatal("the files are gone at once")
	}
	at, err := h.files.OrphanSince("lost", time.Now().Add(time.Minute))
	if err != nil || time.Since(at) < -time.Second {
		t.Errorf("since %v, %v: it is not remembered", at, err)
	}
	h.request("lost", false)
	h.sweep()
	if jobs, err := h.files.Orphans(); err != nil || len(jobs) != 0 {
		t.Errorf("with its record the job is still an orphan: %v, %v", jobs, err)
	}
	h.leave("old")
	if _, err := h.files.OrphanSince("old", time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	h.sweep()
	if jobs, err := h.files.Orphans(); err != nil || len(jobs) != 0 || len(h.stored("old")) != 0 {
		t.Errorf("after the grace there are %v, %v", jobs, err)
	}
}

// If many jobs have no record, the state was probably lost. Their files stay until an
// administrator approves the removal, and the approval covers only that number.
func TestManyFilesWithoutARecordWaitForAnAdministrator(t *testing.T) {
	h := newHouse(t)
	for i := range 12 {
		h.leave(fmt.Sprint("lost-", i))
	}
	left := func() (n int) {
		if err := h.files.Walk(func(string, []files.Stored) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	h.sweep()
	if n := left(); n != 12 || h.keeper.SweepsWaiting()["files"] != 12 {
		t.Fatalf("%d of 12 jobs have files, %v wait", n, h.keeper.SweepsWaiting())
	}
	h.keeper.AllowSweep()
	h.leave("another")
	h.sweep()
	if n := left(); n != 13 || h.keeper.SweepsWaiting()["files"] != 13 {
		t.Fatalf("the approval for 12 jobs removed some of 13: %d have files, %v wait", n,
			h.keeper.SweepsWaiting())
	}
	h.keeper.AllowSweep()
	h.sweep()
	if n := left(); n != 0 || len(h.keeper.SweepsWaiting()) != 0 {
		t.Errorf("after the approval %d jobs have files, %v wait", n, h.keeper.SweepsWaiting())
	}
}

// Task records are kept in the same way if many jobs are gone.
func TestManyTasksWithoutAJobWaitForAnAdministrator(t *testing.T) {
	h := newHouse(t)
	for i := range 12 {
		_, err := h.bus.Tasks.Take(t.Context(), fmt.Sprint("lost-", i), 0, 0, "w", time.Now())
		if err != nil {
			t.Fatal(err)
		}
	}
	left := func() int {
		if err := h.keeper.SweepRecords(t.Context()); err != nil {
			t.Fatal(err)
		}
		keys, err := h.bus.Tasks.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	if n := left(); n != 12 || h.keeper.SweepsWaiting()["records"] != 12 {
		t.Fatalf("%d of 12 jobs have tasks, %v wait", n, h.keeper.SweepsWaiting())
	}
	h.keeper.AllowSweep()
	if n := left(); n != 0 {
		t.Errorf("after the approval %d jobs have tasks", n)
	}
}

// Exports that lack tasks are made again automatically only if a power failure may have
// destroyed the records. In other cases a bucket has lost records: approved exports stay
// approved until an administrator decides.
func TestManyExportsWithoutTheirTasksWaitForAnAdministrator(t *testing.T) {
	h := newHouse(t)
	long, now := time.Now().UTC().Add(-time.Hour), time.Now().UTC()
	for i := range 12 {
		h.exported(fmt.Sprint("old-", i), long)
	}
	h.exported("latest", now)
	anew := func() (ids []string) {
		t.Helper()
		if err := h.keeper.SweepRecords(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range h.bus.Jobs.List(func(s bus.Summary) bool {
			return s.Status == ehi.Requested
		}) {
			ids = append(ids, s.ID)
		}
		return ids
	}
	ids := anew()
	if !slices.Equal(ids, []string{"latest"}) || h.keeper.SweepsWaiting()["exports"] != 12 {
		t.Fatalf("%v are made again, %v wait", ids, h.keeper.SweepsWaiting())
	}
	h.keeper.AllowSweep()
	if ids := anew(); len(ids) != 13 || len(h.keeper.SweepsWaiting()) != 0 {
		t.Errorf("after the approval %v are made again, %v wait", ids, h.keeper.SweepsWaiting())
	}
}

// exported creates the record of an approved export whose only task record is lost.
func (h *house) exported(id string, at time.Time) {
	h.t.Helper()
	err := h.bus.Jobs.Create(h.t.Context(), &ehi.Job{
		Version:  ehi.RecordVersion,
		ID:       id,
		Patient:  h.patient,
		ClientID: "app",
		Lane:     ehi.Interactive,
		Status:   ehi.Approved, Tasks: 1, Done: ehi.Bits{}.With(0),
		CreatedAt:   at,
		RequestedAt: at,
		CompletedAt: at,
		ApprovedAt:  at,
		ExpiresAt:   time.Now().Add(time.Hour),
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// slowFiles blocks Attempts, which only a sweep of the records calls here, until it is released.
// It reports when the files of the job "expired" are removed.
type slowFiles struct {
	*local.Store
	asked, letGo, removed chan struct{}
}

func (f slowFiles) Remove(job string) error {
	if job == "expired" { // once: its record is deleted with its files
		close(f.removed)
	}
	return f.Store.Remove(job)
}

func (f slowFiles) Attempts(job string) (int, error) {
	close(f.asked)
	<-f.letGo
	return f.Store.Attempts(job)
}

// A slow sweep of the records, as after NATS has lost a server, does not delay a round: expired
// jobs are deleted meanwhile.
func TestASlowSweepHoldsNoDeletionUp(t *testing.T) {
	h := newHouse(t)
	slow := slowFiles{h.files, make(chan struct{}), make(chan struct{}), make(chan struct{})}
	h.keeper.Files, h.keeper.Every = slow, 10*time.Millisecond
	h.exported("lacking", time.Now().UTC())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.keeper.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	defer close(slow.letGo)
	<-slow.asked

	h.request("expired", false)
	if _, err := h.bus.Jobs.Update(ctx, "expired", func(j *ehi.Job) error {
		j.ExpiresAt = time.Now().Add(-time.Second)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-slow.removed:
	case <-time.After(20 * time.Second):
		t.Fatal("the expired job is there while the records are swept")
	}
}

var _ bus.Identified = (*local.Store)(nil)
