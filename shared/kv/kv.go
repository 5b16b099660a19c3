// Package kv stores records in JetStream's key-value buckets. The key of a record is a
// subject.Subject, which is valid and bounded for any input. Records change by compare-and-set,
// may have a lifetime, and can be followed across lost connections.
package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/link"
	"ehi-server/shared/subject"
)

// ErrNotFound is returned if a key has no record.
var ErrNotFound = jetstream.ErrKeyNotFound

// MarkerTTL is how long the tombstone of a deleted record stays. It is longer than any
// follower's lag.
const MarkerTTL = time.Minute

// listTime bounds the listing of a bucket's keys, because a listing whose connection is lost
// never ends.
const listTime = time.Minute

// Bucket holds the records of a bucket. It is safe for concurrent use.
type Bucket struct {
	link *link.Link
	name string
}

// Entry is a revision of a record.
type Entry struct {
	Key      subject.Subject
	Value    []byte
	Revision uint64
	Created  time.Time // when this revision was stored
	Deleted  bool      // the record was deleted or has expired; Value is empty
}

// entryOf converts an entry of the library. ok is false if the key is not one of this package.
func entryOf(e jetstream.KeyValueEntry) (entry Entry, ok bool) {
	key, ok := subject.Read(e.Key())
	return Entry{key, e.Value(), e.Revision(), e.Created(), e.Operation() != jetstream.KeyValuePut},
		ok
}

// Declare creates a bucket if it does not exist, and updates its settings.
func Declare(ctx context.Context, l *link.Link, name, description string) (*Bucket, error) {
	err := l.Declare(ctx, StreamOf(name), func(replicas int) error {
		return declare(ctx, l.Streams(), name, description, replicas)
	})
	if err != nil {
		return nil, fmt.Errorf("declare bucket %s: %w", name, err)
	}
	return &Bucket{l, name}, nil
}

