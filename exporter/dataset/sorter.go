package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// sorter collects the c keys of an import into an empty store. It sorts them in pieces into
// files. Settling reads each patient's record from them once, in the order of the keys, and
// writes the tables of the store in their final form. Without it, Pebble would sort, compress
// and write everything twice first, and be read once more.
//
// A sorter is used by one goroutine until it is sealed, and is safe for concurrent use
// afterwards. Its files have no names, so that nothing outlives the process.
type sorter struct {
	dir     string
	limits  sorting
	filling *pile
	spare   *pile
	runs    []*run
	writing chan error // the result of writing the current run; nil if none is being written
	bytes   int64      // total size of the keys and values
	looked  int        // number of lookups
}

// sorting holds the limits of a sorter.
type sorting struct {
	pile  int // bytes that are sorted at once; there are two piles
	block int // approximate bytes of a run that are read at once
	// all is the capacity in bytes: what a crash loses, and the space that the sorter needs
	// beside the store.
	all   int64
	looks int // maximum number of lookups, each of which searches all runs
	// part is the minimum size of a transfer in bytes, because each transfer waits for the disk.
	part int64
}

var usualSorting = sorting{
	pile:  8 << 20,
	block: 64 << 10,
	all:   4 << 30,
	looks: 10_000,
	part:  16 << 20,
}

const (
	// sortedPrefix is the prefix of tables that are not in the store yet.
	sortedPrefix = "ehi.sorted."
	// gone is the length of the value of a deleted key.
	gone = 1<<32 - 1
)

// pile collects keys until it is sorted.
type pile struct {
	bytes []byte // each key followed by its value
	keys  []pileKey
}

// pileKey is the position of a key in a pile and the lengths of the key and its value.
type pileKey struct {
	head  uint64 // the first bytes after the kind, as a number with the same order
	at    uint32
	value uint32
	key   uint16
}

func newPile(size int) *pile { return &pile{bytes: make([]byte, 0, size)} }

func newSorter(dir string, limits sorting) *sorter {
	return &sorter{
		dir:     dir,
		limits:  limits,
		filling: newPile(limits.pile),
		spare:   newPile(limits.pile),
	}
}

// headOf returns the head of a key.
func headOf(k []byte) uint64 {
	var head [8]byte
	copy(head[:], k[1:])
	return binary.BigEndian.Uint64(head[:])
}

func (p *pile) keyOf(k *pileKey) []byte { return p.bytes[k.at : k.at+uint32(k.key)] }

// valueOf returns the value, or nil for a deleted key.
func (p *pile) valueOf(k *pileKey) []byte {
	if k.value == gone {
		return nil
	}
	from := k.at + uint32(k.key)
	return p.bytes[from : from+k.value : from+k.value]
}

// compare orders keys, and equal keys by age, the oldest first.
func (p *pile) compare(a, b pileKey) int {
	if a.head != b.head {
		if a.head < b.head {
			return -1
		}
		return 1
	}
	if c := bytes.Compare(p.keyOf(&a), p.keyOf(&b)); c != 0 {
		return c
	}
	return int(int64(a.at) - int64(b.at))
}

// takes reports whether a resource fits. The store keeps large lines apart.
func (s *sorter) takes(line []byte) bool {
	return len(line) < largeValue/2 && s.bytes < s.limits.all
}

// set stores a key's value.
func (s *sorter) set(k []byte, v *value) error {
	size := v.size()
	if err := s.makeRoom(len(k) + size); err != nil {
		return err
	}
	s.filling.add(k, uint32(size))
	s.filling.bytes = v.encode(s.filling.bytes)
	s.bytes += int64(len(k) + size)
	return nil
}

// delete records the deletion of a key.
func (s *sorter) delete(k []byte) error {
	if err := s.makeRoom(len(k)); err != nil {
		return err
	}
	s.filling.add(k, gone)
	return nil
}

func (p *pile) add(k []byte, value uint32) {
	p.keys = append(p.keys, pileKey{headOf(k), uint32(len(p.bytes)), value, uint16(len(k))})
	p.bytes = append(p.bytes, k...)
}

