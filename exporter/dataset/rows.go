package dataset

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/fhir"
)

// rowPlace is where a row is, as the keys of indexes say it.
type rowPlace struct {
	kind     byte // kRow, or kWaitRow
	sequence sequence
	pass     uint32 // in the first index: the pass in which the row came last
	patient  string // "" in a look-up table, and for a row that waits
}

const placeSize = 1 + sequenceSize + passSize // without the patient

func (p rowPlace) encode() []byte {
	v := append([]byte{p.kind}, p.sequence[:]...)
	return append(binary.BigEndian.AppendUint32(v, p.pass), p.patient...)
}

func decodePlace(v []byte) (p rowPlace, err error) {
	if len(v) < placeSize {
		return p, errors.New("read record store: a key of a table's rows is too short")
	}
	p.kind, p.sequence = v[0], sequence(v[1:])
	p.pass = binary.BigEndian.Uint32(v[1+sequenceSize:])
	p.patient = string(v[placeSize:])
	return p, nil
}

// key returns the key of the row.
func (p rowPlace) key(t *table) []byte {
	if p.kind == kWaitRow {
		return append(tableKey(kWaitRow, t.Number), p.sequence[:]...)
	}
	return append(rowsKey(t.Number, p.patient), p.sequence[:]...)
}

// indexKey is the prefix of the keys of an index for a digest. Behind it is the row's sequence;
// or, in the first index, nothing for the first row with the digest, and a number for others.
func (t *table) indexKey(index int, d digest) []byte {
	return append(append(tableKey(kRowIndex, t.Number), byte(index)), d[:]...)
}

// digest is the digest of the values of an index, in the order of its fields. Values that mean the
// same by the types of these fields have one digest: 05 and 5. A text means what is written.
func (t *table) digest(index int, values [][]byte) digest {
	var room [256]byte
	var one [64]byte
	text := room[:0]
	for i, v := range values {
		if f := &t.of.Fields.Fields[t.indexes[index][i]]; t.byValue && !isText(f) {
			v = f.AppendCanonical(one[:0], v)
		}
		text = append(binary.AppendUvarint(text, uint64(len(v))), v...)
	}
	sum := sha256.Sum256(text)
	return digest(sum[:len(digest{})])
}

// isText reports whether values of a field are different if they are written differently.
func isText(f *datapackage.Field) bool {
	return f.Type == "" || f.Type == "string" || f.Type == "any"
}

// pick appends some values of a row to into[:0]. ok is false if one stands for none.
func (t *table) pick(values [][]byte, fields []int, into [][]byte) (_ [][]byte, ok bool) {
	into = into[:0]
	for _, f := range fields {
		if t.codec.Missing(f, values[f]) {
			return into, false
		}
		into = append(into, values[f])
	}
	return into, true
}

// hasKey reports whether the table has a primary key.
func (t *table) hasKey() bool { return len(t.indexes[0]) > 0 }

// identity is the digest by which a row is recognized when it comes again: that of its primary key,
// or else that of its bytes.
func (t *table) identity(raw []byte, values [][]byte, room [][]byte) (d digest, ok bool) {
	if !t.hasKey() {
		sum := sha256.Sum256(raw)
		return digest(sum[:len(d)]), true
	}
	key, ok := t.pick(values, t.indexes[0], room)
	if !ok {
		return d, false
	}
	return t.digest(0, key), ok
}

// rows imports the rows of tables, and places them. It belongs to native.
type rows struct {
	*native
	dictionary *dictionary
	pass       uint32
	// leads caches to whom keys of other tables lead.
	leads map[lead]leadsTo
	// checked holds keys that rows are known to have.
	checked map[checkedKey]bool
	// met holds the keys of the first index of the current table, once enough look-ups were in
	// vain; nil before.
	met *filter
	// current are the files of the descriptor's tables as they are now, by the passes in which they
	// were read last.
	current map[uint32]passFile
	since   uint32 // the first pass of the import
	// parts are the passes in which the other parts of the current file's table were read.
	parts map[uint32]bool
	// occurred counts rows with the same bytes in the current pass.
	occurred map[digest]uint32
	// whole means that a table goes as a whole: all of its keys are marked as lost, not each.
	whole  bool
	missed int
	ending []byte   // the line terminator of the file's rows, once one had any
	fields [][]byte // room for the values of a row
	key    [][]byte // room for those of a key
}

