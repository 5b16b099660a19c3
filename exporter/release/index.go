package release

import "hash/maphash"

// index holds what was decided about each resource of a record: 18 bytes each, whatever their ids are like. An id is kept
// as a hash of 128 bits with seeds that nobody outside knows, so that no two ids of a record are taken for one another; if
// they were, both would be withheld where one of them is. It is for one goroutine.
type index struct {
	seeds  [2]maphash.Seed
	shards [shards]shard
	types  map[string]uint16
}

// shards divide the index, so that it grows in small steps and never holds twice what it needs.
const shards = 64

// shard is an open-addressing table of a power of two of slots; the entries of one id stand on one chain.
type shard struct {
	used  int
	ids   []idHash
	types []uint16 // 0 for an empty slot
	what  []verdict
}

// idHash is the hash of an id.
type idHash struct{ high, low uint64 }

// resource is the number of a type and the hash of an id.
type resource struct {
	typ uint16
	id  idHash
}

// verdict is what was decided about a resource: the number of the reason for which it stays, 0 where it goes; and flags.
type verdict uint8

const (
	stripped  verdict = 0x80 // its presentedForm stays
	sensitive verdict = 0x40 // its own content keeps it
	held      verdict = 0x20 // it is a Binary, and something refers to it
	flags             = stripped | sensitive | held
)

func (v verdict) reason() int    { return int(v &^ flags) }
func (v verdict) withheld() bool { return v.reason() != 0 }

func newIndex() *index {
	return &index{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, types: map[string]uint16{}}
}

func (x *index) hash(id []byte) idHash {
	return idHash{maphash.Bytes(x.seeds[0], id), maphash.Bytes(x.seeds[1], id)}
}

// moreTypes is the number that all types beyond the first 65,534 share: what is decided about one of them counts for all.
const moreTypes = 1<<16 - 1

// number is the number of a type, which is remembered.
func (x *index) number(typ []byte) uint16 {
	if n := x.known(typ); n != 0 {
		return n
	}
	n := uint16(len(x.types) + 1)
	x.types[string(typ)] = n
	return n
}

// known is the number of a type; 0 for one that the record does not have.
func (x *index) known(typ []byte) uint16 {
	n := x.types[string(typ)]
	if n == 0 && len(x.types) == moreTypes-1 {
		return moreTypes
	}
	return n
}

// resource is how a resource is named in the index.
func (x *index) resource(typ, id []byte) resource { return resource{x.number(typ), x.hash(id)} }

// find looks a resource up.
func (x *index) find(typ, id []byte) (v verdict, known bool) {
	n := x.known(typ)
	if n == 0 {
		return 0, false
	}
	return x.at(resource{n, x.hash(id)})
}

// at looks a resource up.
func (x *index) at(r resource) (v verdict, known bool) {
	s := x.shard(r.id)
	at, found := s.slot(r.typ, r.id)
	if !found {
		return 0, false
	}
	return s.what[at], true
}

func (x *index) shard(h idHash) *shard { return &x.shards[h.high%shards] }

// put decides about a resource. What is in a record twice is withheld where one of the two is, and sensitive likewise.
func (x *index) put(r resource, v verdict) {
	s := x.shard(r.id)
	if s.used*4 >= len(s.ids)*3 {
		s.grow()
	}
	at, found := s.slot(r.typ, r.id)
	switch old := s.what[at]; {
	case !found:
		s.used++
		s.ids[at], s.types[at], s.what[at] = r.id, r.typ, v
	case v&sensitive != 0 || v.withheld() && !old.withheld():
		s.what[at] = v | old&flags
	default:
		s.what[at] = old | v&flags
	}
}

// set changes the reason of a resource that is there.
func (x *index) set(r resource, v verdict) {
	s := x.shard(r.id)
	if at, found := s.slot(r.typ, r.id); found {
		s.what[at] = s.what[at]&flags | v
	}
}

// slot finds where a resource stands, or would stand.
func (s *shard) slot(typ uint16, h idHash) (at int, found bool) {
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

func (s *shard) grow() {
	old := *s
	n := max(16, 2*len(old.ids))
	*s = shard{used: old.used, ids: make([]idHash, n), types: make([]uint16, n), what: make([]verdict, n)}
	for i, typ := range old.types {
		if typ != 0 {
			at, _ := s.slot(typ, old.ids[i])
			s.ids[at], s.types[at], s.what[at] = old.ids[i], typ, old.what[i]
		}
	}
}

// of tells about all resources of an id, of whatever type: whether some go, and whether some stay.
func (x *index) of(h idHash) (released, withheld bool) {
	s := x.shard(h)
	if len(s.ids) == 0 {
		return false, false
	}
	mask := len(s.ids) - 1
	for at := int(h.low) & mask; s.types[at] != 0; at = (at + 1) & mask {
		if s.ids[at] == h {
			withheld = withheld || s.what[at].withheld()
			released = released || !s.what[at].withheld()
		}
	}
	return released, withheld
}

// each visits all resources.
func (x *index) each(visit func(h idHash, v verdict)) {
	for i := range x.shards {
		s := &x.shards[i]
		for at, typ := range s.types {
			if typ != 0 {
				visit(s.ids[at], s.what[at])
			}
		}
	}
}
