package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names of everything that lives in JetStream.
const (
	streamCommands = "EHI_COMMANDS"
	consumerStarts = "starts"

	subjectStart    = "ehi.start."
	subjectCancel   = "ehi.cancel."
	subjectProgress = "ehi.progress."

	bucketJobs     = "ehi_jobs"
	bucketTasks    = "ehi_tasks"
	bucketAuth     = "ehi_auth"
	bucketSessions = "ehi_sessions"
)

// markerTTL is how long the tombstone of a deleted record stays: longer than any watcher's lag.
const markerTTL = time.Minute

// declare makes every stream, consumer and bucket, or brings it up to date; it may be run by any process at any time.
func (b *Bus) declare(ctx context.Context) (err error) {
	b.commands, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamCommands,
		Description: "Commands to export workers",
		Subjects:    []string{subjectStart + ">"},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxMsgs:     b.cfg.MaxQueue,
	})
	if err != nil {
		return fmt.Errorf("declare stream %s: %w", streamCommands, err)
	}
	b.starts, err = b.commands.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerStarts,
		FilterSubject: subjectStart + ">",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       b.cfg.AckWait,
		MaxDeliver:    -1, // the worker counts, so that the job is failed in the same step
		MaxAckPending: 10_000,
	})
	if err != nil {
		return fmt.Errorf("declare consumer %s: %w", consumerStarts, err)
	}
	buckets := map[string]jetstream.KeyValue{}
	for name, what := range map[string]string{
		bucketJobs: "Export jobs", bucketTasks: "Committed tasks", bucketAuth: "Keys, codes and tokens", bucketSessions: "Sessions of the pages",
	} {
		buckets[name], err = b.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, Description: what, History: 1, Storage: jetstream.FileStorage, LimitMarkerTTL: markerTTL,
		})
		if err != nil {
			return fmt.Errorf("declare bucket %s: %w", name, err)
		}
	}
	b.Tasks = &Tasks{kv: buckets[bucketTasks]}
	b.Auth = buckets[bucketAuth]
	b.Sessions = &Storage{kv: buckets[bucketSessions], js: b.js}
	b.Jobs, err = openJobs(ctx, buckets[bucketJobs])
	return err
}
