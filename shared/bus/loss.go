package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/telemetry"
)

// An external NATS belongs to somebody else. It may return with an older copy of its files, and
// a bucket may be purged, recreated, or given a limit that drops records. None of that is an
// error for readers and writers. Three records reveal it:
//   - a record in each permanent bucket that nobody deletes (kv.Bucket.SetFirst),
//   - another one that processes renew regularly, and only after finding the state complete
//     (kv.Bucket.Advance): its revision never decreases and is stored with the files for the
//     next start,
//   - the revision of the newest record, which never decreases either.
//
// The embedded NATS has its inventory instead. While it runs only this process writes its
// folder. It does not notice files that are deleted meanwhile: it answers from memory until it
// has to write or read.

// Pauses of WatchForLoss.
const (
	// lossEvery is the pause between two looks.
	lossEvery = 5 * time.Second
	// doubtEvery is the pause between two checks of an apparent loss, and doubts is how many
	// must agree: in a cluster a new leader may lag behind for a moment.
	doubtEvery = time.Second
	doubts     = 5
)

// lossWatch is what a process knows about the permanent buckets of an external NATS.
type lossWatch struct {
	bus     *Bus
	last    map[string]uint64 // the newest revisions seen
	reached []uint64          // by bucket: what was stored, see keep
}

// WatchForLoss watches for losses of NATS until ctx ends. For the embedded NATS it checks that the
// folders of streams exist. For an external one it checks the records above, and restores
// settings of buckets that somebody changed. Errors: ErrLost. The state is not reliable then,
// and the next start fails too.
func (b *Bus) WatchForLoss(ctx context.Context) error {
	if b.embedded != nil {
		return b.watchFolders(ctx)
	}
	w := &lossWatch{bus: b, last: map[string]uint64{}}
	for {
		lost, whole := w.look(ctx)
		for n := 1; lost != nil && n < doubts; n++ {
			pause(ctx, doubtEvery)
			lost, whole = w.look(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if lost != nil {
			telemetry.StateLost.Inc()
			return lost
		}
		if whole { // otherwise an incomplete state would look complete
			if err := w.keep(ctx); err != nil && ctx.Err() == nil {
				b.cfg.Log.Warn("it is not kept how far the state has come", "err", err)
			}
		}
		w.settleOthers(ctx)
		pause(ctx, lossEvery)
	}
}

// watchFolders checks that the streams of the embedded NATS have their folders, until ctx ends.
// Several checks must agree, because a lane and its folder may be recreated. Errors: ErrLost.
func (b *Bus) watchFolders(ctx context.Context) error {
	watched := b.folders()
	if b.asIs() { // some may never have been created
		watched = slices.DeleteFunc(watched, isGone)
	}
	for missed := 0; ctx.Err() == nil; pause(ctx, doubtEvery) {
		at := slices.IndexFunc(watched, isGone)
		switch {
		case at < 0:
			missed = 0
		case missed < folderDoubts:
			missed++
		default:
			telemetry.StateLost.Inc()
			return fmt.Errorf(
				"%w: %s was removed while the embedded NATS was running: restore a backup",
				ErrLost, watched[at])
		}
	}
	return nil
}

// folderDoubts is how many checks of a missing folder must agree before it counts as lost.
const folderDoubts = 2

// folders returns the folders in which the streams of the embedded NATS store their messages.
func (b *Bus) folders() (out []string) {
	var streams []string
	for _, name := range []string{
		bucketJobs, bucketTasks, bucketAuth, bucketSessions, bucketFleet,
	} {
		streams = append(streams, kv.StreamOf(name))
	}
	for _, lane := range ehi.Lanes() {
		streams = append(streams, laneStream(lane))
	}
	if b.Audit != nil {
		streams = append(streams, auditStream)
	}
	for _, name := range streams {
		out = append(out, filepath.Join(b.cfg.StoreDir, "jetstream", "$G", "streams", name, "msgs"))
	}
	return out
}

// isGone reports whether a path certainly does not exist.
func isGone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// doubted repeats f if it finds a loss in a cluster, because a new leader may lag behind for a
// moment.
func (b *Bus) doubted(ctx context.Context, f func() error) error {
	err := f()
	for n := 1; errors.Is(err, ErrLost) && b.link.Clustered() && n < doubts; n++ {
		pause(ctx, doubtEvery)
		err = f()
	}
	return err
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// look returns what is lost, and whether the state is known to be complete. A request that fails
// says nothing about either.
func (w *lossWatch) look(ctx context.Context) (lost error, whole bool) {
	whole = true
	for _, name := range lasting {
		lost, err := w.lost(ctx, name)
		if lost != nil {
			return lost, false
		}
		if err != nil {
			whole = false
		}
		if err != nil && ctx.Err() == nil && !IsAway(err) {
			w.bus.cfg.Log.Warn("look whether the state is whole", "err", err)
		}
	}
	return nil, whole
}

// lost returns what a bucket has lost, or nil.
func (w *lossWatch) lost(ctx context.Context, name string) (lost, err error) {
	ctx, cancel := context.WithTimeout(ctx, lossEvery)
	defer cancel()
	b := w.bus
	is, err := kv.Describe(ctx, b.link, name)
	if err != nil {
		return nil, err
	}
	switch {
	case !is.There:
		return fmt.Errorf("%w: %s holds no bucket %s any more: %s", ErrLost, b.at(), name,
			giveBack), nil
	case is.Identity != b.identity && is.Identity != "":
		return fmt.Errorf("%w: bucket %s at %s is of state %s now, and was of %s",
			ErrStranger, name, b.at(), is.Identity, b.identity), nil
	case is.Last < w.last[name]:
		return wentBack(name, is.Last, w.last[name]), nil
	}
	if err := errors.Join(b.holdsFirst(ctx, name, is),
		b.holdsReached(ctx, name, w.reached)); err != nil {
		return lostOr(err)
	}
	w.last[name] = max(w.last[name], is.Last)
	return nil, w.settle(ctx, name)
}

// lostOr separates a loss from other errors.
func lostOr(err error) (lost, other error) {
	if errors.Is(err, ErrLost) {
		return err, nil
	}
	return nil, err
}

// settleOthers restores the settings of the buckets that are not checked for losses.
func (w *lossWatch) settleOthers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lossEvery)
	defer cancel()
	for _, name := range []string{bucketSessions, bucketFleet} {
		if err := w.settle(ctx, name); err != nil && ctx.Err() == nil && !IsAway(err) {
			w.bus.cfg.Log.Warn("give a bucket its settings", "err", err)
		}
	}
}

// settle restores the settings of a bucket.
func (w *lossWatch) settle(ctx context.Context, name string) error {
	if w.bus.asIs() {
		return nil
	}
	changed, err := kv.RestoreSettings(ctx, w.bus.link, name)
	if len(changed) > 0 {
		w.bus.cfg.Log.Error(
			"somebody has changed settings of a bucket on which its records depend: they are set "+
				"back",
			"bucket", name, "settings", changed)
	}
	return err
}

// keep advances the progress of the state and stores it with the files.
func (w *lossWatch) keep(ctx context.Context) error {
	if w.bus.cfg.Files == nil || w.bus.asIs() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lossEvery)
	defer cancel()
	reached := make([]uint64, len(lasting))
	for i, name := range lasting {
		var err error
		if reached[i], err = kv.Open(w.bus.link, name).Advance(ctx); err != nil {
			return err
		}
	}
	w.reached = reached
	return w.bus.cfg.Files.SetReached(reached)
}

