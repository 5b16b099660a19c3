package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// Quotas bound what succeeds: how much one client, and all clients for one patient, may have of
// the server. Kick-offs and exports are counted in windows of time, for all processes together;
// stored bytes are those that the jobs' records tell of.

// Quotas are what one client, and all clients for one patient, may have; 0 sets no limit.
type Quotas struct {
	// Window is for how long kick-offs and exports are counted together.
	Window time.Duration
	// ClientKickOffs and PatientKickOffs are kick-offs that are accepted within the window.
	ClientKickOffs, PatientKickOffs int
	// ClientExports and PatientExports are exports that are begun within the window: at the
	// kick-off, or once the patient has sent the form.
	ClientExports, PatientExports int
	// ClientBytes and PatientBytes are bytes of exports that are stored.
	ClientBytes, PatientBytes int64
}

// quotaRecords are where successes are counted: quota.<quota>.<digest of whose>.
var quotaRecords = subject.KindOf("quota")

// quota is one that a job counts against.
type quota struct {
	name  string // for people and metrics
	whose string
	limit int64
}

func (q quota) key() subject.Subject { return quotaRecords.Of(q.name, digest(q.whose)) }

// counting are the quotas of a kind that a job counts against: kick-offs or exports.
func (s *Service) counting(j *ehi.Job, kind string, ofClient, ofPatient int) (out []quota) {
	if ofClient > 0 {
		out = append(out, quota{"client-" + kind, j.ClientID, int64(ofClient)})
	}
	if ofPatient > 0 && j.Level == ehi.OnePatient {
		out = append(out, quota{"patient-" + kind, j.Patient.ID, int64(ofPatient)})
	}
	return out
}

// mayKickOff counts a kick-off, and the export where that begins at once. undo takes it back where
// nothing comes of it. Errors: ehi.Throttled, where a quota is used up.
func (s *Service) mayKickOff(ctx context.Context, j *ehi.Job) (undo func(), err error) {
	against := s.counting(j, "kick-offs", s.Quotas.ClientKickOffs, s.Quotas.PatientKickOffs)
	if j.Status != ehi.Requested {
		if err := s.mayStore(j); err != nil {
			return nil, err
		}
		return s.take(ctx, against)
	}
	return s.begin(ctx, j, append(against, s.exporting(j)...))
}

// mayExport counts an export that begins with its form. It is mayKickOff otherwise.
func (s *Service) mayExport(ctx context.Context, j *ehi.Job) (undo func(), err error) {
	return s.begin(ctx, j, s.exporting(j))
}

// begin reserves the bytes of an export that begins, and counts it against quotas.
func (s *Service) begin(ctx context.Context, j *ehi.Job, against []quota) (undo func(), err error) {
	giveBack, err := s.reserve(ctx, j)
	if err != nil {
		return nil, err
	}
	takeBack, err := s.take(ctx, against)
	if err != nil {
		giveBack()
		return nil, err
	}
	return func() {
		takeBack()
		giveBack()
	}, nil
}

func (s *Service) exporting(j *ehi.Job) []quota {
	return s.counting(j, "exports", s.Quotas.ClientExports, s.Quotas.PatientExports)
}

// take counts one more against each quota, or against none where one is used up.
func (s *Service) take(ctx context.Context, against []quota) (undo func(), err error) {
	taken := 0
	undo = func() {
		ctx, cancel := undoing(ctx)
		defer cancel()
		for _, q := range against[:taken] {
			if _, _, err := s.tally.Add(ctx, q.key(), -1, 0, s.Quotas.Window); err != nil {
				s.Log.Warn("take back what was counted against a quota", "quota", q.name, "err",
					err)
			}
		}
	}
	for _, q := range against {
		w, wait, err := s.tally.Add(ctx, q.key(), 1, q.limit, s.Quotas.Window)
		if err == nil && wait > 0 {
			err = usedUp(q, wait)
		}
		if err != nil {
			undo()
			return nil, err
		}
		telemetry.QuotaCounted.WithLabelValues(q.name).Inc()
		telemetry.QuotaUse.WithLabelValues(q.name).Set(float64(w.Count) / float64(q.limit))
		taken++
	}
	return undo, nil
}

// usedUp is the answer where a quota is used up until its window ends.
func usedUp(q quota, wait time.Duration) error {
	telemetry.QuotaRefused.WithLabelValues(q.name).Inc()
	return ehi.Throttle(wait,
		"The quota "+q.name+" is used up: "+strconv.FormatInt(q.limit, 10)+" in a window")
}

// digest stands for whose a quota is in the keys of records, which name nobody.
func digest(whose string) string {
	sum := sha256.Sum256([]byte(whose))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
