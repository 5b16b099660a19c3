package jobs

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// appOf is an application with the token of a patient.
func (h *house) appOf(patient ehi.Patient) ehi.Actor {
	a := h.app()
	a.Patient = patient.ID
	return a
}

// ask kicks off an export for the patient, with or without the form.
func (h *house) ask(patient ehi.Patient, skipForm bool) (*ehi.Job, error) {
	return h.KickOff(h.t.Context(), h.appOf(patient), Ask{Subject: patient.ID, SkipForm: skipForm})
}

// asked is ask where nothing refuses the kick-off.
func (h *house) asked(patient ehi.Patient, skipForm bool) *ehi.Job {
	h.t.Helper()
	j, err := h.ask(patient, skipForm)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// stored returns an export for the patient with a file of 1,000 bytes.
func (h *house) stored() *ehi.Job {
	h.t.Helper()
	j := h.asked(h.patient, true)
	task := ehi.Task{
		Job: j.ID, Committed: true,
		Files: []ehi.File{{Type: "Patient", Count: 1, Bytes: 1000, Length: 1000}},
	}
	j, err := h.Bus.Jobs.Update(h.t.Context(), j.ID, func(j *ehi.Job) error {
		return j.Complete(task, now(), h.FileTTL)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// wantUsedUp requires that an error is the refusal by a quota.
func wantUsedUp(t *testing.T, err error, quota string) {
	t.Helper()
	if ehi.CodeOf(err) != ehi.Throttled ||
		!strings.Contains(err.Error(), "The quota "+quota+" is used up") {
		t.Errorf("%v, want the refusal by %s", err, quota)
	}
}

// Each quota refuses what exceeds it, names itself, and affects nobody else. Counts of a window
// survive a restart.
func TestQuotasOfKickOffsAndExports(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		quota    string
		skipForm bool
		quotas   Quotas
	}{
		{"client-kick-offs", false, Quotas{ClientKickOffs: 2}},
		{"patient-kick-offs", false, Quotas{PatientKickOffs: 2}},
		{"client-exports", true, Quotas{ClientExports: 2}},
		{"patient-exports", true, Quotas{PatientExports: 2}},
	} {
		t.Run(c.quota, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, func(cfg *Config) {
				cfg.Sandbox, cfg.Quotas = true, c.quotas
				cfg.Quotas.Window = time.Hour
			})
			refused := telemetry.QuotaRefused.WithLabelValues(c.quota)
			before := testutil.ToFloat64(refused)
			for range 2 {
				h.asked(h.patient, c.skipForm)
			}
			_, err := h.ask(h.patient, c.skipForm)
			wantUsedUp(t, err, c.quota)
			if _, err = h.ask(h.other, c.skipForm); strings.HasPrefix(c.quota, "client") {
				wantUsedUp(t, err, c.quota)
			} else if err != nil {
				t.Errorf("another patient: %v", err)
			}
			other := h.appOf(h.patient)
			other.ClientID = "another"
			_, err = h.KickOff(t.Context(), other, Ask{
				Subject:  h.patient.ID,
				SkipForm: c.skipForm,
			})
			if strings.HasPrefix(c.quota, "patient") {
				wantUsedUp(t, err, c.quota)
			} else if err != nil {
				t.Errorf("another client: %v", err)
			}
			if n := testutil.ToFloat64(refused) - before; n < 2 {
				t.Errorf("%v refusals are counted", n)
			}
			if use := testutil.ToFloat64(telemetry.QuotaUse.WithLabelValues(c.quota)); use <= 0 {
				t.Errorf("%v of the quota is used", use)
			}
			h.stop()
			h.start()
			_, err = h.ask(h.patient, c.skipForm)
			wantUsedUp(t, err, c.quota)
		})
	}
}

// An export that begins with its form counts when the form is sent. A refused form can be sent
// again.
func TestTheQuotaOfExportsCountsFormsThatAreSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) {
		c.Quotas = Quotas{Window: time.Hour, PatientExports: 1}
	})
	first, second := h.kicked(), h.kicked()
	if _, err := h.Submit(t.Context(), h.self(), first, ehi.ReleaseForm{}); err != nil {
		t.Fatal(err)
	}
	_, err := h.Submit(t.Context(), h.self(), second, ehi.ReleaseForm{})
	wantUsedUp(t, err, "patient-exports")
	if j, err := h.Record(t.Context(), second.ID); err != nil || j.Status != ehi.AwaitingInput {
		t.Errorf("its export: %+v, %v", j, err)
	}
}

// The stored bytes of a client's and of a patient's exports are limited. Deletions make room.
func TestQuotasOfStoredBytes(t *testing.T) {
	t.Parallel()
	for quota, quotas := range map[string]Quotas{
		"client-bytes":  {ClientBytes: 1},
		"patient-bytes": {PatientBytes: 1},
	} {
		t.Run(quota, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, func(c *Config) { c.Sandbox, c.Quotas = true, quotas })
			j := h.stored()
			for _, skipForm := range []bool{false, true} {
				_, err := h.ask(h.patient, skipForm)
				wantUsedUp(t, err, quota)
			}
			if err := h.Delete(t.Context(), h.app(), j); err != nil {
				t.Fatal(err)
			}
			h.asked(h.patient, false)
		})
	}
}

