package dataset

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// plain returns the identifier with its value normalized for comparison across systems. differs
// means that the value is written differently; the resource then has a P key. Patients have
// none, because References to them are resolved otherwise.
func (i identifier) plain(typ string) (plain identifier, differs bool) {
	if typ == "Patient" {
		return plain, false
	}
	plain = identifier{value: string(fhir.PlainIdentifier([]byte(i.value)))}
	return plain, plain.value != i.value && plain.value != ""
}

// definition returns the identifier of a definition: its canonical URL (fhir.PlainCanonical).
func (f *facts) definition() identifier {
	if fhir.CompartmentPaths(f.typ) != nil {
		return identifier{}
	}
	return identifier{value: string(fhir.PlainCanonical([]byte(f.url)))}
}

// Beside implements source.Record.
func (r *record) Beside(
	ctx context.Context, names []source.Name, visit func(line []byte) error,
) error {
	b := beside{record: r, seen: map[string]bool{}}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.find(n); err != nil {
			return err
		}
	}
	for _, k := range b.keys {
		if err := r.read(k, visit); err != nil {
			return err
		}
	}
	return nil
}

// read calls visit with the line of a stored resource.
func (r *record) read(k []byte, visit func(line []byte) error) error {
	err := view(r.snap, k, func(val []byte) error {
		_, line := decodeValue(val)
		return visit(line)
	})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	return err
}

// beside finds what names refer to outside of a record.
type beside struct {
	record *record
	types  map[byte][]string // types with identifiers, by the kind of their keys
	seen   map[string]bool   // by type and id, as in a key
	keys   [][]byte
}

func (b *beside) find(n source.Name) error {
	switch {
	case n.Value != "":
		err := b.byValue(kIdentifier, n.Value)
		plain := string(fhir.PlainIdentifier([]byte(n.Value)))
		if plain != n.Value {
			err = errors.Join(err, b.byValue(kIdentifier, plain))
		}
		return errors.Join(err, b.byValue(kPlain, plain))
	case n.Type != "":
		return b.take(n.Type, n.ID)
	}
	prefix := key(kOwner, n.ID, "")
	return each(b.record.snap, prefix, func(k, _ []byte) error {
		return b.take(string(k[len(prefix):]), n.ID)
	})
}

// byValue finds the resources with a value, in any system, in keys of a kind.
func (b *beside) byValue(kind byte, value string) error {
	types, err := b.typesOf(kind)
	for _, typ := range types {
		prefix := identifier{value: value}.prefix(kind, typ)
		prefix = prefix[:len(prefix)-len(digest{})]
		skip := len(key(kind, typ, "")) + 2*len(digest{}) + 1
		err = errors.Join(err, each(b.record.snap, prefix, func(k, _ []byte) error {
			return b.take(typ, string(k[skip:]))
		}))
	}
	return err
}

// typesOf returns the types with keys of a kind. The type is the first part of such a key.
func (b *beside) typesOf(kind byte) (types []string, err error) {
	if types, known := b.types[kind]; known {
		return types, nil
	}
	if b.types == nil {
		b.types = map[byte][]string{}
	}
	it, err := b.record.snap.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kind},
		UpperBound: []byte{kind + 1},
	})
	if err != nil {
		return nil, readError(err)
	}
	for ok := it.First(); ok; {
		typ, _, _ := bytes.Cut(it.Key()[1:], []byte{0})
		if name := string(typ); name != "Patient" {
			types = append(types, name)
		}
		ok = it.SeekGE(append(append([]byte{kind}, typ...), 1))
	}
	b.types[kind] = types
	return types, readError(errors.Join(it.Error(), it.Close()))
}

// take adds a resource of the store that is not in the record.
func (b *beside) take(typ, id string) error {
	target := typ + "\x00" + id
	if b.seen[target] || typ == "Patient" {
		return nil
	}
	b.seen[target] = true
	in, err := b.record.Resolves(typ, id)
	if err != nil || in {
		return err
	}
	owners, there, err := ownersIn(b.record.snap, typ, id)
	switch {
	case err != nil || !there:
		return err
	case len(owners) > 0:
		b.keys = append(b.keys, key(kCompartment, owners[0], typ, id))
	default:
		b.keys = append(b.keys, key(kShared, typ, id))
	}
	return nil
}
