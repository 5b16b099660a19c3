package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/kv"
)

// Errors of Open where a backup is, or was, restored into an external NATS.
var (
	// ErrUnfinished says that a part of a backup is there. Nothing else may be made of it.
	ErrUnfinished = errors.New("a restore into the NATS of --nats was not finished: restore the " +
		"backup again, which begins anew")
	// ErrHolds says that there is no room for a backup: it would mix with what is there.
	ErrHolds = errors.New("a backup is restored into a NATS that holds no state")
)

// How far a restore into an external NATS has come, in the mark of the jobs' bucket: that stands
// from before the first record is stored until the data folder is in its place too. So a restore
// that ends anywhere in between is known to everybody who opens the state, and to the restore
// that begins anew.
const (
	notRestoring = ""
	restoring    = "begun"  // a part of the records may be there
	restored     = "loaded" // all of the records are there, and maybe the data folder
)

// resume looks how far a restore has come, if there is one. Only another restore may open what
// is not finished. Errors: ErrUnfinished, ErrHolds.
func (b *Bus) resume(ctx context.Context) error {
	if b.cfg.URL == "" {
		return nil // the folder of an embedded NATS is put into its place as a whole
	}
	is, err := kv.Look(ctx, b.link, bucketJobs)
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

// isOwn reports whether the files are those of the state: those of a restore get its identity
// before they are put into their place.
func (b *Bus) isOwn(identity string) bool {
	if b.cfg.Files == nil {
		return false
	}
	theirs, err := b.cfg.Files.Identity()
	return err == nil && theirs != "" && theirs == identity
}

// holdsNothing reports whether there is room for a backup. Errors: ErrHolds.
func (b *Bus) holdsNothing(ctx context.Context) error {
	for _, name := range lasting {
		is, err := kv.Look(ctx, b.link, name)
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

// wipe removes what a restore has left that was not finished, but for its mark. The audit trail
// is made anew: nothing can be removed from one.
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

// restoreGoesOn notes, when everything is declared, that a restore begins, or that one has ended
// of which state and files are in their places.
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

// Restored notes that all records of a backup are stored. Where they are in an external NATS,
// Open ends the restore, for whoever opens it together with the files.
func (b *Bus) Restored(ctx context.Context) error {
	if b.cfg.URL == "" {
		return nil
	}
	return kv.Open(b.link, bucketJobs).MarkRestore(ctx, restored)
}
