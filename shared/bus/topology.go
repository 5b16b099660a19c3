package bus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// The names of all streams and buckets.
const (
	streamPrefix    = "EHI_" // + lane in capitals
	consumerWorkers = "workers"

	bucketJobs     = "ehi_jobs"
	bucketTasks    = "ehi_tasks"
	bucketAuth     = "ehi_auth"
	bucketSessions = "ehi_sessions"
	bucketFleet    = "ehi_fleet"
)

// The subjects of commands and messages.
var (
	startSubjects    = subject.KindOf("ehi.start") // + lane.job
	taskSubjects     = subject.KindOf("ehi.task")  // + lane.job.number
	cancelSubjects   = subject.KindOf("ehi.cancel")
	progressSubjects = subject.KindOf("ehi.progress")
)

// records is the kind of the keys of jobs and tasks, which have no prefix.
var records subject.Kind

// lane is the work queue of one lane: a stream, and the consumer that all workers of the lane
// share.
type lane struct {
	stream  jetstream.Stream
	workers jetstream.Consumer
}

// lanes holds the lanes as last declared.
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

// Mend recreates the stream or consumer of a lane that somebody deleted. Its commands are lost;
// the reconciler publishes them again. It also restores changed settings that would stop
// commands, and adds replicas that were impossible before for lack of servers.
func (b *Bus) Mend(ctx context.Context) error {
	for _, name := range ehi.Lanes() {
		l := b.lanes.get(name)
		stream, err := l.stream.Info(ctx)
		var workers *jetstream.ConsumerInfo
		if err == nil {
			workers, err = l.workers.Info(ctx)
		}
		if !isOffline(err) {
			b.online(name)
		}
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound) ||
			errors.Is(err, jetstream.ErrConsumerNotFound):
			b.cfg.Log.Warn("a lane is missing: it is created again", "lane", name, "err", err)
			err = b.declareLane(ctx, name)
		case err != nil && stream != nil && isOffline(err) && !b.asIs():
			err = b.remakeWorkers(ctx, l, name, err)
		case err == nil && !b.asIs() && laneChanged(name, stream.Config, workers.Config):
			b.cfg.Log.Error(
				"somebody has changed settings of a lane on which its commands depend: they are "+
					"set back",
				"lane", name)
			err = b.declareLane(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("lane %s: %w", name, err)
		}
	}
	return b.raise(ctx, time.Now())
}

// laneStream returns the name of the stream of a lane.
func laneStream(name ehi.Lane) string { return streamPrefix + strings.ToUpper(string(name)) }

// laneChanged reports whether a lane's settings differ from those of declareLane in a way that
// stops commands.
func laneChanged(
	name ehi.Lane, stream jetstream.StreamConfig, workers jetstream.ConsumerConfig,
) bool {
	return !slices.Equal(stream.Subjects, laneSubjects(name)) ||
		stream.Discard != jetstream.DiscardNew ||
		stream.NoAck ||
		stream.MaxAge != 0 || stream.MaxMsgSize >= 0 || stream.MaxBytes >= 0 ||
		stream.MaxMsgsPerSubject > 0 ||
		workers.FilterSubject != "" || len(workers.FilterSubjects) > 0 ||
		workers.MaxDeliver != -1 ||
		workers.HeadersOnly ||
		workers.MaxRequestBatch != 0 || workers.MaxRequestExpires != 0 ||
		workers.MaxRequestMaxBytes != 0
}

// laneSubjects returns the subjects of a lane's commands.
func laneSubjects(name ehi.Lane) []string {
	return []string{
		startSubjects.Under(string(name)).String(),
		taskSubjects.Match(string(name), "", "").String(),
	}
}

// findLane returns a lane without changing it.
func (b *Bus) findLane(ctx context.Context, name ehi.Lane) (l lane, err error) {
	if l.stream, err = b.link.Streams().Stream(ctx, laneStream(name)); err != nil {
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
		Subjects:    laneSubjects(name),
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxMsgs:     b.cfg.MaxQueue,
	})
	if err != nil {
		return err
	}
	return b.declareWorkers(ctx, l, name)
}

