package keeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
)

// Few jobs at a time lose files, or are exported again, only because a record is missing. If
// there are more than fewOrphans and more than one of orphanShares, records were probably lost,
// and an administrator must decide.
const (
	fewOrphans   = 10
	orphanShares = 20 // 1 of 20, or 5 %
)

// sweepApproval is the administrator's approval of removals and of repeated exports.
type sweepApproval struct {
	mu       sync.Mutex
	waiting  map[string]int // by kind: how many jobs wait for approval
	approved map[string]int // by kind: how many jobs an administrator has approved
}

// allows reports whether the keeper may remove files or records of some jobs, out of all, or
// export them again, although their records are missing. kind is files, records or exports (see
// SweepsWaiting).
func (a *sweepApproval) allows(kind string, some, all int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting, a.approved = map[string]int{}, map[string]int{}
	}
	allowed := some <= max(fewOrphans, all/orphanShares, a.approved[kind])
	if a.waiting[kind] = some; allowed {
		delete(a.waiting, kind)
		delete(a.approved, kind)
	}
	stopped := 0.0
	if len(a.waiting) > 0 {
		stopped = 1
	}
	telemetry.SweepStopped.Set(stopped)
	return allowed
}

// SweepsWaiting returns how many jobs wait for an administrator's approval, by kind: "files" to
// remove files and "records" to remove task records of jobs without a record, and "exports" to
// repeat exports that lack records of their tasks.
func (k *Keeper) SweepsWaiting() map[string]int {
	k.approval.mu.Lock()
	defer k.approval.mu.Unlock()
	out := map[string]int{}
	for kind, n := range k.approval.waiting {
		out[kind] = n
	}
	return out
}

// AllowSweep approves what waits now, and no more than that.
func (k *Keeper) AllowSweep() {
	k.approval.mu.Lock()
	defer k.approval.mu.Unlock()
	for kind, n := range k.approval.waiting {
		k.approval.approved[kind] = n
	}
}

// sweep is one round of Keeper.Sweep.
type sweep struct {
	keeper  *Keeper
	now     time.Time
	jobs    int             // with files
	kept    int             // without a record, within the grace period
	orphans map[string]int  // without a record, after the grace period: the number of files
	seen    map[string]bool // without a record
}

// job removes the files of a job that its record proves to be garbage. If the job has no record,
// it counts as an orphan.
func (s *sweep) job(ctx context.Context, id string, stored []files.Stored) error {
	k := s.keeper
	job, err := k.Bus.Jobs.Newest(ctx, id) // an older record may lack files that are there
	if ehi.CodeOf(err) == ehi.NotFound {
		return s.orphan(id, len(stored))
	}
	if err != nil {
		return err
	}
	tasks := map[int]ehi.Task{}
	var errs []error
	for _, f := range stored {
		keep, err := k.named(ctx, job, tasks, f)
		if err != nil {
			return err
		}
		if !keep {
			telemetry.KeeperRemoved.WithLabelValues("file").Inc()
			k.Log.Info("remove an orphan file", "job", id, "file", f.Name)
			errs = append(errs, k.Files.RemoveObject(id, f))
		}
	}
	return errors.Join(errs...)
}

// orphan notes a job that has files but no record.
func (s *sweep) orphan(id string, files int) error {
	if s.seen == nil {
		s.seen, s.orphans = map[string]bool{}, map[string]int{}
	}
	s.seen[id] = true
	since := s.now
	if s.keeper.Grace > 0 {
		var err error
		if since, err = s.keeper.Files.OrphanSince(id, s.now); err != nil {
			return err
		}
	}
	if s.now.Sub(since) < s.keeper.Grace {
		s.kept++
		return nil
	}
	s.orphans[id] = files
	return nil
}

// finish removes the files of orphans. If there are so many that records were probably lost, it
// keeps them.
func (s *sweep) finish() error {
	k := s.keeper
	quarantined, errs := s.kept, []error(nil)
	if k.approval.allows("files", len(s.orphans), s.jobs) {
		for id, files := range s.orphans {
			telemetry.KeeperRemoved.WithLabelValues("file").Add(float64(files))
			k.Log.Info("remove the files of a job that is gone", "job", id, "files", files)
			errs = append(errs, k.Files.Remove(id))
			delete(s.seen, id)
		}
	} else {
		quarantined += len(s.orphans)
		k.Log.Error("many jobs have files but no record, which may be lost: the files are kept "+
			"until an administrator approves their removal (POST /admin/sweep)", "jobs",
			len(s.orphans), "of", s.jobs)
	}
	telemetry.Quarantined.Set(float64(quarantined))
	known, err := k.Files.Orphans()
	for _, id := range known {
		if !s.seen[id] { // its record was restored, or its files are gone
			errs = append(errs, k.Files.Adopted(id))
		}
	}
	return errors.Join(append(errs, err)...)
}
