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

// Summary is what every process keeps in memory about each job: enough to list, search, expire
// and count jobs without reading records. It takes about 350 bytes.
type Summary struct {
	ID       string
	Status   ehi.Status
	Level    ehi.Level
	Patient  ehi.Patient // empty for a population
	Group    string
	ClientID string
	// ClientMade is ehi.Job.ClientMade.
	ClientMade time.Time
	CreatedAt  time.Time
	ExpiresAt  time.Time
	stored     int64
	// the owner whose running jobs include it; the zero owner while it does not run
	running owner
	rev     uint64
}

// Listed reports whether lists show the job at a given time: it is neither deleted nor expired.
func (s Summary) Listed(at time.Time) bool {
	return s.Status != ehi.Aborted && (s.ExpiresAt.IsZero() || at.Before(s.ExpiresAt))
}

// Revision identifies the version of the record behind the summary. Equal revisions mean equal
// records. It does not order them after NATS has lost records.
func (s Summary) Revision() uint64 { return s.rev }

// Stored returns how many bytes of the file store the job uses.
func (s Summary) Stored() int64 { return s.stored }

// Lane returns the lane of a requested job.
func (s Summary) Lane() ehi.Lane { return s.running.lane }

// owner is the client and lane whose limit of running jobs a job counts against.
type owner struct {
	lane   ehi.Lane
	client string
}

// holder is whose stored bytes are added up: a client or, if client is "", a patient.
type holder struct{ client, patient string }

// index holds the summaries by job. The watch of Jobs updates it.
type index struct {
	mu   sync.RWMutex
	jobs map[string]Summary
	// running counts the requested jobs of each client and lane, including those about to be
	// created. queued counts those of each lane.
	running map[owner]int
	queued  map[ehi.Lane]int
	// places holds the jobs that are about to be created. Each counts until its record arrives,
	// and only once.
	places map[string]owner
	stored int64 // bytes of all jobs
	// storedOf is the sum for each client and patient with stored bytes.
	storedOf map[holder]int64
	// gone holds the latest deleted jobs. IDs are never reused, so any later news about such a
	// job is outdated: from a watch, or from a slower writer in this process.
	gone *lru.Cache[string, struct{}]
}

// goneSize is how many deletions are remembered: a minute's at a hundred a second.
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

// apply adds a record. newest reports whether it is the newest known revision; an older one is
// ignored. changed reports whether it is news: the same revision again, or a second deletion, is
// not.
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

// differing lists the jobs that are not among the keys of a bucket, or that are known at a later
// revision.
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

// forget removes a job as if it had never been known.
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

// store adds n bytes, possibly negative, to the sums of a job.
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

// Stored returns how many bytes of the file store all jobs use, by their records.
func (s *Jobs) Stored() int64 {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.stored
}

// StoredOf returns how many bytes of the file store a client's jobs and a patient's jobs use, by
// their records.
func (s *Jobs) StoredOf(client, patient string) (ofClient, ofPatient int64) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.storedOf[holder{client: client}], s.index.storedOf[holder{patient: patient}]
}

// ran adds n, possibly negative, to the running jobs of an owner.
func (x *index) ran(o owner, n int) {
	if o == (owner{}) {
		return
	}
	x.queued[o.lane] += n
	if x.running[o] += n; x.running[o] == 0 {
		delete(x.running, o)
	}
}

// Admit reserves a place for a job that a client is about to create, until the job exists or
// release is called. Errors: ehi.Throttled if limit jobs of the client are queued or running in
// the lane, ehi.Transient if the queue is full. It reads memory only and ignores what other
// processes admit at the same moment; JetStream rejects those.
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
	// The commands of a population are its tasks.
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

// leave releases the place of a job, if it still has one.
func (x *index) leave(id string) {
	if o, kept := x.places[id]; kept {
		delete(x.places, id)
		x.ran(o, -1)
	}
}

// Summary returns a job's summary. ok is false if this process does not know the job.
func (s *Jobs) Summary(id string) (Summary, bool) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	found, ok := s.index.jobs[id]
	return found, ok
}

// Gone reports whether this process knows that a job was deleted or is being deleted. An unknown
// job is not gone.
func (s *Jobs) Gone(id string) bool {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	v, known := s.index.jobs[id]
	return known && v.Status == ehi.Aborted || !known && s.index.gone.Contains(id)
}

// StatusCount is the number of jobs in a status, and when the oldest of them was kicked off.
type StatusCount struct {
	Jobs   int
	Oldest time.Time
}

// ByStatus returns the standing of each status with jobs.
func (s *Jobs) ByStatus() map[ehi.Status]StatusCount {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	out := map[ehi.Status]StatusCount{}
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

// List returns the summaries that keep accepts, newest first.
func (s *Jobs) List(keep func(Summary) bool) []Summary { return s.Page(keep, "", 0) }

// Page returns at most limit of the summaries that keep accepts, newest first, starting after
// the job with the ID after, or with the newest if there is no such job. A limit of 0 means no
// limit. It sorts only what it returns: for a hundred thousand jobs it takes milliseconds.
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
