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

// chunkBytes is the approximate size of a chunk of NDJSON.
const chunkBytes = 256 << 10

// aheadBytes bounds the lines that are read but not yet written. A single longer line is
// processed alone.
const aheadBytes = 8 << 20

// chunk is a number of whole lines of NDJSON.
type chunk struct {
	data  []byte
	first int // the number of the first line
	items []item
	ready chan struct{} // closed when items is complete
	bad   string        // why the file cannot be read beyond this chunk
	long  bool          // a line that exceeds the limit follows data
	held  int64         // the amount held of the bytes that may be read ahead
}

// item is one line.
type item struct {
	number int
	bundle []byte // a line that is a bundle or an array
	later  []byte // a line that the goroutine prepares which writes
	prepared
}

// lines imports NDJSON, in which each line is a resource, a bundle, or an array of these.
// Reading, preparing lines on all processors, and writing in the order of the file run
// concurrently. first is the number of the first line.
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
			x.moveFrom, x.defers = moveFrom(im.o), im.w.files != nil
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

// chunker splits NDJSON into chunks.
type chunker struct {
	r      io.Reader
	limit  int64 // of a line, in bytes
	number int   // of the next line
	ahead  *semaphore.Weighted
	buf    []byte // buf[:n] is read but not yet in a chunk
	n      int
	held   int64  // the amount of ahead held for buf
	rest   []byte // the bytes after the last chunk
	skip   bool   // the current line is too long and is skipped
	err    error  // of r
}

// run reads whole lines, about chunkBytes at a time.
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

// chunkBuffers pools buffers of chunkBytes, which nearly all chunks use.
var chunkBuffers = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// room makes room to read into. It waits while too much is read ahead.
func (c *chunker) room(ctx context.Context) error {
	if c.buf != nil && c.n < len(c.buf) {
		return ctx.Err()
	}
	have, size := c.rest, chunkBytes
	if c.buf != nil {
		have = c.buf
	}
	// a long line: double the buffer, but not beyond what the longest allowed line needs
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

// pass drops the bytes of a line that is too long.
func (c *chunker) pass() {
	end := bytes.IndexByte(c.buf[:c.n], '\n') + 1
	if end == 0 {
		c.n = 0
		return
	}
	c.n = copy(c.buf, c.buf[end:c.n])
	c.number, c.skip = c.number+1, false
}

// cut returns the whole lines of the buffer as a chunk; nil if there are none yet.
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

// recycle returns the chunk's memory to the pools. The caller no longer uses any of it.
func (c *chunk) recycle() {
	if cap(c.data) == chunkBytes {
		chunkBuffers.Put((*[chunkBytes]byte)(c.data[:chunkBytes]))
	}
	clear(c.items) // release what they point to
	itemRooms.Put(&itemRoom{c.items})
	c.data, c.items = nil, nil
}

// itemRoom is a reusable slice of items.
type itemRoom struct{ items []item }

var itemRooms = sync.Pool{New: func() any { return new(itemRoom) }}

// fill reads until p is full or r ends. Unlike io.ReadFull, it distinguishes a regular end
// (io.EOF) from a premature one, which a truncated gzip stream or request reports as
// io.ErrUnexpectedEOF.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// prepare prepares each line of a chunk. It is safe for concurrent use.
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

// item prepares one line.
func (im *importer) item(x *examiner, number int, line []byte) item {
	if int64(len(line)) > im.o.MaxResource {
		return item{number: number, prepared: prepared{err: tooLarge(im.o.MaxResource)}}
	}
	if line[0] == '[' || x.isBundle(line) {
		return item{number: number, bundle: line} // its entries are prepared one by one
	}
	if x.defers && mayNameData(line) {
		return item{number: number, later: line}
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

// isBundle reports whether a document is a Bundle. Most documents are not, and do not contain
// the word.
func (x *examiner) isBundle(doc []byte) bool {
	if bytes.HasPrefix(doc, []byte(`{"resourceType":"`)) &&
		!bytes.HasPrefix(doc, []byte(`{"resourceType":"Bundle"`)) ||
		!bytes.Contains(doc, []byte(`"Bundle"`)) {
		return false
	}
	typ, _, _ := x.cursor.Identify(doc) // syntax errors are found later
	return typ == "Bundle"
}

// chunk writes the resources of a chunk.
func (im *importer) chunk(ctx context.Context, path string, c *chunk) error {
	for i, it := range c.items {
		if i%warmAtOnce == 0 {
			im.w.warm(c.items[i:min(i+warmAtOnce, len(c.items))])
		}
		if it.later != nil {
			it = im.item(&im.w.examiner, it.number, it.later)
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
