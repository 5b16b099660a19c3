package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/kv"
	"ehi-server/shared/telemetry"
)

// inventory describes what the embedded NATS held when it was last inspected. It is stored
// beside its folder, so that the next start notices a loss. The last sequence of a stream never
// decreases, not even in a crash, so it can always be compared. A fileList describes the files
// after an orderly stop.
type inventory struct {
	// Identity is the identity of the state.
	Identity string `json:"identity"`
	// Stopped is when the server stopped in good order; zero while it runs and after a crash.
	Stopped time.Time `json:"stopped,omitzero"`
	// Streams describes each stream by name.
	Streams map[string]holding `json:"streams"`
}

// holding describes what a stream holds.
type holding struct {
	First     uint64    `json:"first"`
	FirstTime time.Time `json:"firstTime,omitzero"`
	Last      uint64    `json:"last"`
	Messages  uint64    `json:"messages"`

	maxAge time.Duration
}

// gaps returns how many messages between the first and the last are missing.
func (h holding) gaps() uint64 {
	if h.Last < h.First || h.Messages == 0 {
		return 0
	}
	return h.Last - h.First + 1 - min(h.Messages, h.Last-h.First+1)
}

// inventoryFile returns the path of the inventory for a folder of the embedded NATS.
func inventoryFile(storeDir string) string { return filepath.Clean(storeDir) + ".inventory.json" }

// readInventory reads an inventory. It returns nil if there is none, and an error if the file is
// unreadable: writes are atomic.
func readInventory(storeDir string) (*inventory, error) {
	data, err := readWhole(inventoryFile(storeDir))
	if err != nil || data == nil {
		return nil, err
	}
	v := &inventory{}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", inventoryFile(storeDir), err)
	}
	return v, nil
}

// write stores the inventory atomically.
func (v *inventory) write(storeDir string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeWhole(inventoryFile(storeDir), data)
}

// syncAt syncs a file, or the names in a folder.
func syncAt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncBelow syncs everything below a folder.
func syncBelow(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncAt(path)
	})
}

// take describes every stream.
func (b *Bus) take(ctx context.Context) (map[string]holding, error) {
	all, list := map[string]holding{}, b.link.Streams().ListStreams(ctx)
	for info := range list.Info() {
		if isOurs(info.Config.Name) {
			s := info.State
			all[info.Config.Name] = holding{
				s.FirstSeq, s.FirstTime, s.LastSeq, s.Msgs, info.Config.MaxAge,
			}
		}
	}
	return all, list.Err()
}

// unreadable returns how many records of a bucket NATS lists but cannot read. Only a count
// during which nothing expires is reliable; for a bucket that never rests it returns 0.
func (b *Bus) unreadable(ctx context.Context, stream string) (n uint64, err error) {
	is, err := b.link.Streams().Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	for range countRounds {
		before := is.CachedInfo().State
		read := uint64(0)
		if err := b.each(ctx, stream, true,
			func(jetstream.Msg) error { read++; return nil }); err != nil {
			return 0, err
		}
		info, err := is.Info(ctx)
		if err != nil {
			return 0, err
		}
		after := info.State
		if after.LastSeq == before.LastSeq && after.Msgs == before.Msgs &&
			after.FirstSeq == before.FirstSeq {
			return before.Msgs - min(read, before.Msgs), nil
		}
	}
	return 0, nil
}

// each calls f with the readable messages of a stream, or with their headers.
func (b *Bus) each(
	ctx context.Context, stream string, heads bool, f func(jetstream.Msg) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	is, err := b.link.Streams().Stream(ctx, stream)
	if err != nil {
		return err
	}
	reader, err := is.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		HeadersOnly:       heads,
		InactiveThreshold: countTime,
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	for left := is.CachedInfo().State.Msgs; left > 0; {
		batch, err := reader.Fetch(int(min(left, countBatch)), jetstream.FetchMaxWait(countWait))
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		got, failed := uint64(0), error(nil)
		for m := range batch.Messages() {
			got++
			if failed == nil {
				failed = f(m)
			}
		}
		if failed != nil {
			return failed
		}
		if got == 0 { // the rest is unreadable or has expired
			break
		}
		left -= min(left, got)
	}
	return ctx.Err()
}

