package release

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

// verdicts holds what was decided about each resource of a record.
type verdicts struct{ *index[verdict] }

// put decides about a resource. What is in a record twice is withheld where one of the two is, and sensitive likewise. So are two
// resources that were taken for one another.
func (x verdicts) put(r resource, v verdict) {
	at, found := x.add(r)
	switch old := *at; {
	case !found:
		*at = v
	case v&sensitive != 0 || v.withheld() && !old.withheld():
		*at = v | old&flags
	default:
		*at = old | v&flags
	}
}

// set changes the reason of a resource that is there.
func (x verdicts) set(r resource, v verdict) {
	x.change(r, func(old verdict) verdict { return old&flags | v })
}

// mark adds flags to a resource that is there.
func (x verdicts) mark(r resource, v verdict) {
	x.change(r, func(old verdict) verdict { return old | v })
}

// of tells about all resources of an id, of whatever type: whether some go, and whether some stay.
func (x verdicts) of(h idHash) (released, withheld bool) {
	x.sharing(h, func(v verdict) {
		withheld = withheld || v.withheld()
		released = released || !v.withheld()
	})
	return released, withheld
}

// released lists resources that go, in the order in which they come: it costs less than a table, and most are never looked for.
type released struct{ chunks []releasedChunk }

type releasedChunk struct {
	ids   []idHash
	types []uint16
}

// Chunks grow from the first size to the last.
const firstChunk, lastChunk = 128, 8192

func (l *released) add(r resource) {
	last, size := len(l.chunks)-1, firstChunk
	if last >= 0 {
		size = cap(l.chunks[last].types)
	}
	if last < 0 || len(l.chunks[last].types) == size {
		size = min(2*size, lastChunk)
		l.chunks = append(l.chunks, releasedChunk{make([]idHash, 0, size), make([]uint16, 0, size)})
		last++
	}
	c := &l.chunks[last]
	c.ids, c.types = append(c.ids, r.id), append(c.types, r.typ)
}

func (l *released) each(visit func(resource)) {
	for i := range l.chunks {
		for j, id := range l.chunks[i].ids {
			visit(resource{l.chunks[i].types[j], id})
		}
	}
}
