package native

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// lookups collects which rows of look-up tables a patient's rows refer to, directly or through
// other look-up tables. It holds these rows in memory, each once.
type lookups struct {
	of      *datapackage.Package
	seen    map[string]bool // keys that were added, by their target
	pending []wanted
	tables  map[string]*found
}

// lookupKey is a foreign key into a look-up table.
type lookupKey struct {
	table   string
	fields  []string // of the table
	columns []int    // of the row that refers to it
}

// wanted is a key whose rows must be found.
type wanted struct {
	table          string
	fields, values []string
}

// found is the rows of a look-up table.
type found struct {
	rows []byte
	n    int64
	seen map[string]bool
}

func newLookups(p *datapackage.Package) *lookups {
	return &lookups{of: p, seen: map[string]bool{}, tables: map[string]*found{}}
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

// add adds the key of a row.
func (l *lookups) add(codec *datapackage.Codec, k lookupKey, row [][]byte) {
	var id strings.Builder
	id.WriteString(k.table + "\x00" + strings.Join(k.fields, "\x00"))
	for _, c := range k.columns {
		if c < 0 || c >= len(row) || codec.Missing(c, row[c]) {
			return
		}
		id.WriteString("\x00" + strconv.Itoa(len(row[c])) + "\x00")
		id.Write(row[c])
	}
	if l.seen[id.String()] {
		return
	}
	l.seen[id.String()] = true
	w := wanted{table: k.table, fields: k.fields}
	for _, c := range k.columns {
		w.values = append(w.values, string(row[c]))
	}
	l.pending = append(l.pending, w)
}

// write finds the rows and writes them, table by table.
func (l *lookups) write(ctx context.Context, w *writing) error {
	for len(l.pending) > 0 {
		next := l.pending[0]
		l.pending = l.pending[1:]
		if err := l.find(ctx, w, next); err != nil {
			return fmt.Errorf("look-up table %s: %w", next.table, err)
		}
	}
	for i := range l.of.Resources {
		r := &l.of.Resources[i]
		rows := l.tables[r.Name]
		if rows == nil || rows.n == 0 {
			continue
		}
		t, err := w.begin(r, nil)
		if err != nil {
			return err
		}
		t.each = false // find has decided
		if err := t.put(rows.rows, rows.n); err != nil {
			return err
		}
		if err := t.end(true); err != nil {
			return fmt.Errorf("look-up table %s: %w", r.Name, err)
		}
	}
	return nil
}

// find adds the rows that a key refers to, and the keys of these rows.
func (l *lookups) find(ctx context.Context, w *writing, next wanted) error {
	rows := l.tables[next.table]
	if rows == nil {
		rows = &found{seen: map[string]bool{}}
		l.tables[next.table] = rows
	}
	t, err := w.begin(l.of.Table(next.table), l)
	if err != nil || t == nil {
		return err
	}
	visit := func(some source.Rows) error {
		for raw := range t.codec.Rows(some.Data) {
			if rows.seen[string(raw)] {
				continue
			}
			if t.values, err = t.codec.Fields(raw, t.values[:0]); err != nil {
				return err
			}
			rows.seen[string(raw)] = true
			for _, k := range t.refers {
				l.add(t.codec, k, t.values)
			}
			rows.rows = append(rows.rows, raw...)
			rows.n++
		}
		return nil
	}
	return w.Record.Lookup(ctx, next.table, next.fields, next.values, visit)
}
