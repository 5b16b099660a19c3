package content

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// maxDiscarded is how many bytes of a refused body Discard reads.
const maxDiscarded = 64 << 20

// Connections are told which connections are at work (listener.Conns).
type Connections interface {
	// Busy notes that a request has arrived on a connection, which stays open until the answer.
	Busy(conn net.Conn)
}

// Receiver reads bodies of any length as they arrive.
type Receiver struct {
	Conns Connections
	// Wait limits how long the next part of a body may take. It does not limit the whole: a long
	// upload that moves goes on.
	Wait time.Duration
}

// Receive begins to read the body of a request whose sender may upload.
func (r Receiver) Receive(c *fiber.Ctx) *Incoming {
	conn := c.Context().Conn()
	r.Conns.Busy(conn)
	if stream := c.Context().RequestBodyStream(); stream != nil {
		return &Incoming{body: stream, conn: conn, wait: r.Wait}
	}
	return &Incoming{body: bytes.NewReader(c.Body())}
}

// Incoming is the body of a request that is read as it arrives.
type Incoming struct {
	body    io.Reader
	conn    net.Conn // nil where the whole body is here already
	wait    time.Duration
	stalled bool
}

// Read implements io.Reader. Errors: os.ErrDeadlineExceeded where the next part takes too long.
func (i *Incoming) Read(p []byte) (int, error) {
	if i.conn == nil {
		return i.body.Read(p)
	}
	if err := i.conn.SetReadDeadline(time.Now().Add(i.wait)); err != nil {
		return 0, err
	}
	n, err := i.body.Read(p)
	i.stalled = errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// Stalled reports whether the body stopped on its way.
func (i *Incoming) Stalled() bool { return i.stalled }

// Drain is middleware that reads what a handler left of a body, so that the client gets the answer:
// a connection that is closed on unread bytes is reset, and the answer is lost.
func Drain(c *fiber.Ctx) error {
	err := c.Next()
	if stream := c.Context().RequestBodyStream(); stream != nil {
		Discard(stream)
	}
	return err
}

// Discard reads the rest of a refused body, so that its sender gets the answer. A client that sends
// more than 64 MiB is cut off.
func Discard(stream io.Reader) {
	_, _ = io.CopyN(io.Discard, stream, maxDiscarded) // the answer is an error already
}

// BrokenBody is the answer to a body that ended too early, for the reason err. It closes the
// connection, as the rest of the body is not read.
func BrokenBody(c *fiber.Ctx, err error) error {
	c.Context().SetConnectionClose()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ehi.Errorf(ehi.TimedOut, "The body did not arrive in time")
	}
	return ehi.Errorf(ehi.Invalid, "The body ended too early")
}
