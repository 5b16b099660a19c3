package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/link"
	"ehi-server/shared/subject"
)

// Check tests everything that requests and workers need of NATS:
//
//	a kick-off     publishes a command: Check offers each lane one that it must reject
//	a worker       pulls and acknowledges commands: Check sends both for lanes with workers here
//	a record       is written, read and listed: Check does so in each bucket
//	the trail      accepts events: Check offers it one that it must reject
//
// It fails if NATS is unreachable or denies an operation, if a stream is missing, sealed or
// full, and if the workers' own requests get no answer.
func (b *Bus) Check(ctx context.Context) error {
	if err := b.Broken(); err != nil {
		return err // a stream that cannot be published to does not answer
	}
	asked, done := b.link.Permitted(ctx, isNeeded)
	defer done()
	var probes errgroup.Group
	for _, name := range ehi.Lanes() {
		probes.Go(func() error { return b.checkLane(asked, name) })
	}
	watch := b.watched.due(time.Now())
	for _, name := range []string{bucketJobs, bucketTasks, bucketAuth, bucketSessions} {
		probes.Go(func() error { return kv.Open(b.link, name).Probe(asked, b.prober, watch) })
	}
	if b.Audit != nil && !b.asIs() {
		probes.Go(func() error { return wrap("the audit trail", b.checkAudit(asked)) })
	}
	err := probes.Wait()
	if deaf := b.link.DeniedSubscriptions(); deaf != nil {
		return deaf // this is why the rest has no answer
	}
	if denied := context.Cause(asked); err != nil && link.IsDenied(denied) {
		return denied
	}
	if err == nil && watch {
		b.watched.found(time.Now())
	}
	return advised(err)
}

// leastEvent is the size up to which the trail must accept events.
const leastEvent = 64 << 10

// checkAudit checks that the audit trail accepts events.
func (b *Bus) checkAudit(ctx context.Context) error {
	if err := b.offer(ctx, auditSubjects.Of("probe", noPatient), auditStream); err != nil {
		return err
	}
	trail, err := b.link.Streams().Stream(ctx, auditStream)
	if err != nil {
		return err
	}
	if most := trail.CachedInfo().Config.MaxMsgSize; most >= 0 && most < leastEvent {
		return fmt.Errorf(
			"stream %s takes messages of at most %d bytes: set its max_msg_size to -1",
			auditStream, most)
	}
	return nil
}

