package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// handleImport loads records into the store while it serves: a stream of NDJSON, gzipped or not, of any length, or one Bundle or
// resource. Running exports do not see them. ?strict=true stops at the first bad line, and refuses an import that leaves resources
// without a patient; ?charset= says what text that is not UTF-8
// is in, ?name= is what the report calls the input. The answer is a source.Report; what came before an error stays imported.
func (s *Server) handleImport(c *fiber.Ctx) error {
	into, ok := s.Source.(source.Importer)
	if !ok {
		return ehi.Errorf(ehi.Unsupported, "This server's records come from a source that takes none")
	}
	o := source.ImportOptions{
		Strict: c.QueryBool("strict"), Charset: c.Query("charset"), MaxResource: s.MaxResource, NoWait: true, Now: now(),
	}
	switch mime := mediaType(c); mime {
	case mimeNDJSON, "application/ndjson", "application/x-ndjson":
	case "application/fhir+json", fiber.MIMEApplicationJSON:
		o.Document = true
	default:
		return ehi.Errorf(ehi.Unsupported, "Unsupported content type %q: send application/fhir+ndjson, or one Bundle as application/fhir+json", mime)
	}
	body := s.upload(c)
	report, err := into.ImportFrom(c.Context(), c.Query("name", "body"), body, o)
	s.audit(c, err, ehi.Event{Action: ehi.ActionImport, Detail: strconv.FormatInt(report.Resources(), 10) + " resources"})
	switch {
	case err == nil && stalled(body): // the report says so, and what came before it
		c.Context().SetConnectionClose()
		c.Status(http.StatusRequestTimeout)
	case errors.Is(err, source.ErrBusy):
		return ehi.Errorf(ehi.Transient, "Another import is running; try again when it is done")
	case errors.Is(err, source.ErrBad), errors.Is(err, source.ErrUnplaced): // the report says what
		c.Status(http.StatusBadRequest)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF): // what came before stays imported
		return brokenBody(c, err)
	case err != nil:
		return err
	}
	s.Log.Info("imported", "by", adminOf(c), "resources", report.Resources(), "problems", report.Problems)
	return c.JSON(report)
}

// handleBackup streams an archive of everything that the server keeps. One that fails on its way ends before its time, which a restore
// notices.
func (s *Server) handleBackup(c *fiber.Ctx) error {
	if s.Backup == nil {
		return ehi.Errorf(ehi.Unsupported, "This server has no backup to give")
	}
	by := adminOf(c)
	s.audit(c, nil, ehi.Event{Action: ehi.ActionBackup})
	c.Set(fiber.HeaderContentType, "application/zstd")
	c.Attachment("ehi-backup.tar.zst")
	s.writeStream(c, func(w *bufio.Writer) {
		err := s.Backup(context.Background(), w) // the request's context ends before its body is written
		if err == nil {
			err = w.Flush()
		}
		s.Log.Info("backup", "by", by, "err", err)
	})
	return nil
}

// upload is the body of a request that is read as it comes. ReadTimeout bounds each wait for more of it, not the whole: a long upload
// that moves is let in.
func (s *Server) upload(c *fiber.Ctx) io.Reader {
	s.busy(c) // who uploads has been let in
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return bytes.NewReader(c.Body())
	}
	return &moving{Reader: stream, conn: c.Context().Conn(), most: s.ReadTimeout}
}

type moving struct {
	io.Reader
	conn    net.Conn
	most    time.Duration
	stalled bool
}

// stalled reports whether an upload stopped on its way.
func stalled(upload io.Reader) bool {
	m, ok := upload.(*moving)
	return ok && m.stalled
}

func (m *moving) Read(p []byte) (int, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(m.most)); err != nil {
		return 0, err
	}
	n, err := m.Reader.Read(p)
	m.stalled = errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}
