package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/telemetry"
)

// Folder is the name of the store's folder within the data folder.
const Folder = "records"

// layoutVersion is the value of the v key. A store with another layout is rejected.
const layoutVersion = "4"

// layoutMoved is the layout of a store that has moved data (movedFlag). A build that does not know
// it would misread the import times of resources.
const layoutMoved = "5"

// layoutFindable is the layout of a store whose documents have keys to find them by, see
// makeFindable. It may have moved data. A build that does not know it would add documents without
// these keys.
const layoutFindable = "6"

// Store is an open record store. It is safe for concurrent use. Only one process at a time may
// have it open.
type Store struct {
	dir   string
	fresh bool
	held  *pebble.Lock
	db    *pebble.DB
	cache *pebble.Cache
	// tableOptions are those of the lowest level's tables.
	tableOptions sstable.WriterOptions
	sorting      sorting
	// unwatch stops the export of Pebble's metrics.
	unwatch func()
	log     *slog.Logger
	harm    *damage
	disk    disk.Probe
	armed   *atomic.Bool // see journal
	bulk    bool
	reads   bool // read-only
	frozen  frozen
	blobs   *blobs.Folder // the contents of documents, beside dir
	// dictionary is the current one, once it was used. learning guards its change.
	dictionary atomic.Pointer[knownDictionary]
	learning   sync.Mutex
	// pins are held by whoever may read a blob that the store has no document of any more.
	pins  blobs.Pins
	own   []string // see Config.OwnBases
	bases []string // as given
	// waiting holds the digests of all names that something depends on, and the r keys; under
	// writing.
	waiting *filter
	count   patientCount
	// lineage identifies the records of the store.
	lineage atomic.Pointer[lineage]
	// turning guards watchers, who are told when the records change; watched numbers them.
	turning  sync.Mutex
	watchers map[int]func()
	watched  int
	// writing is held by the single writer.
	writing sync.Mutex
	// idle flushes after a pause in writing, unless closing, which is under ending. It is unused
	// if the store is read-only.
	idle    *time.Timer
	ending  sync.Mutex
	closing bool
}

var _ source.Source = (*Store)(nil)

// Config configures a Store.
type Config struct {
	// Dir is the store's folder. Open creates it if it does not exist.
	Dir string
	// CacheBytes is the size of the block cache in bytes. Default 32 MiB.
	CacheBytes int64
	// Bulk is for a process that only imports. It writes no log, and sorts once at the end. A
	// crash loses the newest part of the import; running the import again restores it. The first
	// import into a store needs up to 4 GiB beside it.
	Bulk bool
	// ReadOnly opens an existing store and writes nothing to its disk, which may be full.
	// Imports and snapshots fail.
	ReadOnly bool
	// OwnBases are FHIR base URLs whose resources are in this store: this server's, and those of
	// the systems that the records come from. References to other servers lead out of the store.
	OwnBases []string
	// Stuck is called if the disk, full or broken, has not accepted writes for several seconds.
	// Writers block until it does, so a command can only exit. nil: the store retries forever.
	Stuck func(error)
	Log   *slog.Logger
}

// ErrInUse is returned by Open if another process holds the store.
var ErrInUse = errors.New("the record store is held by another process (a running server?)")