// Bounds of a count.
const (
	countTime  = time.Minute
	countBatch = 2000
	countWait  = time.Second
	// countRounds is how often a count starts again because records have expired meanwhile.
	countRounds = 10
)

// compareState compares the state with its inventory. Errors: ErrLost and ErrUnread with all
// that is missing, unless an operator has accepted the loss.
func (b *Bus) compareState(ctx context.Context, identity string) error {
	if b.embedded == nil {
		return nil
	}
	was, err := readInventory(b.cfg.StoreDir)
	if err != nil || was == nil {
		return b.acceptable(err)
	}
	if identity != "" && was.Identity != identity {
		b.cfg.Log.Warn("the inventory of the state is another state's, and is not used", "file",
			inventoryFile(b.cfg.StoreDir), "of", was.Identity, "state", identity)
		return nil
	}
	now, err := b.take(ctx)
	if err != nil {
		return err
	}
	if b.cfg.AcceptLoss {
		if err := b.setAside(was, now); err != nil {
			return err
		}
	}
	var lost, unread []string
	for _, name := range slices.Sorted(maps.Keys(was.Streams)) {
		if why := b.unopened(name, now); why != "" && !mayGo(name) {
			b.cfg.Log.Error("a part of the state cannot be read", "of", called(name), "because",
				why)
			unread = append(unread, fmt.Sprintf("%s (%s)", called(name), why))
			continue
		}
		missed, err := b.missed(ctx, name, was, now)
		if err != nil {
			return err
		}
		if missed == "" {
			continue
		}
		if mayGo(name) {
			b.cfg.Log.Warn("a part of the state is lost, and is created again", "lost", missed)
			continue
		}
		telemetry.StateLost.Inc()
		b.cfg.Log.Error("a part of the state is lost", "lost", missed)
		lost = append(lost, missed)
	}
	if b.cfg.AcceptLoss {
		if err := b.salvageAll(ctx, now); err != nil {
			return err
		}
	}
	if len(unread) > 0 {
		return b.acceptable(unreadError(append(unread, lost...), b.cfg.StoreDir))
	}
	if len(lost) == 0 {
		return nil
	}
	return b.acceptable(fmt.Errorf(
		"%w: %s. Keep a copy of %s, and restore a backup, or %s: what is named is gone then",
		ErrLost, strings.Join(lost, "; "), b.cfg.StoreDir, acceptLoss))
}

// unopened returns why NATS could not open a stream whose files exist, or "".
func (b *Bus) unopened(stream string, now map[string]holding) string {
	if _, there := now[stream]; there {
		return ""
	}
	if _, err := os.Stat(b.folderOf(stream)); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return b.embedded.whyUnopened(stream)
}

// unreadError returns ErrUnread with what cannot be read and what to do.
func unreadError(what []string, storeDir string) error {
	return fmt.Errorf(
		"%w: %s. Nothing was changed. Is the disk whole, and may the server read and write"+
			" what is below %s? Put that right and start again. If it stays so, keep a copy and "+
			"restore a backup,"+
			" or %s: what is named is gone then",
		ErrUnread, strings.Join(what, "; "), storeDir, acceptLoss)
}

// acceptable returns nil if an operator has accepted the error.
func (b *Bus) acceptable(err error) error {
	if err != nil && b.cfg.AcceptLoss {
		b.cfg.Log.Warn("go on without what is lost, as --accept-loss says", "err", err)
		return nil
	}
	return err
}

