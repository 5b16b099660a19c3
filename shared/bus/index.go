package bus

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// Summary is what every process holds in memory of each kept job: enough to list, search, expire
// and count without reading records. About 350 bytes.
type Summary struct {
	ID       string
	Status   ehi.Status
	Level    ehi.Level
	Patient  ehi.Patient // none for a population
	Group    string
	ClientID string
	// ClientMade is ehi.Job.ClientMade.
	ClientMade time.Time
	CreatedAt  time.Time
	ExpiresAt  time.Time
	stored     int64
	running    owner // whose running jobs it counts among; the zero owner while it does not run
	rev        uint64
}

// Listed reports whether lists show the job at a moment: it is neither deleted nor expired.
func (s Summary) Listed(at time.Time) bool {
	return s.Status != ehi.Aborted && (s.ExpiresAt.IsZero() || at.Before(s.ExpiresAt))
}

// Revision names the state of the record that the summary was made of: another one is another
// state, an equal one is the same. It says nothing of which is newer after NATS lost records.
func (s Summary) Revision() uint64 { return s.rev }

// Stored is how many bytes the file store keeps of the job.
func (s Summary) Stored() int64 { return s.stored }

// Lane is the lane of a requested job.
func (s Summary) Lane() ehi.Lane { return s.running.lane }

// owner is whose limit on running jobs a job counts against.
type owner struct {
	lane   ehi.Lane
	client string
}

// holder is whose stored bytes are summed up: a client's or, where that is "", a patient's.
type holder struct{ client, patient string }

// index is the summaries by job, kept by the watch of Jobs.
type index struct {
	mu   sync.RWMutex
	jobs map[string]Summary
	// running counts the requested jobs of each client and lane, and those that are about to be
	// created; queued those of each lane.
	running map[owner]int
	queued  map[ehi.Lane]int
	// places are the jobs that are about to be created: each counts until its record is heard
	// of, and not twice.
	places map[string]owner
	stored int64 // bytes of all jobs
	// storedOf are those of each client and of each patient that has any.
	storedOf map[holder]int64
	// gone is the latest deleted jobs. Ids are never used again: what is heard of one after its
	// deletion is old news, of a watch or of a writer in this process that was slower than the
	// deleter.
	gone *lru.Cache[string, struct{}]
}

// goneSize is how many deletions are remembered: a minute's, at a hundred a second.
const goneSize = 8192

func newIndex() (*index, error) {
	gone, err := lru.New[string, struct{}](goneSize)
	return &index{
		jobs:     map[string]Summary{},
		running:  map[owner]int{},
		queued:   map[ehi.Lane]int{},
		places:   map[string]owner{},
		storedOf: map[holder]int64{},
		gone:     gone,
	}, err
}

// apply takes a record in. newest is whether it is the newest that is known: an older one is
// ignored. changed is whether it says more than what was known: the same revision, read again, or a
// second word of a deletion, does not.
func (x *index) apply(id string, c cached) (newest, changed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	gone := x.gone.Contains(id)
	if gone && c.job != nil {
		return false, false
	}
	old, known := x.jobs[id]
	if known && c.rev <= old.rev {
		return c.rev == old.rev, false
	}
	if known {
		x.drop(old)
	}
	x.leave(id)
	if c.job == nil {
		x.gone.Add(id, struct{}{})
		return true, known || !gone
	}
	s := Summary{
		ID:         id,
		Status:     c.job.Status,
		Level:      c.job.Level,
		Patient:    c.job.Patient,
		Group:      c.job.Group,
		ClientID:   unique.Make(c.job.ClientID).Value(),
		ClientMade: c.job.ClientMade, CreatedAt: c.job.CreatedAt, ExpiresAt: c.job.ExpiresAt,
		stored: c.job.StoredBytes(), rev: c.rev,
	}
	if s.Status == ehi.Requested {
		s.running = owner{c.job.Lane, c.job.ClientID}
		x.ran(s.running, 1)
	}
	x.jobs[id] = s
	x.store(s, s.stored)
	telemetry.Jobs.WithLabelValues(string(c.job.Status)).Inc()
	return true, true
}

// differing lists the jobs that are not among the keys of a bucket, or are known by a later
// revision than theirs.
func (x *index) differing(keys map[subject.Subject]uint64) (ids []string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for id, s := range x.jobs {
		if rev, there := keys[records.Of(id)]; !there || s.rev > rev {
			ids = append(ids, id)
		}
	}
	return ids
}

// forget drops a job, as if it had never been heard of.
func (x *index) forget(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, known := x.jobs[id]; known {
		x.drop(old)
	}
}

func (x *index) drop(s Summary) {
	telemetry.Jobs.WithLabelValues(string(s.Status)).Dec()
	x.ran(s.running, -1)
	x.store(s, -s.stored)
	delete(x.jobs, s.ID)
}

