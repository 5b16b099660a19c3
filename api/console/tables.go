package console

import (
	"bytes"
	"context"
	"net/url"
	"sync"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/console/dictionary"
	"ehi-server/api/content"
	"ehi-server/exporter/native"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// tablesBook keeps the description of the tables that the records have now.
type tablesBook struct {
	mu         sync.Mutex
	pack       *datapackage.Package
	book       *dictionary.Book
	descriptor *content.Prepared // with a gap for the origin
}

// of returns the description of the tables; nil if there are none.
func (b *tablesBook) of(ctx context.Context, records Records) (*dictionary.Book, error) {
	p, err := records.Tables(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p != b.pack {
		b.pack, b.book, b.descriptor = p, dictionary.New(p), nil
	}
	return b.book, nil
}

// prepared returns the machine-readable description of the tables that of described last.
func (b *tablesBook) prepared() *content.Prepared {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.descriptor == nil && b.book != nil {
		text := b.book.Descriptor(gap + "/docs/ehi")
		b.descriptor = content.Prepare(datapackage.MediaType, bytes.Split(text, []byte(gap))...)
	}
	return b.descriptor
}

// noTables is the answer about tables if there are none.
func noTables() error {
	return ehi.Errorf(ehi.NotFound, "The records of this server have no tables")
}

// handleDictionary sends the machine-readable description of the tables (NAT-3).
func (h *Pages) handleDictionary(c *fiber.Ctx) error {
	tables, err := h.tables.of(c.UserContext(), h.Records)
	if err != nil {
		return err
	}
	descriptor := h.tables.prepared()
	if tables == nil || descriptor == nil {
		return noTables()
	}
	return h.sendJSON(c, descriptor)
}

// handleTable describes a table.
func (h *Pages) handleTable(c *fiber.Ctx) error {
	tables, err := h.tables.of(c.UserContext(), h.Records)
	if err != nil {
		return err
	}
	if tables == nil {
		return noTables()
	}
	name, err := url.PathUnescape(c.Params("name"))
	if err != nil {
		name = ""
	}
	t := tables.Table(name)
	if t == nil {
		return ehi.Errorf(ehi.NotFound, "The records of this server have no such table")
	}
	sample, err := h.sample(c.UserContext(), t)
	if err != nil {
		return err
	}
	return h.render(c, "table", "ehi", "Table "+t.Name, "", fiber.Map{
		"Table": t, "Sample": sample,
	})
}

// sampler is a source of generated patients: nobody real is in its rows.
type sampler interface {
	// Sample returns the first rows of a table.
	Sample(ctx context.Context, table string) ([]byte, error)
}

// sampleRows is how many rows a page shows.
const sampleRows = 3

// sample returns rows of a table that are about nobody: generated ones, or one of the examples that
// the descriptor has. Rows of real records are never shown.
func (h *Pages) sample(ctx context.Context, t *dictionary.Table) ([][]string, error) {
	s, generated := h.Records.(sampler)
	if !generated {
		return t.Examples(), nil
	}
	rows, err := s.Sample(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	return t.Rows(rows, sampleRows)
}

// describeTables adds to the page what it says about native content. A search chooses the tables.
func describeTables(page fiber.Map, b *dictionary.Book, search string) {
	page["Formats"], page["Search"] = native.Formats(), search
	if b != nil {
		page["Book"], page["Found"] = b, b.Find(search)
	}
}
