package dataset

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"ehi-server/shared/fhir"
)

// chunkBytes is about how much NDJSON is looked at in one go.
const chunkBytes = 256 << 10

// aheadBytes bounds the lines that are read and not yet written; a single longer line goes
// through alone.
const aheadBytes = 8 << 20

// chunk is some whole lines of NDJSON.
type chunk struct {
	data  []byte
	first int // number of the first line
	items []item
	ready chan struct{} // closed when items is made
	bad   string        // why the file cannot be read beyond this chunk
	long  bool          // behind data stood a line that is longer than the limit
	held  int64         // of the bytes that may be read ahead
}

// item is one line.
type item struct {
	number int
	bundle []byte // a line that is a bundle, or an array
	prepared
}

// lines imports NDJSON: a resource or a bundle a line, or an array of them. Reading, looking at
// lines on all processors, and writing in the order of the file go on at the same time. first is
// the number of the first line.
func (im *importer) lines(ctx context.Context, path string, first int, r io.Reader) error {
	group, ctx := errgroup.WithContext(ctx)
	processors := runtime.GOMAXPROCS(0)
	toPrepare, toWrite := make(chan *chunk), make(chan *chunk, 2*processors)
	ahead := semaphore.NewWeighted(aheadBytes)
	group.Go(func() error {
		defer close(toWrite)
		defer close(toPrepare)
		c := chunker{r: r, limit: im.o.MaxResource, number: first, ahead: ahead}
		return c.run(ctx, func(c *chunk) error {
			for _, to := range []chan *chunk{toWrite, toPrepare} {
				select {
				case to <- c:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range processors {
		group.Go(func() error {
			x := incoming(scope{own: im.store.own})
			for c := range toPrepare {
				im.prepare(&x, c)
				close(c.ready)
			}
			return nil
		})
	}
	group.Go(func() error {
		for c := range toWrite {
			select {
			case <-c.ready:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := im.chunk(ctx, path, c); err != nil {
				return err
			}
			ahead.Release(c.held)
			c.recycle()
		}
		return nil
	})
	return group.Wait()
}

// chunker cuts NDJSON into chunks.
type chunker struct {
	r      io.Reader
	limit  int64 // of a line, in bytes
	number int   // of the line that comes next
	ahead  *semaphore.Weighted
	buf    []byte // buf[:n] is read and not yet given away
	n      int
	held   int64  // of ahead, for buf
	rest   []byte // what follows the chunk that buf was given away with
	skip   bool   // within a line that is too long
	err    error  // of r
}

// run reads whole lines, some chunkBytes of them at a time.
func (c *chunker) run(ctx context.Context, emit func(*chunk) error) error {
	for c.err == nil {
		if err := c.room(ctx); err != nil {
			return err
		}
		n, err := fill(c.r, c.buf[c.n:])
		c.n, c.err = c.n+n, err
		if c.skip {
			c.pass()
		}
		if out := c.cut(); out != nil {
			if err := emit(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunkBuffers are those of chunkBytes, which nearly all chunks have.
var chunkBuffers = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// room makes room to read into. It waits while what was read ahead is not written.
func (c *chunker) room(ctx context.Context) error {
	if c.buf != nil && c.n < len(c.buf) {
		return ctx.Err()
	}
	have, size := c.rest, chunkBytes
	if c.buf != nil {
		have = c.buf
	}
	// a long line: twice as much, but not beyond what the longest needs
	if 2*len(have) > chunkBytes {
		size = max(len(have)+chunkBytes, min(2*len(have), int(c.limit)+chunkBytes))
	}
	if hold := min(int64(size), aheadBytes); hold > c.held {
		if err := c.ahead.Acquire(ctx, hold-c.held); err != nil {
			return err
		}
		c.held = hold
	}
	if size == chunkBytes {
		c.buf = chunkBuffers.Get().(*[chunkBytes]byte)[:]
	} else {
		c.buf = make([]byte, size)
	}
	c.n = copy(c.buf, have)
	if c.rest = c.rest[:0]; cap(c.rest) > chunkBytes {
		c.rest = nil
	}
	return nil
}

// pass drops what is read of a line that is too long.
func (c *chunker) pass() {
	end := bytes.IndexByte(c.buf[:c.n], '\n') + 1
	if end == 0 {
		c.n = 0
		return
	}
	c.n = copy(c.buf, c.buf[end:c.n])
	c.number, c.skip = c.number+1, false
}

// cut gives the whole lines of the buffer away; nil where there is none yet.
func (c *chunker) cut() *chunk {
	read := c.buf[:c.n]
	end := bytes.LastIndexByte(read, '\n') + 1
	out := &chunk{first: c.number, ready: make(chan struct{})}
	switch {
	case errors.Is(c.err, io.EOF):
		end = len(read)
	case c.err != nil:
		out.bad = c.err.Error()
	case int64(len(read)-end) > c.limit:
		out.long, c.skip = true, true
	}
	if end == 0 {
		if c.skip {
			c.n = 0
		}
		if out.bad == "" && !out.long {
			return nil
		}
		return out
	}
	out.data, out.held = read[:end], c.held
	c.number += bytes.Count(out.data, []byte{'\n'})
	if !c.skip {
		c.rest = append(c.rest, read[end:]...)
	}
	c.buf, c.n, c.held = nil, 0, 0
	return out
}

// recycle gives the chunk's memory back; nothing of it is in use any more.
func (c *chunk) recycle() {
	if cap(c.data) == chunkBytes {
		chunkBuffers.Put((*[chunkBytes]byte)(c.data[:chunkBytes]))
	}
	clear(c.items) // what they point to
	itemRooms.Put(&itemRoom{c.items})
	c.data, c.items = nil, nil
}

// itemRoom is room for the items of a chunk.
type itemRoom struct{ items []item }

var itemRooms = sync.Pool{New: func() any { return new(itemRoom) }}

// fill reads until p is full or r has no more. Unlike io.ReadFull it keeps an end (io.EOF) apart
// from one that came too early, which a cut-off gzip stream or request reports as
// io.ErrUnexpectedEOF.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// prepare looks at each line of a chunk. It is called by several goroutines at once.
func (im *importer) prepare(x *examiner, c *chunk) {
	number := c.first - 1
	c.items = itemRooms.Get().(*itemRoom).items[:0]
	for line := range bytes.Lines(c.data) {
		number++
		if line = bytes.TrimSpace(bytes.TrimPrefix(line, fhir.BOM)); len(line) > 0 {
			c.items = append(c.items, im.item(x, number, line))
		}
	}
}

// item looks at one line.
func (im *importer) item(x *examiner, number int, line []byte) item {
	if int64(len(line)) > im.o.MaxResource {
		return item{number: number, prepared: prepared{err: tooLarge(im.o.MaxResource)}}
	}
	if line[0] == '[' || x.isBundle(line) {
		return item{number: number, bundle: line} // whose entries are looked at one by one
	}
	text, err := im.charset.line(line)
	if err != nil {
		return item{number: number, prepared: prepared{err: err}}
	}
	p := x.prepare(text)
	if p.facts.typ == "Bundle" { // spelled with escapes
		return item{number: number, bundle: line}
	}
	return item{number: number, prepared: p}
}

// isBundle reports whether a document is a Bundle. Most are none and do not name one.
func (x *examiner) isBundle(doc []byte) bool {
	if bytes.HasPrefix(doc, []byte(`{"resourceType":"`)) &&
		!bytes.HasPrefix(doc, []byte(`{"resourceType":"Bundle"`)) ||
		!bytes.Contains(doc, []byte(`"Bundle"`)) {
		return false
	}
	typ, _, _ := x.cursor.Identify(doc) // a syntax error is found later
	return typ == "Bundle"
}

// chunk writes a chunk's resources.
func (im *importer) chunk(ctx context.Context, path string, c *chunk) error {
	for i, it := range c.items {
		if i%warmAtOnce == 0 {
			im.w.warm(c.items[i:min(i+warmAtOnce, len(c.items))])
		}
		var err error
		if it.bundle != nil {
			err = im.document(ctx, input{name: path, line: it.number, text: it.bundle})
		} else {
			err = im.put(path, it.number, it.prepared)
		}
		if err != nil {
			return err
		}
	}
	im.advance()
	behind := c.first + bytes.Count(c.data, []byte{'\n'})
	switch {
	case c.bad != "":
		return im.bad(path, behind, "cannot be read further: "+c.bad)
	case c.long:
		return im.bad(path, behind, tooLarge(im.o.MaxResource).Error())
	}
	return nil
}
