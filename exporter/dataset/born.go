package dataset

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// birth is that a conditional create or update found or made a resource by a search.
type birth struct{ typ, id, query string }

// key sorts the births of one resource together.
func (b birth) key() []byte {
	d := digestOf(b.query)
	return append(key(kBorn, b.typ, b.id, ""), d[:]...)
}

// identifier is the key by which the search finds the resource, whatever that says of itself.
func (b birth) identifier() []byte {
	n, _ := parseName(b.query) // bear parsed it
	return identifier{n.system, n.value}.key(b.typ, b.id)
}

// bear remembers a birth. A resource without an id of its own has the one that is made of the search until something else is found by
// that: then it is a state of that resource, whichever came first.
func (w *writer) bear(b birth) error {
	n, ok := parseName(b.query)
	if !ok {
		return nil
	}
	return errors.Join(w.set(b.key(), b.query), w.set(b.identifier(), ""), w.wakeAs(b.typ, n.digest()))
}

// unbear forgets the births of a resource.
func (w *writer) unbear(typ, id string) error {
	prefix := key(kBorn, typ, id, "")
	return each(w.store.db, prefix, func(_, query []byte) error {
		b := birth{typ, id, string(query)}
		return errors.Join(w.delete(b.key()), w.delete(b.identifier()))
	})
}

// unite makes what came by conditional creates and updates states of the resources that their searches find by now.
func (w *writer) unite() error {
	var made []birth
	err := each(w.store.db, []byte{kBorn}, func(k, query []byte) error {
		typ, rest, _ := bytes.Cut(k[1:], []byte{0})
		id, _, _ := bytes.Cut(rest, []byte{0})
		if b := (birth{string(typ), string(id), string(query)}); madeID(b.query) == b.id {
			made = append(made, b)
		}
		return nil
	})
	for _, b := range made {
		if err == nil {
			err = w.uniteOne(b)
		}
	}
	return errors.Join(err, w.flush(pebble.NoSync))
}

func (w *writer) uniteOne(b birth) error {
	n, _ := parseName(b.query) // bear parsed it
	ids, err := w.idsOf(n)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(other string) bool { return other == b.id })
	if len(ids) != 1 {
		return nil
	}
	s, err := w.find(b.typ, b.id)
	if err != nil {
		return err
	}
	if !s.there {
		return w.removeLater(b, ids[0])
	}
	p := w.reader.prepare(renamed(s.original(), b.id, ids[0]))
	p.copied, p.told = s.copied, decodeVersion(string(s.version))
	if len(s.derived.hints) == 1 {
		p.hint = s.derived.hints[0]
	}
	if err := w.remove(b.typ, b.id, version{untimed: true}, false); err != nil {
		return err
	}
	return errors.Join(w.delete(key(kTombstone, b.typ, b.id)), w.put(p), w.bear(birth{b.typ, ids[0], b.query}))
}

// removeFound deletes what a search finds, where that is one resource, and tells how many it finds. A DELETE that says when it was is a
// state of what its search finds, as a conditional update is: it meets what comes later, too.
func (w *writer) removeFound(typ, query string, v version) (found int, err error) {
	if err := w.flush(pebble.NoSync); err != nil { // which looking for identifiers takes
		return 0, err
	}
	n, _ := parseName(query) // it was one
	ids, err := w.idsOf(n)
	if err != nil || len(ids) > 1 {
		return len(ids), err
	}
	for _, id := range ids {
		err = w.remove(typ, id, v, false)
	}
	if err != nil || v.untimed && v.id == "" {
		return len(ids), err
	}
	b := birth{typ, madeID(query), query}
	return len(ids), errors.Join(w.remove(typ, b.id, v, false), w.set(b.key(), query))
}

// removeLater deletes what the search of a conditional delete finds by now. The delete stays: what is older may still come.
func (w *writer) removeLater(b birth, found string) error {
	deleted, err := w.get(key(kTombstone, b.typ, b.id))
	if err != nil {
		return err
	}
	if deleted == nil {
		return w.unbear(b.typ, b.id)
	}
	return w.remove(b.typ, found, decodeVersion(string(deleted)), false)
}

// renamed gives a resource, whose made id stands first, another one.
func renamed(line []byte, id, other string) []byte {
	return []byte(strings.Replace(string(line), `"id":"`+id+`"`, `"id":"`+other+`"`, 1))
}
