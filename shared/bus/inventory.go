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

// inventory is what the embedded NATS held when somebody last looked. It lies beside its folder, so that
// what is lost in there is missed at the next start.
//
// The last sequence of a stream never goes back, whoever dies: it holds always. Counts hold only where
// nobody has written since, which only an orderly stop can tell.
type inventory struct {
	// Identity is that of the state.
	Identity string `json:"identity"`
	// Stopped is when the server was stopped in good order; zero while it runs, and after it was killed.
	Stopped time.Time `json:"stopped,omitzero"`
	// Streams is what each of them holds, by its name.
	Streams map[string]holding `json:"streams"`
}

// holding is what a stream holds.
type holding struct {
	First     uint64    `json:"first"`
	FirstTime time.Time `json:"firstTime,omitzero"`
	Last      uint64    `json:"last"`
	Messages  uint64    `json:"messages"`
	// Lasting is how many of its records never expire; nil where nobody has counted them.
	Lasting *uint64 `json:"lasting,omitempty"`

	maxAge time.Duration
}

// gaps is how many messages between the first and the last are not there.
func (h holding) gaps() uint64 {
	if h.Last < h.First || h.Messages == 0 {
		return 0
	}
	return h.Last - h.First + 1 - min(h.Messages, h.Last-h.First+1)
}

// inventoryFile is where the inventory of a folder of the embedded NATS is.
func inventoryFile(storeDir string) string { return filepath.Clean(storeDir) + ".inventory.json" }

// readInventory reads an inventory; nil where there is none. What cannot be read is as good as none: it is written whole, or not at all.
func readInventory(storeDir string) (*inventory, error) {
	data, err := os.ReadFile(inventoryFile(storeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := &inventory{}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", inventoryFile(storeDir), err)
	}
	return v, nil
}

// write stores the inventory whole: a power loss leaves it or the one before.
func (v *inventory) write(storeDir string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := inventoryFile(storeDir)
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncAt(filepath.Dir(path))
}

// syncAt makes a file, or the names in a folder, survive a power loss.
func syncAt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncBelow is syncAt of all that lies below a folder.
func syncBelow(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncAt(path)
	})
}

// take looks at what every stream holds. counted also counts the records that never expire, which reads
// the heads of all.
func (b *Bus) take(ctx context.Context, counted bool) (map[string]holding, error) {
	all, list := map[string]holding{}, b.link.JetStream().ListStreams(ctx)
	for info := range list.Info() {
		if isOurs(info.Config.Name) {
			s := info.State
			all[info.Config.Name] = holding{s.FirstSeq, s.FirstTime, s.LastSeq, s.Msgs, nil, info.Config.MaxAge}
		}
	}
	if err := list.Err(); err != nil || !counted {
		return all, err
	}
	for _, name := range lasting {
		h, ok := all[kv.StreamOf(name)]
		if !ok {
			continue
		}
		c, err := b.count(ctx, kv.StreamOf(name), h.Last)
		if err != nil {
			return nil, err
		}
		if c.after == 0 { // nobody wrote meanwhile
			h.Lasting = &c.lasting
		}
		all[kv.StreamOf(name)] = h
	}
	return all, nil
}

// tally is what the records of a bucket are, up to a sequence.
type tally struct {
	lasting uint64 // never expire
	after   uint64 // come after it
	expiry  uint64 // come after it, and only say that one has expired
}

// count counts a bucket's records. Those that cannot be read are not among them.
func (b *Bus) count(ctx context.Context, stream string, upTo uint64) (t tally, err error) {
	err = b.each(ctx, stream, true, func(m jetstream.Msg) error { return t.add(m, upTo) })
	return t, err
}

// each calls f with the messages of a stream that can be read, or with their heads.
func (b *Bus) each(ctx context.Context, stream string, heads bool, f func(jetstream.Msg) error) error {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	is, err := b.link.JetStream().Stream(ctx, stream)
	if err != nil {
		return err
	}
	reader, err := is.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: heads, InactiveThreshold: countTime})
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
		if got == 0 { // the rest cannot be read, or has expired
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
)

