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
	// auditStream is the stream of the trail. Its messages cannot be deleted or purged. They
	// expire by age, or by the limit of the stream.
	auditStream = "EHI_AUDIT"
	// noPatient replaces the patient's ID in the subject of an event without a patient. It is
	// not a valid FHIR ID.
	noPatient = "_"
)

// auditSubjects are the subjects of events: action and patient.
var auditSubjects = subject.KindOf("ehi.audit")

// AuditConfig configures the retention of the audit trail. Its tags are flags.
type AuditConfig struct {
	// TTL is how long an event is kept. Default 6 years.
	TTL time.Duration `name:"audit-ttl" help:"How long to keep events in the audit trail." default:"52560h" env:"EHI_AUDIT_TTL" range:"1h..876000h"`
	// MaxBytes is the largest size of the trail; the oldest events are dropped first. 0 means no
	// limit. -1, which Resolved replaces, depends on the server's mode.
	MaxBytes int64 `name:"audit-max-bytes" help:"Maximum size of the audit trail in bytes. Beyond it, the oldest events are removed early. 0: no limit; -1: no limit in production mode, 64 MiB in the sandbox." default:"-1" env:"EHI_AUDIT_MAX_BYTES" range:"-1.."`
}

// sandboxAudit is the largest size of a sandbox's audit trail, unless a flag sets another.
const sandboxAudit = 64 << 20

// Resolved returns the configuration of a sandbox or of a production server, with its defaults.
func (c AuditConfig) Resolved(sandbox bool) *AuditConfig {
	if c.TTL <= 0 {
		c.TTL = 6 * 365 * 24 * time.Hour
	}
	if c.MaxBytes < 0 {
		c.MaxBytes = 0
		if sandbox {
			c.MaxBytes = sandboxAudit
		}
	}
	return &c
}

// Audit is the append-only audit trail. All processes share it.
type Audit struct {
	link *link.Link
	log  *slog.Logger
}

func (b *Bus) openAudit(ctx context.Context) (*Audit, error) {
	c, most := *b.cfg.Audit, int64(-1)
	if c.MaxBytes > 0 {
		most = c.MaxBytes
	}
	duplicates := 2 * time.Minute // JetStream's default; it may not exceed MaxAge
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

// patientToken encodes a patient's ID as one token of a subject. A dot separates tokens, and an
// underscore occurs in no FHIR ID.
func patientToken(id string) string {
	if id == "" {
		return noPatient
	}
	return strings.ReplaceAll(id, ".", "_")
}

// Record appends an event without waiting until it is stored. An event that cannot be stored is
// counted (ehi_audit_lost_total) and logged.
func (a *Audit) Record(e ehi.Event) {
	data, err := json.Marshal(e)
	if err != nil { // cannot fail: only strings and a time
		panic(err)
	}
	telemetry.AuditEvents.WithLabelValues(string(e.Action), string(e.Outcome)).Inc()
	err = a.link.StoreAsync(auditSubjects.Of(string(e.Action), patientToken(e.Patient)), data,
		auditStall)
	if err != nil {
		lostEvent(a.log, data, err)
	}
}

// auditStall is how long Record waits if too many events are being stored.
const auditStall = time.Second

// lostEvent logs an event that could not be stored: its kind and time, and not its patient,
// because logs must not identify patients. A digest shows whether two lines are about the same
// event.
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

// Flush waits until every recorded event is stored. Errors: those of ctx.
func (a *Audit) Flush(ctx context.Context) error {
	select {
	case <-a.link.Stored():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AuditFilter selects events. A zero field selects all.
type AuditFilter struct {
	Action  ehi.Action
	Patient string
	// From and To bound the time of the event: From <= At < To.
	From, To time.Time
	// After is the sequence number after which to continue.
	After uint64
	// Match is an additional condition; nil accepts all events.
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

// Read calls f with each event of a filter, oldest first, and its sequence number. It ends with
// the newest event, or when f returns false.
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

// passes applies the parts of the filter that the stream's subject filter does not cover.
func (f AuditFilter) passes(e ehi.Event) bool {
	return (f.Patient == "" || e.Patient == f.Patient) && !e.At.Before(f.From) &&
		(f.To.IsZero() || e.At.Before(f.To)) && (f.Match == nil || f.Match(e))
}

// auditBatch is how many events are requested at once.
const auditBatch = 500

// auditWait bounds the wait for a batch.
const auditWait = 5 * time.Second

// auditReaderLife is how long NATS keeps a consumer whose process died before deleting it. Each
// batch has its own consumer, so it need not live much longer than auditWait.
const auditReaderLife = time.Minute

// each calls f with every message of the filter's subject, starting at the filter's start.
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
		// Events are stored slightly after they happen, and clocks differ.
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
		// Read the batch to its end even after enough events: an abandoned batch would wait for
		// its consumer.
		for m := range batch.Messages() {
			got++
			if failed == nil {
				failed = f(m)
			}
		}
		if err := cmp.Or(failed, batch.Error()); err != nil {
			return err
		}
		if got == 0 { // they existed when the reading began
			return context.DeadlineExceeded
		}
		left -= min(got, left)
	}
	return nil
}

// forget deletes a consumer. NATS limits a stream to a thousand of them. It uses a context of
// its own, because the request's may have ended.
func (a *Audit) forget(events jetstream.Consumer) {
	info := events.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditWait)
	defer cancel()
	// On failure NATS deletes it after auditReaderLife.
	_ = a.link.Streams().DeleteConsumer(ctx, auditStream, info.Name)
}
