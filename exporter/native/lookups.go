package native

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// lookups finds the rows of look-up tables that a patient's rows refer to, directly or through
// other look-up rows. It holds these rows in memory, each once.
type lookups struct {
	of      *datapackage.Package
	writing *writing
	keys    map[string]*lookedUp // by table, fields and values
	readers map[string]*lookupReader
	needed  needed // by the rows that leave
}

// needed collects look-up rows that some rows refer to.
type needed struct {
	tables map[string]*found
	seen   map[*lookedUp]bool
}

// lookupKey is a foreign key into a look-up table.
type lookupKey struct {
	table   string
	fields  []string // of the table
	columns []int    // of the row that refers to it
}

// lookedUp is what a key leads to.
type lookedUp struct {
	table string
	rows  []lookupRow
	// stays means that a row that refers to it stays, see Decider.Lookup.
	stays bool
}

// lookupRow is a row of a look-up table.
type lookupRow struct {
	raw  []byte
	next []*lookedUp // the rows that it refers to
}

// lookupReader reads the rows of a look-up table.
type lookupReader struct {
	of     *datapackage.Resource
	codec  *datapackage.Codec
	refers []lookupKey
}

// found is the rows of a look-up table that are needed.
type found struct {
	rows []byte
	n    int64
	seen map[string]bool
}

func newLookups(p *datapackage.Package, w *writing) *lookups {
	return &lookups{
		of: p, writing: w, keys: map[string]*lookedUp{}, readers: map[string]*lookupReader{},
	}
}

// keysOf returns the foreign keys of a table into look-up tables.
func (l *lookups) keysOf(r *datapackage.Resource) (out []lookupKey) {
	for _, k := range r.Fields.ForeignKeys {
		target := l.of.Table(k.Reference.Resource)
		if k.Reference.Resource == "" {
			target = r
		}
		if target == nil || !target.Lookup {
			continue
		}
		key := lookupKey{table: target.Name, fields: k.Reference.Fields}
		for _, name := range k.Fields {
			key.columns = append(key.columns, slices.IndexFunc(r.Fields.Fields,
				func(f datapackage.Field) bool { return f.Name == name }))
		}
		out = append(out, key)
	}
	return out
}

// find returns what the key of a row leads to; nil if the row has none.
func (l *lookups) find(
	ctx context.Context, codec *datapackage.Codec, k lookupKey, row [][]byte,
) (*lookedUp, error) {
	var id strings.Builder
	id.WriteString(k.table + "\x00" + strings.Join(k.fields, "\x00"))
	for _, c := range k.columns {
		if c < 0 || c >= len(row) || codec.Missing(c, row[c]) {
			return nil, nil
		}
		id.WriteString("\x00" + strconv.Itoa(len(row[c])) + "\x00")
		id.Write(row[c])
	}
	if known := l.keys[id.String()]; known != nil {
		return known, nil
	}
	to := &lookedUp{table: k.table}
	l.keys[id.String()] = to // before its rows: they may refer to it
	values := make([]string, len(k.columns))
	for i, c := range k.columns {
		values[i] = string(row[c])
	}
	if err := l.read(ctx, k, values, to); err != nil {
		return nil, fmt.Errorf("look-up table %s: %w", k.table, err)
	}
	return to, nil
}

// read reads the rows of a key, and what they refer to.
func (l *lookups) read(
	ctx context.Context, k lookupKey, values []string, to *lookedUp,
) error {
	r, err := l.reader(k.table)
	if err != nil {
		return err
	}
	var rows [][]byte
	err = l.writing.Record.Lookup(ctx, k.table, k.fields, values, func(some source.Rows) error {
		for raw := range r.codec.Rows(some.Data) {
			rows = append(rows, bytes.Clone(raw))
		}
		return nil
	})
	for _, raw := range rows {
		if err != nil {
			return err
		}
		err = l.add(ctx, r, raw, to)
	}
	return err
}

func (l *lookups) add(ctx context.Context, r *lookupReader, raw []byte, to *lookedUp) error {
	row := lookupRow{raw: raw}
	fields, err := r.codec.Fields(raw, nil)
	if err != nil {
		return err
	}
	if d := l.writing.Decide; d != nil {
		leaves, err := d.Lookup(r.of, fields, raw)
		if err != nil {
			return err
		}
		to.stays = to.stays || !leaves
	}
	for _, k := range r.refers {
		next, err := l.find(ctx, r.codec, k, fields)
		if err != nil {
			return err
		}
		if next != nil {
			row.next = append(row.next, next)
			to.stays = to.stays || next.stays
		}
	}
	to.rows = append(to.rows, row)
	return nil
}

func (l *lookups) reader(table string) (*lookupReader, error) {
	if r := l.readers[table]; r != nil {
		return r, nil
	}
	of := l.of.Table(table)
	codec, err := datapackage.NewCodec(of)
	if err != nil {
		return nil, err
	}
	r := &lookupReader{of, codec, l.keysOf(of)}
	l.readers[table] = r
	return r, nil
}

// add adds what a row refers to.
func (n *needed) add(to *lookedUp) {
	if n.seen[to] {
		return
	}
	if n.seen == nil {
		n.tables, n.seen = map[string]*found{}, map[*lookedUp]bool{}
	}
	n.seen[to] = true
	rows := n.tables[to.table]
	if rows == nil {
		rows = &found{seen: map[string]bool{}}
		n.tables[to.table] = rows
	}
	for _, row := range to.rows {
		if !rows.seen[string(row.raw)] {
			rows.seen[string(row.raw)] = true
			rows.rows = append(rows.rows, row.raw...)
			rows.n++
		}
		for _, next := range row.next {
			n.add(next)
		}
	}
}

// each calls visit for each table that has rows, in the order of the descriptor.
func (n *needed) each(
	of *datapackage.Package, visit func(r *datapackage.Resource, rows *found) error,
) error {
	for i := range of.Resources {
		r := &of.Resources[i]
		rows := n.tables[r.Name]
		if rows == nil || rows.n == 0 {
			continue
		}
		if err := visit(r, rows); err != nil {
			return fmt.Errorf("look-up table %s: %w", r.Name, err)
		}
	}
	return nil
}

// write writes the rows that are needed, table by table.
func (l *lookups) write() error {
	return l.needed.each(l.of, func(r *datapackage.Resource, rows *found) error {
		t, err := l.writing.begin(r, nil)
		if err == nil {
			t.each = false // they are decided
			err = t.put(rows.rows, rows.n)
		}
		if err == nil {
			err = t.end(true)
		}
		return err
	})
}
