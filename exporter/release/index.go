package release

import (
	"bytes"
	"hash/maphash"

	"ehi-server/shared/fhir"
)

// index holds something about each resource of a record: 18 bytes beside that, whatever their ids are like. An id is kept
// as a hash of 128 bits with seeds that nobody outside knows, so that no two ids of a record are taken for one another. While nobody
// changes it, it may be shared.
type index[V any] struct {
	seeds  [2]maphash.Seed
	shards [shards]shard[V]
}

// shards divide the index, so that it grows in small steps and never holds twice what it needs.
const shards = 64

// shard is an open-addressing table of a power of two of slots; the entries of one id stand on one chain.
type shard[V any] struct {
	used  int
	ids   []idHash
	types []uint16 // 0 for an empty slot
	what  []V
}

// idHash is the hash of an id.
type idHash struct{ high, low uint64 }

// resource is the number of a type and the hash of an id.
type resource struct {
	typ uint16
	id  idHash
}

func newIndex[V any]() *index[V] {
	return &index[V]{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (x *index[V]) hash(id []byte) idHash { return x.whole(x.high(id), id) }

// high is the first half of an id's hash, and whole all of it: a filter knows most ids by the first.
func (x *index[V]) high(id []byte) uint64 { return maphash.Bytes(x.seeds[0], id) }

func (x *index[V]) whole(high uint64, id []byte) idHash {
	return idHash{high, maphash.Bytes(x.seeds[1], id)}
}

// number is the number of a type. Types that R4 does not know have hashes for numbers; no reference leads to them.
func (x *index[V]) number(typ []byte) uint16 {
	if n := fhir.TypeNumber(typ); n != 0 {
		return uint16(n)
	}
	if bytes.Equal(typ, nameTyp) {
		return nameType
	}
	return 1<<15 | uint16(maphash.Bytes(x.seeds[0], typ))
}

// resource is how a resource is named in the index.
func (x *index[V]) resource(typ, id []byte) resource { return resource{x.number(typ), x.hash(id)} }

// find looks a resource up.
func (x *index[V]) find(typ, id []byte) (v V, known bool) {
	return x.at(x.resource(typ, id))
}

// at looks a resource up.
func (x *index[V]) at(r resource) (v V, known bool) {
	s := x.shard(r.id)
	at, found := s.slot(r.typ, r.id)
	if !found {
		return v, false
	}
	return s.what[at], true
}

func (x *index[V]) shard(h idHash) *shard[V] { return &x.shards[h.high%shards] }

// add makes room for a resource, or finds the one that is there already. What it points to is valid until the next call.
func (x *index[V]) add(r resource) (at *V, found bool) {
	s := x.shard(r.id)
	if s.used*4 >= len(s.ids)*3 {
		s.grow()
	}
	i, found := s.slot(r.typ, r.id)
	if !found {
		s.used++
		s.ids[i], s.types[i] = r.id, r.typ
	}
	return &s.what[i], found
}

// change changes what is held about a resource, where it is there.
func (x *index[V]) change(r resource, f func(old V) V) {
	s := x.shard(r.id)
	if at, found := s.slot(r.typ, r.id); found {
		s.what[at] = f(s.what[at])
	}
}

// slot finds where a resource stands, or would stand.
func (s *shard[V]) slot(typ uint16, h idHash) (at int, found bool) {
	if len(s.ids) == 0 {
		return 0, false
	}
	mask := len(s.ids) - 1
	for at = int(h.low) & mask; s.types[at] != 0; at = (at + 1) & mask {
		if s.ids[at] == h && s.types[at] == typ {
			return at, true
		}
	}
	return at, false
}

func (s *shard[V]) grow() {
	old := *s
	n := max(16, 2*len(old.ids))
	*s = shard[V]{used: old.used, ids: make([]idHash, n), types: make([]uint16, n), what: make([]V, n)}
	for i, typ := range old.types {
		if typ != 0 {
			at, _ := s.slot(typ, old.ids[i])
			s.ids[at], s.types[at], s.what[at] = old.ids[i], typ, old.what[i]
		}
	}
}

// sharing visits all resources of an id, of whatever type.
func (x *index[V]) sharing(h idHash, visit func(typ uint16, v V)) {
	s := x.shard(h)
	if len(s.ids) == 0 {
		return
	}
	mask := len(s.ids) - 1
	for at := int(h.low) & mask; s.types[at] != 0; at = (at + 1) & mask {
		if s.ids[at] == h {
			visit(s.types[at], s.what[at])
		}
	}
}

// each visits all resources.
func (x *index[V]) each(visit func(r resource, v V)) {
	for i := range x.shards {
		s := &x.shards[i]
		for at, typ := range s.types {
			if typ != 0 {
				visit(resource{typ, s.ids[at]}, s.what[at])
			}
		}
	}
}
