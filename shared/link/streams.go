package link

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Streams declares and reads streams. It hides JetStream's publishing methods, which take any
// text as a subject.
type Streams struct{ js jetstream.JetStream }

// Stream returns a stream by name. Errors: jetstream.ErrStreamNotFound.
func (s Streams) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return s.js.Stream(ctx, name)
}

// ListStreams lists all streams.
func (s Streams) ListStreams(ctx context.Context) jetstream.StreamInfoLister {
	return s.js.ListStreams(ctx)
}

// CreateStream creates a stream. Errors: jetstream.ErrStreamNameAlreadyInUse.
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

// CreateOrUpdateStream creates a stream or updates an existing one.
func (s Streams) CreateOrUpdateStream(
	ctx context.Context, c jetstream.StreamConfig,
) (jetstream.Stream, error) {
	return s.js.CreateOrUpdateStream(ctx, c)
}

// DeleteStream deletes a stream and its messages. Errors: jetstream.ErrStreamNotFound.
func (s Streams) DeleteStream(ctx context.Context, name string) error {
	return s.js.DeleteStream(ctx, name)
}

// DeleteConsumer deletes a consumer of a stream. Errors: jetstream.ErrConsumerNotFound.
func (s Streams) DeleteConsumer(ctx context.Context, stream, name string) error {
	return s.js.DeleteConsumer(ctx, stream, name)
}

// DeclareBucket creates a bucket or updates an existing one. KeyValue opens it.
func (s Streams) DeclareBucket(ctx context.Context, c jetstream.KeyValueConfig) error {
	_, err := s.js.CreateOrUpdateKeyValue(ctx, c)
	return err
}
