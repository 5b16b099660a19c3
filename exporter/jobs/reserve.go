package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// Stored bytes are known when an export is done. Until then its size is reserved, as far as the
// source knows it: however many kick-offs come at once, of however many processes, each counts
// what those before it will store. A reservation is an entry of its holder's record, changed by
// compare-and-set. Nobody has to end it: it counts for as long as its job is under way, and the
// next one drops it.

// reservedRecords are where reservations are: reserved.<quota>.<digest of whose>.
var reservedRecords = subject.KindOf("reserved")

// reservation is what an export is expected to store.
type reservation struct {
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// beforeKnown is how long a job may take to be known here, from its reservation on.
const beforeKnown = time.Minute

// storing are the quotas of stored bytes that a job counts against.
func (s *Service) storing(j *ehi.Job) (out []quota) {
	for _, q := range []quota{
		{"client-bytes", j.ClientID, s.Quotas.ClientBytes},
		{"patient-bytes", j.Patient.ID, s.Quotas.PatientBytes},
	} {
		if q.limit > 0 && q.whose != "" {
			out = append(out, q)
		}
	}
	return out
}

// storedFor is how many bytes are stored that count against a quota.
func (s *Service) storedFor(q quota, j *ehi.Job) int64 {
	ofClient, ofPatient := s.Bus.Jobs.StoredOf(j.ClientID, j.Patient.ID)
	if q.name == "client-bytes" {
		return ofClient
	}
	return ofPatient
}

// mayStore refuses a kick-off while as much is stored of exports as its client, or its patient,
// may have.
func (s *Service) mayStore(j *ehi.Job) error {
	for _, q := range s.storing(j) {
		stored := s.storedFor(q, j)
		telemetry.QuotaUse.WithLabelValues(q.name).Set(float64(stored) / float64(q.limit))
		if stored >= q.limit {
			return tooMuch(q)
		}
	}
	return nil
}

// tooMuch is the answer where a quota of stored bytes is used up.
func tooMuch(q quota) error {
	telemetry.QuotaRefused.WithLabelValues(q.name).Inc()
	return ehi.Errorf(ehi.Throttled,
		"The quota %s is used up: %d bytes of exports may be stored, with those that are being "+
			"made; more are taken when some are deleted or have expired", q.name, q.limit)
}

// reserve reserves the bytes that an export is expected to store. undo gives them back where it
// does not begin. Errors: ehi.Throttled, where as much is stored as may be, or would be with the
// exports that are under way. Without any of those an export may take more than is left: its
// size is an estimate.
func (s *Service) reserve(ctx context.Context, j *ehi.Job) (undo func(), err error) {
	quotas := s.storing(j)
	if len(quotas) == 0 {
		return func() {}, nil
	}
	size, err := s.expected(ctx, j)
	if err != nil {
		return nil, err
	}
	taken := 0
	undo = func() {
		ctx, cancel := undoing(ctx)
		defer cancel()
		for _, q := range quotas[:taken] {
			if _, err := s.changeReserved(ctx, q, func(all map[string]reservation) bool {
				delete(all, j.ID)
				return true
			}); err != nil {
				s.Log.Warn("give back what was reserved", "quota", q.name, "err", err)
			}
		}
	}
	for _, q := range quotas {
		done, err := s.changeReserved(ctx, q, func(all map[string]reservation) bool {
			// before what is stored: an export that ends between counts twice, not never
			pending := s.underWay(all)
			stored := s.storedFor(q, j)
			telemetry.QuotaUse.WithLabelValues(q.name).Set(
				float64(stored+pending) / float64(q.limit))
			if stored+pending >= q.limit || pending > 0 && stored+pending+size > q.limit {
				return false
			}
			all[j.ID] = reservation{size, now()}
			return true
		})
		if err == nil && !done {
			err = tooMuch(q)
		}
		if err != nil {
			undo()
			return nil, err
		}
		taken++
	}
	return undo, nil
}

// expected is how many bytes an export is expected to store: those of the records that it is of. It
// stores fewer where it narrows or compresses them.
func (s *Service) expected(ctx context.Context, j *ehi.Job) (n int64, err error) {
	patients := j.KickOff.Patients
	switch {
	case j.Level == ehi.OnePatient:
		patients = []string{j.Patient.ID}
	case len(patients) == 0 && j.Level == ehi.OneGroup:
		read := func(id string) ([]byte, error) { return s.Source.Group(ctx, id) }
		m, err := source.Members(source.Groups{Read: read}, j.Group, now())
		if err != nil {
			return 0, err
		}
		patients = append([]string{}, m.Patients...)
	case len(patients) == 0:
		patients = nil // all of them
	}
	n, err = s.Source.Size(ctx, patients)
	return max(1, n), err // each counts
}

// underWay is what exports under way are still expected to store. It drops the others.
func (s *Service) underWay(all map[string]reservation) (n int64) {
	for id, r := range all {
		job, known := s.Bus.Jobs.Summary(id)
		switch {
		case known && job.Status == ehi.Requested,
			!s.Bus.Jobs.Gone(id) && now().Sub(r.At) < beforeKnown &&
				(!known || job.Status == ehi.AwaitingInput):
			n += max(0, r.Bytes-job.Stored())
		default:
			delete(all, id)
		}
	}
	return n
}

// changeReserved changes the reservations of a quota's holder. change may be called several
// times; where it reports false nothing is changed.
func (s *Service) changeReserved(
	ctx context.Context, q quota, change func(map[string]reservation) bool,
) (done bool, err error) {
	who := reservedRecords.Of(q.name, digest(q.whose))
	for {
		e, err := s.Bus.Auth.Get(ctx, who)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return false, err
		}
		all := map[string]reservation{}
		if err == nil {
			if err := json.Unmarshal(e.Value, &all); err != nil {
				return false, err
			}
		}
		if !change(all) {
			return false, nil
		}
		data, err := json.Marshal(all)
		if err != nil {
			return false, err
		}
		life := s.JobTTL + time.Hour // no job is under way for longer
		if e.Revision == 0 {
			_, err = s.Bus.Auth.CreateFor(ctx, who, data, life)
		} else {
			_, err = s.Bus.Auth.UpdateFor(ctx, who, data, e.Revision, life)
		}
		if !kv.IsConflict(err) {
			return err == nil, err
		}
	}
}