// lead is a key of another table, and how it goes on from there.
type lead struct {
	way *way
	key digest
}

// leadsTo is where a lead leads; ok is false for nobody.
type leadsTo struct {
	owner owner
	ok    bool
}

// checkedKey is a key of a table's index.
type checkedKey struct {
	table uint16
	index byte
	key   digest
}

// Bounds of caches.
const leadsKept, checkedKept, occurredKept = 1 << 16, 1 << 18, 1 << 16

func (n *native) newRows(d *dictionary) *rows {
	return &rows{
		native:     n,
		dictionary: d,
		leads:      map[lead]leadsTo{},
		current:    map[uint32]passFile{},
		checked:    map[checkedKey]bool{},
		occurred:   map[digest]uint32{},
		parts:      map[uint32]bool{},
	}
}

// ownerOf follows the way from a row to its owner. ok is false if it leads to nobody.
func (r *rows) ownerOf(t *table, w *way, values [][]byte) (o owner, ok bool, err error) {
	if w.next == nil {
		if t.codec.Missing(w.field, values[w.field]) {
			return o, false, nil
		}
		text := string(values[w.field])
		if w.system != "" {
			return owner{System: w.system, Value: text}, true, nil
		}
		return owner{ID: text}, fhir.ValidID(text), nil
	}
	key, ok := t.pick(values, w.key.fields, nil)
	if !ok {
		return o, false, nil
	}
	at := lead{w.next, w.key.target.digest(w.key.index, key)}
	if known, found := r.leads[at]; found {
		return known.owner, known.ok, nil
	}
	if o, ok, err = r.follow(w.key, w.next, at.key); err != nil {
		return o, false, err
	}
	if len(r.leads) >= leadsKept {
		clear(r.leads)
	}
	r.leads[at] = leadsTo{o, ok}
	return o, ok, nil
}

// follow follows the way from the rows with a key. If they lead to different owners, they lead to
// nobody.
func (r *rows) follow(k *foreignKey, w *way, d digest) (o owner, ok bool, err error) {
	if err := r.see(k.target.indexKey(k.index, d)); err != nil {
		return o, false, err
	}
	owners, err := r.ownersWith(k, w, d)
	if len(owners) > 0 {
		r.exists(checkedKey{k.target.Number, byte(k.index), d})
	}
	for i, next := range owners {
		if err != nil || next == (owner{}) || i > 0 && next != o {
			return owner{}, false, err
		}
		o, ok = next, true
	}
	return o, ok, err
}

// ownersWith returns to whom each of the rows with a key leads; no owner for nobody.
func (r *rows) ownersWith(k *foreignKey, w *way, d digest) (out []owner, err error) {
	if own := k.target.way; own != nil && own.byID() && w.byID() && own.field == w.field {
		err = k.target.places(r.store.db, k.index, d, func(at rowPlace) error {
			out = append(out, owner{ID: at.patient}) // the rows need not be read
			return nil
		})
		return out, err
	}
	found, err := k.target.rowsWith(r.store.db, k.index, d)
	for _, values := range found {
		o, ok, e := r.ownerOf(k.target, w, values)
		if err = errors.Join(err, e); !ok {
			o = owner{}
		}
		out = append(out, o)
	}
	return out, err
}

// rowsWith returns the values of the rows with a key.
func (t *table) rowsWith(r pebble.Reader, index int, d digest) (out [][][]byte, err error) {
	err = t.find(r, index, d, func(row []byte, _ rowPlace) error {
		values, err := t.codec.Fields(slices.Clone(row), nil)
		out = append(out, values)
		return err
	})
	return out, err
}

