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

// Identified is a store that belongs to one state and knows which.
type Identified interface {
	// Identity returns the identity of the state, or "" if none was set.
	Identity() (string, error)
	// SetIdentity stores the identity.
	SetIdentity(string) error
	// Empty reports whether the store holds nothing.
	Empty() (bool, error)
	// Reached returns the progress of the last SetReached, or nil.
	Reached() ([]uint64, error)
	// SetReached stores the progress of the state.
	SetReached([]uint64) error
}

// Errors of Open: files and state do not belong together, or a part of the state is lost. The
// keeper would delete files that no record names, so the server must not start.
var (
	ErrStranger = errors.New("the exports and the state do not belong together")
	ErrLost     = errors.New("a part of the state is lost")
	// ErrUnread means that a part of the state cannot be read but may be intact: the disk or the
	// permissions are at fault.
	ErrUnread = errors.New("a part of the state cannot be read")
)

// lasting are the buckets that must be complete. Sessions may be lost: people log in again.
var lasting = []string{bucketJobs, bucketTasks, bucketAuth}

// identify returns the identity of this state, or "" if it has none yet. Errors: ErrStranger,
// ErrLost.
func (b *Bus) identify(ctx context.Context) (string, error) {
	mine, missing, exports := "", "", uint64(0)
	theirs, unread := b.theirs() // before the buckets, which are marked first
	for _, name := range lasting {
		is, err := kv.Describe(ctx, b.link, name)
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

// theirs returns the identity that the files carry, or "".
func (b *Bus) theirs() (string, error) {
	if b.cfg.Files == nil {
		return "", nil
	}
	return b.cfg.Files.Identity()
}

// Adopt records permanently that state and files belong together, and what they hold: everything
// that was accepted. Open calls it unless Config.Tentative is set; then the caller does, after
// opening everything else.
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
		err = removeFileList(b.cfg.StoreDir) // overruled by an operator
	}
	if err == nil {
		b.stopInventory, err = b.keepInventory(b.identity)
	}
	return err
}

// fewRecords is how many records a bucket may hold that are not tasks: marks and probes of
// processes.
const fewRecords = 100

// exports returns how many tasks have a record. It counts exactly if other records could be all
// there is.
func (b *Bus) exports(ctx context.Context, tasks kv.Description) (uint64, error) {
	if tasks.Records == 0 || tasks.Records > fewRecords || b.embedded != nil {
		return tasks.Records, nil
	}
	keys, err := kv.Open(b.link, bucketTasks).Keys(ctx)
	return uint64(len(keys)), err
}

// drawn is the key by which several processes agree on the identity of a new state.
var drawn = subject.KindOf("identity").Of("drawn")

// mark stores the identity in each bucket and then with the files. An incomplete state therefore
// has no identity.
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

// together checks that state and files belong together. missing names a bucket that does not
// exist or has no identity, as after a failed start. exports is the number of records that name
// files. Neither has an identity if an older build created them, or if the process died while
// marking.
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

// acceptLoss is the advice for when nothing better is left.
const acceptLoss = "start once with --accept-loss to go on with what is there"

// at returns where the state is, for people.
func (b *Bus) at() string {
	if b.cfg.URL != "" {
		return "the NATS of --nats"
	}
	return b.cfg.StoreDir
}
