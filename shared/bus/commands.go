package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// PublishStart queues the start of a job's export. start is the job's Starts counter: JetStream
// drops a second command with the same number. The command carries the trace of ctx. Errors:
// ehi.Transient if the queue is full or JetStream is unreachable.
func (b *Bus) PublishStart(ctx context.Context, lane ehi.Lane, job string, start int) error {
	return b.publish(ctx, lane, "start", startSubjects.Of(string(lane), job),
		job+"."+strconv.Itoa(start))
}

// PublishTask queues one task of a planned job. start is the job's current Starts counter, so
// that a command that is published again after a loss is not dropped as a duplicate. The command
// carries the trace of ctx. Errors: as PublishStart.
func (b *Bus) PublishTask(ctx context.Context, lane ehi.Lane, job string, n, start int) error {
	return b.publish(ctx, lane, "task", taskSubjects.Of(string(lane), job).Number(n),
		job+".task."+strconv.Itoa(n)+"."+strconv.Itoa(start))
}

func (b *Bus) publish(
	ctx context.Context, lane ehi.Lane, kind string, to subject.Subject, id string,
) error {
	var header nats.Header
	if trace := tracing.Parent(ctx); trace != "" {
		header = nats.Header{tracing.Header: {trace}}
	}
	if _, err := b.link.Store(ctx, to, header, nil, jetstream.WithMsgID(id)); err != nil {
		return errors.Join(
			ehi.Errorf(ehi.Transient, "The export queue takes no more work at the moment"),
			fmt.Errorf("publish %s: %w", to, err))
	}
	telemetry.CommandsPublished.WithLabelValues(string(lane), kind).Inc()
	return nil
}

// HasStart reports whether a start command of the job is waiting or being processed.
func (b *Bus) HasStart(ctx context.Context, lane ehi.Lane, job string) (bool, error) {
	_, err := b.lanes.get(lane).stream.GetLastMsgForSubject(ctx,
		startSubjects.Of(string(lane), job).String())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil, err
}

// DropAcknowledged deletes commands of a lane that were acknowledged but are still in its
// stream, and returns their number. Nobody receives them any more, yet their exports look as if
// they were running. They result from a power failure after the acknowledgement reached the disk
// and before the deletion did.
func (b *Bus) DropAcknowledged(ctx context.Context, lane ehi.Lane) (n int, err error) {
	l := b.lanes.get(lane)
	// Read the stream first: the acknowledgements of a consumer say nothing about a stream that
	// is created later.
	stream, err := l.stream.Info(ctx)
	if err != nil || stream.State.Msgs == 0 {
		return 0, err
	}
	consumer, err := l.workers.Info(ctx)
	if err != nil {
		return 0, err
	}
	for at := stream.State.FirstSeq; at <= consumer.AckFloor.Stream; at++ {
		// If there is no message at this sequence, take the next one.
		msg, err := l.stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return n, err
		}
		if at = msg.Sequence; at > consumer.AckFloor.Stream {
			break
		}
		err = l.stream.DeleteMsg(ctx, at)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return n, err
		}
		n++
	}
	return n, nil
}

// QueuedTasks returns the numbers of a job's tasks whose commands are waiting or being
// processed.
func (b *Bus) QueuedTasks(ctx context.Context, lane ehi.Lane, job string) (ehi.Bits, error) {
	info, err := b.lanes.get(lane).stream.Info(ctx,
		jetstream.WithSubjectFilter(taskSubjects.Under(string(lane), job).String()))
	if err != nil {
		return nil, err
	}
	var queued ehi.Bits
	for subject := range info.State.Subjects {
		if n, err := strconv.Atoi(subject[strings.LastIndexByte(subject, '.')+1:]); err == nil {
			queued = queued.With(n)
		}
	}
	return queued, nil
}

// StartCommand is the Delivery.Task of a command that starts a job.
const StartCommand = -1

