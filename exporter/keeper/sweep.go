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

// What is removed, or made anew, only because a record is missing is a few jobs at a time. More
// than a share of all, and more than a handful, is a sign that records were lost.
const (
	fewOrphans   = 10
	orphanShares = 20 // one of so many
)

// sweepWord is what an administrator has said about removals that need a word.
type sweepWord struct {
	mu      sync.Mutex
	waiting map[string]int // by the kind of what is removed: how many jobs wait for the word
	given   map[string]int // how many it was given for
}

// allows reports whether some of all jobs may lose files or records for which no record speaks.
func (w *sweepWord) allows(kind string, some, all int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting, w.given = map[string]int{}, map[string]int{}
	}
	allowed := some <= max(fewOrphans, all/orphanShares, w.given[kind])
	if w.waiting[kind] = some; allowed {
		delete(w.waiting, kind)
		delete(w.given, kind)
	}
	stopped := 0.0
	if len(w.waiting) > 0 {
		stopped = 1
	}
	telemetry.SweepStopped.Set(stopped)
	return allowed
}

// SweepsWaiting tells what waits for an administrator's word: of how many jobs the files
// (files), or the records of tasks (records), would be removed, because no record of the job is
// there, and how many exports would be made anew (exports), because records of their tasks are
// not.
func (k *Keeper) SweepsWaiting() map[string]int {
	k.word.mu.Lock()
	defer k.word.mu.Unlock()
	out := map[string]int{}
	for kind, n := range k.word.waiting {
		out[kind] = n
	}
	return out
}

// AllowSweep gives an administrator's word for what waits now, and for no more than that.
func (k *Keeper) AllowSweep() {
	k.word.mu.Lock()
	defer k.word.mu.Unlock()
	for kind, n := range k.word.waiting {
		k.word.given[kind] = n
	}
}

// sweep is one round of Keeper.Sweep.
type sweep struct {
	keeper  *Keeper
	now     time.Time
	jobs    int             // that have files
	kept    int             // of which there is no record, and the grace has not passed
	orphans map[string]int  // of which it has: how many files
	seen    map[string]bool // those of both
}

// job removes what of a job's files a record proves to be garbage, and keeps the job in mind
// where it has none.
func (s *sweep) job(ctx context.Context, id string, stored []files.Stored) error {
	k := s.keeper
	job, err := k.Bus.Jobs.Get(ctx, id)
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
			telemetry.JanitorRemoved.WithLabelValues("file").Inc()
			k.Log.Info("remove an orphan file", "job", id, "file", f.Name)
			errs = append(errs, k.Files.RemoveObject(id, f))
		}
	}
	return errors.Join(errs...)
}

// orphan keeps in mind that a job has files and no record.
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

// finish removes the files of orphans, unless they are so many that records must have been lost.
func (s *sweep) finish() error {
	k := s.keeper
	quarantined, errs := s.kept, []error(nil)
	if k.word.allows("files", len(s.orphans), s.jobs) {
		for id, files := range s.orphans {
			telemetry.JanitorRemoved.WithLabelValues("file").Add(float64(files))
			k.Log.Info("remove the files of a job that is gone", "job", id, "files", files)
			errs = append(errs, k.Files.Remove(id))
			delete(s.seen, id)
		}
	} else {
		quarantined += len(s.orphans)
		k.Log.Error("many jobs have files and no record, which may be lost: the files are kept "+
			"until an administrator says that they are garbage (POST /admin/sweep)", "jobs",
			len(s.orphans), "of", s.jobs)
	}
	telemetry.Quarantined.Set(float64(quarantined))
	known, err := k.Files.Orphans()
	for _, id := range known {
		if !s.seen[id] { // its record is back, or its files are gone
			errs = append(errs, k.Files.Adopted(id))
		}
	}
	return errors.Join(append(errs, err)...)
}
