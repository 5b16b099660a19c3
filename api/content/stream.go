package content

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Only this file sends long responses. Before every piece it asks whether the request would
// still be allowed (see Authority), and breaks the response off if not. A response either
// reaches its end or breaks off so that the client notices: SendSized announces a length and
// then sends less; SendChunked omits the last chunk. There is no other way; a test checks that
// of all packages.

// Errors that end an answer without a failure of the server.
var (
	errEnded = errors.New("the authority behind this answer has ended")
	errLeft  = errors.New("the client has gone")
)

// SendSized sends size bytes of r and closes r. The response breaks off if r fails or has fewer
// bytes.
func (s *Sender) SendSized(c *fiber.Ctx, r io.ReadCloser, size int64) error {
	// Fiber would send chunks, and the end of r would look like the end of the response
	if size < 0 {
		return errors.Join(fmt.Errorf("an answer of %d bytes", size), r.Close())
	}
	return c.SendStream(&lastingReader{r, s.authority.Lasting(c)}, int(size))
}

// SendChunked sends what write writes. write runs after the handler has returned, so it must not
// use c. Each flush, and the end of write, sends what was written. Writing fails once the client
// has disconnected or the authority has ended; write then returns that error. Any error of write
// breaks the response off, and the log receives the reason.
func (s *Sender) SendChunked(c *fiber.Ctx, write func(w *bufio.Writer) error) {
	lasts, route := s.authority.Lasting(c), c.Method()+" "+c.Route().Path
	answer := &chunked{}
	answer.ReadCloser = fasthttp.NewStreamReader(func(w *bufio.Writer) {
		answer.failed = writeWhole(bufio.NewWriter(lastingWriter{w, lasts}), write)
		if err := answer.failed; err != nil && !errors.Is(err, errLeft) &&
			!errors.Is(err, errEnded) {
			s.log.Error("an answer broke off", "route", route, "err", err)
		}
	})
	c.Context().SetBodyStream(answer, -1)
}

// writeWhole calls write and sends the rest of what it wrote. It turns a panic into an error.
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

// CopyWhole copies r, which must have size bytes. Errors: io.ErrUnexpectedEOF for another number
// of bytes.
func CopyWhole(w io.Writer, r io.Reader, size int64) error {
	n, err := io.Copy(w, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	return err
}

// chunked is the body of an answer that is being written.
type chunked struct {
	io.ReadCloser
	failed error // the writer's error; it is set before Read returns io.EOF
}

// Read implements io.Reader. If the writer failed, even with io.EOF, Read ends with another
// error than io.EOF, so that fasthttp does not send the last chunk.
func (a *chunked) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err == io.EOF &&
		a.failed != nil { //nolint:errorlint // a wrapped io.EOF does not end a stream
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, a.failed)
	}
	return n, err
}

type lastingReader struct {
	io.ReadCloser
	lasts func() bool
}

// Read implements io.Reader. Errors: errEnded.
func (r *lastingReader) Read(p []byte) (int, error) {
	if !r.lasts() {
		return 0, errEnded
	}
	return r.ReadCloser.Read(p)
}

// lastingWriter sends what is written to it immediately.
type lastingWriter struct {
	to    *bufio.Writer
	lasts func() bool
}

// Write implements io.Writer. Errors: errEnded, errLeft.
func (w lastingWriter) Write(p []byte) (int, error) {
	if !w.lasts() {
		return 0, errEnded
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
