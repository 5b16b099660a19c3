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

// Check goes over all that requests and workers need of NATS:
//
//	a kick-off     publishes a command: each lane is offered one that it has to refuse
//	a worker       pulls commands and acknowledges them: each lane that has workers here is asked to answer both
//	a record       is written, updated, read and listed: each bucket is written to, read in every way and listed
//	the trail      takes events: it is offered one that it has to refuse
//
// It fails where NATS is away, denies one of them, where a stream is gone, sealed or full, and
// where the workers' own requests have no answer.
func (b *Bus) Check(ctx context.Context) error {
	if err := b.Broken(); err != nil {
		return err // a stream that takes nothing answers nothing
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
	if deaf := b.link.Deaf(); deaf != nil {
		return deaf // it is why the rest has no answer
	}
	if denied := context.Cause(asked); err != nil && link.IsDenied(denied) {
		return denied
	}
	if err == nil && watch {
		b.watched.found(time.Now())
	}
	return advised(err)
}

// leastEvent is how long an event of the audit trail may be at least.
const leastEvent = 64 << 10

// checkAudit finds out whether the audit trail takes events.
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

// wrap names what an error is of.
func wrap(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// anything is a denial of whatever it is.
func anything(link.Denied) bool { return true }

// isNeeded tells a denial that keeps exports from going on from one of what merely tidies up, or
// tells how far an export is.
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

// checkLane goes over what a lane is needed for.
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

// offer finds out whether a stream takes messages of a subject: it sends one that the stream has
// to refuse, as it expects what it never holds. So the stream is left as it is, and who may not
// publish to it, or where it does not listen, hears so.
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

// neverReached is a sequence that no stream comes to.
const neverReached = 1 << 62

// What workers ask of JetStream: the next message of a consumer, and to hear of one.
var (
	nextMessage = subject.KindOf("$JS.API.CONSUMER.MSG.NEXT")
	acknowledge = subject.KindOf("$JS.ACK")
	never       = strconv.Itoa(neverReached)
)

// checkPull finds out whether the workers' requests for commands are answered: by one that NATS
// has to refuse, and by how their own fare.
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
	// a heartbeat that comes after the request is over
	if status := m.Header.Get("Status"); status != "400" {
		return fmt.Errorf("NATS answers %s %s", status, m.Header.Get("Description"))
	}
	return nil
}

// checkAck finds out whether NATS hears of commands that are worked on, by one that there is not.
func (b *Bus) checkAck(ctx context.Context, name ehi.Lane) error {
	of := acknowledge.Of(laneStream(name), consumerWorkers, "1", never, never, "0", "0")
	_, err := b.link.Ask(ctx, of, []byte("+WPI"))
	return err
}

// pulls is how the requests for commands fare that this process's workers make.
type pulls struct {
	mu    sync.Mutex
	lanes map[ehi.Lane]pull
}

type pull struct {
	since, last time.Time // of the failures since the last answer
	err         error
}

const (
	// pullPatience is for how long requests have to fail: where another server comes to lead,
	// some do.
	pullPatience = 10 * time.Second
	// pullStale is after what time without a further failure nothing is known.
	pullStale = 15 * time.Second
)

// note takes the outcome of a request.
func (p *pulls) note(lane ehi.Lane, err error) {
	answered := err == nil || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, jetstream.ErrNoMessages)
	silent := errors.Is(err, jetstream.ErrNoHeartbeat)
	if !answered && !silent && (errors.Is(err, context.Canceled) || errors.Is(err,
		jetstream.ErrServerShutdown) || IsAway(err)) {
		return // it went with its connection
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

// begins notes that there are workers.
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

// has reports whether this process has workers of a lane.
func (p *pulls) has(lane ehi.Lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, has := p.lanes[lane]
	return has
}

// failing says since when requests have no answer, nil where they have.
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

// watched is when all buckets were listed last.
type watched struct {
	mu sync.Mutex
	at time.Time
}

// watchEvery is for how long it is good that they could be listed: NATS makes a reader for each
// list.
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
