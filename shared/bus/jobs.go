package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/segmentio/encoding/json"
	"golang.org/x/sync/singleflight"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Jobs stores the job records. Writes are compare-and-set on the record's revision. Get reads
// the bucket. Peek reads this process's copy, which follows the bucket and is never older than
// cacheTTL.
type Jobs struct {
	kv    *kv.Bucket
	index *index
	cache *lru.Cache[string, cached]
	reads singleflight.Group // ongoing reads of Peek, by ID
	stop  func()
	log   *slog.Logger
	// maxQueue is Config.MaxQueue.
	maxQueue int64
	// changes holds the listeners of OnChange.
	changes listeners
}

// listeners are functions that are called with the ID of a job.
type listeners struct {
	mu   sync.RWMutex
	last int
	list map[int]func(id string)
}

func (l *listeners) tell(id string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, f := range l.list {
		f(id)
	}
}

// OnChange calls f with the ID of each job that is new, changed or deleted, from the goroutine
// that learns it, until stop is called. It reports each revision once, however often it is read.
// f must not block.
func (s *Jobs) OnChange(f func(id string)) (stop func()) {
	l := &s.changes
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = map[int]func(string){}
	}
	l.last++
	key := l.last
	l.list[key] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.list, key)
	}
}

// cached is a revision of a record; job is nil if it is deleted. It is shared and must not be
// changed.
type cached struct {
	job *ehi.Job
	rev uint64
	at  time.Time // when it was read or received
}

const (
	cacheSize = 2048
	cacheTTL  = 5 * time.Second
	// approvedWait is how long Peek waits for news of an approved export.
	approvedWait = time.Second
	// deletedRev is higher than every revision: a late watch message never restores a job that
	// this process deleted.
	deletedRev = ^uint64(0)
	// casAttempts bounds the retries of Update. Each lost race means that somebody else made
	// progress.
	casAttempts = 50
)

var errNotFound = ehi.Errorf(ehi.NotFound, "Export job not found!")

func openJobs(
	ctx context.Context, bucket *kv.Bucket, maxQueue int64, log *slog.Logger,
) (*Jobs, error) {
	cache, err := lru.New[string, cached](cacheSize)
	if err != nil {
		return nil, err
	}
	index, err := newIndex()
	if err != nil {
		return nil, err
	}
	s := &Jobs{kv: bucket, index: index, cache: cache, maxQueue: maxQueue, log: log}
	s.stop, err = bucket.Follow(ctx, records.All(), s.follow, s.reloaded)
	return s, err
}

// reloaded synchronizes this process's copy with the bucket after a reconnection. It forgets
// jobs that were deleted meanwhile, and adopts the bucket's state if NATS has lost newer
// records. It reads each difference by name, because a record that changed while the keys
// arrived is not among them.
func (s *Jobs) reloaded(keys map[subject.Subject]uint64) {
	for _, id := range s.index.differing(keys) {
		c, err := s.fetch(context.Background(), id, s.kv.Newest)
		switch {
		case errors.Is(err, errNotFound):
			s.apply(id, cached{nil, deletedRev, time.Now()})
		case err == nil:
			s.index.forget(id)
			s.apply(id, c)
		} // on failure the keeper compares again later
	}
}

// follow applies one change of the bucket.
func (s *Jobs) follow(e kv.Entry) {
	if kv.IsProbe(e.Key) {
		return
	}
	if e.Deleted {
		s.apply(e.Key.String(), cached{nil, e.Revision, time.Now()})
		return
	}
	// An unreadable record is reported to whoever reads it.
	if job, err := decodeJob(e.Value); err == nil {
		s.apply(e.Key.String(), cached{job, e.Revision, time.Now()})
	}
}

func (s *Jobs) close() {
	if s.stop != nil {
		s.stop()
	}
}

// apply adds a record to the cache and the index, unless a newer one is known.
func (s *Jobs) apply(id string, c cached) {
	newest, changed := s.index.apply(id, c)
	if newest {
		s.cache.Add(id, c)
	}
	if changed {
		s.changes.tell(id)
	}
}

func decodeJob(data []byte) (*ehi.Job, error) {
	var j ehi.Job
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("job record: %w", err)
	}
	if j.Version > ehi.RecordVersion {
		return nil, newerError("job record "+j.ID, j.Version)
	}
	upgrade(&j)
	return &j, nil
}

// Create stores a new job. Errors: ehi.Conflict if the ID exists.
func (s *Jobs) Create(ctx context.Context, j *ehi.Job) error {
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	rev, err := s.kv.Create(ctx, records.Of(j.ID), data)
	if kv.IsConflict(err) {
		return ehi.Errorf(ehi.Conflict, "A job with this id exists")
	}
	if err != nil {
		return fmt.Errorf("create job %s: %w", j.ID, err)
	}
	own := *j
	s.apply(j.ID, cached{&own, rev, time.Now()})
	return nil
}

// Get reads a job from the bucket. It is at least as new as this process's copy. In a cluster it
// may be older than what another process has written, see Newest. Errors: ehi.NotFound, also for
// an aborted job.
func (s *Jobs) Get(ctx context.Context, id string) (*ehi.Job, error) {
	return there(s.read(ctx, id))
}

// Newest is Get from the leader of the bucket: it returns the current record in a cluster too. Use
// it before an answer that contradicts what another process may have told a client. Errors:
// ehi.NotFound, and ehi.Transient while the cluster has no leader.
func (s *Jobs) Newest(ctx context.Context, id string) (*ehi.Job, error) {
	return there(s.take(ctx, id, s.kv.Newest))
}

// there returns the job of a record unless it was aborted.
func there(c cached, err error) (*ehi.Job, error) {
	if err != nil {
		return nil, err
	}
	if c.job.Status == ehi.Aborted {
		return nil, errNotFound
	}
	return c.job, nil
}