// makeRoom makes room for the next key and value in the pile.
func (s *sorter) makeRoom(n int) error {
	if len(s.filling.bytes)+n <= s.limits.pile {
		return nil
	}
	return s.turn()
}

// turn starts to write the full pile and continues with the other one.
func (s *sorter) turn() error {
	if err := s.await(); err != nil || len(s.filling.keys) == 0 {
		return err
	}
	r, err := newRun(s.dir)
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	full, written := s.filling, make(chan error, 1)
	s.filling, s.spare, s.writing = s.spare, full, written
	go func() {
		written <- r.write(full, s.limits.block)
		close(written)
	}()
	return nil
}

// await waits until the spare pile is written and can be reused.
func (s *sorter) await() error {
	if s.writing == nil {
		return nil
	}
	err := <-s.writing
	s.writing = nil
	s.spare.bytes, s.spare.keys = s.spare.bytes[:0], s.spare.keys[:0]
	return err
}

// seal ends the collection: everything is in runs afterwards.
func (s *sorter) seal() error {
	if err := errors.Join(s.turn(), s.await()); err != nil {
		return err
	}
	s.filling, s.spare = &pile{}, &pile{}
	return nil
}

// get looks a key up. It returns nil if there is none.
func (s *sorter) get(k []byte) ([]byte, error) {
	p, head := s.filling, headOf(k)
	for i := len(p.keys) - 1; i >= 0; i-- {
		if at := &p.keys[i]; at.head == head && bytes.Equal(p.keyOf(at), k) {
			return bytes.Clone(p.valueOf(at)), nil
		}
	}
	if err := s.await(); err != nil {
		return nil, err
	}
	for _, r := range slices.Backward(s.runs) {
		if v, found, err := r.get(k); err != nil || found {
			return v, err
		}
	}
	return nil, nil
}

func (s *sorter) close() error {
	err := s.await()
	for _, r := range s.runs {
		err = errors.Join(err, r.file.Close())
	}
	s.runs = nil
	return err
}

// run is a file of sorted keys in blocks. A block starts with its length and a checksum of the
// rest. A key is preceded by varints: its length, and one more than the length of its value, or
// 0 for a deleted key.
type run struct {
	file   *os.File
	blocks []runBlockAt
	firsts []byte // the first keys of the blocks, concatenated
}

// runBlockAt is the position and length of a block.
type runBlockAt struct {
	at    int64
	size  int
	first int // the end of its first key in firsts
}

const runHeader = 8

