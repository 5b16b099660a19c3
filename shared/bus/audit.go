package bus

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/link"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

const (
	// auditStream is the trail. Its messages can be neither deleted nor purged: they go by age,
	// or by the stream's limit.
	auditStream = "EHI_AUDIT"
	// noPatient stands in a subject for an event about no patient. It is no FHIR id.
	noPatient = "_"
)

// auditSubjects are those of the trail's events, by action and patient.
var auditSubjects = subject.KindOf("ehi.audit")

// AuditConfig is how much of the audit trail is kept.
type AuditConfig struct {
	// TTL is how long an event is kept.
	TTL time.Duration
	// MaxBytes bounds the trail; the oldest events go first. 0 sets no limit.
	MaxBytes int64
}

// Audit is the audit trail: append-only, and one for all processes.
type Audit struct {
	link *link.Link
	log  *slog.Logger
}

func (b *Bus) openAudit(ctx context.Context) (*Audit, error) {
	c, most := *b.cfg.Audit, int64(-1)
	if c.MaxBytes > 0 {
		most = c.MaxBytes
	}
	duplicates := 2 * time.Minute // JetStream's default; it may not be longer than what is kept
	if c.TTL > 0 {
		duplicates = min(duplicates, c.TTL)
	}
	_, err := b.stream(ctx, jetstream.StreamConfig{
		Name:        auditStream,
		Description: "Audit trail",
		Subjects:    []string{auditSubjects.Match("", "").String()},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      c.TTL,
		MaxBytes:    most,
		Duplicates:  duplicates,
		DenyDelete:  true,
		DenyPurge:   true,
		Compression: jetstream.S2Compression,
	})
	if err != nil {
		return nil, fmt.Errorf("declare the audit trail: %w", err)
	}
	return &Audit{link: b.link, log: b.cfg.Log}, nil
}

// patientToken is a patient's id as a part of a subject: a dot would divide it, and an
// underscore is in no FHIR id.
func patientToken(id string) string {
	if id == "" {
		return noPatient
	}
	return strings.ReplaceAll(id, ".", "_")
}

// Record adds an event. It does not wait until the event is stored: what cannot be is counted
// (ehi_audit_lost_total) and logged by its kind, so that it is not lost without a word.
func (a *Audit) Record(e ehi.Event) {
	data, err := json.Marshal(e)
	if err != nil { // strings and a time: cannot fail
		panic(err)
	}
	telemetry.AuditEvents.WithLabelValues(string(e.Action), string(e.Outcome)).Inc()
	err = a.link.StoreAsync(auditSubjects.Of(string(e.Action), patientToken(e.Patient)), data,
		auditStall)
	if err != nil {
		lostEvent(a.log, data, err)
	}
}

// auditStall is how long Record waits where very many events are on their way.
const auditStall = time.Second

// lostEvent tells of an event that could not be stored: what kind it was of and when, and not of
// whom, since logs name no patient. By its digest two lines are known to be of one event.
func lostEvent(log *slog.Logger, event []byte, err error) {
	telemetry.AuditLost.Inc()
	var e ehi.Event
	if e2 := json.Unmarshal(event, &e); e2 != nil {
		err = errors.Join(err, e2)
	}
	agent := e.Agent
	if strings.HasPrefix(agent, "patient ") {
		agent = "patient"
	}
	sum := sha256.Sum256(event)
	log.Error("an audit event is lost", "action", e.Action, "outcome", e.Outcome, "agent", agent,
		"at", e.At,
		"job", e.Job, "request", e.Request, "sha256", hex.EncodeToString(sum[:8]), "err", err)
}

// Flush waits until every event that was recorded is stored. Errors: ctx's.
func (a *Audit) Flush(ctx context.Context) error {
	select {
	case <-a.link.Stored():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AuditFilter says which events Read reads; a zero field does not narrow.
type AuditFilter struct {
	Action  ehi.Action
	Patient string
	// From and To are instants; To is not included.
	From, To time.Time
	// After is the sequence number behind which reading goes on.
	After uint64
	// Match narrows further; nil does not.
	Match func(ehi.Event) bool
}

func (f AuditFilter) subject() string {
	patient := f.Patient
	if patient != "" {
		patient = patientToken(patient)
	}
	return auditSubjects.Match(string(f.Action), patient).String()
}

// errEnough ends a reading.
var errEnough = errors.New("enough")

// Read calls f with every event of a filter, oldest first, and its sequence number, as far as
// there are any now. f returns false to end it.
func (a *Audit) Read(
	ctx context.Context, filter AuditFilter, f func(seq uint64, e ehi.Event) (more bool, err error),
) error {
	err := a.each(ctx, filter, func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		var e ehi.Event
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			return fmt.Errorf("audit event %d: %w", meta.Sequence.Stream, err)
		}
		if filter.passes(e) {
			more, err := f(meta.Sequence.Stream, e)
			if err == nil && !more {
				err = errEnough
			}
			return err
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// passes holds an event to what the stream's own filter does not look at.
func (f AuditFilter) passes(e ehi.Event) bool {
	return (f.Patient == "" || e.Patient == f.Patient) && !e.At.Before(f.From) &&
		(f.To.IsZero() || e.At.Before(f.To)) && (f.Match == nil || f.Match(e))
}

// auditBatch is how many events are asked for at once.
const auditBatch = 500

// auditWait bounds the wait for a batch.
const auditWait = 5 * time.Second

// auditReaderLife is how long NATS keeps a reader that nobody could forget, because its process
// died. Each batch has a reader of its own, so that it outlives auditWait and no more.
const auditReaderLife = time.Minute

// each calls f with every message that there is now of a filter's subject, from where the filter
// begins.
func (a *Audit) each(ctx context.Context, filter AuditFilter, f func(jetstream.Msg) error) error {
	stream, err := a.link.Streams().Stream(ctx, auditStream)
	if err != nil {
		return err
	}
	at := jetstream.OrderedConsumerConfig{
		FilterSubjects:    []string{filter.subject()},
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		InactiveThreshold: auditReaderLife,
	}
	switch {
	case filter.After > 0:
		at.DeliverPolicy, at.OptStartSeq = jetstream.DeliverByStartSequencePolicy, filter.After+1
	case !filter.From.IsZero():
		// events are stored a little after they happen, and clocks differ
		from := filter.From.Add(-time.Minute)
		at.DeliverPolicy, at.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	events, err := stream.OrderedConsumer(ctx, at)
	if err != nil {
		return err
	}
	defer a.forget(events)
	info, err := events.Info(ctx)
	if err != nil {
		return err
	}
	for left := info.NumPending; left > 0; {
		batch, err := events.Fetch(int(min(left, auditBatch)), jetstream.FetchMaxWait(auditWait))
		if err != nil {
			return err
		}
		got := uint64(0)
		var failed error
		// to its end also where that is enough: a batch that is left would wait for its reader
		for m := range batch.Messages() {
			got++
			if failed == nil {
				failed = f(m)
			}
		}
		if err := cmp.Or(failed, batch.Error()); err != nil {
			return err
		}
		if got == 0 { // they were there when the reading began
			return context.DeadlineExceeded
		}
		left -= min(got, left)
	}
	return nil
}

// forget removes what NATS keeps of a reader: it takes a thousand of them, and refuses further
// ones. ctx of the request may be over by then, which is no reason to leave it.
func (a *Audit) forget(events jetstream.Consumer) {
	info := events.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditWait)
	defer cancel()
	// else it goes after auditReaderLife
	_ = a.link.Streams().DeleteConsumer(ctx, auditStream, info.Name)
}