// declareWorkers declares the consumer of a lane.
func (b *Bus) declareWorkers(ctx context.Context, l lane, name ehi.Lane) (err error) {
	l.workers, err = l.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerWorkers,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       b.cfg.AckWait,
		MaxDeliver:    -1, // the worker counts attempts, so that the job fails in the same step
		MaxAckPending: 10_000,
	})
	if err != nil {
		return err
	}
	b.lanes.set(name, l)
	return nil
}

// isOffline reports whether all servers that hold a consumer are offline.
func isOffline(err error) bool {
	api, is := errors.AsType[*jetstream.APIError](err)
	return is && api.ErrorCode == consumerOffline
}

// consumerOffline is the JetStream error code for that.
const consumerOffline jetstream.ErrorCode = 10119

// offlineFor is how long the consumer of a lane may be offline while its stream has more
// replicas.
const offlineFor = 10 * time.Second

// remakeWorkers recreates the consumer of a lane whose servers are all offline while the stream
// is available. A cluster replicates a consumer some time after its stream. If the only server
// of the consumer fails before, no worker would get a command until it is back. Nothing is lost:
// unfinished commands are delivered again.
func (b *Bus) remakeWorkers(ctx context.Context, l lane, name ehi.Lane, why error) error {
	since, now := b.offlineSince(name, time.Now()), time.Now()
	if now.Sub(since) < offlineFor {
		return why
	}
	b.cfg.Log.Error(
		"all servers of a lane's consumer are away: it is created again on those of the lane",
		"lane", name, "since", since, "err", why)
	asked, cancel := context.WithTimeout(ctx, deleteTime)
	defer cancel()
	if err := l.stream.DeleteConsumer(asked, consumerWorkers); err != nil && !errors.Is(err,
		jetstream.ErrConsumerNotFound) && !IsAway(err) {
		// If the servers are offline, the deletion may not be answered either.
		return errors.Join(why, err)
	}
	if err := b.declareWorkers(ctx, l, name); err != nil {
		return errors.Join(why, err)
	}
	b.online(name)
	return nil
}

// deleteTime bounds the deletion of a consumer.
const deleteTime = 2 * time.Second

// offlineSince returns since when the consumer of a lane is known to be offline.
func (b *Bus) offlineSince(name ehi.Lane, now time.Time) time.Time {
	b.raising.Lock()
	defer b.raising.Unlock()
	if b.offline == nil {
		b.offline = map[ehi.Lane]time.Time{}
	}
	if _, known := b.offline[name]; !known {
		b.offline[name] = now
	}
	return b.offline[name]
}

// online records that the consumer of a lane is available.
func (b *Bus) online(name ehi.Lane) {
	b.raising.Lock()
	defer b.raising.Unlock()
	delete(b.offline, name)
}

// stream declares a stream with the configured number of replicas.
func (b *Bus) stream(
	ctx context.Context, config jetstream.StreamConfig,
) (is jetstream.Stream, err error) {
	err = b.link.Declare(ctx, config.Name, func(replicas int) (err error) {
		config.Replicas = replicas
		is, err = b.link.Streams().CreateOrUpdateStream(ctx, config)
		return err
	})
	return is, err
}

// raiseEvery is the pause between two attempts to add replicas.
const raiseEvery = time.Minute

// raise gives each stream and bucket the configured number of replicas, because servers may have
// joined since it was declared.
func (b *Bus) raise(ctx context.Context, now time.Time) error {
	b.raising.Lock()
	defer b.raising.Unlock()
	if b.embedded != nil || now.Sub(b.raised) < raiseEvery {
		return nil
	}
	b.raised = now
	streams := b.link.Streams().ListStreams(ctx)
	var errs []error
	for info := range streams.Info() {
		if isOurs(info.Config.Name) {
			errs = append(errs, b.link.AddReplicas(ctx, info.Config))
		}
	}
	return errors.Join(append(errs, streams.Err())...)
}

// isOurs reports whether a stream belongs to this project, including those of its buckets.
func isOurs(stream string) bool {
	return strings.HasPrefix(stream, streamPrefix) || strings.HasPrefix(stream, "KV_ehi_")
}