func newRun(dir string) (*run, error) {
	f, err := os.CreateTemp(dir, sortedPrefix)
	if err != nil {
		return nil, fmt.Errorf("sort an import: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil { // it exists as long as it is open
		return nil, fmt.Errorf("sort an import: %w", errors.Join(err, f.Close()))
	}
	return &run{file: f}, nil
}

// write sorts a pile and writes it in blocks of about the given size. Of equal keys it keeps the
// newest.
func (r *run) write(p *pile, blockBytes int) error {
	slices.SortFunc(p.keys, p.compare)
	block := make([]byte, runHeader, 2*blockBytes)
	end := int64(0)
	flush := func() error {
		text := block[runHeader:]
		binary.LittleEndian.PutUint32(block, uint32(len(text)))
		binary.LittleEndian.PutUint32(block[4:], crc32.Checksum(text, castagnoli))
		if _, err := r.file.Write(block); err != nil {
			return fmt.Errorf("sort an import: %w", err)
		}
		r.blocks[len(r.blocks)-1].size = len(block)
		end += int64(len(block))
		block = block[:runHeader]
		return nil
	}
	for i := range p.keys {
		at := &p.keys[i]
		k := p.keyOf(at)
		if i+1 < len(p.keys) {
			if next := &p.keys[i+1]; next.head == at.head && bytes.Equal(p.keyOf(next), k) {
				continue
			}
		}
		if len(block) == runHeader {
			r.firsts = append(r.firsts, k...)
			r.blocks = append(r.blocks, runBlockAt{at: end, first: len(r.firsts)})
		}
		block = binary.AppendUvarint(block, uint64(at.key))
		if at.value == gone {
			block = append(append(block, 0), k...)
		} else {
			block = binary.AppendUvarint(block, uint64(at.value)+1)
			block = append(append(block, k...), p.valueOf(at)...)
		}
		if len(block) >= blockBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(block) > runHeader {
		return flush()
	}
	return nil
}

// first returns the first key of a block.
func (r *run) first(block int) []byte {
	from := 0
	if block > 0 {
		from = r.blocks[block-1].first
	}
	return r.firsts[from:r.blocks[block].first]
}

// from reads a run from the first key that is not less than k. ok is false if there is none.
func (r *run) from(k []byte) (reader *runReader, ok bool, err error) {
	// The block before the first one that starts after k may contain k.
	behind := sort.Search(len(r.blocks), func(i int) bool {
		return bytes.Compare(r.first(i), k) > 0
	})
	reader = &runReader{run: r, next: max(0, behind-1)}
	for {
		if ok, err = reader.advance(); err != nil || !ok || bytes.Compare(reader.key, k) >= 0 {
			return reader, ok, err
		}
	}
}

func (r *run) get(k []byte) (v []byte, found bool, err error) {
	reader, ok, err := r.from(k)
	if err != nil || !ok || !bytes.Equal(reader.key, k) {
		return nil, false, err
	}
	return bytes.Clone(reader.value), true, nil
}

// runReader reads a run. Key and value are valid until it advances.
type runReader struct {
	run        *run
	age        int // the position of the run: later ones are newer
	next       int // block
	room, rest []byte
	key, value []byte // value is nil for a deleted key
}

// advance goes to the next key. ok is false after the last one.
func (r *runReader) advance() (ok bool, err error) {
	if len(r.rest) == 0 {
		if r.next == len(r.run.blocks) {
			return false, nil
		}
		if err := r.load(); err != nil {
			return false, err
		}
	}
	n, used := binary.Uvarint(r.rest)
	r.rest = r.rest[used:]
	size, used := binary.Uvarint(r.rest)
	r.rest = r.rest[used:]
	r.key, r.rest = r.rest[:n:n], r.rest[n:]
	if size == 0 {
		r.value = nil
		return true, nil
	}
	r.value, r.rest = r.rest[:size-1:size-1], r.rest[size-1:]
	return true, nil
}

// load reads the next block.
func (r *runReader) load() error {
	b := r.run.blocks[r.next]
	r.next++
	if cap(r.room) < b.size {
		r.room = make([]byte, b.size+b.size/4)
	}
	block := r.room[:b.size]
	if _, err := r.run.file.ReadAt(block, b.at); err != nil {
		return fmt.Errorf("read what an import sorted: %w", err)
	}
	text := block[runHeader:]
	size, sum := binary.LittleEndian.Uint32(block), binary.LittleEndian.Uint32(block[4:])
	if int(size) != len(text) || sum != crc32.Checksum(text, castagnoli) {
		return errChanged
	}
	r.rest = text
	return nil
}

var errChanged = errors.New(
	"the disk gave back other bytes than the import had written for sorting: " +
		"look at the disk, and import again")

// merging reads all runs in the order of the keys, and of equal keys only the newest.
type merging struct {
	heap []*runReader // the run with the smallest key first; of equal keys the newest
	last []byte       // the last key returned
}

// merging starts at a key.
func (s *sorter) merging(from []byte) (*merging, error) {
	m := &merging{}
	for age, r := range s.runs {
		reader, ok, err := r.from(from)
		if err != nil {
			return nil, err
		}
		if reader.age = age; ok {
			m.heap = append(m.heap, reader)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return m, nil
}

func (m *merging) less(a, b *runReader) bool {
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c < 0
	}
	return a.age > b.age
}

// sink restores the heap order below i.
func (m *merging) sink(i int) {
	h := m.heap
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if right := least + 1; right < len(h) && m.less(h[right], h[least]) {
			least = right
		}
		if !m.less(h[least], h[i]) {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// advance continues after the current key.
func (m *merging) advance() error {
	ok, err := m.heap[0].advance()
	if err != nil {
		return err
	}
	if !ok {
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	if len(m.heap) > 1 {
		m.sink(0)
	}
	return nil
}

// before calls f for each key less than upper; nil means all. The arguments of f are valid
// during the call only.
func (m *merging) before(upper []byte, f func(k, v []byte) error) error {
	for len(m.heap) > 0 {
		top := m.heap[0]
		if upper != nil && bytes.Compare(top.key, upper) >= 0 {
			return nil
		}
		if bytes.Equal(top.key, m.last) { // an older version
			if err := m.advance(); err != nil {
				return err
			}
			continue
		}
		m.last = append(m.last[:0], top.key...)
		if top.value != nil {
			if err := f(m.last, top.value); err != nil {
				return err
			}
		}
		if err := m.advance(); err != nil {
			return err
		}
	}
	return nil
}

// each implements records. Prefixes must be in order and complete.
func (m *merging) each(prefix []byte, f func(k, v []byte) error) error {
	if err := m.before(prefix, func(k, _ []byte) error { return errUnsettled }); err != nil {
		return err
	}
	return m.before(after(prefix), f)
}

var errUnsettled = errors.New("a record has changed and is not marked so")

// part is a range of patients: first <= ID < end. An empty end means no upper bound.
type part struct{ first, end string }

// parts divides the content of a sealed sorter into ranges of about the given size.
func (s *sorter) parts(size int64) (out []part) {
	type blockAt struct {
		patient string
		size    int
	}
	var all []blockAt
	for _, r := range s.runs {
		for i, b := range r.blocks {
			patient, _, _ := bytes.Cut(r.first(i)[1:], []byte{0})
			all = append(all, blockAt{string(patient), b.size})
		}
	}
	slices.SortFunc(all, func(a, b blockAt) int { return strings.Compare(a.patient, b.patient) })
	out = []part{{}}
	gathered := int64(0)
	for _, b := range all {
		last := &out[len(out)-1]
		if gathered >= size && b.patient != last.first {
			last.end = b.patient
			out = append(out, part{first: b.patient})
			gathered = 0
		}
		gathered += int64(b.size)
	}
	return out
}

// keys returns the range of a kind's keys for the part's patients.
func (p part) keys(kind byte) (lower, upper []byte) {
	if p.end == "" {
		return key(kind, p.first), []byte{kind + 1}
	}
	return key(kind, p.first), key(kind, p.end)
}

// tables writes sorted keys into new tables.
type tables struct {
	store *Store
	out   *sstable.Writer
	bytes int64 // written to out
	paths []string
}

// tableBytes is the approximate size of a table, that of the lowest level. The compressed size
// is only known later, and is not larger than the input.
const tableBytes = 64 << 20

// syncedBytes is how much of a table is written before the disk is told to start writing it
// back, which shortens the final sync.
const syncedBytes = 1 << 20

// set writes a key. Keys must be in order.
func (t *tables) set(k, v []byte) error {
	if t.out != nil && t.bytes >= tableBytes && t.out.Raw().EstimatedSize() >= tableBytes {
		if err := t.end(); err != nil {
			return err
		}
	}
	if t.out == nil {
		if err := t.begin(); err != nil {
			return err
		}
	}
	t.bytes += int64(len(k) + len(v))
	return t.out.Set(k, v)
}

func (t *tables) begin() error {
	f, err := os.CreateTemp(t.store.dir, sortedPrefix)
	if err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	t.paths = append(t.paths, f.Name())
	if err := f.Close(); err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	file, err := vfs.Default.Create(f.Name(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	t.bytes = 0
	file = vfs.NewSyncingFile(file, vfs.SyncingFileOptions{BytesPerSync: syncedBytes})
	t.out = sstable.NewWriter(objstorageprovider.NewFileWritable(file), t.store.tableOptions)
	return nil
}

func (t *tables) end() error {
	if t.out == nil {
		return nil
	}
	err := t.out.Close()
	t.out = nil
	if err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	return nil
}

// close deletes the tables that are not in the store.
func (t *tables) close() error {
	err := t.end()
	for _, path := range t.paths {
		if e := os.Remove(path); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	t.paths = nil
	return err
}

// removeSorted deletes the remains of an interrupted import.
func removeSorted(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sortedPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
