package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/kv"
)

// Errors of Open during or after a restore into an external NATS.
var (
	// ErrUnfinished means that NATS holds part of a backup, which cannot be used.
	ErrUnfinished = errors.New("a restore into the NATS of --nats was not finished: restore the " +
		"backup again, which starts from the beginning")
	// ErrHolds means that NATS is not empty: a backup would mix with what is there.
	ErrHolds = errors.New("a backup is restored into a NATS that holds no state")
)

// The progress of a restore into an external NATS, stored as a mark of the jobs' bucket from
// before the first record until the data folder is in place. Everybody who opens the state, and
// a new restore, can therefore detect an interrupted one.
const (
	notRestoring = ""
	restoring    = "begun"  // some records may be stored
	restored     = "loaded" // all records are stored; the data folder may be in place
)

// resume checks the progress of a restore. Only another restore may open an unfinished one.
// Errors: ErrUnfinished, ErrHolds.
func (b *Bus) resume(ctx context.Context) error {
	if b.cfg.URL == "" {
		return nil // the folder of an embedded NATS is put in place as a whole
	}
	is, err := kv.Describe(ctx, b.link, bucketJobs)
	switch b.restore = is.Restore; {
	case err != nil:
		return err
	case b.cfg.Restore && is.Restore != notRestoring:
		return b.wipe(ctx)
	case b.cfg.Restore:
		return b.holdsNothing(ctx)
	case is.Restore == restored && b.isOwn(is.Identity):
		return nil
	case is.Restore != notRestoring:
		return ErrUnfinished
	}
	return nil
}

// isOwn reports whether the files belong to the state. A restore gives files the identity of the
// state before it puts them in place.
func (b *Bus) isOwn(identity string) bool {
	if b.cfg.Files == nil {
		return false
	}
	theirs, err := b.cfg.Files.Identity()
	return err == nil && theirs != "" && theirs == identity
}

// holdsNothing checks that NATS is empty. Errors: ErrHolds.
func (b *Bus) holdsNothing(ctx context.Context) error {
	for _, name := range lasting {
		is, err := kv.Describe(ctx, b.link, name)
		if err != nil || !is.There {
			return err
		}
		keys, err := kv.Open(b.link, name).Keys(ctx)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			return fmt.Errorf("%w: the one of --nats has %d records in the bucket %s", ErrHolds,
				len(keys), name)
		}
	}
	trail, err := b.link.Streams().Stream(ctx, auditStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err == nil && trail.CachedInfo().State.Msgs > 0 {
		err = fmt.Errorf("%w: the one of --nats has an audit trail of %d events", ErrHolds,
			trail.CachedInfo().State.Msgs)
	}
	return err
}

// wipe deletes the remains of an unfinished restore, except for its mark. It recreates the audit
// trail, from which nothing can be deleted.
func (b *Bus) wipe(ctx context.Context) error {
	js := b.link.Streams()
	err := js.DeleteStream(ctx, auditStream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("remove the audit trail of an unfinished restore: %w", err)
	}
	for _, name := range append(lasting[:len(lasting):len(lasting)], bucketSessions) {
		s, err := js.Stream(ctx, kv.StreamOf(name))
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err == nil {
			err = s.Purge(ctx)
		}
		if err != nil {
			return fmt.Errorf("remove the bucket %s of an unfinished restore: %w", name, err)
		}
	}
	return nil
}

// restoreGoesOn records, after everything is declared, that a restore starts, or that a restore
// is complete because state and files are in place.
func (b *Bus) restoreGoesOn(ctx context.Context) error {
	switch {
	case b.cfg.URL == "" || b.cfg.AsIs:
		return nil
	case b.cfg.Restore:
		return kv.Open(b.link, bucketJobs).MarkRestore(ctx, restoring)
	case b.restore != notRestoring:
		return kv.Open(b.link, bucketJobs).MarkRestore(ctx, notRestoring)
	}
	return nil
}

// Restored records that all records of a backup are stored. In an external NATS the restore ends
// when the state is next opened together with the files.
func (b *Bus) Restored(ctx context.Context) error {
	if b.cfg.URL == "" {
		return nil
	}
	return kv.Open(b.link, bucketJobs).MarkRestore(ctx, restored)
}
