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

// The stored bytes of an export are known when it has ended. Until then its expected size is
// reserved, as far as the source knows it. So however many kick-offs arrive at once, in however
// many processes, each of them counts what earlier ones will store. A reservation is an entry in
// the record of its holder, which is updated by compare-and-set. It counts while its job is
// running. Nobody has to delete it: the next update of the record drops the reservations of
// ended jobs.

// reservedRecords are the records of reservations: reserved.<quota>.<digest of the holder>.
var reservedRecords = subject.KindOf("reserved")

// reservation is the expected size of an export.
type reservation struct {
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// beforeKnown is how long after its reservation a job may still be unknown to this process.
const beforeKnown = time.Minute

// byteQuotas returns the quotas of stored bytes that a job counts against.
func (s *Service) byteQuotas(j *ehi.Job) (out []quota) {
	for _, q := range []quota{
		{"client-bytes", j.ClientID, s.Quotas.ClientBytes},
		{"patient-bytes", j.Patient.ID, s.Quotas.PatientBytes},
	} {
		if q.limit > 0 && q.holder != "" {
			out = append(out, q)
		}
	}
	return out
}

// storedFor returns how many bytes of stored exports count against a quota.
func (s *Service) storedFor(q quota, j *ehi.Job) int64 {
	ofClient, ofPatient := s.Bus.Jobs.StoredOf(j.ClientID, j.Patient.ID)
	if q.name == "client-bytes" {
		return ofClient
	}
	return ofPatient
}

// checkStored returns an error if the client or the patient has used up a quota of stored bytes.
func (s *Service) checkStored(j *ehi.Job) error {
	for _, q := range s.byteQuotas(j) {
		stored := s.storedFor(q, j)
		telemetry.QuotaUse.WithLabelValues(q.name).Set(float64(stored) / float64(q.limit))
		if stored >= q.limit {
			return bytesUsedUp(q)
		}
	}
	return nil
}

// bytesUsedUp returns the error for a quota of stored bytes that is used up.
func bytesUsedUp(q quota) error {
	telemetry.QuotaRefused.WithLabelValues(q.name).Inc()
	return ehi.Errorf(ehi.Throttled,
		"The quota %s is used up: at most %d bytes of exports may be stored, including running "+
			"exports. Delete exports, or wait until some have expired", q.name, q.limit)
}

// reserve reserves the bytes that an export is expected to store. Call undo if the export does
// not start. Errors: ehi.Throttled if the quota is used up, or would be together with the
// exports that are running. If none is running, an export may exceed what is left, because its
// size is only an estimate.
func (s *Service) reserve(ctx context.Context, j *ehi.Job) (undo func(), err error) {
	quotas := s.byteQuotas(j)
	if len(quotas) == 0 {
		return func() {}, nil
	}
	size, err := s.expectedBytes(ctx, j)
	if err != nil {
		return nil, err
	}
	taken := 0
	undo = func() {
		ctx, cancel := undoContext(ctx)
		defer cancel()
		for _, q := range quotas[:taken] {
			if _, err := s.updateReservations(ctx, q, func(all map[string]reservation) bool {
				delete(all, j.ID)
				return true
			}); err != nil {
				s.Log.Warn("cannot release a reservation", "quota", q.name, "err", err)
			}
		}
	}
	for _, q := range quotas {
		done, err := s.updateReservations(ctx, q, func(all map[string]reservation) bool {
			// Read the reservations before the stored bytes. An export that ends in between then
			// counts twice, instead of not at all.
			pending := s.reservedBytes(all)
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
			err = bytesUsedUp(q)
		}
		if err != nil {
			undo()
			return nil, err
		}
		taken++
	}
	return undo, nil
}

// expectedBytes estimates the stored size of an export: the size of its records. An export with
// filters or compression stores less.
func (s *Service) expectedBytes(ctx context.Context, j *ehi.Job) (n int64, err error) {
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
		patients = nil // all patients
	}
	n, err = s.Source.Size(ctx, patients, j.Native())
	return max(1, n), err // even an empty record counts
}

// reservedBytes returns what running exports are still expected to store. It deletes the other
// reservations.
func (s *Service) reservedBytes(all map[string]reservation) (n int64) {
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

// updateReservations changes the reservations of a quota's holder. It may call change several
// times. If change returns false, nothing is stored.
func (s *Service) updateReservations(
	ctx context.Context, q quota, change func(map[string]reservation) bool,
) (done bool, err error) {
	who := reservedRecords.Of(q.name, digest(q.holder))
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
		life := s.JobTTL + time.Hour // longer than any job
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