// Peek is Get from this process's copy, for frequent reads. The job must not be changed. Peek
// sees this process's writes immediately, and those of others as soon as NATS delivers them. If
// the copy is too old, concurrent callers share one read. While NATS is unreachable, an export
// counts as approved if it was approved last: this process cannot change it, and its files are
// deleted before anybody learns of the deletion.
func (s *Jobs) Peek(ctx context.Context, id string) (*ehi.Job, error) {
	c, ok := s.cache.Get(id)
	if !ok || time.Since(c.at) > cacheTTL {
		approved := ok && c.job != nil && c.job.Status == ehi.Approved
		if approved {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, approvedWait)
			defer cancel()
		}
		j, err, _ := share(ctx, &s.reads, id, func(ctx context.Context) (*ehi.Job, error) {
			return s.Get(ctx, id)
		})
		if approved && IsAway(err) {
			return c.job, nil
		}
		return j, err
	}
	if c.job == nil || c.job.Status == ehi.Aborted {
		return nil, errNotFound
	}
	return c.job, nil
}

// share lets concurrent callers with the same key share one read. The read continues if the
// context of the first caller ends. Errors: those of ctx and of read.
func share[T any](
	ctx context.Context, reads *singleflight.Group, key string,
	read func(context.Context) (T, error),
) (got T, err error, shared bool) {
	select {
	case r := <-reads.DoChan(key, func() (any, error) { return read(context.WithoutCancel(ctx)) }):
		return r.Val.(T), r.Err, r.Shared
	case <-ctx.Done():
		return got, ctx.Err(), false
	}
}

// read reads a job's record and updates this process's copy. The server of a cluster that answers
// may lag behind what this process has seen before; then the leader is asked.
func (s *Jobs) read(ctx context.Context, id string) (cached, error) {
	c, err := s.take(ctx, id, s.kv.Get)
	if known, ok := s.Summary(id); ok && err == nil && c.rev < known.rev {
		return s.take(ctx, id, s.kv.Newest)
	}
	return c, err
}

// getter is kv.Bucket's Get or Newest.
type getter = func(context.Context, subject.Subject) (kv.Entry, error)

// take reads a job's record by get and updates this process's copy.
func (s *Jobs) take(ctx context.Context, id string, get getter) (cached, error) {
	c, err := s.fetch(ctx, id, get)
	if was, known := s.Summary(id); known && errors.Is(err, errNotFound) {
		if was.Status != ehi.Aborted && s.log != nil { // a deletion marks the job first
			s.log.Warn("a job has no record any more, and nobody is known to have deleted it: "+
				"another server may have; "+
				"else its bucket is damaged", "job", id, "was", was.Status)
		}
		s.apply(id, cached{nil, deletedRev, time.Now()})
	}
	if err == nil {
		s.apply(id, c)
	}
	return c, err
}

func (s *Jobs) fetch(ctx context.Context, id string, get getter) (cached, error) {
	e, err := get(ctx, records.Of(id))
	if errors.Is(err, kv.ErrNotFound) {
		return cached{}, errNotFound
	}
	if err != nil {
		return cached{},
			errors.Join(ehi.Errorf(ehi.Transient, "The job's state cannot be read at the moment"),
				fmt.Errorf("read job %s: %w", id, err))
	}
	job, err := decodeJob(e.Value)
	if err != nil {
		return cached{}, err
	}
	return cached{job, e.Revision, time.Now()}, nil
}

// Update changes a job by compare-and-set. It calls change with the current record, possibly
// several times; an error of change ends the update and nothing is written. change must replace
// maps and slices instead of changing them, because readers share them. Update returns the
// record as written. It first tries this process's copy; if that is outdated, shown by a lost
// compare-and-set or an error of change, it reads the record again.
func (s *Jobs) Update(
	ctx context.Context, id string, change func(*ehi.Job) error,
) (*ehi.Job, error) {
	if c, ok := s.cache.Get(id); ok && c.job != nil {
		if done, err := s.tryUpdate(ctx, c, change); err == nil {
			return done, nil
		}
	}
	for range casAttempts {
		c, err := s.take(ctx, id, s.kv.Newest)
		if err != nil {
			return nil, err
		}
		done, err := s.tryUpdate(ctx, c, change)
		if !kv.IsConflict(err) {
			return done, err
		}
	}
	return nil, ehi.Errorf(ehi.Transient, "The job is being changed by many at once")
}

func (s *Jobs) tryUpdate(
	ctx context.Context, c cached, change func(*ehi.Job) error,
) (*ehi.Job, error) {
	if c.job.Status == ehi.Aborted {
		return nil, errNotFound
	}
	next := *c.job
	next.Version = ehi.RecordVersion
	if err := change(&next); err != nil {
		return nil, err
	}
	data, err := json.Marshal(&next)
	if err != nil {
		return nil, err
	}
	rev, err := s.kv.Update(ctx, records.Of(next.ID), data, c.rev)
	if err != nil {
		return nil, fmt.Errorf("update job %s: %w", next.ID, err)
	}
	s.apply(next.ID, cached{&next, rev, time.Now()})
	return &next, nil
}

// Delete deletes a job permanently.
func (s *Jobs) Delete(ctx context.Context, id string) error {
	if err := s.kv.Forget(ctx, records.Of(id)); err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	s.apply(id, cached{nil, deletedRev, time.Now()})
	return nil
}

// Keys lists the jobs that have a record, including those that this process does not know: a
// NATS that was killed may show a deleted record again, as aborted.
func (s *Jobs) Keys(ctx context.Context) (ids []string, err error) {
	keys, err := s.kv.Keys(ctx)
	for _, key := range keys {
		ids = append(ids, key.String())
	}
	return ids, err
}
