package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Answers that take long are sent by this file alone. Each asks, for every piece, whether its request
// would still be let in (see lasting), and breaks off where not. Each is sent to its end or breaks off
// so that its client notices: of a length that was told before something is missing (sendStream), or
// the last chunk is (writeStream). There is no third way. A test holds the package to that.

// Errors that end an answer and are nobody's fault.
var (
	errBrokenOff = errors.New("what this answer was sent by has ended")
	errLeft      = errors.New("the client has gone")
)

// sendStream answers with size bytes of r, and closes it. Where r has fewer, or fails, the answer breaks
// off.
func (s *Server) sendStream(c *fiber.Ctx, r io.ReadCloser, size int64) error {
	if size < 0 { // it would be sent in chunks, and the end of r be taken for the end of the answer
		return errors.Join(fmt.Errorf("an answer of %d bytes", size), r.Close())
	}
	return c.SendStream(&lastingReader{r, s.lasting(c)}, int(size))
}

// writeStream answers with what write writes, after the handler has returned. Each flush sends what
// was written, and so does the end. write ends with an error where writing fails: the client has gone, or
// the authority has. After an error of write the answer breaks off, and the log says why.
func (s *Server) writeStream(c *fiber.Ctx, write func(w *bufio.Writer) error) {
	lasts, route := s.lasting(c), c.Method()+" "+c.Route().Path
	answer := &streamed{}
	answer.ReadCloser = fasthttp.NewStreamReader(func(w *bufio.Writer) {
		answer.failed = writeWhole(bufio.NewWriter(lastingWriter{w, lasts}), write)
		if err := answer.failed; err != nil && !errors.Is(err, errLeft) && !errors.Is(err, errBrokenOff) {
			s.Log.Error("an answer broke off", "route", route, "err", err)
		}
	})
	c.Context().SetBodyStream(answer, -1)
}

// writeWhole calls write and sends the rest of what it wrote. A panic is an error.
func writeWhole(w *bufio.Writer, write func(w *bufio.Writer) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}

// copyWhole copies size bytes, which r has to have: where it ends before, something is missing.
func copyWhole(w io.Writer, r io.Reader, size int64) error {
	n, err := io.Copy(w, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	return err
}

// streamed is the body of an answer that is being written.
type streamed struct {
	io.ReadCloser
	failed error // of the writer; it is set before the end can be read
}

// Read implements io.Reader. The end of what was written is the end of the answer only where nothing
// failed: else it is an error, whatever the writer's was, io.EOF too, and the last chunk is not sent.
func (a *streamed) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err == io.EOF && a.failed != nil { //nolint:errorlint // wrapped it would be no end
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, a.failed)
	}
	return n, err
}

type lastingReader struct {
	io.ReadCloser
	lasts func() bool
}

// Read implements io.Reader.
func (r *lastingReader) Read(p []byte) (int, error) {
	if !r.lasts() {
		return 0, errBrokenOff
	}
	return r.ReadCloser.Read(p)
}

// lastingWriter sends at once what is written to it. Errors: errBrokenOff, errLeft.
type lastingWriter struct {
	to    *bufio.Writer
	lasts func() bool
}

// Write implements io.Writer.
func (w lastingWriter) Write(p []byte) (int, error) {
	if !w.lasts() {
		return 0, errBrokenOff
	}
	n, err := w.to.Write(p)
	if err == nil {
		err = w.to.Flush()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errLeft, err)
	}
	return n, err
}
