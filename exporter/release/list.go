package release

// list is resources in the order in which they come, 18 bytes each: that costs less than a table, and
// no more than that while it grows.
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
