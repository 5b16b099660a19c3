package release

import (
	"bytes"
	"hash/maphash"

	"ehi-server/shared/fhir"
)

// index holds a value for each resource of a record: about 20 bytes in addition to the value,
// independent of the ids' length. It stores an id as a hash of 128 bits with secret seeds, so
// that two ids of a record never collide, even on purpose. It may be shared while nobody changes
// it.
type index[V any] struct {
	seeds  [2]maphash.Seed
	shards [shards]shard[V]
}

// shards is the number of parts of the index. Parts grow independently, so the index grows in
// small steps and never takes twice the memory it needs.
const shards = 64

// shard is an open-addressing table of blocks, whose number is a power of two. All entries of
// one id are in one chain of blocks.
type shard[V any] struct {
	used   int
	blocks []block[V]
}

// block holds a few adjacent entries. A block of verdicts is one cache line of the processor, so
// a look-up in a large index waits for memory once.
type block[V any] struct {
	ids   [blockSize]idHash
	types [blockSize]uint16 // 0 for an empty slot; all later slots are empty too
	what  [blockSize]V
}

const blockSize = 3

// idHash is the hash of an id.
type idHash struct{ high, low uint64 }

// resource is a type number and the hash of an id.
type resource struct {
	typ uint16
	id  idHash
}

func newIndex[V any]() *index[V] {
	return &index[V]{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (x *index[V]) hash(id []byte) idHash { return x.whole(x.high(id), id) }

// high returns the first half of an id's hash, which is enough for a filter. whole completes it.
func (x *index[V]) high(id []byte) uint64 { return maphash.Bytes(x.seeds[0], id) }

func (x *index[V]) whole(high uint64, id []byte) idHash {
	return idHash{high, maphash.Bytes(x.seeds[1], id)}
}

// number returns the number of a type. A type unknown to R4 gets a hash; no reference points to
// it.
func (x *index[V]) number(typ []byte) uint16 {
	if n := fhir.TypeNumber(typ); n != 0 {
		return uint16(n)
	}
	if bytes.Equal(typ, nameTyp) {
		return nameType
	}
	return 1<<15 | uint16(maphash.Bytes(x.seeds[0], typ))
}

// resource returns the key of a resource in the index.
func (x *index[V]) resource(typ, id []byte) resource { return resource{x.number(typ), x.hash(id)} }

// size returns the number of resources in the index.
func (x *index[V]) size() (n int) {
	for i := range x.shards {
		n += x.shards[i].used
	}
	return n
}

func (x *index[V]) find(typ, id []byte) (v V, known bool) {
	return x.at(x.resource(typ, id))
}

func (x *index[V]) at(r resource) (v V, known bool) {
	b, i, found := x.shard(r.id).slot(r.typ, r.id)
	if !found {
		return v, false
	}
	return b.what[i], true
}

func (x *index[V]) shard(h idHash) *shard[V] { return &x.shards[h.high%shards] }

// add finds the entry of a resource, or creates it. The pointer is valid until the next call.
func (x *index[V]) add(r resource) (at *V, found bool) {
	s := x.shard(r.id)
	if s.used*4 >= len(s.blocks)*blockSize*3 {
		s.grow()
	}
	b, i, found := s.slot(r.typ, r.id)
	if !found {
		s.used++
		b.ids[i], b.types[i] = r.id, r.typ
	}
	return &b.what[i], found
}

// change updates the value of a resource, if there is one.
func (x *index[V]) change(r resource, f func(old V) V) {
	if b, i, found := x.shard(r.id).slot(r.typ, r.id); found {
		b.what[i] = f(b.what[i])
	}
}

// slot finds the slot of a resource, or the empty slot for it; nil if the table has no blocks.
func (s *shard[V]) slot(typ uint16, h idHash) (b *block[V], i int, found bool) {
	mask := len(s.blocks) - 1
	for at := int(h.low) & mask; mask >= 0; at = (at + 1) & mask {
		b = &s.blocks[at]
		for i, t := range b.types {
			switch {
			case t == 0:
				return b, i, false
			case t == typ && b.ids[i] == h:
				return b, i, true
			}
		}
	}
	return nil, 0, false
}

func (s *shard[V]) grow() {
	old := *s
	*s = shard[V]{used: old.used, blocks: make([]block[V], max(4, 2*len(old.blocks)))}
	old.each(func(r resource, v V) {
		b, i, _ := s.slot(r.typ, r.id)
		b.ids[i], b.types[i], b.what[i] = r.id, r.typ, v
	})
}

// sharing visits all resources with an id, of any type.
func (x *index[V]) sharing(h idHash, visit func(typ uint16, v V)) {
	s := x.shard(h)
	mask := len(s.blocks) - 1
	for at := int(h.low) & mask; mask >= 0; at = (at + 1) & mask {
		b := &s.blocks[at]
		for i, typ := range b.types {
			if typ == 0 {
				return
			}
			if b.ids[i] == h {
				visit(typ, b.what[i])
			}
		}
	}
}

// each visits all resources.
func (x *index[V]) each(visit func(r resource, v V)) {
	for i := range x.shards {
		x.shards[i].each(visit)
	}
}

func (s *shard[V]) each(visit func(r resource, v V)) {
	for i := range s.blocks {
		b := &s.blocks[i]
		for k, typ := range b.types {
			if typ != 0 {
				visit(resource{typ, b.ids[k]}, b.what[k])
			}
		}
	}
}

// replace updates the value of each resource.
func (x *index[V]) replace(by func(old V) V) {
	for i := range x.shards {
		s := &x.shards[i]
		for j := range s.blocks {
			b := &s.blocks[j]
			for k, typ := range b.types {
				if typ != 0 {
					b.what[k] = by(b.what[k])
				}
			}
		}
	}
}