// Delivery is a command that a worker processes. The worker calls Extend at least once every
// AckWait, and then exactly one of Done and Retry. Otherwise another worker receives the
// command.
type Delivery struct {
	Job string
	// Task is the number of the task to export, or StartCommand.
	Task int
	// Number is 1 for the first delivery. It counts deliveries whose workers crashed.
	Number int
	// Trace is the traceparent of the publisher; "" if it is not traced.
	Trace string
	msg   jetstream.Msg
	lane  ehi.Lane
}

// pullHeartbeat is how often NATS confirms a pending request for a command. Without two
// heartbeats, for example because another server has become the leader, the worker repeats the
// request.
const pullHeartbeat = 2 * time.Second

// Next waits for a command of a lane. Errors: those of ctx; any other error is a failure of
// NATS, and a later call may succeed.
func (b *Bus) Next(ctx context.Context, lane ehi.Lane) (*Delivery, error) {
	b.pulls.begins(lane)
	for {
		pull, cancel := context.WithTimeout(ctx, 30*time.Second)
		unbind := b.link.Bind(cancel)
		msg, err := b.lanes.get(lane).workers.Next(jetstream.FetchContext(pull),
			jetstream.FetchHeartbeat(pullHeartbeat))
		unbind()
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b.pulls.note(lane, err)
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
			errors.Is(err, context.Canceled) || errors.Is(err, jetstream.ErrNoMessages) ||
			errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, b.Mend(ctx))
		}
		return delivery(msg, lane)
	}
}

func delivery(msg jetstream.Msg, lane ehi.Lane) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, errors.Join(err, msg.Term())
	}
	if meta.NumDelivered > 1 {
		telemetry.CommandsRedelivered.WithLabelValues(string(lane)).Inc()
	}
	d := &Delivery{
		Task:   StartCommand,
		Number: int(meta.NumDelivered),
		Trace:  msg.Headers().Get(tracing.Header),
		msg:    msg,
		lane:   lane,
	}
	// The streams accept no other subjects: ehi.start.<lane>.<job> or ehi.task.<lane>.<job>.<n>.
	parts := strings.Split(msg.Subject(), ".")
	d.Job = parts[3]
	if len(parts) == 5 {
		if d.Task, err = strconv.Atoi(parts[4]); err != nil {
			return nil, errors.Join(fmt.Errorf("command %s: %w", msg.Subject(), err), msg.Term())
		}
	}
	return d, nil
}

// AckWait is how long a delivery is valid without Extend.
func (b *Bus) AckWait() time.Duration { return b.cfg.AckWait }

// Extend tells JetStream that the command is still being processed.
func (d *Delivery) Extend() error { return d.msg.InProgress() }

// Done removes the command from the queue. If the acknowledgement is lost, the command is
// delivered again for a job that has moved on.
func (d *Delivery) Done() error {
	err := d.msg.Ack()
	if err == nil {
		telemetry.CommandsDone.WithLabelValues(string(d.lane)).Inc()
	}
	return err
}

// Retry returns the command to the queue, to be delivered again after a pause.
func (d *Delivery) Retry(after time.Duration) error { return d.msg.NakWithDelay(after) }

// Cancel tells the workers of the job to stop. It is a broadcast, and succeeds if nobody
// listens.
func (b *Bus) Cancel(job string) error { return b.link.Publish(cancelSubjects.Of(job), nil) }

// OnCancel calls f with the ID of each cancelled job, from one goroutine, until stop is called.
func (b *Bus) OnCancel(f func(job string)) (stop func() error, err error) {
	return b.link.Subscribe(cancelSubjects.Under(), func(m *nats.Msg) {
		f(strings.TrimPrefix(m.Subject, cancelSubjects.String()))
	})
}

// PublishProgress sends the progress of a job to every API process.
func (b *Bus) PublishProgress(p ehi.Progress) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return b.link.Publish(progressSubjects.Of(p.Job), data)
}

// OnProgress calls f with each progress message, from one goroutine, until stop is called.
func (b *Bus) OnProgress(f func(ehi.Progress)) (stop func() error, err error) {
	return b.link.Subscribe(progressSubjects.Under(), func(m *nats.Msg) {
		var p ehi.Progress
		if json.Unmarshal(m.Data, &p) == nil {
			f(p)
		}
	})
}
