package bus

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	dto "github.com/prometheus/client_model/go"

	"ehi-server/shared/ehi"
	"ehi-server/shared/logtest"
	"ehi-server/shared/telemetry"
)

// The trail keeps every event in its order, finds a patient's by one subject, goes on where a
// page ended, and lets nobody delete anything.
func TestTheAuditTrailIsAppendOnly(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir(), Audit: &AuditConfig{TTL: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	begun := time.Now().UTC().Add(-time.Hour) // events are never of the future
	for n := range 1200 {                     // more than a batch
		patient := []string{"p.1", "p-1", "p_1 is no id", ""}[n%4]
		b.Audit.Record(ehi.Event{
			At:      begun.Add(time.Duration(n) * time.Second),
			Action:  ehi.Actions()[n%3],
			Outcome: ehi.Succeeded,
			Agent:   fmt.Sprint(n),
			Patient: patient,
		})
	}
	if err := b.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func(f AuditFilter, most int) (agents []string, last uint64) {
		t.Helper()
		err := b.Audit.Read(t.Context(), f, func(seq uint64, e ehi.Event) (bool, error) {
			agents, last = append(agents, e.Agent), seq
			return len(agents) != most, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return agents, last
	}
	all, _ := read(AuditFilter{}, 0)
	if len(all) != 1200 || all[0] != "0" || all[1199] != "1199" {
		t.Errorf("%d events", len(all))
	}
	for patient, n := range map[string]int{"p.1": 300, "p-1": 300, "nobody": 0} {
		if got, _ := read(AuditFilter{Patient: patient}, 0); len(got) != n {
			t.Errorf("%s: %d events", patient, len(got))
		}
	}
	if got, _ := read(AuditFilter{Patient: "p.1", Action: ehi.Actions()[0]}, 0); len(got) != 100 {
		t.Errorf("of one action: %d", len(got))
	}
	got, _ := read(
		AuditFilter{From: begun.Add(600 * time.Second), To: begun.Add(610 * time.Second)}, 0)
	if len(got) != 10 || got[0] != "600" {
		t.Errorf("of ten seconds: %v", got)
	}
	if got, _ := read(AuditFilter{Match: func(e ehi.Event) bool { return e.Agent == "7" }},
		0); !slices.Equal(got, []string{"7"}) {
		t.Errorf("%v", got)
	}
	page, last := read(AuditFilter{}, 5)
	next, _ := read(AuditFilter{After: last}, 5)
	if !slices.Equal(append(page, next...), all[:10]) {
		t.Errorf("pages %v and %v", page, next)
	}
	stream, err := b.link.Streams().Stream(t.Context(), auditStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an event was deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the trail was purged")
	}
	cfg := stream.CachedInfo().Config
	cfg.DenyDelete, cfg.DenyPurge = false, false
	if _, err := b.link.Streams().UpdateStream(t.Context(), cfg); err == nil {
		t.Error("the trail can be made deletable")
	}
	if cfg.MaxAge != time.Hour || cfg.Retention != jetstream.LimitsPolicy {
		t.Errorf("%+v", cfg)
	}
}

// What cannot be stored is counted, and its kind is logged: logs name no patient.
func TestALostAuditEventIsCounted(t *testing.T) {
	var book logtest.Book
	log := slog.New(slog.NewTextHandler(&book, nil))
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir(), Audit: &AuditConfig{}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	before := lostEvents(t)
	b.link.Close()
	b.Audit.Record(ehi.Event{At: time.Now(), Action: ehi.ActionRead, Outcome: ehi.Succeeded,
		Agent:   "patient somebody",
		Patient: "somebody",
		Detail:  "of somebody",
		Job:     "job-1",
		Sender:  ehi.Sender{Request: "request-1"}})
	if n := lostEvents(t) - before; n != 1 {
		t.Errorf("%v events were counted as lost", n)
	}
	said := book.String()
	for _, part := range []string{
		"an audit event is lost",
		"action=" + string(ehi.ActionRead),
		"job-1",
		"request-1",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in the log: %s", part, said)
		}
	}
	if strings.Contains(said, "somebody") {
		t.Errorf("the log names the patient: %s", said)
	}
}

// lostEvents reads the counter.
func lostEvents(t *testing.T) float64 {
	t.Helper()
	var m dto.Metric
	if err := telemetry.AuditLost.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// Readers of the trail leave nothing behind: NATS takes a thousand of them, and refused all
// others until the old ones had gone.
func TestReadersOfTheAuditTrailAreForgotten(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir(), Audit: &AuditConfig{TTL: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 1100 { // more than a batch
		b.Audit.Record(ehi.Event{
			At:      time.Now().UTC(),
			Action:  ehi.ActionRead,
			Outcome: ehi.Succeeded,
		})
	}
	if err := b.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n, filter := range []AuditFilter{{}, {Patient: "nobody"}, {After: 600}, {}} {
		err := b.Audit.Read(t.Context(), filter, func(uint64, ehi.Event) (bool, error) {
			return n != 3, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stream, err := b.Audit.link.Streams().Stream(t.Context(), auditStream)
	if err != nil {
		t.Fatal(err)
	}
	readers := 1
	for end := time.Now().Add(30 * time.Second); readers > 0 && time.Now().Before(end); {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		readers = info.State.Consumers
	}
	if readers > 0 {
		t.Errorf("%d readers are left", readers)
	}
}