// Open opens or creates a store. The caller closes it. Errors: ErrInUse, ErrDamaged.
func Open(c Config) (*Store, error) {
	if c.CacheBytes <= 0 {
		c.CacheBytes = 32 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	harm := newDamage(c.Dir, c.Log)
	harm.stuck = c.Stuck
	opts := options(c.Log, harm)
	opts.ReadOnly = c.ReadOnly
	armed := new(atomic.Bool)
	opts.FS = &journal{
		FS:    vfs.Default,
		dir:   filepath.Clean(c.Dir),
		fatal: quiet{c.Log}.Fatalf,
		armed: armed,
	}
	unlogged, err := diedUnlogged(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open record store: %w", err)
	}
	held, fresh, err := hold(c)
	if err != nil {
		return nil, err
	}
	opts.Lock = held
	if !c.ReadOnly {
		if err := removeSorted(c.Dir); err != nil {
			return nil, errors.Join(fmt.Errorf("open record store: %w", err), held.Close())
		}
	}
	if c.Bulk {
		opts.DisableWAL = true
		opts.MemTableSize = 4 * memTableBytes
		if fresh { // a sorter takes most
			opts.MemTableSize = 2 * memTableBytes
		}
		opts.L0CompactionThreshold, opts.L0StopWritesThreshold = bulkRuns, 4*bulkRuns
		opts.Levels[0].Compression = opts.Levels[1].Compression
	}
	opts.EnsureDefaults()
	// Pebble allocates memtables from the cache.
	cache := pebble.NewCache(c.CacheBytes + 2*int64(opts.MemTableSize))
	opts.Cache = cache
	db, err := pebble.Open(c.Dir, opts)
	if err != nil {
		cache.Unref()
		return nil, errors.Join(openError(c.Dir, err), held.Close())
	}
	armed.Store(true)
	tableOptions := opts.MakeWriterOptions(len(opts.Levels)-1, db.TableFormat())
	tableOptions.WritingToLowestLevel = false // unknown to a table that is being written
	s := &Store{
		armed: armed,
		dir:   filepath.Clean(c.Dir), harm: harm, fresh: fresh, held: held, db: db, cache: cache,
		log: c.Log, bulk: c.Bulk,
		reads:        c.ReadOnly,
		closing:      c.ReadOnly,
		own:          ownBases(c.OwnBases),
		bases:        slices.Clone(c.OwnBases),
		frozen:       frozen{open: map[string]*population{}},
		blobs:        blobs.In(filepath.Clean(c.Dir) + blobsEnd),
		tableOptions: tableOptions,
		sorting:      usualSorting,
		disk:         disk.Probe{Dir: filepath.Clean(c.Dir), Ends: []string{".sst", ".blob"}},
	}
	s.idle = time.AfterFunc(flushIdle, s.flushIdly)
	s.unwatch = telemetry.OnScrape(s.sample)
	steps := []func() error{
		s.checkVersion, s.identify, s.checkBlobs,
		s.removeUnfinished, s.completeIndex, s.blobs.Clear,
	}
	if unlogged {
		steps = append(steps, s.markAll)
	}
	steps = append(steps, s.sweepBlobs)
	if !c.Bulk {
		steps = append(steps, func() error { return logs(c.Dir) })
	}
	if c.ReadOnly {
		steps = steps[:3]
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Fresh reports whether Open created the store in a folder without files.
func (s *Store) Fresh() bool { return s.fresh }

// AddOwnBases adds to Config.OwnBases what is only known once a server listens. Call it before the
// first import.
func (s *Store) AddOwnBases(bases ...string) {
	s.bases = append(s.bases, bases...)
	s.own = ownBases(s.bases)
}

// ownBases normalizes each base like plainURL, adds a trailing slash, and puts nested bases
// first.
func ownBases(bases []string) []string {
	var out []string
	for _, b := range bases {
		if b = strings.TrimRight(b, "/"); b != "" {
			out = append(out, plainURL(b)+"/")
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return slices.Compact(out)
}

// bloomBits is the size of a table's Bloom filter per key: 99 of 100 lookups of missing keys
// need no read of the table.
const bloomBits = 10

// blockBytes is the size of a compressed block. Records are read as a whole: large blocks cost a
// lookup some microseconds, and make a scan twice as fast as Pebble's default of 4 KiB.
const blockBytes = 32 << 10

// largeValue is the size in bytes from which a value is stored apart from its key. A merge of n
// sorted runs holds a block of each, which would be hundreds of megabytes with values of 8 MB
// inside.
const largeValue = 256 << 10

// memTableBytes is the size of a memtable. There may be two.
const memTableBytes = 8 << 20

func options(log *slog.Logger, harm *damage) *pebble.Options {
	o := &pebble.Options{
		FormatMajorVersion:         pebble.FormatNewest,
		MemTableSize:               memTableBytes,
		Logger:                     quiet{log},
		EventListener:              harm.listener(),
		L0CompactionThreshold:      8,
		L0CompactionFileThreshold:  1000,
		L0StopWritesThreshold:      48,
		LBaseMaxBytes:              512 << 20,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 2 },
		FlushSplitBytes:            16 << 20,
		TargetFileSizes: [7]int64{
			16 << 20, 16 << 20, 16 << 20, 16 << 20, 32 << 20, 64 << 20, 64 << 20,
		},
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled:               true,
			MinimumSize:           largeValue,
			MaxBlobReferenceDepth: 2 * bulkRuns,
			RewriteMinimumAge:     time.Minute,
			TargetGarbageRatio:    0.3,
		}
	}
	// Resources have separate tables, so that an import can add sorted tables.
	resources := pebble.KeyRange{Start: []byte{kCompartment}, End: []byte{kCompartment + 1}}
	o.Experimental.SpanPolicyFunc = pebble.MakeStaticSpanPolicyFunc(bytes.Compare, resources,
		pebble.SpanPolicy{})
	// It is short-lived.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	o.Levels[1].Compression = func() *sstable.CompressionProfile {
		return sstable.FastestCompression
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
		o.Levels[i].BlockSize = blockBytes
	}
	return o
}

// bulkRuns is how many sorted runs, each of a memtable, a bulk import collects before it merges
// them.
const bulkRuns = 64

// merge merges the collected runs.
func (s *Store) merge(ctx context.Context) error {
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.db.Compact(ctx, []byte{0}, []byte{0xff}, true)
}

// sync makes all writes durable. Pebble does not sync an empty batch, so a final empty one
// cannot cover the earlier ones. After a pause, the content of the log is flushed to a table:
// Pebble mistakes a damaged or truncated log for one that was being written, but detects damage
// in a table.
func (s *Store) sync() error {
	if err := s.db.LogData([]byte{0}, pebble.Sync); err != nil {
		return err
	}
	s.idle.Reset(flushIdle)
	return nil
}

// flushIdle is the pause in writing after which the log is flushed.
const flushIdle = time.Second

// flushIdly starts to flush, unless the store is being closed.
func (s *Store) flushIdly() {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.closing {
		return
	}
	if err := s.canBegin(); err != nil {
		s.log.Warn("the record store's log stays as it is, and is not written into a table", "err",
			err)
		return
	}
	if _, err := s.db.AsyncFlush(); err != nil {
		s.log.Error("write the record store's log into a table", "err", plainError(err))
	}
}

// canBegin returns why Pebble could not start another log, as far as can be known: the disk is
// full, or the folder accepts no file.
func (s *Store) canBegin() error {
	if !s.roomy() {
		return errors.New("its disk has too little room")
	}
	return takesFiles(s.dir)
}

// roomy reports whether there is space to flush the log. Pebble ends the process if it cannot
// start another log; the content of the log is just as safe there.
func (s *Store) roomy() bool { return s.hasFree(toFlush) }

// toFlush is how much space Pebble may need to flush its memory.
const toFlush = 4 * memTableBytes

func (s *Store) hasFree(bytes int64) bool {
	free, err := disk.OS().Free(s.dir)
	return err != nil || free >= bytes
}

// newBatch returns a batch with room for the resource that exceeds batchBytes.
func (s *Store) newBatch() *pebble.Batch {
	return s.db.NewBatch(pebble.WithInitialSizeBytes(batchBytes+batchBytes/4),
		pebble.WithMaxRetainedSizeBytes(4*batchBytes))
}

func (s *Store) checkVersion() error {
	v, err := get(s.db, key(kVersion))
	if err != nil {
		return err
	}
	if v == nil {
		return s.db.Set(key(kVersion), []byte(layoutVersion), &pebble.WriteOptions{Sync: !s.bulk})
	}
	if !slices.Contains([]string{layoutVersion, layoutMoved, layoutFindable}, string(v)) {
		return fmt.Errorf("the record store in %s has layout %s and this build reads layouts %s "+
			"to %s; it is left as it is: start with another data folder, and import the records "+
			"again", s.dir, v, layoutVersion, layoutFindable)
	}
	return nil
}

// Close implements source.Source.
func (s *Store) Close() error {
	s.unwatch()
	s.idle.Stop()
	s.ending.Lock()
	s.closing = true
	s.ending.Unlock()
	var err error
	if !s.reads && s.roomy() {
		if err = takesFiles(s.dir); err == nil {
			err = s.db.Flush() // so that nothing depends on the log
		}
	}
	s.armed.Store(false) // later failures return errors
	err = errors.Join(err, s.db.Close())
	s.cache.Unref()
	if err == nil && !s.reads {
		err = finish(s.dir)
	}
	return errors.Join(err, s.held.Close())
}

// sample exports Pebble's metrics.
func (s *Store) sample() {
	m := s.db.Metrics()
	telemetry.StoreBytes.Set(float64(m.DiskSpaceUsage()))
	total := m.Total()
	telemetry.StoreTables.Set(float64(total.TablesCount))
	telemetry.StoreReadAmplification.Set(float64(m.ReadAmp()))
	telemetry.StoreMemtableBytes.Set(float64(m.MemTable.Size))
	telemetry.StoreCacheBytes.Set(float64(m.BlockCache.Size))
	telemetry.StoreCacheHits.Set(float64(m.BlockCache.Hits))
	telemetry.StoreCacheMisses.Set(float64(m.BlockCache.Misses))
	telemetry.StoreCompactions.Set(float64(m.Compact.Count))
	telemetry.StoreCompactionDebt.Set(float64(m.Compact.EstimatedDebt))
	telemetry.StoreSnapshots.Set(float64(m.Snapshots.Count))
}

// Check implements source.Source. It reads from the disk, and fails if a file of the store is
// known to be damaged. Errors: ErrDamaged.
func (s *Store) Check(context.Context) error {
	_, err := get(s.db, key(kVersion))
	if disk := s.disk.Read(); disk != nil {
		err = errors.Join(err, fmt.Errorf("read the disk of the record store: %w", disk))
	}
	return errors.Join(err, s.harm.err())
}

// each calls f for every key with a prefix. The arguments of f are valid during the call only.
func each(r pebble.Reader, prefix []byte, f func(k, v []byte) error) error {
	return between(r, prefix, after(prefix), f)
}

// between calls f for every key with lower <= key < upper. It releases its resources even if f
// panics.
func between(r pebble.Reader, lower, upper []byte, f func(k, v []byte) error) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(err)
	}
	defer func() {
		if e := readError(it.Close()); err == nil {
			err = e
		}
	}()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		if err := f(it.Key(), v); err != nil {
			return err
		}
	}
	return nil
}