func declare(ctx context.Context, js link.Streams, name, description string, replicas int) error {
	is, err := js.Stream(ctx, StreamOf(name))
	if err == nil {
		config := is.CachedInfo().Config
		if config.SubjectDeleteMarkerTTL == MarkerTTL && config.Description == description {
			// An update of the bucket would remove the identity from the metadata.
			return adjust(ctx, js, config, replicas)
		}
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return js.DeclareBucket(ctx, jetstream.KeyValueConfig{
		Bucket:         name,
		Description:    description,
		History:        1,
		Storage:        jetstream.FileStorage,
		LimitMarkerTTL: MarkerTTL,
		Replicas:       replicas,
	})
}

// adjust sets the number of replicas of a bucket and removes settings that it must not have.
func adjust(
	ctx context.Context, js link.Streams, config jetstream.StreamConfig, replicas int,
) error {
	want, changed := settled(config)
	if len(changed) == 0 && config.Replicas == replicas {
		return nil
	}
	want.Replicas = replicas
	_, err := js.UpdateStream(ctx, want)
	return err
}

// settled returns a bucket's stream with the settings that this project relies on, and the names
// of those that somebody changed. A bucket must not drop records by age or size, must accept
// every record, and must allow reading from any of its servers. A limit of its bytes (max_bytes)
// stays, because some accounts require one; a full bucket reports it.
func settled(is jetstream.StreamConfig) (want jetstream.StreamConfig, changed []string) {
	want = is
	want.MaxAge, want.Discard = 0, jetstream.DiscardNew
	want.MaxMsgs, want.MaxMsgSize, want.MaxMsgsPerSubject = -1, -1, 1
	want.NoAck, want.DiscardNewPerSubject = false, false
	want.AllowDirect, want.AllowRollup, want.AllowMsgTTL = true, true, true
	want.Subjects = []string{"$KV." + strings.TrimPrefix(is.Name, StreamOf("")) + ".>"}
	for name, other := range map[string]bool{
		"max_age":                 is.MaxAge != want.MaxAge,
		"max_msgs":                is.MaxMsgs != want.MaxMsgs,
		"max_msg_size":            is.MaxMsgSize != want.MaxMsgSize,
		"max_msgs_per_subject":    is.MaxMsgsPerSubject != want.MaxMsgsPerSubject,
		"no_ack":                  is.NoAck != want.NoAck,
		"discard":                 is.Discard != want.Discard,
		"discard_new_per_subject": is.DiscardNewPerSubject != want.DiscardNewPerSubject,
		"allow_direct":            is.AllowDirect != want.AllowDirect,
		"allow_rollup":            is.AllowRollup != want.AllowRollup,
		"allow_ttl":               is.AllowMsgTTL != want.AllowMsgTTL,
		"subjects":                !slices.Equal(is.Subjects, want.Subjects),
	} {
		if other {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return want, changed
}

// RestoreSettings restores the settings of a bucket that this project relies on, and returns the
// names of those that somebody had changed.
func RestoreSettings(ctx context.Context, l *link.Link, name string) (changed []string, err error) {
	is, err := l.Streams().Stream(ctx, StreamOf(name))
	if err == nil {
		var want jetstream.StreamConfig
		if want, changed = settled(is.CachedInfo().Config); len(changed) > 0 {
			_, err = l.Streams().UpdateStream(ctx, want)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("give bucket %s its settings: %w", name, err)
	}
	return changed, nil
}

// StreamOf returns the stream of a bucket.
func StreamOf(name string) string { return "KV_" + name }

// identityKey is the metadata key of the identity of the state that a stream belongs to.
const identityKey = "ehi.identity"

// firstKey is the metadata key that marks a stream that holds the record of SetFirst.
const firstKey = "ehi.first"

// restoreKey is the metadata key of the progress of a restore into the stream.
const restoreKey = "ehi.restore"

// Mark sets the identity of the state that the bucket belongs to.
func (b *Bucket) Mark(ctx context.Context, identity string) error {
	return b.label(ctx, identityKey, identity)
}

// MarkRestore sets the progress of a restore into a bucket; "" means none.
func (b *Bucket) MarkRestore(ctx context.Context, state string) error {
	return b.label(ctx, restoreKey, state)
}

// label sets a metadata key of the bucket's stream; "" removes it.
func (b *Bucket) label(ctx context.Context, key, value string) error {
	js := b.link.Streams()
	is, err := js.Stream(ctx, StreamOf(b.name))
	if err != nil {
		return fmt.Errorf("mark bucket %s: %w", b.name, err)
	}
	config := is.CachedInfo().Config
	if config.Metadata[key] == value {
		return nil
	}
	config.Metadata = maps.Clone(config.Metadata)
	if config.Metadata == nil {
		config.Metadata = map[string]string{}
	}
	if config.Metadata[key] = value; value == "" {
		delete(config.Metadata, key)
	}
	if _, err = js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("mark bucket %s: %w", b.name, err)
	}
	return nil
}

// Description describes a bucket.
type Description struct {
	// There is false if the bucket does not exist.
	There bool
	// Identity is the state that the bucket belongs to; "" if not set.
	Identity string
	// Restore is the progress of a restore into the bucket; "" if there is none.
	Restore string
	// Records is the number of records, including tombstones.
	Records uint64
	// Last is the revision of the newest record. It decreases only if NATS has lost records.
	Last uint64
	// First reports whether the bucket should hold the record of SetFirst.
	First bool
}

// Describe returns the description of a bucket.
func Describe(ctx context.Context, l *link.Link, name string) (Description, error) {
	is, err := l.Streams().Stream(ctx, StreamOf(name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Description{}, nil
	}
	if err != nil {
		return Description{}, fmt.Errorf("bucket %s: %w", name, err)
	}
	info := is.CachedInfo()
	meta := info.Config.Metadata
	first, records := meta[firstKey] != "", info.State.Msgs
	if first {
		records -= min(records, 2) // the records of SetFirst and Advance
	}
	return Description{
		There:    true,
		Identity: meta[identityKey],
		Restore:  meta[restoreKey],
		Records:  records,
		Last:     info.State.LastSeq,
		First:    first,
	}, nil
}

// Open returns a bucket that was declared before.
func Open(l *link.Link, name string) *Bucket { return &Bucket{l, name} }

// Get reads a record. In a cluster the result may be slightly out of date, but an existing
// record is always found. Errors: ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key subject.Subject) (Entry, error) {
	kv, err := b.link.KeyValue(ctx, b.name)
	if err != nil {
		return Entry{}, err
	}
	var e jetstream.KeyValueEntry
	err = b.link.AwaitLeader(ctx, func(ctx context.Context) (err error) {
		e, err = kv.Get(ctx, key.String())
		return err
	})
	if errors.Is(err, ErrNotFound) && b.link.Clustered() {
		return b.newest(ctx, key)
	}
	if err != nil {
		return Entry{}, err
	}
	return Entry{key, e.Value(), e.Revision(), e.Created(), false}, nil
}

// Newest is Get from the leader of the stream: it returns the current record in a cluster too.
// Use it after a lost compare-and-set.
func (b *Bucket) Newest(ctx context.Context, key subject.Subject) (Entry, error) {
	if b.link.Clustered() {
		return b.newest(ctx, key)
	}
	return b.Get(ctx, key)
}

// newest asks the leader of the bucket's stream. Errors: ErrNotFound.
func (b *Bucket) newest(ctx context.Context, key subject.Subject) (Entry, error) {
	m, err := b.link.Newest(ctx, StreamOf(b.name), key.InBucket(b.name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, err
	}
	head, err := m.Header()
	switch {
	case err != nil:
		return Entry{}, fmt.Errorf("read %s of bucket %s: %w", key, b.name, err)
	case isTombstone(head):
		return Entry{}, ErrNotFound
	}
	return Entry{key, m.Data, m.Sequence, m.Time, false}, nil
}

// isTombstone reports whether a message marks a deleted record.
func isTombstone(head nats.Header) bool {
	return head.Get(operationHeader) != "" || head.Get(jetstream.MarkerReasonHeader) != ""
}

// operationHeader is the header that marks deletions in a bucket.
const operationHeader = "KV-Operation"

// Create stores a new record. It returns an error of IsConflict if the key has a record.
func (b *Bucket) Create(
	ctx context.Context, key subject.Subject, value []byte,
) (revision uint64, err error) {
	return b.CreateFor(ctx, key, value, 0)
}

// CreateFor is Create for a record that expires after ttl, rounded up to whole seconds. 0 means
// never.
func (b *Bucket) CreateFor(
	ctx context.Context, key subject.Subject, value []byte, ttl time.Duration,
) (revision uint64, err error) {
	kv, err := b.link.KeyValue(ctx, b.name)
	if err != nil {
		return 0, err
	}
	var opts []jetstream.KVCreateOpt
	if ttl > 0 {
		opts = append(opts, jetstream.KeyTTL(wholeSeconds(ttl)))
	}
	err = b.link.AwaitLeader(ctx, func(ctx context.Context) (err error) {
		revision, err = kv.Create(ctx, key.String(), value, opts...)
		return err
	})
	return revision, err
}

// Put stores a record and replaces an existing one.
func (b *Bucket) Put(
	ctx context.Context, key subject.Subject, value []byte,
) (revision uint64, err error) {
	return b.store(ctx, key, value, 0)
}

// PutFor is Put for a record that expires after ttl, rounded up to whole seconds. 0 means never.
func (b *Bucket) PutFor(
	ctx context.Context, key subject.Subject, value []byte, ttl time.Duration,
) error {
	_, err := b.store(ctx, key, value, ttl)
	return err
}

// Update replaces a record if it is still at the given revision. Otherwise it returns an error
// of IsConflict.
func (b *Bucket) Update(
	ctx context.Context, key subject.Subject, value []byte, revision uint64,
) (uint64, error) {
	return b.UpdateFor(ctx, key, value, revision, 0)
}

// UpdateFor is Update for a record that expires after ttl, rounded up to whole seconds. 0 means
// never.
func (b *Bucket) UpdateFor(
	ctx context.Context, key subject.Subject, value []byte, revision uint64, ttl time.Duration,
) (uint64, error) {
	return b.store(ctx, key, value, ttl, jetstream.WithExpectLastSequencePerSubject(revision))
}

// store publishes the message of a record. The library's KeyValue supports lifetimes of new
// records only.
func (b *Bucket) store(
	ctx context.Context, key subject.Subject, value []byte, ttl time.Duration,
	opts ...jetstream.PublishOpt,
) (uint64, error) {
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL(wholeSeconds(ttl)))
	}
	return b.link.Store(ctx, key.InBucket(b.name), nil, value, opts...)
}

func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// Forget deletes a record. It succeeds if there is none. Followers of the bucket are told.
func (b *Bucket) Forget(ctx context.Context, key subject.Subject) error {
	kv, err := b.link.KeyValue(ctx, b.name)
	if err != nil {
		return err
	}
	return b.link.AwaitLeader(ctx, func(ctx context.Context) error {
		return kv.Purge(ctx, key.String(), jetstream.PurgeTTL(MarkerTTL))
	})
}

// probes is the kind of the records of Probe, SetFirst and Advance.
var probes = subject.KindOf("probe")

// first is the key of SetFirst.
var first = probes.Of("first")

// SetFirst stores a record that this project never deletes. Whatever else removes records, such
// as a purge or a limit, removes it too, and first if by age. Its absence therefore shows a
// loss. Lists and backups do not include it.
func (b *Bucket) SetFirst(ctx context.Context) error {
	if _, err := b.link.Store(ctx, first.InBucket(b.name), deletion(), nil); err != nil {
		return fmt.Errorf("write to bucket %s: %w", b.name, err)
	}
	return b.label(ctx, firstKey, "kept")
}

// HasFirst reports whether the record of SetFirst exists.
func (b *Bucket) HasFirst(ctx context.Context) (bool, error) {
	revision, err := b.revision(ctx, first)
	return revision > 0, err
}

// epoch is the key of Advance.
var epoch = probes.Of("epoch")

// Advance stores a permanent record, replacing the previous one, and returns its revision. A
// process that later finds a lower revision has an older copy of the bucket, whatever was
// written to that copy since.
func (b *Bucket) Advance(ctx context.Context) (revision uint64, err error) {
	if revision, err = b.link.Store(ctx, epoch.InBucket(b.name), deletion(), nil); err != nil {
		return 0, fmt.Errorf("write to bucket %s: %w", b.name, err)
	}
	return revision, nil
}

// Advanced returns the revision of the record of Advance, or 0 if there is none.
func (b *Bucket) Advanced(ctx context.Context) (uint64, error) { return b.revision(ctx, epoch) }

// revision returns the revision of a key, or 0 if it has no record.
func (b *Bucket) revision(ctx context.Context, key subject.Subject) (uint64, error) {
	m, err := b.link.Newest(ctx, StreamOf(b.name), key.InBucket(b.name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s of bucket %s: %w", key, b.name, err)
	}
	return m.Sequence, nil
}

// deletion returns the header of a deletion.
func deletion() nats.Header {
	return nats.Header{
		operationHeader:     {"PURGE"},
		jetstream.MsgRollup: {jetstream.MsgRollupSubject},
	}
}

// IsProbe reports whether a key is one of Probe, SetFirst or Advance.
func IsProbe(key subject.Subject) bool { return probes.Parts(key) != nil }

// Entries calls f with the records of a pattern, in any order and each once, as of some moment
// during the call. An error of f ends the listing and is returned.
func (b *Bucket) Entries(ctx context.Context, p subject.Pattern, f func(Entry) error) error {
	return b.list(ctx, p, f)
}

// Keys lists the keys of the bucket, each once.
func (b *Bucket) Keys(ctx context.Context) (all []subject.Subject, err error) {
	err = b.list(ctx, subject.Kind{}.All(), func(e Entry) error {
		all = append(all, e.Key)
		return nil
	}, jetstream.MetaOnly())
	return all, err
}

// list reads the existing records, each once, without tombstones.
func (b *Bucket) list(
	ctx context.Context, p subject.Pattern, f func(Entry) error, opts ...jetstream.WatchOpt,
) error {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	kv, err := b.link.KeyValue(ctx, b.name)
	if err != nil {
		return err
	}
	watch, err := kv.Watch(ctx, p.String(), opts...)
	if err != nil {
		return fmt.Errorf("list %s of bucket %s: %w", p, b.name, err)
	}
	defer end(watch)
	came, told := map[subject.Subject]uint64{}, false
	given := map[subject.Subject]bool{} // a record that changes meanwhile arrives again
	// records that exist and have not arrived, once the end was signalled
	var lacks map[subject.Subject]bool
	idle := time.NewTimer(endUntold)
	defer idle.Stop()
	for {
		idle.Reset(endUntold)
		select {
		case <-idle.C:
			if lacks, err = b.lacks(ctx, p, came); err == nil && len(lacks) == 0 {
				return nil
			}
		case e, ok := <-watch.Updates():
			switch {
			case !ok:
				err := errors.Join(ctx.Err(), jetstream.ErrNoHeartbeat)
				return fmt.Errorf("list %s of bucket %s: %w", p, b.name, err)
			case e == nil: // NATS signals that all records have arrived
				if lacks, err = b.lacks(ctx, p, came); err != nil {
					return err
				}
				told = true
			default:
				entry, ok := entryOf(e)
				if !ok {
					continue
				}
				came[entry.Key] = entry.Revision
				delete(lacks, entry.Key)
				if entry.Deleted || given[entry.Key] {
					break
				}
				given[entry.Key] = true
				if err := f(entry); err != nil {
					return err
				}
			}
			if told && len(lacks) == 0 {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// endUntold is the length of a silence after which a listing compares itself with the bucket.
// NATS counts the records that it will send. If one expires meanwhile, it signals the end too
// early, or never.
const endUntold = time.Second

// lacks returns the records of a pattern that the bucket has and that have not arrived.
func (b *Bucket) lacks(
	ctx context.Context, p subject.Pattern, came map[subject.Subject]uint64,
) (map[subject.Subject]bool, error) {
	is, err := b.link.Streams().Stream(ctx, StreamOf(b.name))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b.name, err)
	}
	within := "$KV." + b.name + "."
	info, err := is.Info(ctx, jetstream.WithSubjectFilter(within+p.String()))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b.name, err)
	}
	lacks := map[subject.Subject]bool{}
	for name := range info.State.Subjects {
		key, ok := subject.Read(strings.TrimPrefix(name, within))
		if _, has := came[key]; ok && !has {
			lacks[key] = true
		}
	}
	return lacks, nil
}

// endTime bounds the end of a watch. The library never closes the updates of a watch whose
// subscription ended before it was stopped; its goroutine is not blocked then.
const endTime = time.Second

// end stops a watch and drains its updates. Otherwise the library's goroutine blocks forever
// once its channel is full.
func end(watch jetstream.KeyWatcher) {
	_ = watch.Stop() // fails if the connection is gone, and the watch with it
	limit := time.NewTimer(endTime)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-watch.Updates():
			if !ok {
				return
			}
		case <-limit.C:
			return
		}
	}
}

// wrongSequenceInCluster is JetStream's error code of a compare-and-set that lost against
// another one that is still being replicated.
const wrongSequenceInCluster jetstream.ErrorCode = 10164

// IsConflict reports whether an error is a lost compare-and-set.
func IsConflict(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == wrongSequenceInCluster)
}