// placeOf returns where a row belongs. Errors: errRow.
func (r *rows) placeOf(t *table, values [][]byte, s sequence) (rowPlace, error) {
	to := rowPlace{kind: kRow, sequence: s, pass: r.pass}
	if t.way == nil {
		return to, nil
	}
	if err := t.checkPatient(values); err != nil {
		return to, err
	}
	o, ok, err := r.ownerOf(t, t.way, values)
	if err == nil && ok {
		to.patient, err = r.patientOf(o)
	}
	if to.patient == "" {
		to.kind = kWaitRow
	}
	return to, err
}

// checkPatient reports a value that is no patient's ID, if a field of the row has that. Errors:
// errRow.
func (t *table) checkPatient(values [][]byte) error {
	if t.way == nil || !t.way.byID() || fhir.ValidID(values[t.way.field]) ||
		t.codec.Missing(t.way.field, values[t.way.field]) {
		return nil
	}
	return errRow{fmt.Sprintf("field %q: the value is no id of a patient",
		t.of.Fields.Fields[t.way.field].Name)}
}

var errNoKey = errRow{"the primary key has no value"}

// put stores a row, unless the store has it. Errors: errRow.
func (r *rows) put(t *table, raw []byte, values [][]byte, s sequence) error {
	id, ok := t.identity(raw, values, r.key)
	if !ok {
		return errNoKey
	}
	at, before, err := r.known(t, id)
	if err == nil {
		err = r.checkUnique(t, values, at)
	}
	if err != nil {
		return err
	}
	if before != nil {
		changed, err := r.takeChanged(t, *before, raw, values)
		if err != nil {
			return err
		}
		if !changed {
			before.pass = r.pass
			return errors.Join(r.set(at, before.encode()), r.flushFull())
		}
	}
	to, err := r.placeOf(t, values, s)
	if err != nil {
		return err
	}
	if err := r.set(at, to.encode()); err != nil {
		return err
	}
	if r.met != nil {
		r.met.add(at)
	}
	return errors.Join(r.announce(t, values), r.write(t, to, raw, values), r.flushFull())
}

// announce marks the patients to whom rows of other tables come through rows with a key of a new
// row, because they may now lead to several.
func (r *rows) announce(t *table, values [][]byte) error {
	if len(t.through) == 0 {
		return nil
	}
	return r.eachFurther(t, values, func(prefix []byte) error { return r.uprootWith(t, prefix) })
}

// known returns the key of the first index for a row of the current pass, and where the row is that
// it stands for; nil for none. Errors: errRow.
func (r *rows) known(t *table, id digest) (k []byte, before *rowPlace, err error) {
	prefix := t.indexKey(0, id)
	for n := r.occurred[id]; ; n++ {
		k := occurrence(prefix, n)
		if r.met != nil && r.met.lacks(k) {
			return k, nil, nil
		}
		v, err := r.get(k)
		if err != nil {
			return nil, nil, err
		}
		if v == nil {
			return k, nil, r.miss(t)
		}
		p, err := decodePlace(v)
		switch {
		case err != nil:
			return nil, nil, err
		case t.hasKey() && r.stands(p.pass):
			return nil, nil, r.sameKey(p)
		case p.pass != r.pass && !r.stands(p.pass) && !r.parts[p.pass]:
			return k, &p, nil
		}
		if len(r.occurred) >= occurredKept {
			clear(r.occurred)
		}
		r.occurred[id] = n + 1
	}
}

// stands reports whether a row that came last in a pass is in a file of the descriptor as the file
// is now, rather than in a former state of it or in a file of another import.
func (r *rows) stands(pass uint32) bool {
	_, current := r.current[pass]
	return current
}

