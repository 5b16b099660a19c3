package kv

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/subject"
)

const (
	// largest is the largest record in bytes: the default limit of NATS.
	largest = 1 << 20
	// leastRoom is how many bytes a bucket with a limit must have free.
	leastRoom = 64 << 10
)

// Probe writes to the bucket and reads back in every way that records are read. It writes a
// tombstone for a record that never existed, which no list or backup includes and which expires
// after MarkerTTL. by distinguishes concurrent probes. If watch is set, Probe lists the bucket
// too.
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

// takesAny returns why the bucket would reject a record that is larger than a probe.
func (b *Bucket) takesAny(ctx context.Context) error {
	var is jetstream.Stream
	err := b.link.AwaitLeader(ctx, func(ctx context.Context) (err error) {
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
	if errors.Is(err, ErrNotFound) { // the record is a tombstone
		return nil
	}
	return err
}