// store counts n bytes of a job more, or fewer.
func (x *index) store(s Summary, n int64) {
	x.stored += n
	for _, h := range []holder{{client: s.ClientID}, {patient: s.Patient.ID}} {
		if h == (holder{}) {
			continue
		}
		if x.storedOf[h] += n; x.storedOf[h] == 0 {
			delete(x.storedOf, h)
		}
	}
	telemetry.ExportBytes.Set(float64(x.stored))
}

// Stored is how many bytes the file store keeps of all jobs, by their records.
func (s *Jobs) Stored() int64 {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.stored
}

// StoredOf is how many bytes the file store keeps of a client's jobs, and of a patient's, by their
// records.
func (s *Jobs) StoredOf(client, patient string) (ofClient, ofPatient int64) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.storedOf[holder{client: client}], s.index.storedOf[holder{patient: patient}]
}

// ran counts a job that runs or does not any more.
func (x *index) ran(o owner, n int) {
	if o == (owner{}) {
		return
	}
	x.queued[o.lane] += n
	if x.running[o] += n; x.running[o] == 0 {
		delete(x.running, o)
	}
}

// Admit keeps a place for a job that a client is about to have, until the job is there or
// release is called. Errors: ehi.Throttled where limit of them are queued or running in the
// lane, ehi.Transient where the queue is full: both cost nothing but this look. What other
// processes admit at the same moment is not counted; then it is JetStream that refuses.
func (s *Jobs) Admit(j *ehi.Job, limit int) (release func(), err error) {
	x, o := s.index, owner{j.Lane, j.ClientID}
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := x.running[o]; n >= limit {
		return nil,
			ehi.Errorf(ehi.Throttled,
				"This client has %d exports running; more are taken when some are done or deleted",
				n)
	}
	// a population's commands are its tasks
	if j.Lane == ehi.Interactive && int64(x.queued[j.Lane]) >= s.maxQueue {
		return nil, ehi.Errorf(ehi.Transient, "The export queue takes no more work at the moment")
	}
	x.places[j.ID] = o
	x.ran(o, 1)
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.leave(j.ID)
	}, nil
}

// leave gives the place of a job back, if it still has one.
func (x *index) leave(id string) {
	if o, kept := x.places[id]; kept {
		delete(x.places, id)
		x.ran(o, -1)
	}
}

// Summary returns a job's summary, and whether this process knows the job.
func (s *Jobs) Summary(id string) (Summary, bool) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	found, ok := s.index.jobs[id]
	return found, ok
}

// Gone reports whether this process has heard that a job was deleted, or is about to be. One
// that it does not know of is not gone.
func (s *Jobs) Gone(id string) bool {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	v, known := s.index.jobs[id]
	return known && v.Status == ehi.Aborted || !known && s.index.gone.Contains(id)
}

// Standing is how many jobs there are in a status, and when the oldest of them was kicked off.
type Standing struct {
	Jobs   int
	Oldest time.Time
}

// ByStatus is the standing of each status that some job is in.
func (s *Jobs) ByStatus() map[ehi.Status]Standing {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	out := map[ehi.Status]Standing{}
	for _, v := range s.index.jobs {
		at := out[v.Status]
		if at.Jobs == 0 || v.CreatedAt.Before(at.Oldest) {
			at.Oldest = v.CreatedAt
		}
		at.Jobs++
		out[v.Status] = at
	}
	return out
}

// IDs lists the jobs that this process knows, in any order.
func (s *Jobs) IDs() []string {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return slices.Collect(maps.Keys(s.index.jobs))
}

// List returns the summaries that keep admits, newest first.
func (s *Jobs) List(keep func(Summary) bool) []Summary { return s.Page(keep, "", 0) }

// Page returns at most limit of the summaries that keep admits, newest first, from behind the
// job after, or from the newest where there is no such job. 0 sets no limit. It sorts no more
// than it returns: among a hundred thousand jobs that takes milliseconds.
func (s *Jobs) Page(keep func(Summary) bool, after string, limit int) (page []Summary) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	last, paged := s.index.jobs[after]
	for _, v := range s.index.jobs {
		switch {
		case paged && newestFirst(v, last) <= 0 || !keep(v):
		case limit <= 0:
			page = append(page, v)
		case len(page) < limit || newestFirst(v, page[limit-1]) < 0:
			at, _ := slices.BinarySearchFunc(page, v, newestFirst)
			page = slices.Insert(page[:min(len(page), limit-1)], min(at, limit-1), v)
		}
	}
	if limit <= 0 {
		slices.SortFunc(page, newestFirst)
	}
	return page
}

func newestFirst(a, b Summary) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
}
