package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/settings"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// Quotas limit successful requests: how much of the server one client may use, and how much all
// clients together may use for one patient. Kick-offs and exports are counted in time windows,
// for all processes together. Stored bytes are the sum of the sizes in the jobs' records.

// Quotas are what one client, and all clients for one patient, may have. 0 sets no limit, and -1,
// which Resolved replaces, the limit of the server's mode. The tags are flags.
type Quotas struct {
	// Window is for how long kick-offs and exports are counted together.
	Window time.Duration `name:"quota-window" help:"Time window in which kick-offs and exports are counted for --client-kickoffs, --patient-kickoffs, --client-exports and --patient-exports." default:"1h" env:"EHI_QUOTA_WINDOW" range:"0s..8760h"`
	// ClientKickOffs and PatientKickOffs are kick-offs that are accepted within the window.
	ClientKickOffs  int `name:"client-kickoffs" help:"Limit for kick-offs of one client in --quota-window. Further ones get 429. 0: no limit; -1: 10000 in production mode, no limit in the sandbox." default:"-1" env:"EHI_CLIENT_KICKOFFS" range:"-1.."`
	PatientKickOffs int `name:"patient-kickoffs" help:"Limit for kick-offs for one patient in --quota-window, for all clients together. Further ones get 429. 0: no limit; -1: 200 in production mode, no limit in the sandbox." default:"-1" env:"EHI_PATIENT_KICKOFFS" range:"-1.."`
	// ClientExports and PatientExports are exports that are begun within the window: at the
	// kick-off, or once the patient has sent the form.
	ClientExports  int `name:"client-exports" help:"Limit for exports of one client that start in --quota-window, at the kick-off or when the patient sends the form. Further ones get 429. 0: no limit; -1: 10000 in production mode, no limit in the sandbox." default:"-1" env:"EHI_CLIENT_EXPORTS" range:"-1.."`
	PatientExports int `name:"patient-exports" help:"Limit for exports of one patient that start in --quota-window, for all clients together. Further ones get 429. 0: no limit; -1: 100 in production mode, no limit in the sandbox." default:"-1" env:"EHI_PATIENT_EXPORTS" range:"-1.."`
	// ClientBytes and PatientBytes are bytes of exports that are stored.
	ClientBytes  int64 `name:"client-bytes" help:"Limit for the stored exports of one client, in bytes. At the limit, its kick-offs get 429. An unfinished export counts with the size of its records. 0: no limit." default:"0" env:"EHI_CLIENT_BYTES" range:"0.."`
	PatientBytes int64 `name:"patient-bytes" help:"Limit for the stored exports of one patient, in bytes, for all clients together. At the limit, kick-offs get 429. 0: no limit; -1: 10 GiB in production mode, no limit in the sandbox." default:"-1" env:"EHI_PATIENT_BYTES" range:"-1.."`
}

// Resolved returns the quotas of a sandbox, which has none by default, or of a production server.
func (q Quotas) Resolved(sandbox bool) Quotas {
	q.ClientKickOffs = settings.ByMode(q.ClientKickOffs, 10_000, sandbox)
	q.PatientKickOffs = settings.ByMode(q.PatientKickOffs, 200, sandbox)
	q.ClientExports = settings.ByMode(q.ClientExports, 10_000, sandbox)
	q.PatientExports = settings.ByMode(q.PatientExports, 100, sandbox)
	q.PatientBytes = settings.ByMode(q.PatientBytes, 10<<30, sandbox)
	return q
}

// quotaRecords are the records that count successes: quota.<quota>.<digest of the holder>.
var quotaRecords = subject.KindOf("quota")

// quota is a quota of one holder.
type quota struct {
	name   string // shown in errors and metrics
	holder string
	limit  int64
}

func (q quota) key() subject.Subject { return quotaRecords.Of(q.name, digest(q.holder)) }

// countedQuotas returns the quotas of a kind, kick-offs or exports, that a job counts against.
func (s *Service) countedQuotas(j *ehi.Job, kind string, ofClient, ofPatient int) (out []quota) {
	if ofClient > 0 {
		out = append(out, quota{"client-" + kind, j.ClientID, int64(ofClient)})
	}
	if ofPatient > 0 && j.Level == ehi.OnePatient {
		out = append(out, quota{"patient-" + kind, j.Patient.ID, int64(ofPatient)})
	}
	return out
}

// mayKickOff counts a kick-off and, if the job needs no form, its export. Call undo if the
// kick-off fails later. Errors: ehi.Throttled if a quota is used up.
func (s *Service) mayKickOff(ctx context.Context, j *ehi.Job) (undo func(), err error) {
	against := s.countedQuotas(j, "kick-offs", s.Quotas.ClientKickOffs, s.Quotas.PatientKickOffs)
	if j.Status != ehi.Requested {
		if err := s.checkStored(j); err != nil {
			return nil, err
		}
		return s.count(ctx, against)
	}
	return s.reserveAndCount(ctx, j, append(against, s.exporting(j)...))
}

// mayExport counts an export that starts when its form is sent. See mayKickOff.
func (s *Service) mayExport(ctx context.Context, j *ehi.Job) (undo func(), err error) {
	return s.reserveAndCount(ctx, j, s.exporting(j))
}

// reserveAndCount reserves the bytes of an export that starts, and counts it against quotas.
func (s *Service) reserveAndCount(
	ctx context.Context, j *ehi.Job, against []quota,
) (undo func(), err error) {
	giveBack, err := s.reserve(ctx, j)
	if err != nil {
		return nil, err
	}
	takeBack, err := s.count(ctx, against)
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
	return s.countedQuotas(j, "exports", s.Quotas.ClientExports, s.Quotas.PatientExports)
}

// count adds 1 to each quota, or to none if one of them is used up.
func (s *Service) count(ctx context.Context, against []quota) (undo func(), err error) {
	taken := 0
	undo = func() {
		ctx, cancel := undoContext(ctx)
		defer cancel()
		for _, q := range against[:taken] {
			if _, _, err := s.tally.Add(ctx, q.key(), -1, 0, s.Quotas.Window); err != nil {
				s.Log.Warn("cannot undo a count against a quota", "quota", q.name, "err",
					err)
			}
		}
	}
	for _, q := range against {
		w, wait, err := s.tally.Add(ctx, q.key(), 1, q.limit, s.Quotas.Window)
		if err == nil && wait > 0 {
			err = usedUp(q, s.Quotas.Window, wait)
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

// usedUp returns the error for a quota that is used up until its window ends.
func usedUp(q quota, window, wait time.Duration) error {
	telemetry.QuotaRefused.WithLabelValues(q.name).Inc()
	return ehi.Throttle(wait,
		fmt.Sprintf("The quota %s is used up: at most %d in %v", q.name, q.limit, window))
}

// digest replaces the holder of a quota in keys, so that they contain no IDs of patients or
// clients.
func digest(holder string) string {
	sum := sha256.Sum256([]byte(holder))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
