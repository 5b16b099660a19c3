package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
)

// input is something to import that can be read from its beginning as often as somebody asks.
type input struct {
	name string // what problems call it
	line int    // what its first line is called: 1, unless it is part of a file
	open func() (io.ReadCloser, error)
}

// errInput says why nothing of an input can be read.
type errInput struct{ why string }

func (e errInput) Error() string { return e.why }

// reading is an input that is open.
type reading struct {
	io.Reader
	close []io.Closer
}

func (r *reading) Close() (err error) {
	for _, c := range r.close {
		err = errors.Join(err, c.Close())
	}
	return err
}

// open opens an input; gzip is unpacked. counted says that the progress shows what is read. The caller closes it. Errors: errInput,
// those of the file.
func (im *importer) open(in input, counted bool) (*reading, error) {
	file, err := in.open()
	if err != nil {
		return nil, err
	}
	r := &reading{Reader: file, close: []io.Closer{file}}
	if counted {
		r.Reader = counting{file, &im.done}
	}
	if r.Reader, err = plain(r.Reader); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// plain unpacks gzip, which it knows by its first bytes, whatever the file is called. Errors: errInput; those of the reader.
func plain(r io.Reader) (io.Reader, error) {
	head := bufio.NewReaderSize(r, 64<<10)
	start, err := head.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(start, []byte{0x1f, 0x8b}) {
		return head, nil
	}
	gz, err := gzip.NewReader(head)
	if err != nil {
		return nil, errInput{"not gzip: " + err.Error()}
	}
	return gz, nil
}

// fileInput reads a file.
func fileInput(path string) input {
	return input{name: path, line: 1, open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// bytesInput reads what is in memory.
func bytesInput(name string, line int, data []byte) input {
	return input{name: name, line: line, open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// spoolBytes is how much of a stream is held in memory to be read again; the rest of a longer one goes into a file.
const spoolBytes = 8 << 20

// spool makes a stream an input. The caller calls done.
func (im *importer) spool(name string, r io.Reader) (in input, done func(), err error) {
	r = counting{r, &im.done}
	head, err := io.ReadAll(io.LimitReader(r, spoolBytes))
	if err != nil {
		return input{}, nil, err
	}
	if len(head) < spoolBytes {
		return bytesInput(name, 1, head), func() {}, nil
	}
	file, err := os.CreateTemp(filepath.Dir(im.store.dir), ".import-*")
	if err != nil {
		return input{}, nil, err
	}
	done = func() {
		_ = file.Close() // nothing in it counts any more
		_ = os.Remove(file.Name())
	}
	size, err := io.Copy(file, io.MultiReader(bytes.NewReader(head), r))
	if err != nil {
		done()
		return input{}, nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, size)), nil }
	return input{name: name, line: 1, open: open}, done, nil
}