// declare creates or updates every stream, consumer and bucket. Any process may run it at any
// time.
func (b *Bus) declare(ctx context.Context) (err error) {
	if err := b.resume(ctx); err != nil {
		return err
	}
	identity, err := b.identify(ctx)
	if err == nil {
		err = b.fits(ctx)
	}
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
		bucketJobs:     "Export jobs",
		bucketTasks:    "Committed tasks",
		bucketAuth:     "Keys, codes and tokens",
		bucketSessions: "Sessions of the pages",
		bucketFleet:    "Servers and exporters",
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
	b.identity = identity
	b.Auth, b.Sessions, b.Fleet =
		buckets[bucketAuth], buckets[bucketSessions], &Fleet{buckets[bucketFleet]}
	b.Jobs, err = openJobs(ctx, buckets[bucketJobs], b.cfg.MaxQueue, b.cfg.Log)
	if errors.Is(err, kv.ErrUnreadable) {
		err = fmt.Errorf("%w: %w: restore a backup, or %s", ErrLost, err, acceptLoss)
	}
	if err == nil {
		b.Jobs.OnChange(b.forgetRemade)
	}
	return err
}

// forgetRemade drops the cached tasks of a job that is exported again.
func (b *Bus) forgetRemade(id string) {
	c, ok := b.Jobs.cache.Get(id)
	if ok && c.job != nil && c.job.Status == ehi.Requested && c.job.Attempts > 0 {
		b.Tasks.forget(id)
	}
}

// fits calls Config.Fits. If no server has run yet, there are no terms to check.
func (b *Bus) fits(ctx context.Context) error {
	if b.cfg.Fits == nil || b.embedded != nil {
		return nil
	}
	is, err := kv.Describe(ctx, b.link, bucketFleet)
	if err != nil || !is.There {
		return err
	}
	return b.cfg.Fits(ctx, &Fleet{kv.Open(b.link, bucketFleet)})
}

// bucket declares or finds a bucket.
func (b *Bus) bucket(ctx context.Context, name, what string) (*kv.Bucket, error) {
	if !b.asIs() {
		return kv.Declare(ctx, b.link, name, what)
	}
	is, err := kv.Describe(ctx, b.link, name)
	switch {
	case err != nil || is.There:
	case b.cfg.Join:
		err = fmt.Errorf("%w: there is no bucket %s", ErrNoServer, name)
	case name != bucketFleet: // an older build has not created it, and this process cannot
		err = fmt.Errorf("%w: %s holds no bucket %s", ErrLost, b.at(), name)
	}
	return kv.Open(b.link, name), err
}

// asIs reports whether this process must not create streams or buckets.
func (b *Bus) asIs() bool { return b.cfg.AsIs || b.cfg.Join }

// ErrNoServer is returned by Open with Config.Join if no server of this build has used the NATS
// yet.
var ErrNoServer = errors.New("no server has made its streams on this NATS: start the server " +
	"first, of the same build, with the same NATS")

// unmade explains a missing stream or consumer to a process that creates none.
func (b *Bus) unmade(err error) error {
	if b.cfg.Join &&
		(errors.Is(err, jetstream.ErrStreamNotFound) ||
			errors.Is(err, jetstream.ErrConsumerNotFound)) {
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return err
}

// remakeLane recreates a lane whose consumer state the embedded NATS cannot read. Nothing is
// lost: the reconciler publishes the commands again from the records of tasks.
func (b *Bus) remakeLane(ctx context.Context, name ehi.Lane, why error) error {
	b.cfg.Log.Warn("a lane's files are damaged: it is created again", "lane", name,
		"folder", filepath.Join(b.cfg.StoreDir, "jetstream", "$G", "streams", laneStream(name)),
		"err", why)
	if err := b.link.Streams().DeleteStream(ctx, laneStream(name)); err != nil {
		return errors.Join(why, err)
	}
	return b.declareLane(ctx, name)
}

// declareLanes declares every lane. A lane's handles belong to a connection, so that a new
// connection declares them again.
func (b *Bus) declareLanes(ctx context.Context) error {
	for _, name := range ehi.Lanes() {
		err := b.declareLane(ctx, name)
		api, is := errors.AsType[*jetstream.APIError](err)
		if is && api.ErrorCode == jetstream.JSErrCodeConsumerCreate && b.cfg.URL == "" {
			err = b.remakeLane(ctx, name, err)
		}
		if err != nil {
			return fmt.Errorf("declare lane %s: %w", name, err)
		}
	}
	return nil
}