// view calls f with a key's value, which is valid during the call only. Errors:
// pebble.ErrNotFound.
func view(r pebble.Reader, k []byte, f func(v []byte) error) (err error) {
	v, closer, err := r.Get(k)
	if err != nil {
		return readError(err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	return f(v)
}

// patientEntry is an entry of the directory.
type patientEntry struct {
	Name  string `json:"name"`
	Total int64  `json:"total"` // resources of a full export
	Own   int64  `json:"own"`   // resources of the compartment
	Bytes int64  `json:"bytes"` // of the compartment's lines, newlines included
	// Whole reports whether every reference of the record resolves. It and the h key are valid
	// for Generation.
	Whole      bool   `json:"whole"`
	Generation string `json:"gen"`
	// Merges holds the merges that the Patient declares.
	Merges []merge `json:"merges,omitempty"`
}

var errNoPatient = ehi.Errorf(ehi.NotFound, "Patient not found")

// Patient implements source.Source.
func (s *Store) Patient(_ context.Context, id string) (ehi.Patient, error) {
	e, err := s.patient(s.db, id)
	return ehi.Patient{ID: id, Name: e.Name}, err
}

func (s *Store) patient(r pebble.Reader, id string) (e patientEntry, err error) {
	if !fhir.ValidID(id) {
		return e, errNoPatient
	}
	there, err := has(r, key(kPatient, id))
	if err != nil {
		return e, err
	}
	if !there {
		return e, errNoPatient
	}
	return s.entry(r, id)
}

// entry returns a patient's entry of the directory, or the zero entry.
func (s *Store) entry(r pebble.Reader, id string) (e patientEntry, err error) {
	v, err := get(r, key(kPatient, id))
	if err != nil || v == nil {
		return e, err
	}
	return e, json.Unmarshal(v, &e)
}

// Groups implements source.Source.
func (s *Store) Groups(context.Context) ([]string, error) {
	var ids []string
	prefix := key(kShared, "Group", "")
	err := each(s.db, prefix, func(k, _ []byte) error {
		ids = append(ids, string(k[len(prefix):]))
		return nil
	})
	return ids, err
}

// Group implements source.Source.
func (s *Store) Group(_ context.Context, id string) ([]byte, error) { return s.group(id) }

func (s *Store) group(id string) ([]byte, error) {
	v, err := get(s.db, key(kShared, "Group", id))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, ehi.Errorf(ehi.NotFound, "Group not found")
	}
	_, line := decodeValue(v)
	return line, nil
}

var errEnough = errors.New("enough")

// Patients implements source.Source.
func (s *Store) Patients(_ context.Context, limit int) ([]ehi.Patient, error) {
	var out []ehi.Patient
	err := each(s.db, []byte{kPatient}, func(k, v []byte) error {
		if len(out) == limit {
			return errEnough
		}
		var e patientEntry
		if err := json.Unmarshal(v, &e); err != nil {
			return err
		}
		out = append(out, ehi.Patient{ID: string(k[1:]), Name: e.Name})
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

// Size implements source.Source, from the directory as of the last settled import.
func (s *Store) Size(ctx context.Context, patients []string, native bool) (n int64, err error) {
	natives, err := newSweep(s.db, kNative)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, natives.close()) }()
	add := func(id string, e patientEntry) error {
		n += e.Bytes
		if !native || e.Bytes == 0 { // nobody
			return ctx.Err()
		}
		size, err := natives.get(key(kNative, id))
		n += nativeBytes(size)
		return errors.Join(err, ctx.Err())
	}
	if patients == nil {
		return n, each(s.db, []byte{kPatient}, func(k, v []byte) error {
			var e patientEntry
			if err := json.Unmarshal(v, &e); err != nil {
				return err
			}
			return add(string(k[1:]), e)
		})
	}
	for _, id := range patients {
		e, err := s.entry(s.db, id)
		if err != nil {
			return 0, err
		}
		if err := add(id, e); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Counts returns how many resources of each type the store holds.
func (s *Store) Counts(context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	for _, kind := range []byte{kCompartment, kShared} {
		err := each(s.db, []byte{kind}, func(k, _ []byte) error {
			parts := split(k)
			counts[string(parts[len(parts)-2])]++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// Tables implements source.Source.
func (s *Store) Tables(context.Context) (*datapackage.Package, error) {
	d, err := s.dictionaryOf(s.db)
	return d.packageOf(), err
}

// Open implements source.Source.
func (s *Store) Open(_ context.Context, patient string) (source.Record, error) {
	r := &record{store: s, release: s.pins.Pin(), snap: s.db.NewSnapshot(), taken: time.Now().UTC()}
	if err := r.load(patient); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

type record struct {
	store    *Store
	tables   *dictionary // nil if there are none
	release  func()      // of the pin of blobs
	snap     *pebble.Snapshot
	patients []string // whose compartments it consists of, see recordOf
	taken    time.Time
	records  ehi.Records
	total    int64
	shared   []string // sorted keys of the shared resources of the record
	complete bool
}

func (r *record) load(patient string) (err error) {
	entry, err := r.store.patient(r.snap, patient)
	if err != nil {
		return err
	}
	if r.patients, err = recordOf(r.snap, patient); err != nil {
		return err
	}
	if r.tables, err = r.store.dictionaryOf(r.snap); err != nil {
		return err
	}
	of, err := lineageOf(r.snap)
	if err != nil {
		return err
	}
	r.records = of.Records
	fresh, touched, err := r.state(entry.Generation)
	if err != nil {
		return err
	}
	if fresh && !touched && len(r.patients) == 1 {
		r.shared, err = r.store.sharedOf(r.snap, patient)
		r.total, r.complete = entry.Total, entry.Whole
		return err
	}
	links, whole, err := linksOf(r.snap, r.patients)
	if err != nil {
		return err
	}
	var closed bool
	if r.shared, closed, err = newNetwork(r.snap).closure(links); err != nil {
		return err
	}
	r.complete = whole && closed && !touched
	r.total = int64(len(r.shared))
	for _, p := range r.patients {
		entry, err := r.store.entry(r.snap, p)
		if err != nil {
			return err
		}
		r.total += entry.Own
	}
	return nil
}

// state reports whether the derived data about shared resources is up to date, and whether an
// import has changed the record and not settled it yet.
func (r *record) state(generation string) (fresh, touched bool, err error) {
	gen, err := get(r.snap, key(kGeneration))
	for _, p := range r.patients {
		if err == nil && !touched {
			touched, err = has(r.snap, key(kTouched, p))
		}
	}
	return string(gen) == generation, touched, err
}

// sharedOf reads the closure that was stored when the patient was settled.
func (s *Store) sharedOf(r pebble.Reader, patient string) (keys []string, err error) {
	v, err := get(r, key(kSharedOf, patient))
	if err != nil || v == nil {
		return nil, err
	}
	return keys, json.Unmarshal(v, &keys)
}

// closure returns the shared resources that a patient's record references, directly or through
// others. whole is false if a reference leads out of the record, or to a Group, which names
// other patients and is part of no patient's record.
func closure(r pebble.Reader, patient string) (keys []string, whole bool, err error) {
	links, err := below(r, key(kLink, patient, ""))
	if err != nil {
		return nil, false, err
	}
	return newNetwork(r).closure(links)
}

// below lists the suffixes of all keys with a prefix.
func below(r pebble.Reader, prefix []byte) (ends []string, err error) {
	err = each(r, prefix, func(k, _ []byte) error {
		ends = append(ends, string(k[len(prefix):]))
		return nil
	})
	return ends, err
}

// network caches the references among shared resources, which must not change while it is used.
// It is not safe for concurrent use.
type network struct {
	reader pebble.Reader
	nodes  map[string]node // by type and id, as in a key
}

// networkNodes is how many nodes a network caches.
const networkNodes = 100_000

type node struct {
	there, whole bool
	links        []string
}

func newNetwork(r pebble.Reader) *network { return &network{r, map[string]node{}} }

func (n *network) node(target string) (node, error) {
	if found, ok := n.nodes[target]; ok {
		return found, nil
	}
	absent, err := missing(n.reader, append([]byte{kShared}, target...))
	out := node{there: !absent}
	if err == nil && out.there {
		out.whole, err = missing(n.reader, append([]byte{kPending}, target...))
	}
	if err == nil && out.there {
		out.links, err = below(n.reader, append(append([]byte{kSharedLink}, target...), 0))
	}
	if len(n.nodes) >= networkNodes {
		clear(n.nodes)
	}
	n.nodes[target] = out
	return out, err
}

// closure follows links. The keys are sorted.
func (n *network) closure(links []string) (keys []string, whole bool, err error) {
	seen := map[string]bool{}
	whole = true
	for queue := links; len(queue) > 0; queue = queue[1:] {
		target := queue[0]
		if seen[target] {
			continue
		}
		seen[target] = true
		if strings.HasPrefix(target, "Group\x00") {
			whole = false
			continue
		}
		at, err := n.node(target)
		if err != nil {
			return nil, false, err
		}
		if !at.there {
			whole = false
			continue
		}
		keys = append(keys, string(kShared)+target)
		whole = whole && at.whole
		queue = append(queue[:len(queue):len(queue)], at.links...)
	}
	slices.Sort(keys)
	return keys, whole, nil
}

// missing reports whether a key is absent.
func missing(r pebble.Reader, k []byte) (bool, error) {
	_, closer, err := r.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, readError(err)
	}
	return false, closer.Close()
}

// TakenAt implements source.Record.
func (r *record) TakenAt() time.Time { return r.taken }

// Records implements source.Record.
func (r *record) Records() ehi.Records { return r.records }

// Total implements source.Record.
func (r *record) Total() int64 { return r.total }

// Complete implements source.Record.
func (r *record) Complete() bool { return r.complete }

// Resolves implements source.Record.
func (r *record) Resolves(typ, id string) (bool, error) {
	k, err := r.find(typ, id)
	return k != nil, err
}

// Has implements source.Record.
func (r *record) Has(_, typ, id string) (bool, error) { return r.Resolves(typ, id) }

// Another implements source.Record.
func (r *record) Another(_, typ, id string) (bool, error) {
	owners, _, err := ownersIn(r.snap, typ, id)
	owns := func(patient string) bool { return slices.Contains(r.patients, patient) }
	return len(owners) > 0 && !slices.ContainsFunc(owners, owns), err
}

// find returns the key of a resource of the record, or nil.
func (r *record) find(typ, id string) ([]byte, error) {
	for _, p := range r.patients {
		k := key(kCompartment, p, typ, id)
		if there, err := has(r.snap, k); err != nil || there {
			return k, err
		}
	}
	k := key(kShared, typ, id)
	if _, found := slices.BinarySearch(r.shared, string(k)); found {
		return k, nil
	}
	return nil, nil
}

// Close implements source.Record.
func (r *record) Close() error {
	r.release()
	return r.snap.Close()
}

// Find implements source.Record.
func (r *record) Find(ctx context.Context, q source.Query, typ, id string) ([]byte, error) {
	k, err := r.find(typ, id)
	if err != nil || k == nil {
		return nil, err
	}
	return admitted(ctx, q, typ, r.snap, k)
}

// admitted returns the line of a stored resource if a query admits it.
func admitted(
	ctx context.Context, q source.Query, typ string, db pebble.Reader, k []byte,
) (line []byte, _ error) {
	val, err := get(db, k)
	if err != nil || val == nil {
		return nil, err
	}
	v := scan{ctx: ctx, query: q, visit: func(r source.Resource) error {
		line = r.Line
		return nil
	}}
	return line, v.resource([]byte(typ), val)
}

// Scan implements source.Record.
func (r *record) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	v := scan{ctx: ctx, query: q, visit: visit}
	types := []string{""}
	if len(q.Types) > 0 {
		types = slices.Sorted(slices.Values(q.Types))
		if q.Also != "" {
			types = append(types, q.Also)
			slices.Sort(types)
		}
		types = slices.Compact(types)
	}
	for i, p := range r.patients {
		for _, t := range types {
			if err := r.scan(&v, r.patients[:i], key(kCompartment, p, ""), t); err != nil {
				return err
			}
		}
	}
	for _, k := range r.shared {
		typ, _, _ := strings.Cut(k[1:], "\x00")
		if !q.AdmitsType(typ) {
			continue
		}
		err := view(r.snap, []byte(k), func(val []byte) error {
			return v.resource([]byte(typ), val)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scan visits the resources of one compartment, of one type or of all if it is "", except for
// those in a compartment of before.
func (r *record) scan(v *scan, before []string, compartment []byte, typ string) error {
	prefix := compartment
	if typ != "" {
		prefix = append(append(compartment[:len(compartment):len(compartment)], typ...), 0)
	}
	return each(r.snap, prefix, func(k, val []byte) error {
		target := k[len(compartment):]
		if len(before) > 0 && isSeveral(val) {
			if seen, err := ownedByOne(r.snap, string(target), before); err != nil || seen {
				return err
			}
		}
		typ, _, _ := bytes.Cut(target, []byte{0})
		return v.resource(typ, val)
	})
}

// Resource implements source.Source.
func (s *Store) Resource(ctx context.Context, patient, typ, id string) ([]byte, error) {
	if !fhir.KnownType(typ) || !fhir.ValidID(id) {
		return nil, errNoResource
	}
	k, err := s.locate(ctx, patient, typ, id)
	if err != nil || k == nil {
		return nil, errors.Join(err, errNoResource)
	}
	v, err := get(s.db, k)
	if err != nil || v == nil {
		return nil, errors.Join(err, errNoResource)
	}
	_, line := decodeValue(v)
	return line, nil
}

var errNoResource = ehi.Errorf(ehi.NotFound, "Resource not found")

// locate returns the key of a resource of a patient's record, or of anybody's if patient is "",
// or nil.
func (s *Store) locate(ctx context.Context, patient, typ, id string) ([]byte, error) {
	if patient == "" {
		owners, there, err := ownersIn(s.db, typ, id)
		switch {
		case err != nil || !there:
			return nil, err
		case len(owners) == 0:
			return key(kShared, typ, id), nil
		}
		return key(kCompartment, owners[0], typ, id), nil
	}
	opened, err := s.Open(ctx, patient)
	if err != nil {
		return nil, err
	}
	r := opened.(*record)
	k, err := r.find(typ, id)
	return k, errors.Join(err, r.Close())
}

// scan is one pass over a record.
type scan struct {
	ctx    context.Context
	query  source.Query
	visit  func(source.Resource) error
	typ    string // the type of the last resource, to convert it to a string once per type
	skip   bool   // the type is not wanted
	also   bool   // only Query.Also wants the type
	cursor fhir.Cursor

	// For a population.
	patient string // whose compartment is being read
	absent  bool   // that patient's resources are not exported
	loose   bool   // see source.Resource
}

func (s *scan) resource(typ, val []byte) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if s.typ != string(typ) {
		s.typ = string(typ)
		s.skip, s.also = !s.query.AdmitsType(s.typ), !s.query.Names(s.typ)
	}
	if s.skip {
		return nil
	}
	at, line := decodeValue(val)
	also := s.also
	if s.query.Timed() && !s.query.AdmitsTime(updated(&s.cursor, line, at)) {
		if s.query.Also != s.typ {
			return nil
		}
		also = true
	}
	return s.visit(source.Resource{
		Type:    s.typ,
		Line:    line,
		Updated: at,
		Patient: s.patient,
		Loose:   s.loose,
		Also:    also,
		Moved:   isMoved(val),
	})
}

// updated returns meta.lastUpdated, or the time of the import if the resource has none.
func updated(c *fhir.Cursor, line []byte, imported time.Time) time.Time {
	for c.Reset(line); c.Next(); {
		if c.Depth == 2 && c.IsString() && string(c.Key()) == "lastUpdated" &&
			string(c.KeyAt(1)) == "meta" {
			if span, err := fhir.ParseSpan(string(c.Text())); err == nil {
				return span.Start
			}
			return imported
		}
	}
	return imported
}
