package content

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/klauspost/compress/gzip"

	"ehi-server/shared/ehi"
)

// Body is something that a Sender sends in full or in part. Sending closes it.
type Body struct {
	io.ReadSeeker
	Closer   io.Closer
	Size     int64  // bytes
	Digest   []byte // the SHA-256; nil if it is unknown or not wanted
	MIME     string
	Tag      string    // an ETag without quotes, which identifies these bytes forever
	Modified time.Time // zero if nobody knows
	Compress bool      // whether clients that accept gzip get it
	Cut      bool      // whether to break the response off in the middle, as the sandbox simulates
	Coding   string    // the content coding in which the bytes are stored; "" for none
}

// Send answers with a body. It understands HEAD, Range (RFC 9110 14.2), preconditions and
// Accept-Encoding (EHI-12, REAL-7).
func (s *Sender) Send(c *fiber.Ctx, b Body) error {
	zip := b.Compress && !b.Cut && c.Get(fiber.HeaderRange) == "" && Accepts(c, "gzip")
	if zip {
		b.Tag += "-gzip"
	}
	if answered, err := b.headers(c); answered {
		return errors.Join(err, b.Closer.Close())
	}
	if zip {
		return s.sendGzip(c, b)
	}
	return s.sendRange(c, b)
}

// SendDecompressed answers with a compressed body, which has size bytes when decompressed, to a
// client that does not accept its coding. It does not serve ranges.
func (s *Sender) SendDecompressed(
	c *fiber.Ctx, b Body, compression ehi.Compression, size int64,
) error {
	plain, err := decompress(compression, b.ReadSeeker)
	if err != nil {
		return errors.Join(err, b.Closer.Close())
	}
	b.Tag += "-plain"
	if answered, err := b.headers(c); answered {
		return errors.Join(err, plain.Close(), b.Closer.Close())
	}
	c.Set(fiber.HeaderAcceptRanges, "none")
	body := readCloser{plain, closers{plain, b.Closer}}
	return s.SendSized(c, &confirmed{body, size}, size)
}

// headers sets the headers that all responses about b share. answered is true if the
// preconditions determine the response.
func (b Body) headers(c *fiber.Ctx) (answered bool, err error) {
	tag := `"` + b.Tag + `"`
	c.Set(fiber.HeaderContentType, b.MIME)
	c.Set(fiber.HeaderETag, tag)
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	if !b.Modified.IsZero() {
		c.Set(fiber.HeaderLastModified, b.Modified.UTC().Format(http.TimeFormat))
	}
	c.Set(fiber.HeaderCacheControl, "private, no-cache")
	if b.MIME == NDJSON || b.Compress {
		c.Vary(fiber.HeaderAcceptEncoding)
	}
	if b.Coding != "" {
		c.Set(fiber.HeaderContentEncoding, b.Coding)
	}
	switch precondition(c, tag, b.Modified) {
	case http.StatusPreconditionFailed:
		return true, Outcome(c, http.StatusPreconditionFailed, "error", "conflict",
			"The file is not the one that was asked for")
	case http.StatusNotModified:
		return true, Empty(c, http.StatusNotModified)
	}
	return false, nil
}

func (s *Sender) sendRange(c *fiber.Ctx, b Body) error {
	start, length := int64(0), b.Size
	// Range is defined for GET alone (RFC 9110 14.2).
	ifRange := c.Get("If-Range")
	if c.Method() == fiber.MethodGet && (ifRange == "" || ifRange == `"`+b.Tag+`"`) {
		// RFC 9110 allows servers to ignore a malformed range, and to answer several ranges with
		// the whole content.
		if from, n, ok := byteRange(c.Get(fiber.HeaderRange), b.Size); ok && n == 0 {
			c.Set(fiber.HeaderContentRange, "bytes */"+strconv.FormatInt(b.Size, 10))
			err := Outcome(c, http.StatusRequestedRangeNotSatisfiable, "error", "invalid",
				"The range lies outside of the file")
			return errors.Join(err, b.Closer.Close())
		} else if ok {
			start, length = from, n
			c.Status(http.StatusPartialContent)
			c.Set(fiber.HeaderContentRange,
				fmt.Sprintf("bytes %d-%d/%d", start, start+length-1, b.Size))
		}
	}
	setDigest(c, b.Digest)
	if _, err := b.Seek(start, io.SeekStart); err != nil {
		return errors.Join(err, b.Closer.Close())
	}
	if b.Cut {
		return breakOff(c, b, length)
	}
	return s.SendSized(c, readCloser{io.LimitReader(b, length), b.Closer}, length)
}

func (s *Sender) sendGzip(c *fiber.Ctx, b Body) error {
	c.Set(fiber.HeaderContentEncoding, "gzip")
	if c.Method() == fiber.MethodHead {
		return b.Closer.Close()
	}
	s.SendChunked(c, func(w *bufio.Writer) error {
		defer b.Closer.Close() // read only
		gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := CopyWhole(gz, b, b.Size); err != nil {
			return err
		}
		return gz.Close()
	})
	return nil
}

// breakOff announces length bytes of b, sends half of them, and closes the connection.
func breakOff(c *fiber.Ctx, b Body, length int64) error {
	c.Response().Header.SetContentLength(int(length))
	head := bytes.Clone(c.Response().Header.Header())
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(conn net.Conn) {
		// If anything fails here, the connection still breaks off, as intended.
		_, _ = conn.Write(head)
		_, _ = io.CopyN(conn, b, length/2)
		_ = errors.Join(b.Closer.Close(), conn.Close())
	})
	return nil
}

// readCloser reads one thing and closes another.
type readCloser struct {
	io.Reader
	io.Closer
}

// closers closes both.
type closers [2]io.Closer

// Close implements io.Closer.
func (c closers) Close() error { return errors.Join(c[0].Close(), c[1].Close()) }
