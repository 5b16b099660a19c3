package bus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Names of everything that lives in JetStream.
const (
	streamPrefix    = "EHI_" // + lane in capitals
	consumerWorkers = "workers"

	bucketJobs     = "ehi_jobs"
	bucketTasks    = "ehi_tasks"
	bucketAuth     = "ehi_auth"
	bucketSessions = "ehi_sessions"
	bucketFleet    = "ehi_fleet"
)

// Subjects of commands and of news.
var (
	startSubjects    = subject.KindOf("ehi.start") // + lane.job
	taskSubjects     = subject.KindOf("ehi.task")  // + lane.job.number
	cancelSubjects   = subject.KindOf("ehi.cancel")
	progressSubjects = subject.KindOf("ehi.progress")
)

// records is the kind of the keys of jobs and tasks: they have no beginning of their own.
var records subject.Kind

// lane is the work queue of one lane: a stream and the consumer that all workers of the lane share.
type lane struct {
	stream  jetstream.Stream
	workers jetstream.Consumer
}

// lanes are the lanes as they were declared last.
type lanes struct {
	mu  sync.RWMutex
	all map[ehi.Lane]lane
}

func (l *lanes) get(name ehi.Lane) lane {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.all[name]
}

func (l *lanes) set(name ehi.Lane, to lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[ehi.Lane]lane{}
	}
	l.all[name] = to
}

// Mend declares a lane anew whose stream or consumer is not there any more: somebody deleted it. What it held is lost; the reconciler
// publishes it again. It also gives streams the copies that they could not have before, for lack of servers.
func (b *Bus) Mend(ctx context.Context) error {
	for _, name := range ehi.Lanes() {
		l := b.lanes.get(name)
		_, err := l.stream.Info(ctx)
		if err == nil {
			_, err = l.workers.Info(ctx)
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			b.cfg.Log.Warn("declare a lane anew", "lane", name, "err", err)
			err = b.declareLane(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("lane %s: %w", name, err)
		}
	}
	return b.raise(ctx, time.Now())
}

// laneStream is the stream of a lane.
func laneStream(name ehi.Lane) string { return streamPrefix + strings.ToUpper(string(name)) }

// findLane takes a lane as it is.
func (b *Bus) findLane(ctx context.Context, name ehi.Lane) (l lane, err error) {
	if l.stream, err = b.link.JetStream().Stream(ctx, laneStream(name)); err != nil {
		return l, err
	}
	l.workers, err = l.stream.Consumer(ctx, consumerWorkers)
	return l, err
}

func (b *Bus) declareLane(ctx context.Context, name ehi.Lane) (err error) {
	l := lane{}
	if b.asIs() {
		if l, err = b.findLane(ctx, name); err == nil {
			b.lanes.set(name, l)
		}
		return b.unmade(err)
	}
	l.stream, err = b.stream(ctx, jetstream.StreamConfig{
		Name:        laneStream(name),
		Description: "Commands to the export workers of the " + string(name) + " lane",
		Subjects:    []string{startSubjects.Under(string(name)).String(), taskSubjects.Match(string(name), "", "").String()},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxMsgs:     b.cfg.MaxQueue,
	})
	if err != nil {
		return err
	}
	l.workers, err = l.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerWorkers,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       b.cfg.AckWait,
		MaxDeliver:    -1, // the worker counts, so that the job is failed in the same step
		MaxAckPending: 10_000,
	})
	if err != nil {
		return err
	}
	b.lanes.set(name, l)
	return nil
}

// stream declares a stream with as many copies as there are to be.
func (b *Bus) stream(ctx context.Context, config jetstream.StreamConfig) (is jetstream.Stream, err error) {
	err = b.link.Declare(ctx, config.Name, func(replicas int) (err error) {
		config.Replicas = replicas
		is, err = b.link.JetStream().CreateOrUpdateStream(ctx, config)
		return err
	})
	return is, err
}

// raiseEvery is the pause between two attempts to give every stream its copies.
const raiseEvery = time.Minute

// raise gives each stream and bucket as many copies as there are to be: servers may have come since it was declared.
func (b *Bus) raise(ctx context.Context, now time.Time) error {
	b.raising.Lock()
	defer b.raising.Unlock()
	if b.embedded != nil || now.Sub(b.raised) < raiseEvery {
		return nil
	}
	b.raised = now
	streams := b.link.JetStream().ListStreams(ctx)
	var errs []error
	for info := range streams.Info() {
		if isOurs(info.Config.Name) {
			errs = append(errs, b.link.Raise(ctx, info.Config))
		}
	}
	return errors.Join(append(errs, streams.Err())...)
}

