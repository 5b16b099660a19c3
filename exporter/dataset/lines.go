package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// chunkBytes is about how much NDJSON is looked at in one go.
const chunkBytes = 256 << 10

// chunk is some whole lines of NDJSON.
type chunk struct {
	data  []byte
	first int // number of the first line
	items []item
	ready chan struct{} // closed when items is made
	bad   string        // why the file cannot be read beyond this chunk
}

// item is one line.
type item struct {
	number int
	bundle []byte // a line that is a bundle
	prepared
}

// lines imports NDJSON: a resource or a bundle a line. Reading, looking at lines on all processors, and writing in the order of the file
// go on at the same time.
func (im *importer) lines(ctx context.Context, path string, r io.Reader) error {
	group, ctx := errgroup.WithContext(ctx)
	processors := runtime.GOMAXPROCS(0)
	toPrepare, toWrite := make(chan *chunk), make(chan *chunk, 2*processors)
	group.Go(func() error {
		defer close(toWrite)
		defer close(toPrepare)
		return chunks(ctx, r, func(c *chunk) error {
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
			var x examiner
			for c := range toPrepare {
				c.prepare(&x)
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
		}
		return nil
	})
	return group.Wait()
}

// chunks reads whole lines, some chunkBytes of them at a time.
func chunks(ctx context.Context, r io.Reader, emit func(*chunk) error) error {
	var rest []byte
	for number := 1; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &chunk{first: number, ready: make(chan struct{})}
		buf := make([]byte, max(chunkBytes, 2*len(rest)))
		n, err := fill(r, buf[copy(buf, rest):])
		buf = buf[:len(rest)+n]
		end := bytes.LastIndexByte(buf, '\n') + 1
		last := errors.Is(err, io.EOF)
		switch {
		case last:
			end = len(buf)
		case err != nil:
			c.bad = err.Error()
		case len(buf)-end > maxLine:
			c.bad = fmt.Sprintf("a line is longer than %d bytes", maxLine)
		}
		c.data, rest = buf[:end], bytes.Clone(buf[end:])
		number += bytes.Count(c.data, []byte{'\n'})
		if end > 0 || c.bad != "" {
			if err := emit(c); err != nil {
				return err
			}
		}
		if last || c.bad != "" {
			return nil
		}
	}
}

// fill reads until p is full or r has no more. Unlike io.ReadFull it keeps an end (io.EOF) apart from one that came too early, which a
// cut-off gzip stream or request reports as io.ErrUnexpectedEOF.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// prepare looks at each line.
func (c *chunk) prepare(x *examiner) {
	number := c.first - 1
	for line := range bytes.Lines(c.data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if len(line) > maxLine {
			c.items = append(c.items, item{number: number, prepared: prepared{err: errResource{fmt.Sprintf("longer than %d bytes", maxLine)}}})
			continue
		}
		if x.isBundle(line) {
			c.items = append(c.items, item{number: number, bundle: line})
			continue
		}
		c.items = append(c.items, item{number: number, prepared: x.prepare(line)})
	}
}

// isBundle reports whether a document is a Bundle. Most are none and do not name one.
func (x *examiner) isBundle(doc []byte) bool {
	if bytes.HasPrefix(doc, []byte(`{"resourceType":"`)) && !bytes.HasPrefix(doc, []byte(`{"resourceType":"Bundle"`)) || !bytes.Contains(doc, []byte(`"Bundle"`)) {
		return false
	}
	typ, _, _ := x.cursor.Identify(doc) // a syntax error is found later
	return typ == "Bundle"
}

// chunk writes a chunk's resources.
func (im *importer) chunk(ctx context.Context, path string, c *chunk) error {
	for _, it := range c.items {
		var err error
		if it.bundle != nil {
			err = im.bundle(ctx, path, it.number, it.bundle)
		} else {
			err = im.put(path, it.number, it.prepared, nil, "")
		}
		if err != nil {
			return err
		}
	}
	im.advance()
	if c.bad != "" {
		return im.bad(path, c.first+bytes.Count(c.data, []byte{'\n'}), "cannot be read further: "+c.bad)
	}
	return nil
}
