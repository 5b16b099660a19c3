package dataset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// A foreign key breaks when the last row with its value is removed, and no index finds the rows
// that have it. So a row that leaves the store marks its keys. When everything has come, the marks
// of keys that have a row after all are dropped. Only if any are left, the tables that refer to
// these are read once as a whole.

// lostKey is the mark of a key of a table's index. The tableKey alone is the mark of all keys of a
// table that was replaced with another description.
func lostKey(table uint16, index int, d digest) []byte {
	return append(append(tableKey(kLost, table), byte(index)), d[:]...)
}

// loses marks those keys of a row that leaves the store to which foreign keys may lead. now are the
// values of the row that replaces it, which has the same primary key; nil if it is removed.
func (r *rows) loses(t *table, values, now [][]byte) error {
	if r.whole {
		return nil
	}
	for _, i := range t.referred {
		if i == 0 && now != nil {
			continue
		}
		d, ok := r.digestAt(t, i, values)
		if !ok {
			continue
		}
		if now != nil {
			if same, ok := r.digestAt(t, i, now); ok && same == d {
				continue
			}
		}
		if err := r.set(lostKey(t.Number, i, d), nil); err != nil {
			return err
		}
	}
	return nil
}

// digestAt returns the digest of a row's key in an index; false if a value of it is missing.
func (r *rows) digestAt(t *table, index int, values [][]byte) (d digest, ok bool) {
	key, ok := t.pick(values, t.indexes[index], r.key)
	if r.key = key; !ok {
		return d, false
	}
	return t.digest(index, key), true
}

// lostKeys are the marked keys that no row has.
type lostKeys struct {
	*rows
	whole map[uint16]bool  // tables of which all keys are marked
	at    map[indexAt]bool // where the others are
	marks *filter          // these others
	files map[string]bool  // files with rows that refer to them
	found map[*foreignKey]*brokenKey
}

// indexAt is an index of a table.
type indexAt struct {
	table uint16
	index int
}

// brokenKey is a foreign key of which some rows lead nowhere.
type brokenKey struct {
	count   int64
	example sequence // of one of these rows
}

// lost drops the marks of keys that have a row, and returns the others.
func (r *rows) lost(ctx context.Context) (*lostKeys, error) {
	l := &lostKeys{
		rows:  r,
		whole: map[uint16]bool{},
		at:    map[indexAt]bool{},
		files: map[string]bool{},
		found: map[*foreignKey]*brokenKey{},
	}
	const start = 1 + 2 // behind the kind and the table
	return l, each(r.store.db, []byte{kLost}, func(k, _ []byte) error {
		number := binary.BigEndian.Uint16(k[1:])
		t := r.dictionary.number[number]
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case t != nil && len(k) == start:
			l.whole[number] = true
			return nil
		case t != nil && len(k) == start+1+len(digest{}) && int(k[start]) < len(t.indexes):
			index := int(k[start])
			there, err := t.hasRow(r.store.db, index, t.indexKey(index, digest(k[start+1:])))
			if err != nil {
				return err
			}
			if !there {
				if l.marks == nil {
					l.marks = newFilter()
				}
				l.marks.add(k)
				l.at[indexAt{number, index}] = true
				return nil
			}
		}
		return errors.Join(r.delete(k), r.flushFull())
	})
}

// concerns reports whether a foreign key may lead to a lost key.
func (l *lostKeys) concerns(k *foreignKey) bool {
	return l.whole[k.target.Number] || l.at[indexAt{k.target.Number, k.index}]
}

// has reports whether the foreign key with a digest leads to a lost key.
func (l *lostKeys) has(k *foreignKey, d digest) (bool, error) {
	if l.at[indexAt{k.target.Number, k.index}] {
		mark := lostKey(k.target.Number, k.index, d)
		if !l.marks.lacks(mark) {
			if is, err := has(l.store.db, mark); err != nil || is {
				return is, err
			}
		}
	}
	of := checkedKey{k.target.Number, byte(k.index), d}
	if !l.whole[k.target.Number] || l.checked[of] {
		return false, nil
	}
	there, err := k.target.hasRow(l.store.db, k.index, k.target.indexKey(k.index, d))
	if there {
		l.exists(of)
	}
	return err == nil && !there, err
}

// report reports the foreign keys that lead to lost keys, each once, with one of their rows. It is
// reported again whenever a file with such a row is imported, until the row of the key is there.
func (l *lostKeys) report(ctx context.Context) error {
	for _, t := range l.dictionary.order {
		err := l.look(ctx, t)
		for i := range t.foreign {
			if broken := l.found[&t.foreign[i]]; err == nil && broken != nil {
				err = l.tell(&t.foreign[i], broken)
			}
		}
		if err != nil {
			return err
		}
	}
	for file := range l.files {
		if err := l.delete(key(kFile, file)); err != nil {
			return err
		}
	}
	return l.forget(ctx, []byte{kLost})
}

// look looks for rows of a table that refer to lost keys.
func (l *lostKeys) look(ctx context.Context, t *table) error {
	var keys []*foreignKey
	for i := range t.foreign {
		if l.concerns(&t.foreign[i]) {
			keys = append(keys, &t.foreign[i])
		}
	}
	if len(keys) == 0 {
		return nil
	}
	last := uint32(0)
	return t.all(l.store.db, func(at rowPlace, raw []byte) error {
		values, err := t.codec.Fields(raw, l.fields)
		if err = errors.Join(ctx.Err(), err); err != nil {
			return err
		}
		l.fields = values
		for _, k := range keys {
			of, ok := t.pick(values, k.fields, l.key)
			if l.key = of; !ok {
				continue
			}
			broken, err := l.has(k, k.target.digest(k.index, of))
			if err != nil {
				return err
			}
			if !broken {
				continue
			}
			if l.found[k] == nil {
				l.found[k] = &brokenKey{example: at.sequence}
			}
			l.found[k].count++
			if pass := at.sequence.pass(); pass != last {
				last = pass
				from, err := l.store.passOf(pass)
				if err != nil {
					return err
				}
				l.files[from.File] = true
			}
		}
		return nil
	})
}

// tell reports a foreign key.
func (l *lostKeys) tell(k *foreignKey, broken *brokenKey) error {
	from, err := l.store.passOf(broken.example.pass())
	if err != nil {
		return err
	}
	return l.bad(from.Name, broken.example.line(), fmt.Sprintf("field %q: no row of the table %q "+
		"has this value any more, since rows of that table were removed (%d rows have such "+
		"values)", k.name, k.target.of.Name, broken.count))
}
