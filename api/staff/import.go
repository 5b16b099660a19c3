package staff

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
)

// ImportPath is the route that imports records. It takes bodies of any length.
const ImportPath = "/admin/import"

// Importer takes records in (source.Importer).
type Importer interface {
	ImportFrom(
		ctx context.Context, name string, r io.Reader, o source.ImportOptions,
	) (source.Report, error)
}

// Imports lets administrators load records into the store while it serves.
type Imports struct {
	// Into is the store; nil where the records come from a source that takes none.
	Into Importer
	// MaxResource is the size of the largest resource, in bytes; 0: source.MaxResource.
	MaxResource int64
	// MoveFrom is source.ImportOptions.MoveFrom.
	MoveFrom int64
	// LeastFree is how many bytes an import leaves free on the disk of the records.
	LeastFree int64
	Receiver  content.Receiver
	Trail     Trail
	Log       *slog.Logger
}

// Routes registers the API. Register it before what reads whole bodies.
func (h *Imports) Routes(r Router) { r.On("POST", ImportPath, h.handleImport, content.Drain) }

// importCodings are the content codings that an import accepts. It recognises gzip without the
// header as well.
var importCodings = []string{"", "identity", "gzip", "x-gzip"}

// handleImport imports a stream of NDJSON of any length, or one Bundle or resource; either may be
// gzipped. Running exports do not see the new records. ?strict=true stops at the first bad line and
// refuses an import that leaves resources without a patient. ?charset= names the encoding of text
// that is not UTF-8, and ?name= is what the report calls the input. The answer is a source.Report.
// What came before an error stays imported.
func (h *Imports) handleImport(c *fiber.Ctx) error {
	if h.Into == nil {
		return ehi.Errorf(ehi.Unsupported,
			"This server's records come from a source that takes none")
	}
	o, err := h.options(c)
	if err != nil {
		return err
	}
	body := h.Receiver.Receive(c)
	report, err := h.Into.ImportFrom(c.Context(), c.Query("name", "body"), body, o)
	read := strconv.FormatInt(report.Resources(), 10) + " resources"
	h.Trail.Record(c, err, ehi.Event{Action: ehi.ActionImport, Detail: read})
	switch {
	case err == nil && body.Stalled(): // the report says so, and what came before
		c.Context().SetConnectionClose()
		c.Status(http.StatusRequestTimeout)
	case errors.Is(err, source.ErrBusy):
		return ehi.Errorf(ehi.Transient, source.Busy)
	case disk.IsFull(err): // the same import, sent again, brings the rest
		// a sender that is cut off does not hear why
		if _, e := io.Copy(io.Discard, body); e != nil {
			return content.BrokenBody(c, e)
		}
		return errors.Join(jobs.ErrNoSpace, err)
	case errors.Is(err, source.ErrBad), errors.Is(err, source.ErrUnplaced): // the report says what
		c.Status(http.StatusBadRequest)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		return content.BrokenBody(c, err)
	case err != nil:
		return err
	}
	h.Log.Info("imported", "by", request.AdministratorName(c),
		"resources", report.Resources(), "problems", report.Problems)
	return c.JSON(report)
}

// options reads what a request says about its import. Errors: ehi.Invalid, ehi.Unsupported; 415 for
// a content coding.
func (h *Imports) options(c *fiber.Ctx) (o source.ImportOptions, err error) {
	coding := c.Get(fiber.HeaderContentEncoding)
	if !slices.Contains(importCodings, strings.ToLower(coding)) {
		c.Set(fiber.HeaderAcceptEncoding, "gzip, identity") // RFC 9110 12.5.3
		return o, fiber.NewError(http.StatusUnsupportedMediaType,
			"Send the body with gzip or without a content coding")
	}
	strict, err := strconv.ParseBool(c.Query("strict", "false"))
	if err != nil {
		return o, ehi.Errorf(ehi.Invalid,
			"strict must be true or false, and is %q", c.Query("strict"))
	}
	o = source.ImportOptions{
		Strict:      strict,
		Charset:     c.Query("charset"),
		MaxResource: h.MaxResource,
		MoveFrom:    h.MoveFrom,
		NoWait:      true,
		Now:         now(),
		LeastFree:   h.LeastFree,
	}
	switch mime := content.MediaType(c); mime {
	case content.NDJSON, "application/ndjson", "application/x-ndjson":
	case "application/fhir+json", fiber.MIMEApplicationJSON:
		o.Document = true
	default:
		return o, ehi.Errorf(ehi.Unsupported, "Unsupported content type %q: send "+
			"application/fhir+ndjson, or one Bundle as application/fhir+json", mime)
	}
	return o, nil
}
