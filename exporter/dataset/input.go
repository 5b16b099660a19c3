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
	text []byte // instead of open: what is in memory, unpacked
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

// open opens an input; gzip is unpacked. counted says that the progress shows what is read. The
// caller closes it. Errors: errInput, errIgnored; those of the file.
func (im *importer) open(in input, counted bool) (*reading, error) {
	file, err := in.open()
	if err != nil {
		return nil, errInput{reason(err)}
	}
	r := &reading{Reader: file, close: []io.Closer{file}}
	if counted {
		r.Reader = counting{file, &im.done}
	}
	if r.Reader, err = im.plain(r.Reader); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// scanner opens an input to be taken apart. The caller closes it.
func (im *importer) scanner(in input, counted bool) (*scanner, io.Closer, error) {
	if in.text != nil {
		return &scanner{buf: in.text, end: len(in.text), line: in.line, err: io.EOF},
			io.NopCloser(nil), nil
	}
	r, err := im.open(in, counted)
	if err != nil {
		return nil, nil, err
	}
	return &scanner{r: r, line: in.line, most: int(im.o.MaxResource) + 2*scannerBytes}, r, nil
}

// plain gives the text of an input: unpacked, where its first bytes say that it is gzip,
// whatever the file is called, and in UTF-8. Errors: errInput, errIgnored; those of the reader.
func (im *importer) plain(r io.Reader) (io.Reader, error) {
	packed := bufio.NewReaderSize(r, 64<<10)
	text := packed
	start, err := packed.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.Equal(start, []byte{0x1f, 0x8b}) {
		gz, err := gzip.NewReader(packed)
		if err != nil {
			return nil, errInput{"not gzip: " + err.Error()}
		}
		text = bufio.NewReaderSize(gz, 64<<10)
	}
	head, err := text.Peek(4)
	// a short or broken one is read as far as it goes
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errInput{err.Error()}
	}
	out, err := im.charset.text(head, text)
	if err != nil {
		return nil, err
	}
	if head, err = text.Peek(text.Buffered()); err != nil {
		return nil, err
	}
	if why := besides(head); why != "" {
		return nil, errIgnored{why}
	}
	return out, nil
}

// fileInput reads a file.
func fileInput(path string) input {
	return input{name: path, line: 1, open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// spoolBytes is how much of a stream is held in memory to be read again; the rest of a longer
// one goes into a file.
const spoolBytes = 8 << 20

// spool makes a stream an input. The caller calls done.
func (im *importer) spool(name string, r io.Reader) (in input, done func(), err error) {
	r = counting{r, &im.done}
	head, err := io.ReadAll(io.LimitReader(r, spoolBytes))
	if err != nil {
		return input{}, nil, err
	}
	if len(head) < spoolBytes {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(head)), nil }
		return input{name: name, line: 1, open: open}, func() {}, nil
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
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(file, 0, size)), nil
	}
	return input{name: name, line: 1, open: open}, done, nil
}