func (t *tally) add(m jetstream.Msg, upTo uint64) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	marker := m.Headers().Get(jetstream.MarkerReasonHeader) != ""
	if meta.Sequence.Stream > upTo {
		t.after++
		if marker {
			t.expiry++
		}
		return nil
	}
	if !isTombstone(m.Headers()) && m.Headers().Get(jetstream.MsgTTLHeader) == "" {
		t.lasting++
	}
	return nil
}

// compareState compares the state with its inventory. Errors: ErrLost, with all that is missed, unless an operator has accepted that.
func (b *Bus) compareState(ctx context.Context, identity string) error {
	if b.embedded == nil {
		return nil
	}
	was, err := readInventory(b.cfg.StoreDir)
	if err != nil || was == nil {
		return b.acceptable(err)
	}
	if identity != "" && was.Identity != identity {
		b.cfg.Log.Warn("the inventory of the state is another state's, and is not used", "file", inventoryFile(b.cfg.StoreDir), "of", was.Identity, "state", identity)
		return nil
	}
	now, err := b.take(ctx, false)
	if err != nil {
		return err
	}
	if b.cfg.AcceptLoss {
		if err := b.setAside(was, now); err != nil {
			return err
		}
	}
	var lost []string
	for _, name := range slices.Sorted(maps.Keys(was.Streams)) {
		missed, err := b.missed(ctx, name, was, now)
		if err != nil {
			return err
		}
		if missed == "" {
			continue
		}
		if mayGo(name) {
			b.cfg.Log.Warn("a part of the state is lost that is made anew by itself", "lost", missed)
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
	if len(lost) == 0 {
		return nil
	}
	return b.acceptable(fmt.Errorf("%w: %s. Keep a copy of %s, and restore a backup, or %s: what is named is gone then",
		ErrLost, strings.Join(lost, "; "), b.cfg.StoreDir, acceptLoss))
}

// acceptable is nil where an operator has accepted what an error says.
func (b *Bus) acceptable(err error) error {
	if err != nil && b.cfg.AcceptLoss {
		b.cfg.Log.Warn("go on without what is lost, as --accept-loss says", "err", err)
		return nil
	}
	return err
}

// setAside moves the remains of streams away that NATS does not know any more: it would make the stream anew
// in them, and lose it again at the next start.
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
		b.cfg.Log.Warn("the remains of a stream that NATS cannot read are set aside", "stream", name, "in", to)
	}
	return nil
}

