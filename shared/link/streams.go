package link

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Streams declares streams and reads them. It is less than JetStream: that publishes to whatever
// text it is given as a subject.
type Streams struct{ js jetstream.JetStream }

// Stream is a stream by its name. Errors: jetstream.ErrStreamNotFound.
func (s Streams) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return s.js.Stream(ctx, name)
}

// ListStreams lists the streams that there are.
func (s Streams) ListStreams(ctx context.Context) jetstream.StreamInfoLister {
	return s.js.ListStreams(ctx)
}

// CreateStream makes a stream. Errors: jetstream.ErrStreamNameAlreadyInUse.
func (s Streams) CreateStream(
	ctx context.Context, c jetstream.StreamConfig,
) (jetstream.Stream, error) {
	return s.js.CreateStream(ctx, c)
}

// UpdateStream changes a stream. Errors: jetstream.ErrStreamNotFound.
func (s Streams) UpdateStream(
	ctx context.Context, c jetstream.StreamConfig,
) (jetstream.Stream, error) {
	return s.js.UpdateStream(ctx, c)
}

// CreateOrUpdateStream makes a stream, or changes the one of its name.
func (s Streams) CreateOrUpdateStream(
	ctx context.Context, c jetstream.StreamConfig,
) (jetstream.Stream, error) {
	return s.js.CreateOrUpdateStream(ctx, c)
}

// DeleteStream removes a stream and what it holds. Errors: jetstream.ErrStreamNotFound.
func (s Streams) DeleteStream(ctx context.Context, name string) error {
	return s.js.DeleteStream(ctx, name)
}

// DeleteConsumer removes a stream's consumer. Errors: jetstream.ErrConsumerNotFound.
func (s Streams) DeleteConsumer(ctx context.Context, stream, name string) error {
	return s.js.DeleteConsumer(ctx, stream, name)
}

// DeclareBucket makes a bucket, or changes the one of its name. KeyValue opens it.
func (s Streams) DeclareBucket(ctx context.Context, c jetstream.KeyValueConfig) error {
	_, err := s.js.CreateOrUpdateKeyValue(ctx, c)
	return err
}
