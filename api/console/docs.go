package console

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/console/dictionary"
	"ehi-server/api/content"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// docsBook keeps the latest page that explains the format.
type docsBook struct {
	mu     sync.Mutex
	page   *content.Prepared
	at     time.Time
	tables *dictionary.Book
}

// of is the page about what was found at a time, and about tables. render makes it, if it is not
// the one that is kept.
func (b *docsBook) of(
	at time.Time, tables *dictionary.Book, render func() ([]byte, error),
) (*content.Prepared, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.page != nil && b.at.Equal(at) && b.tables == tables {
		return b.page, nil
	}
	text, err := render()
	if err != nil {
		return nil, err
	}
	b.page = content.Prepare(fiber.MIMETextHTMLCharsetUTF8, bytes.Clone(text))
	b.at, b.tables = at, tables
	return b.page, nil
}

// maxSearch is the longest search for tables, in bytes.
const maxSearch = 200

// handleDocs explains what an export contains (EHI-5, REAL-15). With the parameter q it only
// lists the tables that a search finds.
func (h *Pages) handleDocs(c *fiber.Ctx) error {
	tables, err := h.tables.of(c.UserContext(), h.Records)
	if search := strings.TrimSpace(c.Query("q")); err == nil && search != "" {
		page := fiber.Map{}
		describeTables(page, tables, fhir.CutText(search, maxSearch))
		return h.renderDocs(c, page)
	}
	page, at, err2 := h.describeTypes(c.UserContext())
	describeTables(page, tables, "")
	if err = errors.Join(err, err2); err != nil { // the rest of the page is true nevertheless
		h.Log.Warn("describe the export format", "err", err)
		return h.renderDocs(c, page)
	}
	kept, err := h.docs.of(at, tables, func() ([]byte, error) {
		err := h.renderDocs(c, page)
		return c.Response().Body(), err
	})
	if err != nil {
		return err
	}
	return kept.Send(c, nil)
}

func (h *Pages) renderDocs(c *fiber.Ctx, page fiber.Map) error {
	page["Categories"], page["Authorizations"] = ehi.Categories(), ehi.Authorizations()
	page["T"] = h.Views.Default()
	return h.render(c, "docs", "ehi", "What an export contains", "docs.js", page)
}

// describeTypes is what the page says about the types that the server can export or, in the
// sandbox, about those in its records. at is when the records were examined.
func (h *Pages) describeTypes(ctx context.Context) (page fiber.Map, at time.Time, err error) {
	page = fiber.Map{}
	if !h.Sandbox {
		page["Published"], err = published()
		return page, at, err
	}
	found, examples, at, err := h.format.of(ctx, h.Records)
	if err == nil {
		page["Survey"], page["Examples"] = found, examples
	}
	return page, at, err
}
