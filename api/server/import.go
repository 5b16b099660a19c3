package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/backup"
	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
)

// importCodings are the content codings that an import takes; gzip is recognised with or without the header.
var importCodings = []string{"", "identity", "gzip", "x-gzip"}

// handleImport loads records into the store while it serves: a stream of NDJSON, gzipped or not, of any length, or one Bundle or
// resource. Running exports do not see them. ?strict=true stops at the first bad line, and refuses an import that leaves resources
// without a patient; ?charset= says what text that is not UTF-8
// is in, ?name= is what the report calls the input. The answer is a source.Report; what came before an error stays imported.
func (s *Server) handleImport(c *fiber.Ctx) error {
	into, ok := s.Source.(source.Importer)
	if !ok {
		return ehi.Errorf(ehi.Unsupported, "This server's records come from a source that takes none")
	}
	if coding := c.Get(fiber.HeaderContentEncoding); !slices.Contains(importCodings, strings.ToLower(coding)) {
		c.Set(fiber.HeaderAcceptEncoding, "gzip, identity") // RFC 9110 12.5.3
		return fiber.NewError(http.StatusUnsupportedMediaType, "Send the body with gzip or without a content coding")
	}
	strict, err := strconv.ParseBool(c.Query("strict", "false"))
	if err != nil {
		return ehi.Errorf(ehi.Invalid, "strict must be true or false, and is %q", c.Query("strict"))
	}
	o := source.ImportOptions{
		Strict: strict, Charset: c.Query("charset"), MaxResource: s.MaxResource, NoWait: true, Now: now(),
		LeastFree: s.LeastFree,
	}
	switch mime := content.MediaType(c); mime {
	case content.NDJSON, "application/ndjson", "application/x-ndjson":
	case "application/fhir+json", fiber.MIMEApplicationJSON:
		o.Document = true
	default:
		return ehi.Errorf(ehi.Unsupported, "Unsupported content type %q: send application/fhir+ndjson, or one Bundle as application/fhir+json", mime)
	}
	body := s.receiver().Receive(c)
	report, err := into.ImportFrom(c.Context(), c.Query("name", "body"), body, o)
	read := strconv.FormatInt(report.Resources(), 10) + " resources"
	s.trail.Record(c, err, ehi.Event{Action: ehi.ActionImport, Detail: read})
	switch {
	case err == nil && body.Stalled(): // the report says so, and what came before it
		c.Context().SetConnectionClose()
		c.Status(http.StatusRequestTimeout)
	case errors.Is(err, source.ErrBusy):
		return ehi.Errorf(ehi.Transient, source.Busy)
	case disk.IsFull(err): // what came before stays imported, and the import, sent again, brings the rest
		if _, e := io.Copy(io.Discard, body); e != nil { // who is cut off does not hear why
			return content.BrokenBody(c, e)
		}
		return errors.Join(jobs.ErrNoSpace, err)
	case errors.Is(err, source.ErrBad), errors.Is(err, source.ErrUnplaced): // the report says what
		c.Status(http.StatusBadRequest)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF): // what came before stays imported
		return content.BrokenBody(c, err)
	case err != nil:
		return err
	}
	s.Log.Info("imported", "by", request.AdministratorName(c),
		"resources", report.Resources(), "problems", report.Problems)
	return c.JSON(report)
}

// maxRecipients bounds for whom one backup is encrypted.
const maxRecipients = 32

// handleBackup streams an archive of everything that the server keeps, encrypted with age where the
// parameter recipient names public keys. One that fails on its way ends before its time, which a
// restore notices.
func (s *Server) handleBackup(c *fiber.Ctx) error {
	if s.Backup == nil {
		return ehi.Errorf(ehi.Unsupported, "This server has no backup to give")
	}
	recipients, err := recipientsOf(c)
	if err != nil {
		return err
	}
	by, name, mime := request.AdministratorName(c), "ehi-backup.tar.zst", "application/zstd"
	e := ehi.Event{Action: ehi.ActionBackup}
	if len(recipients) > 0 {
		name, mime = name+".age", fiber.MIMEOctetStream
		e.Detail = "encrypted for " + strings.Join(recipients, ", ")
	}
	s.trail.Record(c, nil, e)
	c.Set(fiber.HeaderContentType, mime)
	c.Attachment(name)
	c.Set(fiber.HeaderContentType, mime) // Attachment sets one by the name's ending
	s.sender.SendChunked(c, func(w *bufio.Writer) error {
		err := s.writeBackup(context.Background(), w, recipients) // the request's context ends before its body is written
		if err != nil {
			return fmt.Errorf("backup for %s: %w", by, err)
		}
		s.Log.Info("backup", "by", by, "encrypted", len(recipients) > 0)
		return nil
	})
	return nil
}

// writeBackup writes a backup for recipients. After an error the end of it is missing.
func (s *Server) writeBackup(ctx context.Context, w *bufio.Writer, recipients []string) error {
	sealed, err := backup.Seal(w, recipients)
	if err != nil {
		return err
	}
	if err := s.Backup(ctx, sealed); err != nil {
		return err
	}
	if err := sealed.Close(); err != nil {
		return err
	}
	return w.Flush()
}

// recipientsOf are the public keys that a backup is asked to be encrypted for; none where it is not.
// Errors: ehi.Invalid, also for a parameter without a value: nobody is given an archive in the clear who
// has asked for an encrypted one.
func recipientsOf(c *fiber.Ctx) (out []string, err error) {
	for name, value := range c.Request().URI().QueryArgs().All() {
		if string(name) != "recipient" {
			return nil, ehi.Errorf(ehi.Invalid, "The one parameter of a backup is recipient")
		}
		out = append(out, string(value))
	}
	if len(out) > maxRecipients {
		return nil, ehi.Errorf(ehi.Invalid, "A backup is for %d recipients at most", maxRecipients)
	}
	for _, key := range out {
		if _, err := backup.Seal(io.Discard, []string{key}); err != nil {
			return nil, ehi.Errorf(ehi.Invalid, "recipient must be the public key that age-keygen prints: age1...")
		}
	}
	return out, nil
}

// receiver reads uploads.
func (s *Server) receiver() content.Receiver {
	return content.Receiver{Conns: s.conns, Wait: s.ReadTimeout}
}
