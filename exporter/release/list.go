package release

// list holds resources in the order of arrival, 18 bytes each. That is less than a map takes,
// and growing needs no extra memory.
type list struct {
	chunks []*chunk
	n      int
}

const chunkSize = 256

type chunk struct {
	ids   [chunkSize]idHash
	types [chunkSize]uint16
}

func (l *list) add(r resource) {
	i := l.n % chunkSize
	if i == 0 {
		l.chunks = append(l.chunks, new(chunk))
	}
	c := l.chunks[len(l.chunks)-1]
	c.ids[i], c.types[i] = r.id, r.typ
	l.n++
}

func (l *list) at(i int) resource {
	c, i := l.chunks[i/chunkSize], i%chunkSize
	return resource{c.types[i], c.ids[i]}
}

func (l *list) each(visit func(resource)) {
	for i := range l.n {
		visit(l.at(i))
	}
}

// roll holds resources by type, 16 bytes each.
type roll struct {
	of     [256]idList        // by type number of R4
	others map[uint16]*idList // of types unknown to R4
}

// idList holds ids in the order of arrival.
type idList struct{ chunks [][]idHash }

// firstIDs is the size of an idList's first chunk, and mostIDs the maximum size of the others.
const firstIDs, mostIDs = 8, 1024

func (l *roll) add(r resource) {
	if int(r.typ) < len(l.of) {
		l.of[r.typ].add(r.id)
		return
	}
	if l.others[r.typ] == nil {
		if l.others == nil {
			l.others = map[uint16]*idList{}
		}
		l.others[r.typ] = &idList{}
	}
	l.others[r.typ].add(r.id)
}

func (l *idList) add(id idHash) {
	last := len(l.chunks) - 1
	if last < 0 || len(l.chunks[last]) == cap(l.chunks[last]) {
		size := firstIDs
		if last >= 0 {
			size = min(2*cap(l.chunks[last]), mostIDs)
		}
		l.chunks = append(l.chunks, make([]idHash, 0, size))
		last++
	}
	l.chunks[last] = append(l.chunks[last], id)
}

func (l *roll) each(visit func(resource)) {
	for typ := range l.of {
		l.of[typ].each(uint16(typ), visit)
	}
	for typ, ids := range l.others {
		ids.each(typ, visit)
	}
}

func (l *idList) each(typ uint16, visit func(resource)) {
	for _, chunk := range l.chunks {
		for _, id := range chunk {
			visit(resource{typ, id})
		}
	}
}
