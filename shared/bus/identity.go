package bus

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"ehi-server/shared/files"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Identified is what belongs to one state alone, and says to which.
type Identified interface {
	// Identity is that of the state, "" where none was set.
	Identity() (string, error)
	// SetIdentity keeps it.
	SetIdentity(string) error
	// Empty reports whether there is nothing that could belong to one.
	Empty() (bool, error)
	// Reached is how far the state had come, as SetReached was told last; nil where nothing is
	// known.
	Reached() ([]uint64, error)
	// SetReached keeps that.
	SetReached([]uint64) error
}

// Errors of Open: files and state do not belong together, or a part of the state is gone. The
// janitor removes the files that no record names, so that nothing may be served then.
var (
	ErrStranger = errors.New("the exports and the state do not belong together")
	ErrLost     = errors.New("a part of the state is lost")
	// ErrUnread is of what is there, and may be whole: the disk, or who may read it, is what is
	// wrong.
	ErrUnread = errors.New("a part of the state cannot be read")
)

// lasting are the buckets without which the state is not whole. Sessions may be lost: everybody
// logs in again.
var lasting = []string{bucketJobs, bucketTasks, bucketAuth}

// identify finds out which state this is, "" for one that has no identity yet. Errors:
// ErrStranger, ErrLost.
func (b *Bus) identify(ctx context.Context) (string, error) {
	mine, missing, exports := "", "", uint64(0)
	theirs, unread := b.theirs() // before the buckets: they are marked first
	for _, name := range lasting {
		is, err := kv.Look(ctx, b.link, name)
		if err != nil {
			return "", err
		}
		if mine != "" && is.Identity != "" && is.Identity != mine {
			return "",
				fmt.Errorf("%w: bucket %s is of state %s, and others are of %s", ErrStranger, name,
					is.Identity, mine)
		}
		if is.Identity == "" {
			missing = name
		} else {
			mine = is.Identity
		}
		if err := b.doubted(ctx, func() error { return b.holdsFirst(ctx, name, is) }); err != nil {
			return "", err
		}
		if name == bucketTasks {
			if exports, err = b.exports(ctx, is); err != nil {
				return "", err
			}
		}
	}
	if b.cfg.Files == nil {
		return mine, nil
	}
	err := unread
	switch {
	case errors.Is(err, files.ErrIdentity) && b.cfg.AcceptLoss:
		err = nil
	case errors.Is(err, files.ErrIdentity):
		err = fmt.Errorf("%w (%s holds state %s): put it back, or %s", err, b.at(),
			cmp.Or(mine, "none"), acceptLoss)
	case err == nil && !b.cfg.AcceptLoss:
		err = b.together(mine, theirs, missing, exports)
	}
	return cmp.Or(mine, theirs), err
}

// theirs is whose the files are, "" where there are none or nobody has said so.
func (b *Bus) theirs() (string, error) {
	if b.cfg.Files == nil {
		return "", nil
	}
	return b.cfg.Files.Identity()
}

// Adopt says for good that state and files belong together, and what there is of them: all that
// was accepted. Open calls it, unless Config.Tentative leaves that to whoever has opened the
// rest first.
func (b *Bus) Adopt(ctx context.Context) (err error) {
	if !b.asIs() {
		err = b.patiently(ctx, func() error { return b.permitted(ctx, b.mark) })
	}
	if err == nil && b.behind && !b.cfg.AsIs {
		err = b.cfg.Files.SetReached(nil)
	}
	if err == nil {
		err = b.restoreGoesOn(ctx)
	}
	if err == nil && b.embedded != nil {
		err = removeFileList(b.cfg.StoreDir) // one that an operator has overruled
	}
	if err == nil {
		b.stopInventory, err = b.keepInventory(b.identity)
	}
	return err
}

// fewRecords is up to how many records a bucket may hold that are none of a task: marks and
// probes of processes.
const fewRecords = 100

// exports is how many tasks have a record. What is stored for other ends is told from them where
// it may be all that there is.
func (b *Bus) exports(ctx context.Context, tasks kv.Standing) (uint64, error) {
	if tasks.Records == 0 || tasks.Records > fewRecords || b.embedded != nil {
		return tasks.Records, nil
	}
	keys, err := kv.Open(b.link, bucketTasks).Keys(ctx)
	return uint64(len(keys)), err
}

// drawn is under what several processes agree about the identity of a state that they make
// together.
var drawn = subject.KindOf("identity").Of("drawn")

// mark says in each bucket, and then with the files, whose they are: what was not made to its
// end has no identity.
func (b *Bus) mark(ctx context.Context) error {
	if b.identity == "" {
		drawing := rand.Text()
		_, err := b.Sessions.Create(ctx, drawn, []byte(drawing))
		if kv.IsConflict(err) {
			var other kv.Entry
			other, err = b.Sessions.Get(ctx, drawn)
			drawing = string(other.Value)
		}
		if err != nil {
			return fmt.Errorf("draw the identity of the state: %w", err)
		}
		b.identity = drawing
	}
	for _, name := range lasting {
		bucket := kv.Open(b.link, name)
		if err := bucket.Mark(ctx, b.identity); err != nil {
			return err
		}
		if err := b.setFirst(ctx, bucket, name); err != nil {
			return err
		}
	}
	if b.cfg.Files == nil {
		return nil
	}
	return b.cfg.Files.SetIdentity(b.identity)
}

// together holds a state to the files that are to belong to it. missing is a bucket that is not
// there or does not say whose it is, as after a start that was refused; exports how many of its
// records name files. What neither has said is as it was made by a build that knew no
// identities, or by a process that died over it.
func (b *Bus) together(mine, theirs, missing string, exports uint64) error {
	switch {
	case theirs == "" && mine != "" && exports > 0:
		empty, err := b.cfg.Files.Empty()
		if err == nil && empty {
			err = fmt.Errorf("%w: state %s at %s names the files of %d tasks, and there is none: "+
				"put the folder of the exports back, or %s: downloads of those exports fail then",
				ErrLost, mine, b.at(), exports, acceptLoss)
		}
		return err
	case theirs == "":
		return nil
	case mine == "" && missing != "":
		return fmt.Errorf("%w: the exports are those of state %s, and %s holds none: is it "+
			"another NATS, or was its folder lost? Give the right --nats, restore a backup, or "+
			"%s: jobs, accounts, clients and keys are gone then", ErrLost, theirs, b.at(),
			acceptLoss)
	case missing != "":
		return fmt.Errorf("%w: %s holds state %s without the bucket %s, or with a new one: "+
			"restore a backup, or %s",
			ErrLost, b.at(), theirs, missing, acceptLoss)
	case mine != "" && mine != theirs:
		return fmt.Errorf("%w: the exports are those of state %s, and %s holds state %s: give "+
			"the right --nats and --data, or %s", ErrStranger, theirs, b.at(), mine, acceptLoss)
	}
	return nil
}

// acceptLoss is the way out where nothing better is left.
const acceptLoss = "start once with --accept-loss to go on with what is there"

// at is where the state is, for people.
func (b *Bus) at() string {
	if b.cfg.URL != "" {
		return "the NATS of --nats"
	}
	return b.cfg.StoreDir
}
