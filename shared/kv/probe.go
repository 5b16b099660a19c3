package kv

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/subject"
)

const (
	// largest is how long a record may be: what NATS takes by default.
	largest = 1 << 20
	// leastRoom is for how many bytes a bucket that has a limit is to have room.
	leastRoom = 64 << 10
)

// Probe writes to the bucket, and reads what it wrote, in each way that records are read. What
// it writes is that a record was deleted which never was: it is no record of anybody's, is in no
// list and no backup, and vanishes after MarkerTTL. by tells those apart who probe at once.
// Watch says that the bucket is to be listed too.
func (b *Bucket) Probe(ctx context.Context, by string, watch bool) error {
	key := probes.Of(by)
	if err := b.probeWrite(ctx, key); err != nil {
		return fmt.Errorf("write to bucket %s: %w", b.name, err)
	}
	if err := b.probeRead(ctx, key); err != nil {
		return fmt.Errorf("read bucket %s: %w", b.name, err)
	}
	if !watch {
		return nil
	}
	if err := b.Entries(ctx, probes.All(), func(Entry) error { return nil }); err != nil {
		return fmt.Errorf("list bucket %s: %w", b.name, err)
	}
	return nil
}

func (b *Bucket) probeWrite(ctx context.Context, key subject.Subject) error {
	if _, err := b.link.Store(ctx, key.InBucket(b.name), deletion(), nil,
		jetstream.WithMsgTTL(MarkerTTL)); err != nil {
		return err
	}
	return b.takesAny(ctx)
}

// takesAny says why a bucket takes no record that is longer than a probe.
func (b *Bucket) takesAny(ctx context.Context) error {
	var is jetstream.Stream
	err := b.link.Steady(ctx, func(ctx context.Context) (err error) {
		is, err = b.link.Streams().Stream(ctx, StreamOf(b.name))
		return err
	})
	if err != nil {
		return err
	}
	config, state := is.CachedInfo().Config, is.CachedInfo().State
	switch {
	case config.MaxMsgSize >= 0 && config.MaxMsgSize < largest:
		return fmt.Errorf(
			"stream %s takes messages of at most %d bytes: set its max_msg_size to -1",
			StreamOf(b.name), config.MaxMsgSize)
	case config.MaxBytes >= 0 && state.Bytes+leastRoom > uint64(config.MaxBytes):
		return fmt.Errorf("stream %s holds %d of %d bytes: raise its max_bytes, or set it to -1",
			StreamOf(b.name), state.Bytes, config.MaxBytes)
	case config.MaxMsgs >= 0 && state.Msgs >= uint64(config.MaxMsgs):
		return fmt.Errorf("stream %s holds %d of %d messages: set its max_msgs to -1",
			StreamOf(b.name),
			state.Msgs, config.MaxMsgs)
	}
	if most := b.link.MaxPayload(); most < largest {
		return fmt.Errorf(
			"NATS takes messages of at most %d bytes: set its max_payload to %d or more",
			most, largest)
	}
	return nil
}

func (b *Bucket) probeRead(ctx context.Context, key subject.Subject) error {
	if _, err := b.link.Newest(ctx, StreamOf(b.name), key.InBucket(b.name)); err != nil {
		return err
	}
	_, err := b.Get(ctx, key)
	if errors.Is(err, ErrNotFound) { // what is there says that a record was deleted
		return nil
	}
	return err
}