// compareReached compares the buckets of an external NATS with the stored progress. Errors:
// ErrLost.
func (b *Bus) compareReached(ctx context.Context) error {
	if b.embedded != nil || b.cfg.Files == nil || b.cfg.Restore {
		return nil
	}
	reached, err := b.cfg.Files.Reached()
	if err != nil || len(reached) != len(lasting) {
		return err
	}
	var errs []error
	for _, name := range lasting {
		err := b.doubted(ctx, func() error { return b.holdsReached(ctx, name, reached) })
		if err != nil && !errors.Is(err, ErrLost) {
			return err
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	telemetry.StateLost.Add(float64(len(errs)))
	b.behind = true
	return b.acceptable(errors.Join(errs...))
}

// holdsReached compares one bucket, if it exists, with the stored progress. Errors: ErrLost.
func (b *Bus) holdsReached(ctx context.Context, name string, reached []uint64) error {
	at := slices.Index(lasting, name)
	if at >= len(reached) {
		return nil
	}
	now, err := kv.Open(b.link, name).Advanced(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err == nil && now < reached[at] {
		err = wentBack(name, now, reached[at])
	}
	return err
}

// giveBack is the advice about a state that an external NATS has lost.
const giveBack = "give its files back, or restore a backup into another NATS, or " + acceptLoss

// wentBack returns the error for a bucket of which NATS has an older copy.
func wentBack(name string, now, was uint64) error {
	return fmt.Errorf("%w: bucket %s at the NATS of --nats lacks its newest records"+
		" (what came as number %d is there, and not number %d), as of an older copy of its "+
		"files: %s",
		ErrLost, name, now, was, giveBack)
}

// holdsFirst checks that a bucket of an external NATS has the record that nobody deletes.
// Errors: ErrLost.
func (b *Bus) holdsFirst(ctx context.Context, name string, is kv.Description) error {
	if b.embedded != nil || !is.First || b.cfg.AcceptLoss || b.cfg.Restore {
		return nil
	}
	has, err := kv.Open(b.link, name).HasFirst(ctx)
	if err == nil && !has {
		err = fmt.Errorf(
			"%w: bucket %s at the NATS of --nats lacks records that nobody has deleted,"+
				" as after a purge, or a limit of age or size: %s", ErrLost, name, giveBack)
	}
	return err
}

// setFirst stores that record, unless it was stored before: a missing record is evidence of a
// loss.
func (b *Bus) setFirst(ctx context.Context, bucket *kv.Bucket, name string) error {
	if b.embedded != nil {
		return nil
	}
	is, err := kv.Describe(ctx, b.link, name)
	if err == nil && (!is.First || b.cfg.AcceptLoss || b.cfg.Restore) {
		err = bucket.SetFirst(ctx)
	}
	return err
}
