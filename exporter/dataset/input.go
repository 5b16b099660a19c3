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

// input is something to import that can be read from its beginning repeatedly.
type input struct {
	name string // its name in problems
	line int    // the number of its first line: 1, unless it is part of a file
	open func() (io.ReadCloser, error)
	text []byte // instead of open: uncompressed text in memory
}

// errInput says why nothing of an input can be read.
type errInput struct{ why string }

func (e errInput) Error() string { return e.why }

// reading is an open input.
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

// open opens an input and decompresses gzip. counted includes what is read in the progress. The
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

// scanner opens an input for scanning. The caller closes it.
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

// plain returns the text of an input in UTF-8. It decompresses the input if its first bytes are
// those of gzip, whatever the file's name is. Errors: errInput, errIgnored; those of the reader.
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
	// read a short or damaged input as far as possible
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

// fileInput returns an input that reads a file.
func fileInput(path string) input {
	return input{name: path, line: 1, open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// spoolBytes is the maximum size of a stream that is kept in memory for rereading. A longer one
// is written to a file.
const spoolBytes = 8 << 20

// spool turns a stream into an input. The caller must call done.
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
		_ = file.Close() // its content is no longer needed
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
