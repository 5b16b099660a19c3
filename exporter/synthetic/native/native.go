// Package native generates what synthetic patients have beside FHIR resources: tables of a record
// system that does not exist, and documents. It is drawn from the same outlines as the resources,
// so that keys lead from one to the other. A row depends on the seed, the patient and the table
// only. Nothing is stored.
package native

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/datapackage"
)

// Config selects native content.
type Config struct {
	Seed      uint64
	Resources int // of each patient, as synthetic.Config.Resources
	// Shape is one of Shapes.
	Shape string
	// Documents is the number of documents of each patient; 0 means as many as the shape draws, and
	// NoDocuments none.
	Documents int
	// DocumentBytes is the size that documents are padded to; 0 means no padding. A document may
	// lack the few bytes that are too little for a filling of its format.
	DocumentBytes int64
}

// NoDocuments is the Config.Documents of patients without documents.
const NoDocuments = -1

// has reports whether a patient has document i, if the shape draws so many.
func (c *Config) has(i int) bool { return c.Documents == 0 || i < c.Documents }

// shape defines a shape: its tables, and its documents, which are some of each patient and some
// of each visit.
type shape struct {
	name             string
	tables           func(*sharedIDs) *schema // nil for none
	datasets         func(*sharedIDs) *schema // the tables that documents are made of; nil for none
	once, everyVisit []kind
}

// shapes lists the shapes.
func shapes() []shape {
	return []shape{tsvShape(), csvShape(), ndjsonShape(), ccdaShape(), mixedShape()}
}

// Shapes lists the names of the shapes.
func Shapes() (names []string) {
	for _, s := range shapes() {
		names = append(names, s.name)
	}
	return names
}

// CheckShape reports a shape that does not exist. "" means no native content.
func CheckShape(shape string) error {
	if shape != "" && !slices.Contains(Shapes(), shape) {
		return fmt.Errorf("no such shape; there are %s", strings.Join(Shapes(), ", "))
	}
	return nil
}

// Content is the native content of a population. It is safe for concurrent use.
type Content struct {
	cfg      Config
	shape    shape
	shared   sharedIDs
	schema   *schema // nil without tables
	datasets *schema // nil without datasets
	tables   *datapackage.Package
	ordered  map[string]*table
	lookups  map[string]*lookup
}

// New returns the content of a population. The shape exists.
func New(c Config) *Content {
	n := &Content{cfg: c, shared: newSharedIDs(c.Seed)}
	for _, s := range shapes() {
		if s.name == c.Shape {
			n.shape = s
		}
	}
	if n.shape.tables != nil {
		n.schema = n.shape.tables(&n.shared)
		n.index()
	}
	if n.shape.datasets != nil {
		n.datasets = n.shape.datasets(&n.shared)
		n.datasets.compile()
	}
	return n
}

// index compiles the tables.
func (n *Content) index() {
	n.schema.compile()
	n.tables = n.schema.descriptor()
	n.ordered, n.lookups = map[string]*table{}, map[string]*lookup{}
	for i := range n.schema.tables {
		n.ordered[n.schema.tables[i].name] = &n.schema.tables[i]
	}
	for i := range n.schema.lookups {
		n.lookups[n.schema.lookups[i].name] = &n.schema.lookups[i]
	}
}

// Tables describes the tables; nil if there are none. It must not be changed.
func (n *Content) Tables() *datapackage.Package { return n.tables }

// Rows receives whole rows of a table. They are valid during the call only.
type Rows func(data []byte, count int64) error

// Lookup calls visit for the rows of a look-up table whose fields have these values.
func (n *Content) Lookup(table string, fields, values []string, visit Rows) error {
	l := n.lookups[table]
	if l == nil {
		return fmt.Errorf("there is no look-up table %q", table)
	}
	places, err := l.places(fields)
	if err != nil {
		return err
	}
	for i, row := range l.rows {
		if !matches(row, places, values) {
			continue
		}
		if err := visit(l.lines[i], 1); err != nil {
			return err
		}
	}
	return nil
}

// places returns the places of fields in a row.
func (l *lookup) places(fields []string) (places []int, err error) {
	for _, name := range fields {
		i := slices.IndexFunc(l.fields, func(c column) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("the table %s has no field %q", l.name, name)
		}
		places = append(places, i)
	}
	return places, nil
}

func matches(row []string, places []int, values []string) bool {
	for i, place := range places {
		if row[place] != values[i] {
			return false
		}
	}
	return true
}

// Shared calls visit with all rows of a look-up table. Any other table has none.
func (n *Content) Shared(table string, visit Rows) error {
	if l := n.lookups[table]; l != nil {
		return visit(l.all, int64(len(l.lines)))
	}
	return n.known(table)
}

func (n *Content) known(table string) error {
	if n.ordered[table] == nil && n.lookups[table] == nil {
		return fmt.Errorf("there is no table %q", table)
	}
	return nil
}

// Reader reads the content of patients. It is not safe for concurrent use.
type Reader struct {
	*Content
	outlines *outlines
	buffer   []byte
}

// NewReader returns a Reader.
func (n *Content) NewReader() *Reader {
	return &Reader{Content: n, outlines: newOutlines(n.cfg, &n.shared)}
}

// flushBytes is how many bytes of rows are collected for a visit.
const flushBytes = 256 << 10

// Rows calls visit for the rows of patient k in a table, which are none in a look-up table. Large
// ones come in several calls.
func (r *Reader) Rows(ctx context.Context, table string, k uint64, visit Rows) error {
	t := r.ordered[table]
	if t == nil {
		return r.known(table)
	}
	w := r.writer(r.schema, t, r.outlines.of(k), visit)
	w.data = r.buffer[:0]
	w.write(ctx, r.outlines)
	r.buffer = w.data
	return w.err
}

func (r *Reader) writer(s *schema, t *table, p *patient, visit Rows) *writer {
	w := &writer{
		table:  t,
		schema: s,
		visit:  visit,
		salt:   t.salt ^ outline.Mix(r.cfg.Seed),
		row:    row{patient: p, cfg: &r.cfg},
	}
	w.row.id = w.row.ID
	return w
}