// isOurs tells the streams of this project, those of its buckets among them.
func isOurs(stream string) bool {
	return strings.HasPrefix(stream, streamPrefix) || strings.HasPrefix(stream, "KV_ehi_")
}

// declare makes every stream, consumer and bucket, or brings it up to date; it may be run by any process at any time.
func (b *Bus) declare(ctx context.Context) (err error) {
	if err := b.resume(ctx); err != nil {
		return err
	}
	identity, err := b.identify(ctx)
	if err != nil {
		return err
	}
	if err = errors.Join(b.compareState(ctx, identity), b.compareReached(ctx)); err != nil {
		return err
	}
	if err = b.declareLanes(ctx); err != nil {
		return err
	}
	buckets := map[string]*kv.Bucket{}
	for name, what := range map[string]string{
		bucketJobs: "Export jobs", bucketTasks: "Committed tasks", bucketAuth: "Keys, codes and tokens", bucketSessions: "Sessions of the pages",
		bucketFleet: "Servers and exporters",
	} {
		if buckets[name], err = b.bucket(ctx, name, what); err != nil {
			return err
		}
	}
	if b.Tasks, err = openTasks(buckets[bucketTasks]); err != nil {
		return err
	}
	if b.cfg.Audit != nil && b.asIs() {
		b.Audit = &Audit{link: b.link, log: b.cfg.Log}
	} else if b.cfg.Audit != nil {
		if b.Audit, err = b.openAudit(ctx); err != nil {
			return err
		}
	}
	if b.identity = identity; !b.asIs() {
		if b.identity, err = b.mark(ctx, buckets, identity); err != nil {
			return err
		}
	}
	if err := b.restoreGoesOn(ctx); err != nil {
		return err
	}
	b.Auth, b.Sessions, b.Fleet = buckets[bucketAuth], buckets[bucketSessions], &Fleet{buckets[bucketFleet]}
	b.Jobs, err = openJobs(ctx, buckets[bucketJobs], b.cfg.MaxQueue)
	if errors.Is(err, kv.ErrUnreadable) {
		err = fmt.Errorf("%w: %w: restore a backup, or %s", ErrLost, err, acceptLoss)
	}
	return err
}

// bucket declares a bucket, or finds it.
func (b *Bus) bucket(ctx context.Context, name, what string) (*kv.Bucket, error) {
	if !b.asIs() {
		return kv.Declare(ctx, b.link, name, what)
	}
	is, err := kv.Look(ctx, b.link, name)
	switch {
	case err != nil || is.There:
	case b.cfg.Join:
		err = fmt.Errorf("%w: there is no bucket %s", ErrNoServer, name)
	case name != bucketFleet: // a former build has made none, and this process cannot
		err = fmt.Errorf("%w: %s holds no bucket %s", ErrLost, b.at(), name)
	}
	return kv.Open(b.link, name), err
}

// asIs reports whether this process declares nothing.
func (b *Bus) asIs() bool { return b.cfg.AsIs || b.cfg.Join }

// ErrNoServer is returned by Open under Config.Join where no server of this build has worked on the NATS yet.
var ErrNoServer = errors.New("no server has made its streams on this NATS: start the server first, of the same build, with the same NATS")

// unmade says of a stream or consumer that is not there what that means to a process that makes none.
func (b *Bus) unmade(err error) error {
	if b.cfg.Join && (errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound)) {
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return err
}

// remakeLane makes a lane anew of which the embedded NATS cannot read what its workers had in hand. Nothing is lost with it: the
// reconciler publishes again what the records of tasks say is to be done.
func (b *Bus) remakeLane(ctx context.Context, name ehi.Lane, why error) error {
	b.cfg.Log.Warn("a lane's files are damaged: it is made anew", "lane", name,
		"folder", filepath.Join(b.cfg.StoreDir, "jetstream", "$G", "streams", laneStream(name)), "err", why)
	if err := b.link.JetStream().DeleteStream(ctx, laneStream(name)); err != nil {
		return errors.Join(why, err)
	}
	return b.declareLane(ctx, name)
}

// declareLanes declares every lane. What is known of them belongs to a connection: over a new one it is asked for anew.
func (b *Bus) declareLanes(ctx context.Context) error {
	for _, name := range ehi.Lanes() {
		err := b.declareLane(ctx, name)
		if api, is := errors.AsType[*jetstream.APIError](err); is && api.ErrorCode == jetstream.JSErrCodeConsumerCreate && b.cfg.URL == "" {
			err = b.remakeLane(ctx, name, err)
		}
		if err != nil {
			return fmt.Errorf("declare lane %s: %w", name, err)
		}
	}
	return nil
}