// salvageAll is salvage of each bucket of which NATS cannot read all that it lists.
func (b *Bus) salvageAll(ctx context.Context, now map[string]holding) error {
	for _, bucket := range lasting {
		h, there := now[kv.StreamOf(bucket)]
		if !there {
			continue
		}
		read := uint64(0)
		err := b.each(ctx, kv.StreamOf(bucket), true, func(jetstream.Msg) error { read++; return nil })
		if err == nil && read < h.Messages {
			err = b.salvage(ctx, bucket)
		}
		if err != nil {
			return fmt.Errorf("save what can be read of bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// salvage makes a bucket anew of what can be read of it: whoever follows it would wait for the rest for
// ever. Its files are set aside before.
func (b *Bus) salvage(ctx context.Context, bucket string) error {
	js, stream := b.link.JetStream(), kv.StreamOf(bucket)
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
	b.cfg.Log.Warn("a bucket is made anew of what can be read", "bucket", bucket, "records", len(saved), "before", to)
	return nil
}

// entryOf is a message of a bucket as a record; that of a tombstone has no key.
func entryOf(m jetstream.Msg, bucket string) (Entry, error) {
	meta, err := m.Metadata()
	if err != nil || isTombstone(m.Headers()) {
		return Entry{}, err
	}
	e := Entry{Bucket: bucket, Key: strings.TrimPrefix(m.Subject(), "$KV."+bucket+"."), Value: m.Data()}
	ttl, err := lifetime(m.Headers())
	if ttl > 0 {
		e.Expires = meta.Timestamp.Add(ttl)
	}
	return e, err
}

// isTombstone tells by its header a message that says that a record is gone.
func isTombstone(head nats.Header) bool {
	return head.Get("KV-Operation") != "" || head.Get(jetstream.MarkerReasonHeader) != ""
}

// folderOf is where the embedded NATS keeps a stream.
func (b *Bus) folderOf(stream string) string {
	return filepath.Join(b.cfg.StoreDir, "jetstream", "$G", "streams", stream)
}

// aside is where damaged files of a stream are kept.
func (b *Bus) aside(stream string) string {
	return filepath.Clean(b.cfg.StoreDir) + ".damaged-" + stream + "-" + time.Now().UTC().Format("20060102T150405.000")
}

// mayGo tells the streams whose loss mends itself: commands are published again, and people log in again.
func mayGo(stream string) bool {
	return stream == kv.StreamOf(bucketSessions) || stream == kv.StreamOf(bucketFleet) || strings.HasPrefix(stream, streamPrefix) && stream != auditStream
}

// missed says what of a stream is not there any more, "" where all is.
func (b *Bus) missed(ctx context.Context, name string, was *inventory, all map[string]holding) (string, error) {
	then := was.Streams[name]
	now, there := all[name]
	what := "bucket " + strings.TrimPrefix(name, "KV_")
	if name == auditStream {
		what = "the audit trail"
	}
	switch {
	case !there:
		return fmt.Sprintf("%s is gone, with %d records", what, then.Messages), nil
	case now.Last < then.Last:
		return fmt.Sprintf("%s lacks the newest %d records (it ends at number %d, and ended at %d)", what, then.Last-now.Last, now.Last, then.Last), nil
	case name == auditStream:
		return missedEvents(what, was, then, now), nil
	case then.Lasting == nil || was.Stopped.IsZero():
		return "", nil
	}
	c, err := b.count(ctx, name, then.Last)
	if err != nil {
		return "", err
	}
	if c.expiry == now.Last-then.Last && c.lasting < *then.Lasting { // nobody wrote since, so nobody deleted
		return fmt.Sprintf("%s lacks %d of %d records", what, *then.Lasting-c.lasting, *then.Lasting), nil
	}
	return "", nil
}

// missedEvents is missed of the audit trail, of which nobody can delete: it goes from its beginning on, by age or by size.
func missedEvents(what string, was *inventory, then, now holding) string {
	if now.gaps() > then.gaps() {
		return fmt.Sprintf("%s lacks %d of its events", what, now.gaps()-then.gaps())
	}
	untouched := !was.Stopped.IsZero() && now.Last == then.Last
	if untouched && now.Messages < then.Messages && (now.maxAge == 0 || time.Since(then.FirstTime) < now.maxAge) {
		return fmt.Sprintf("%s lacks %d of its events", what, then.Messages-now.Messages)
	}
	return ""
}

// keepInventory writes what the state holds at least, again and again, until stop is called: then it is
// written as after an orderly stop.
func (b *Bus) keepInventory(identity string) (stop func(), err error) {
	if b.embedded == nil {
		return func() {}, nil
	}
	running := &inventory{Identity: identity, Streams: map[string]holding{}}
	if was, err := readInventory(b.cfg.StoreDir); err == nil && was != nil && was.Identity == identity && !b.cfg.AcceptLoss {
		running.Streams = was.Streams // at least that; it is on the disk
	}
	if err := running.write(b.cfg.StoreDir); err != nil && !b.cfg.AsIs { // there may be no room for it
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

// inventoryEvery is the least pause between two inventories of a running server.
const inventoryEvery = time.Minute

// refreshInventory writes, at each turn, what the state held at the turn before: by then NATS has synced it,
// so that a power loss does not make it untrue.
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
		now, err := b.take(ctx, false)
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

// closingTime bounds what an orderly stop counts.
const closingTime = 5 * time.Second

// closing is what the state holds at an orderly stop; nil where that cannot be told.
func (b *Bus) closing() map[string]holding {
	ctx, cancel := context.WithTimeout(context.Background(), closingTime)
	defer cancel()
	held, err := b.take(ctx, true)
	if err != nil {
		b.cfg.Log.Warn("the records are not counted", "err", err)
		return nil
	}
	return held
}

// closed writes the inventory of a state that was closed in good order.
func (b *Bus) closed(held map[string]holding) {
	if held == nil {
		return
	}
	v := &inventory{Identity: b.identity, Stopped: time.Now().UTC(), Streams: held}
	err := syncBelow(b.cfg.StoreDir)
	if err == nil {
		err = v.write(b.cfg.StoreDir)
	}
	if err != nil {
		b.cfg.Log.Warn("the inventory of the state is not written", "err", err)
	}
}