// checkUnique returns an errRow if another row has the value of a field whose values occur once. at
// is the row's key in the first index. As with primary keys, only rows count that are in the
// descriptor's files as they are now.
func (r *rows) checkUnique(t *table, values [][]byte, at []byte) error {
	for _, index := range t.unique {
		key, ok := t.pick(values, t.indexes[index], r.key)
		if r.key = key; !ok {
			continue
		}
		d := t.digest(index, key)
		if err := r.see(t.indexKey(index, d)); err != nil {
			return err
		}
		err := t.find(r.store.db, index, d, func(raw []byte, place rowPlace) error {
			other, err := t.codec.Fields(raw, nil)
			if err != nil {
				return err
			}
			id, _ := t.identity(raw, other, nil)
			k, is, err := r.namedAt(t.indexKey(0, id), place.sequence)
			if err != nil || k == nil || bytes.Equal(k, at) || !r.stands(is.pass) {
				return err
			}
			return errRow{sameValue(t.Indexes[index][0], r.where(is))}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sameValue says that another row has the value of a unique field.
func sameValue(field, where string) string {
	return fmt.Sprintf("field %q: %s has the same value, which must be unique", field, where)
}

// sameKey returns an errRow that names the first row with a key.
func (r *rows) sameKey(first rowPlace) error {
	return errRow{r.where(first) + " has the same primary key"}
}

// where names a row. Its line is only known if it came for the first time when its file was read
// last.
func (r *rows) where(first rowPlace) string {
	in, line := r.current[first.pass].Name, first.sequence.line()
	where := "the row in line " + strconv.Itoa(line)
	switch here, known := first.pass == r.pass, first.sequence.pass() == first.pass; {
	case here && !known:
		where = "another row of the file"
	case !here && known:
		where = fmt.Sprintf("the row in %s:%d", in, line)
	case !here:
		where = "a row of " + in
	}
	return where
}

// remember adds those of some files that an import passes over because it has read them before.
func (r *rows) remember(files []tableFile) error {
	unchanged := map[string]bool{}
	for _, f := range files {
		if f.info == nil || f.whole {
			continue
		}
		abs, err := filepath.Abs(f.name)
		if err != nil {
			return err
		}
		seen, err := r.get(key(kFile, abs))
		if err != nil {
			return err
		}
		if bytes.Equal(seen, f.mark()) {
			unchanged[abs] = true
		}
	}
	if len(unchanged) == 0 {
		return nil
	}
	latest := map[string]uint32{}
	return r.eachPass(func(pass uint32, from passFile) {
		if unchanged[from.File] {
			delete(r.current, latest[from.File])
			latest[from.File] = pass
			r.current[pass] = from
		}
	})
}

// miss counts look-ups in vain.
func (r *rows) miss(t *table) error {
	if r.missed++; r.met != nil || r.missed < missesBeforeFilter {
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.met = newFilter()
	return each(r.store.db, append(tableKey(kRowIndex, t.Number), 0), func(k, _ []byte) error {
		r.met.add(k)
		return nil
	})
}

// occurrence returns the key of the first index for one of several rows with the same bytes.
func occurrence(prefix []byte, n uint32) []byte {
	if n == 0 {
		return prefix
	}
	return binary.BigEndian.AppendUint32(prefix[:len(prefix):len(prefix)], n)
}

// takeChanged takes a row out of the store, if it differs from what is to replace it.
func (r *rows) takeChanged(
	t *table, at rowPlace, now []byte, values [][]byte,
) (changed bool, err error) {
	if !t.hasKey() {
		return false, nil
	}
	old, err := get(r.store.db, at.key(t)) // what the batch had was written by the look-up
	if err != nil || slices.Equal(old, now) {
		return false, err
	}
	if old == nil {
		return false, errLostRow
	}
	return true, r.take(t, at, old, values)
}

// take takes a row out of the store, and out of all indexes but the first. Rows that follow it to
// its patient are placed again. now are the values of the row that replaces it, or nil.
func (r *rows) take(t *table, at rowPlace, raw []byte, now [][]byte) error {
	values, err := t.codec.Fields(raw, nil)
	if err != nil {
		return err
	}
	r.grow(at.patient, -int64(len(raw)))
	err = errors.Join(r.delete(at.key(t)), r.uproot(t, values), r.loses(t, values, now))
	return errors.Join(err, r.eachFurther(t, values, func(prefix []byte) error {
		return r.delete(append(prefix, at.sequence[:]...))
	}))
}

// write writes a row and its further indexes.
func (r *rows) write(t *table, to rowPlace, raw []byte, values [][]byte) error {
	r.grow(to.patient, int64(len(raw)))
	v := to.encode()
	err := r.eachFurther(t, values, func(prefix []byte) error {
		r.pending.add(prefix)
		return r.batch.Set(append(prefix, to.sequence[:]...), v, nil)
	})
	return errors.Join(err, r.batch.Set(to.key(t), raw, nil))
}

// eachFurther visits the prefixes of a row's keys in all indexes but the first.
func (r *rows) eachFurther(t *table, values [][]byte, visit func(prefix []byte) error) error {
	for i := 1; i < len(t.indexes); i++ {
		key, ok := t.pick(values, t.indexes[i], r.key)
		r.key = key
		if !ok {
			continue
		}
		if err := visit(t.indexKey(i, t.digest(i, key))); err != nil {
			return err
		}
	}
	return nil
}

// uproot marks the patients to whom rows of other tables come through a row.
func (r *rows) uproot(t *table, values [][]byte) error {
	for _, w := range t.through {
		o, ok, err := r.ownerOf(t, w, values)
		patient := ""
		if err == nil && ok {
			patient, err = r.patientOf(o)
		}
		if err == nil && patient != "" {
			err = r.set(key(kUprooted, patient), nil)
		}
		if err != nil {
			return err
		}
	}
	clear(r.leads)
	return nil
}

// uprootWith does the same for the rows with a key, by the prefix of its index.
func (r *rows) uprootWith(t *table, prefix []byte) error {
	if err := r.see(prefix); err != nil {
		return err
	}
	index := int(prefix[3])
	found, err := t.rowsWith(r.store.db, index, digest(prefix[4:]))
	for _, values := range found {
		err = errors.Join(err, r.uproot(t, values))
	}
	return err
}

// see makes sure that a look into the store finds what the batch has below a prefix.
func (r *rows) see(prefix []byte) error {
	if r.pending.lacks(prefix) {
		return nil
	}
	return r.flush()
}

// move moves a row to where it belongs now.
func (r *rows) move(t *table, from rowPlace, raw []byte, values [][]byte) error {
	to, err := r.placeOf(t, values, from.sequence)
	if err != nil || to.kind == from.kind && to.patient == from.patient {
		return err
	}
	id, _ := t.identity(raw, values, nil)
	k, is, err := r.namedAt(t.indexKey(0, id), from.sequence)
	if err != nil || k == nil {
		return err
	}
	to.pass = is.pass
	if err := r.set(k, to.encode()); err != nil {
		return err
	}
	r.grow(from.patient, -int64(len(raw)))
	return errors.Join(r.delete(from.key(t)), r.write(t, to, raw, values), r.flushFull())
}

// namedAt returns the key of the first index that names the row with a sequence, and its value; nil
// for none. prefix is that of the row's digest.
func (r *rows) namedAt(prefix []byte, s sequence) (k []byte, at rowPlace, err error) {
	for n := uint32(0); ; n++ {
		k := occurrence(prefix, n)
		v, err := r.get(k)
		if err != nil || v == nil {
			return nil, at, err
		}
		at, err := decodePlace(v)
		if err != nil || at.sequence == s {
			return k, at, err
		}
	}
}

// check notes the foreign keys of a row for which there is no row yet.
func (r *rows) check(t *table, values [][]byte, s sequence) error {
	for i := range t.foreign {
		k := &t.foreign[i]
		key, ok := t.pick(values, k.fields, r.key)
		r.key = key
		if !ok {
			continue
		}
		of := checkedKey{k.target.Number, byte(k.index), k.target.digest(k.index, key)}
		if r.checked[of] {
			continue
		}
		prefix := k.target.indexKey(k.index, of.key)
		if r.pending.lacks(prefix) { // otherwise it is probably there, which is checked later
			there, err := k.target.hasRow(r.store.db, k.index, prefix)
			if err != nil {
				return err
			}
			if there {
				r.exists(of)
				continue
			}
		}
		note := append(append(tableKey(kUnchecked, t.Number), byte(i)), s[:]...)
		if err := r.batch.Set(note, of.key[:], nil); err != nil {
			return err
		}
	}
	return nil
}

// exists remembers that there is a row with a key.
func (r *rows) exists(k checkedKey) {
	if len(r.checked) >= checkedKept {
		clear(r.checked)
	}
	r.checked[k] = true
}

// hasRow reports whether there is a row with a key, by the prefix of its index.
func (t *table) hasRow(r pebble.Reader, index int, prefix []byte) (bool, error) {
	if index == 0 {
		return has(r, prefix)
	}
	return some(r, prefix)
}

// recheck reports the foreign keys that lead nowhere after all: those of the import's rows by their
// lines, and those that lead no more to a row that was removed.
func (r *rows) recheck(ctx context.Context) error {
	if err := r.flush(); err != nil {
		return err
	}
	lost, err := r.lost(ctx)
	if err != nil {
		return err
	}
	err = each(r.store.db, []byte{kUnchecked}, func(k, v []byte) error {
		if err := errors.Join(ctx.Err(), r.delete(k), r.flushFull()); err != nil {
			return err
		}
		t := r.dictionary.number[binary.BigEndian.Uint16(k[1:])]
		if t == nil || int(k[3]) >= len(t.foreign) {
			return errNoDictionary
		}
		of, s := &t.foreign[k[3]], sequence(k[4:])
		there, err := of.target.hasRow(r.store.db, of.index,
			of.target.indexKey(of.index, digest(v)))
		if err != nil || there {
			return err
		}
		from, err := r.store.passOf(s.pass())
		if err != nil {
			return err
		}
		// it is reported again whenever the file is imported, until the row is there
		err = r.delete(key(kFile, from.File))
		told, e2 := lost.has(of, digest(v)) // with all others
		if err = errors.Join(err, e2); err != nil || told {
			return err
		}
		return r.bad(from.Name, s.line(), fmt.Sprintf("field %q: no row of the table %q has this "+
			"value", of.name, of.target.of.Name))
	})
	return errors.Join(err, lost.report(ctx))
}

// replaceRows places the rows of a patient again.
func (r *rows) replaceRows(patient string) error {
	for _, t := range r.dictionary.order {
		if t.way == nil || t.way.byID() {
			continue
		}
		prefix := rowsKey(t.Number, patient)
		err := each(r.store.db, prefix, func(k, raw []byte) error {
			from := rowPlace{kind: kRow, sequence: sequence(k[len(prefix):]), patient: patient}
			return r.moveRaw(t, from, raw)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// placeRows places the rows that wait.
func (r *rows) placeRows(ctx context.Context) error {
	for _, t := range r.dictionary.order {
		prefix := tableKey(kWaitRow, t.Number)
		err := each(r.store.db, prefix, func(k, raw []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return r.moveRaw(t, rowPlace{kind: kWaitRow, sequence: sequence(k[len(prefix):])}, raw)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) moveRaw(t *table, from rowPlace, raw []byte) error {
	raw = slices.Clone(raw)
	values, err := t.codec.Fields(raw, nil)
	if err != nil {
		return err
	}
	return r.move(t, from, raw, values)
}

// passFile is the value of a W key: the file that was read in a pass.
type passFile struct {
	Name string `json:"name"` // in problems
	File string `json:"file"` // its absolute path
	// Part is the table of which the file is a part, and Number which one it is (see
	// datapackage.Part).
	Part   string `json:"part,omitempty"`
	Number int    `json:"number,omitempty"`
}

// passKey is the key of a pass.
func passKey(pass uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kPass}, pass) }

func (s *Store) passOf(pass uint32) (p passFile, err error) {
	v, err := get(s.db, passKey(pass))
	if err == nil && v == nil {
		err = errNoDictionary
	}
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(v, &p)
}

// begin starts the pass of a file.
func (r *rows) begin(f passFile) error {
	if err := r.flush(); err != nil {
		return err
	}
	it, err := r.store.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kPass}, UpperBound: []byte{kPass + 1},
	})
	if err != nil {
		return readError(err)
	}
	r.pass = 1
	if it.Last() {
		r.pass = binary.BigEndian.Uint32(it.Key()[1:]) + 1
	}
	if err := it.Close(); err != nil {
		return readError(err)
	}
	r.met, r.missed, r.ending = nil, 0, nil
	clear(r.occurred)
	clear(r.leads)
	r.since = cmp.Or(r.since, r.pass)
	r.current[r.pass] = f
	clear(r.parts)
	if f.Part != "" {
		err := r.eachPass(func(pass uint32, other passFile) {
			if other.Part == f.Part && other.Number != f.Number {
				r.parts[pass] = true
			}
		})
		if err != nil {
			return err
		}
	}
	v, err := json.Marshal(f)
	return errors.Join(err, r.set(passKey(r.pass), v))
}

// eachPass visits the files that were read, in the order of the passes.
func (r *rows) eachPass(visit func(pass uint32, of passFile)) error {
	return each(r.store.db, []byte{kPass}, func(k, v []byte) error {
		var of passFile
		if err := json.Unmarshal(v, &of); err != nil {
			return err
		}
		visit(binary.BigEndian.Uint32(k[1:]), of)
		return nil
	})
}

// unplacedRows counts the rows that are in no record, by table.
func (s *Store) unplacedRows() (source.Unplaced, error) {
	d, err := s.dictionaryOf(s.db)
	if err != nil || d == nil {
		return nil, err
	}
	out := source.Unplaced{}
	count := func(t *table, at int) func(k, _ []byte) error {
		return func(k, _ []byte) error {
			u := out[t.of.Name]
			if u.Count++; u.Count == 1 {
				where := sequence(k[at:])
				from, err := s.passOf(where.pass())
				if err != nil {
					return err
				}
				u.Example = fmt.Sprintf("%s:%d", from.Name, where.line())
			}
			out[t.of.Name] = u
			return nil
		}
	}
	for _, t := range d.order {
		prefix := tableKey(kWaitRow, t.Number)
		if err := each(s.db, prefix, count(t, len(prefix))); err != nil {
			return nil, err
		}
	}
	err = s.nativeStrays(func(patient string) error {
		for _, t := range d.order {
			prefix := rowsKey(t.Number, patient)
			if err := each(s.db, prefix, count(t, len(prefix))); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// descriptor is the name of a file that describes the tables of a folder. A table that an
// administrator released has one of its own beside it: NAME~datapackage.json.
const descriptor = "datapackage.json"

// isDescriptor reports whether a file's name is that of a descriptor.
func isDescriptor(name string) bool {
	return name == descriptor || strings.HasSuffix(name, "~"+descriptor)
}

// descriptorsIn returns the paths of the descriptors in a folder.
func descriptorsIn(folder string) (out []string) {
	entries, err := os.ReadDir(cmp.Or(folder, "."))
	if err != nil {
		return nil // whoever reads a file of it says why
	}
	for _, e := range entries {
		if e.Type().IsRegular() && isDescriptor(e.Name()) {
			out = append(out, filepath.Join(folder, e.Name()))
		}
	}
	return out
}

// tableFiles returns the files of tables, schemas and dialects that the descriptors of a folder
// name, also of wrong ones. What is wrong is reported when they are imported.
func tableFiles(folder string) (out []string) {
	for _, path := range descriptorsIn(folder) {
		for _, name := range references(path) {
			out = append(out, filepath.Join(folder, filepath.FromSlash(name)))
		}
	}
	return out
}

// references returns the files that a descriptor names.
func references(path string) []string {
	folder, name := filepath.Split(path)
	root, err := os.OpenRoot(cmp.Or(folder, "."))
	if err != nil {
		return nil // whoever reads the descriptor says why
	}
	defer root.Close() // read only
	return datapackage.References(root.FS(), name)
}

// ownerless lists the tables of which it is not said whose their rows are.
func ownerless(p *datapackage.Package) map[string]bool {
	out := map[string]bool{}
	for _, t := range p.Resources {
		if len(t.Patient) == 0 && !t.Lookup {
			out[t.Name] = true
		}
	}
	return out
}
