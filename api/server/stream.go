package server

import (
	"bufio"
	"errors"
	"io"

	"github.com/gofiber/fiber/v2"
)

// Answers that take long are sent by this file alone: each asks, for every piece, whether its request
// would still be let in (see lasting), and breaks off where not. A test holds the package to that.

// errBrokenOff ends an answer whose authority has ended.
var errBrokenOff = errors.New("what this answer was sent by has ended")

// sendStream answers with size bytes of r, -1 for all there are, and closes it.
func (s *Server) sendStream(c *fiber.Ctx, r io.ReadCloser, size int) error {
	return c.SendStream(&lastingReader{r, s.lasting(c)}, size)
}

// writeStream answers with what write writes, after the handler has returned. Each flush sends what
// was written, and so does the end. write ends where writing fails: the client has gone, or the authority has.
func (s *Server) writeStream(c *fiber.Ctx, write func(w *bufio.Writer)) {
	lasts := s.lasting(c)
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		out := bufio.NewWriter(lastingWriter{w, lasts})
		write(out)
		_ = out.Flush() // where that fails nobody is left to be told
	})
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

// lastingWriter sends at once what is written to it.
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
	return n, err
}