// setAside moves away the files of streams that NATS no longer knows. It would create the stream
// again over them and lose it at the next start.
func (b *Bus) setAside(was *inventory, now map[string]holding) error {
	for name := range was.Streams {
		remains := b.folderOf(name)
		if _, there := now[name]; there {
			continue
		}
		if _, err := os.Stat(remains); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		to := b.aside(name)
		if err := os.Rename(remains, to); err != nil {
			return fmt.Errorf("set a damaged stream aside: %w", err)
		}
		b.cfg.Log.Warn("the remains of a stream that NATS cannot read are set aside", "stream",
			name, "in", to)
	}
	return nil
}

// salvageAll salvages each bucket with records that NATS lists but cannot read.
func (b *Bus) salvageAll(ctx context.Context, now map[string]holding) error {
	for _, bucket := range lasting {
		if _, there := now[kv.StreamOf(bucket)]; !there {
			continue
		}
		lost, err := b.unreadable(ctx, kv.StreamOf(bucket))
		if err == nil && lost > 0 {
			err = b.salvage(ctx, bucket)
		}
		if err != nil {
			return fmt.Errorf("save what can be read of bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// salvage recreates a bucket from its readable records, because followers would wait forever for
// the others. It first sets the files aside.
func (b *Bus) salvage(ctx context.Context, bucket string) error {
	js, stream := b.link.Streams(), kv.StreamOf(bucket)
	is, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	var saved []Entry
	err = b.each(ctx, stream, false, func(m jetstream.Msg) error {
		e, err := entryOf(m, bucket)
		if err == nil && e.Key != "" {
			saved = append(saved, e)
		}
		return err
	})
	if err != nil {
		return err
	}
	to := b.aside(stream)
	if err := os.CopyFS(to, os.DirFS(b.folderOf(stream))); err != nil {
		return err
	}
	if err := js.DeleteStream(ctx, stream); err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, is.CachedInfo().Config); err != nil {
		return err
	}
	for _, e := range saved {
		if err := b.Restore(ctx, e, time.Now()); err != nil {
			return err
		}
	}
	b.cfg.Log.Warn("a bucket is created again from its readable records",
		"bucket", bucket, "records", len(saved), "before", to)
	return nil
}

// entryOf converts a message of a bucket to a record. For a tombstone the key is empty.
func entryOf(m jetstream.Msg, bucket string) (Entry, error) {
	meta, err := m.Metadata()
	if err != nil || isTombstone(m.Headers()) {
		return Entry{}, err
	}
	e := Entry{
		Bucket: bucket,
		Key:    strings.TrimPrefix(m.Subject(), "$KV."+bucket+"."),
		Value:  m.Data(),
	}
	ttl, err := lifetime(m.Headers())
	if ttl > 0 {
		e.Expires = meta.Timestamp.Add(ttl)
	}
	return e, err
}

// isTombstone reports whether a message marks a deleted record.
func isTombstone(head nats.Header) bool {
	return head.Get("KV-Operation") != "" || head.Get(jetstream.MarkerReasonHeader) != ""
}

// folderOf returns the folder of a stream of the embedded NATS.
func (b *Bus) folderOf(stream string) string {
	return filepath.Join(b.cfg.StoreDir, "jetstream", "$G", "streams", stream)
}

// aside returns the folder for damaged files of a stream.
func (b *Bus) aside(stream string) string {
	return filepath.Clean(b.cfg.StoreDir) + ".damaged-" + stream + "-" +
		time.Now().UTC().Format("20060102T150405.000")
}

// mayGo reports whether the loss of a stream repairs itself: commands are published again, and
// people log in again.
func mayGo(stream string) bool {
	return stream == kv.StreamOf(bucketSessions) || stream == kv.StreamOf(bucketFleet) ||
		strings.HasPrefix(stream, streamPrefix) && stream != auditStream
}

// missed returns what a stream has lost, or "".
func (b *Bus) missed(
	ctx context.Context, name string, was *inventory, all map[string]holding,
) (string, error) {
	then := was.Streams[name]
	now, there := all[name]
	what := called(name)
	switch {
	case !there:
		return fmt.Sprintf("%s is gone, with %d records", what, then.Messages), nil
	case now.Last < then.Last:
		return fmt.Sprintf("%s lacks the newest %d records (it ends at number %d, and ended at %d)",
			what, then.Last-now.Last, now.Last, then.Last), nil
	case name == auditStream:
		return missedEvents(what, was, then, now), nil
	case b.compared || !slices.Contains(lasting, strings.TrimPrefix(name, "KV_")):
		return "", nil
	}
	if n, err := b.unreadable(ctx, name); err != nil || n > 0 {
		return fmt.Sprintf("%s has %d records of %d that cannot be read", what, n, now.Messages),
			err
	}
	return "", nil
}

// missedEvents is missed for the audit trail, from which nobody can delete. It shrinks only at
// its beginning, by age or size.
func missedEvents(what string, was *inventory, then, now holding) string {
	if now.gaps() > then.gaps() {
		return fmt.Sprintf("%s lacks %d of its events", what, now.gaps()-then.gaps())
	}
	untouched := !was.Stopped.IsZero() && now.Last == then.Last
	if untouched && now.Messages < then.Messages &&
		(now.maxAge == 0 || time.Since(then.FirstTime) < now.maxAge) {
		return fmt.Sprintf("%s lacks %d of its events", what, then.Messages-now.Messages)
	}
	return ""
}

// keepInventory writes the inventory regularly until stop is called, which writes that of an
// orderly stop.
func (b *Bus) keepInventory(identity string) (stop func(), err error) {
	if b.embedded == nil {
		return func() {}, nil
	}
	running := &inventory{Identity: identity, Streams: map[string]holding{}}
	if was, err := readInventory(b.cfg.StoreDir); err == nil && was != nil &&
		was.Identity == identity && !b.cfg.AcceptLoss {
		running.Streams = was.Streams // a lower bound, already on disk
	}
	// The disk may be full.
	if err := running.write(b.cfg.StoreDir); err != nil && !b.cfg.AsIs {
		return nil, fmt.Errorf("write the inventory of the state: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.refreshInventory(ctx, running)
	}()
	return func() { cancel(); <-ended }, nil
}

// inventoryEvery is the shortest pause between two inventories of a running server.
const inventoryEvery = time.Minute

// refreshInventory writes, each time, what the state held the time before. NATS has synced that
// by now, so that a power failure does not make it wrong.
func (b *Bus) refreshInventory(ctx context.Context, running *inventory) {
	tick := time.NewTicker(max(inventoryEvery, 3*b.cfg.SyncEvery))
	defer tick.Stop()
	var before map[string]holding
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, err := b.take(ctx)
		if err == nil && before != nil {
			running.Streams = before
			err = running.write(b.cfg.StoreDir)
		}
		if err != nil && ctx.Err() == nil {
			b.cfg.Log.Warn("the inventory of the state is not written", "err", err)
			continue
		}
		before = now
	}
}

// closingTime bounds the inspection of the state at an orderly stop.
const closingTime = 5 * time.Second

// closing describes the state at an orderly stop. It returns nil if that fails.
func (b *Bus) closing() map[string]holding {
	ctx, cancel := context.WithTimeout(context.Background(), closingTime)
	defer cancel()
	held, err := b.take(ctx)
	if err != nil {
		b.cfg.Log.Warn("the inventory of the state is not written", "err", err)
		return nil
	}
	return held
}

// closed writes the inventory and the file list after an orderly stop. held is nil if the bus
// was never open; the state is then what it was before, if that is known.
func (b *Bus) closed(held map[string]holding) {
	if held == nil && !b.compared {
		return
	}
	err := syncBelow(b.cfg.StoreDir)
	if err == nil && held != nil {
		v := &inventory{Identity: b.identity, Stopped: time.Now().UTC(), Streams: held}
		err = v.write(b.cfg.StoreDir)
	}
	if err == nil {
		err = b.listFiles()
	}
	if err != nil {
		b.cfg.Log.Warn("the inventory of the state is not written", "err", err)
	}
}
