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

// sorter keeps what an import writes to c keys beside a store that has none yet. It sorts that
// piece by piece into files, from which the settling reads each patient's record once, in the
// order of the keys, and writes the store's tables in their final form. Pebble would sort,
// compress and write everything twice before, and be read once more.
//
// A sorter is for one goroutine until it is sealed, and for any number from then on. Nothing of
// it outlives the process: its files have no names.
type sorter struct {
	dir     string
	limits  sorting
	filling *pile
	spare   *pile
	runs    []*run
	writing chan error // of the run that is being written; nil where none is
	bytes   int64      // all that came
	looked  int        // how many keys were looked up
}

// sorting bounds what a sorter does.
type sorting struct {
	pile  int // how many bytes are sorted at once; there are two piles
	block int // about how many bytes of a run are read at once
	// how many bytes it takes: what a crash loses, and the room that it needs beside the store
	all   int64
	looks int // how many keys may be looked up, which takes a search through all runs
	// how many bytes are carried over at least at once: each time the disk is waited for
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
	// sortedPrefix is how the names of tables begin that are not in the store yet.
	sortedPrefix = "ehi.sorted."
	// gone is the length of the value of a key that was deleted.
	gone = 1<<32 - 1
)

// pile is what is gathered until it is sorted.
type pile struct {
	bytes []byte // each key with its value behind it
	keys  []pileKey
}

// pileKey says where a key stands in a pile, and how long it and its value are.
type pileKey struct {
	head  uint64 // the first bytes behind the kind, as a number that sorts as they do
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

// headOf is what pileKey has of a key.
func headOf(k []byte) uint64 {
	var head [8]byte
	copy(head[:], k[1:])
	return binary.BigEndian.Uint64(head[:])
}

func (p *pile) keyOf(k *pileKey) []byte { return p.bytes[k.at : k.at+uint32(k.key)] }

// valueOf is nil for a key that was deleted.
func (p *pile) valueOf(k *pileKey) []byte {
	if k.value == gone {
		return nil
	}
	from := k.at + uint32(k.key)
	return p.bytes[from : from+k.value : from+k.value]
}

// compare orders keys, and of equal ones the older first.
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

// takes reports whether there is room for a resource. The store keeps the lines of large ones
// apart.
func (s *sorter) takes(line []byte) bool {
	return len(line) < largeValue/2 && s.bytes < s.limits.all
}

// set takes in a key's value.
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

// delete takes in that a key is deleted.
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

// makeRoom sees to it that the next key and value fit into the pile.
func (s *sorter) makeRoom(n int) error {
	if len(s.filling.bytes)+n <= s.limits.pile {
		return nil
	}
	return s.turn()
}

// turn begins to write the pile that is full, and goes on with the other one.
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

// await waits until the spare pile is written, and can be filled again.
func (s *sorter) await() error {
	if s.writing == nil {
		return nil
	}
	err := <-s.writing
	s.writing = nil
	s.spare.bytes, s.spare.keys = s.spare.bytes[:0], s.spare.keys[:0]
	return err
}

// seal ends the gathering: everything is in runs then.
func (s *sorter) seal() error {
	if err := errors.Join(s.turn(), s.await()); err != nil {
		return err
	}
	s.filling, s.spare = &pile{}, &pile{}
	return nil
}

// get looks a key up: nil where it is not there.
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

// run is a file of sorted keys, in blocks. A block begins with its length and a sum of what
// follows; a key is preceded by its length and that of its value, each a varint, the latter one
// more, and 0 for a key that was deleted.
type run struct {
	file   *os.File
	blocks []runBlockAt
	firsts []byte // the first key of each block, one behind the other
}

// runBlockAt says where a block begins, and how long it is.
type runBlockAt struct {
	at    int64
	size  int
	first int // where its first key ends in firsts
}

const runHeader = 8

func newRun(dir string) (*run, error) {
	f, err := os.CreateTemp(dir, sortedPrefix)
	if err != nil {
		return nil, fmt.Errorf("sort an import: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil { // it is there for as long as it is open
		return nil, fmt.Errorf("sort an import: %w", errors.Join(err, f.Close()))
	}
	return &run{file: f}, nil
}

// write sorts a pile and writes it in blocks of about so many bytes, of equal keys the newest.
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

// first is the first key of a block.
func (r *run) first(block int) []byte {
	from := 0
	if block > 0 {
		from = r.blocks[block-1].first
	}
	return r.firsts[from:r.blocks[block].first]
}

// from reads a run from the first key that is not less than k. ok is false where there is none.
func (r *run) from(k []byte) (reader *runReader, ok bool, err error) {
	// The block before the first one that begins behind k may have k.
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
	age        int // the place of the run among all
	next       int // block
	room, rest []byte
	key, value []byte // value is nil for a key that was deleted
}

// advance goes to the next key; ok is false behind the last one.
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

// merging reads all runs at once, in the order of the keys, of equal ones the newest alone.
type merging struct {
	heap []*runReader // the one with the least key first, of equal keys the newest
	last []byte       // the key that was given last
}

// merging begins at a key.
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

// sink moves a reader down to where it belongs.
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

// advance goes on from the present key.
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

// before calls f for each key that is less than upper, nil for all. What f is given is valid
// during the call only.
func (m *merging) before(upper []byte, f func(k, v []byte) error) error {
	for len(m.heap) > 0 {
		top := m.heap[0]
		if upper != nil && bytes.Compare(top.key, upper) >= 0 {
			return nil
		}
		if bytes.Equal(top.key, m.last) { // an older one
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

// each implements records: prefixes come in their order, and none is left out.
func (m *merging) each(prefix []byte, f func(k, v []byte) error) error {
	if err := m.before(prefix, func(k, _ []byte) error { return errUnsettled }); err != nil {
		return err
	}
	return m.before(after(prefix), f)
}

var errUnsettled = errors.New("a record has changed and is not marked so")

// part is a range of patients: from the first one to before the end, "" for no end.
type part struct{ first, end string }

// parts cuts what a sealed sorter has into ranges of about so many bytes.
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

// keys is the range of a kind's keys that belong to the part's patients.
func (p part) keys(kind byte) (lower, upper []byte) {
	if p.end == "" {
		return key(kind, p.first), []byte{kind + 1}
	}
	return key(kind, p.first), key(kind, p.end)
}

// tables writes sorted keys into tables of the store.
type tables struct {
	store *Store
	out   *sstable.Writer
	bytes int64 // that went into out
	paths []string
}

// tableBytes is about how large a table gets: that of the lowest level. How large it is by now
// takes a look at all that is compressed meanwhile, and it is no larger than what went in.
const tableBytes = 64 << 20

// syncedBytes is after how much of a table the disk is told to begin: at its end less is waited
// for.
const syncedBytes = 1 << 20

// set writes a key behind those before it.
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

// close removes what did not get into the store.
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

// removeSorted removes what an import that died has left.
func removeSorted(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sortedPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