// bytesOfNative is a source of which only native content has a size.
type bytesOfNative struct{ Source }

func (bytesOfNative) Size(_ context.Context, _ []string, native bool) (int64, error) {
	if native {
		return 1000, nil
	}
	return 0, nil
}

// The bytes that an export reserves are those of documents and tables too, if it has them.
func TestAnExportReservesTheBytesOfItsNativeContent(t *testing.T) {
	s := Service{Deps: Deps{Source: bytesOfNative{}}}
	for _, c := range []struct {
		job  ehi.Job
		want int64
	}{
		{ehi.Job{Operation: ehi.EHIExport}, 1000},
		{ehi.Job{Operation: ehi.BulkExport}, 1},
		{ehi.Job{Operation: ehi.EHIExport, KickOff: ehi.KickOff{Types: []string{"Patient"}}}, 1},
	} {
		c.job.Level = ehi.OnePatient
		if n, err := s.expectedBytes(t.Context(), &c.job); n != c.want || err != nil {
			t.Errorf("%s of %v: %d bytes, want %d, %v", c.job.Operation, c.job.KickOff.Types, n,
				c.want, err)
		}
	}
}

// However many kick-offs arrive at once, an export begins only if those in progress leave room
// for it. What they do not need, or what ends, makes room again.
func TestSimultaneousKickOffsKeepWithinStoredBytes(t *testing.T) {
	t.Parallel()
	h := newHouseOf(t, 12, func(c *Config) { c.Sandbox = true })
	sizes, largest := map[string]int64{}, int64(0)
	for _, p := range h.patients {
		n, err := h.Source.Size(t.Context(), []string{p.ID}, true)
		if err != nil {
			t.Fatal(err)
		}
		sizes[p.ID], largest = n, max(largest, n)
	}
	h.Quotas.ClientBytes = 3 * largest
	for round := range 3 {
		n, jobs := h.kickOffsAtOnce(sizes)
		if n > h.Quotas.ClientBytes || len(jobs) < 2 {
			t.Errorf("round %d: %d exports of %d bytes begin, where %d may be stored", round,
				len(jobs), n, h.Quotas.ClientBytes)
		}
		for _, j := range jobs {
			if err := h.Delete(t.Context(), h.appOf(j.Patient), j); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// kickOffsAtOnce kicks off an export for each patient at once. It returns those that begin, and
// their bytes.
func (h *house) kickOffsAtOnce(sizes map[string]int64) (accepted int64, jobs []*ehi.Job) {
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for _, p := range h.patients {
		all.Go(func() {
			j, err := h.ask(p, true)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wantUsedUp(h.t, err, "client-bytes")
				return
			}
			accepted += sizes[p.ID]
			jobs = append(jobs, j)
		})
	}
	all.Wait()
	return accepted, jobs
}

// Forms that were opened before anything was stored count when they are sent. Of two, the second
// waits until the first one's export is deleted.
func TestTheQuotaOfStoredBytesCountsFormsThatAreSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.Quotas = Quotas{PatientBytes: 1} })
	first, second := h.kicked(), h.kicked()
	submit := func(j *ehi.Job) error {
		_, err := h.Submit(t.Context(), h.self(), j, ehi.ReleaseForm{})
		return err
	}
	if err := submit(first); err != nil {
		t.Fatal(err)
	}
	wantUsedUp(t, submit(second), "patient-bytes")
	if err := h.Delete(t.Context(), h.app(), first); err != nil {
		t.Fatal(err)
	}
	if err := submit(second); err != nil {
		t.Fatal(err)
	}
	if j, err := h.Record(t.Context(), second.ID); err != nil || j.Status != ehi.Requested {
		t.Errorf("%+v, %v", j, err)
	}
}

// When the limit for stored exports is reached, further kick-offs are refused until something is
// deleted. The process itself still works.
func TestLimitOfStoredBytes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.Sandbox, c.MaxExportBytes = true, 1000 })
	j := h.stored()
	_, err := h.ask(h.patient, true)
	if ehi.CodeOf(err) != ehi.Transient ||
		!strings.Contains(err.Error(), "The limit for stored exports is reached") {
		t.Errorf("at the limit: %v", err)
	}
	if err := h.Working(); err != nil {
		t.Error(err)
	}
	if err := h.Delete(t.Context(), h.app(), j); err != nil {
		t.Fatal(err)
	}
	h.asked(h.patient, true)
	if n := h.Bus.Jobs.Stored(); n != 0 {
		t.Errorf("%d bytes are counted", n)
	}
}