// wrap adds what an error is about.
func wrap(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// anything matches every denial.
func anything(link.Denied) bool { return true }

// isNeeded reports whether exports need the denied operation. Cleanup and progress messages are
// not needed.
func isNeeded(d link.Denied) bool {
	for _, spare := range []string{
		progressSubjects.String(), "$JS.API.CONSUMER.DELETE.", "$JS.API.STREAM.UPDATE.",
	} {
		if strings.HasPrefix(d.Subject, spare) {
			return false
		}
	}
	return true
}

// checkLane checks what a lane needs.
func (b *Bus) checkLane(ctx context.Context, name ehi.Lane) error {
	_, err := b.lanes.get(name).stream.Info(ctx)
	if err == nil {
		err = wrap("it takes no commands",
			b.offer(ctx, startSubjects.Of(string(name), b.prober), laneStream(name)))
	}
	if err == nil {
		err = wrap("it takes no commands",
			b.offer(ctx, taskSubjects.Of(string(name), b.prober).Number(0),
				laneStream(name)))
	}
	if err == nil && b.pulls.has(name) {
		err = wrap("its workers get no commands", b.checkPull(ctx, name))
	}
	if err == nil && b.pulls.has(name) {
		err = wrap("its workers cannot end commands", b.checkAck(ctx, name))
	}
	return wrap("lane "+string(name), err)
}

// offer checks that a stream accepts messages of a subject. It publishes a message whose
// expected sequence the stream never has, so the stream rejects it and stays unchanged. A
// missing permission or subject gives another error.
func (b *Bus) offer(ctx context.Context, to subject.Subject, stream string) error {
	_, err := b.link.Store(ctx, to, nil, nil, jetstream.WithExpectStream(stream),
		jetstream.WithExpectLastSequence(neverReached))
	switch {
	case kv.IsConflict(err):
		return nil
	case err == nil:
		return errors.New("it does not look at what a message expects")
	}
	return err
}

// neverReached is a sequence number that no stream reaches.
const neverReached = 1 << 62

// The JetStream requests of workers: to get the next message of a consumer, and to describe a
// consumer.
var (
	nextMessage = subject.KindOf("$JS.API.CONSUMER.MSG.NEXT")
	acknowledge = subject.KindOf("$JS.ACK")
	never       = strconv.Itoa(neverReached)
)

// checkPull checks that workers' requests for commands are answered, by a request that NATS must
// reject and by the results of their own requests.
func (b *Bus) checkPull(ctx context.Context, name ehi.Lane) error {
	if err := b.pulls.failing(name, time.Now()); err != nil {
		return err
	}
	workers, err := b.lanes.get(name).workers.Info(ctx)
	if err != nil {
		return err
	}
	if workers.Paused {
		return fmt.Errorf("consumer %s of stream %s is paused for %v: resume it", consumerWorkers,
			laneStream(name), workers.PauseRemaining)
	}
	m, err := b.link.Ask(ctx, nextMessage.Of(laneStream(name), consumerWorkers),
		[]byte(`{"batch":1,"expires":1,"idle_heartbeat":1000000000}`))
	if err != nil {
		return err
	}
	// A heartbeat arrived after the end of the request.
	if status := m.Header.Get("Status"); status != "400" {
		return fmt.Errorf("NATS answers %s %s", status, m.Header.Get("Description"))
	}
	return nil
}

// checkAck checks that NATS receives acknowledgements, by one for a message that does not exist.
func (b *Bus) checkAck(ctx context.Context, name ehi.Lane) error {
	of := acknowledge.Of(laneStream(name), consumerWorkers, "1", never, never, "0", "0")
	_, err := b.link.Ask(ctx, of, []byte("+WPI"))
	return err
}

// pulls records the results of this process's requests for commands.
type pulls struct {
	mu    sync.Mutex
	lanes map[ehi.Lane]pull
}

type pull struct {
	since, last time.Time // of the failures since the last answer
	err         error
}

const (
	// pullPatience is how long requests must fail before Check reports it: some fail while a
	// cluster elects a leader.
	pullPatience = 10 * time.Second
	// pullStale is how long after the last failure the failures still count.
	pullStale = 15 * time.Second
)

// note records the result of a request.
func (p *pulls) note(lane ehi.Lane, err error) {
	answered := err == nil || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, jetstream.ErrNoMessages)
	silent := errors.Is(err, jetstream.ErrNoHeartbeat)
	if !answered && !silent && (errors.Is(err, context.Canceled) || errors.Is(err,
		jetstream.ErrServerShutdown) || IsAway(err)) {
		return // the connection was lost
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if answered {
		p.lanes[lane] = pull{}
		return
	}
	now, was := time.Now(), p.lanes[lane]
	if was.err == nil || now.Sub(was.last) > pullStale {
		was.since = now
	}
	p.lanes[lane] = pull{was.since, now, err}
}

// begins records that a lane has workers in this process.
func (p *pulls) begins(lane ehi.Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.lanes[lane]; known {
		return
	}
	if p.lanes == nil {
		p.lanes = map[ehi.Lane]pull{}
	}
	p.lanes[lane] = pull{}
}

// has reports whether a lane has workers in this process.
func (p *pulls) has(lane ehi.Lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, has := p.lanes[lane]
	return has
}

// failing returns an error with the time since which requests have had no answer, or nil.
func (p *pulls) failing(lane ehi.Lane, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := p.lanes[lane]
	if is.err == nil || is.last.Sub(is.since) < pullPatience || now.Sub(is.last) > pullStale {
		return nil
	}
	return fmt.Errorf("NATS has answered none of their requests for %v: %w",
		now.Sub(is.since).Round(time.Second), is.err)
}

// watched records when all buckets were last listed.
type watched struct {
	mu sync.Mutex
	at time.Time
}

// watchEvery is how long a successful listing counts. NATS creates a consumer for each listing.
const watchEvery = 30 * time.Second

func (w *watched) due(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at.IsZero() || now.Sub(w.at) > watchEvery
}

func (w *watched) found(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = now
}
