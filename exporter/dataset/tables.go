package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// rowsBytes is about how many bytes of rows one visit gets.
const rowsBytes = 128 << 10

// gatherer gives rows to a visit in blocks.
type gatherer struct {
	ctx   context.Context //nolint:containedctx // of one call
	visit func(source.Rows) error
	rows  source.Rows
}

// add adds a row of a patient.
func (g *gatherer) add(patient, row []byte) error {
	if g.rows.Patient != string(patient) || len(g.rows.Data)+len(row) > rowsBytes {
		if err := g.end(); err != nil {
			return err
		}
		if g.rows.Patient != string(patient) {
			g.rows.Patient = string(patient)
		}
	}
	g.rows.Data = append(g.rows.Data, row...)
	g.rows.Count++
	return nil
}

// end visits what was gathered.
func (g *gatherer) end() error {
	if err := g.ctx.Err(); err != nil || g.rows.Count == 0 {
		return err
	}
	err := g.visit(g.rows)
	g.rows.Data, g.rows.Count = g.rows.Data[:0], 0
	return err
}

// tableOf returns the table with a name.
func (d *dictionary) tableOf(name string) (*table, error) {
	if d != nil {
		if t := d.tables[name]; t != nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no table %q", name)
}

// packageOf returns the description of tables, or nil.
func (d *dictionary) packageOf() *datapackage.Package {
	if d == nil {
		return nil
	}
	return d.pack
}

// Tables implements source.Native.
func (r *record) Tables() *datapackage.Package { return r.tables.packageOf() }

// Rows implements source.Native.
func (r *record) Rows(ctx context.Context, name string, visit func(source.Rows) error) error {
	t, err := r.tables.tableOf(name)
	if err != nil || t.way == nil {
		return err
	}
	g := gatherer{ctx: ctx, visit: visit}
	for _, p := range r.patients {
		patient := []byte(p)
		err := each(r.snap, rowsKey(t.Number, p), func(_, row []byte) error {
			return g.add(patient, row)
		})
		if err != nil {
			return err
		}
	}
	return g.end()
}

// Lookup implements source.Native.
func (r *record) Lookup(
	ctx context.Context, name string, fields, values []string, visit func(source.Rows) error,
) error {
	return r.tables.lookup(ctx, r.snap, name, fields, values, visit)
}

// lookup visits the rows of a look-up table by their fields.
func (d *dictionary) lookup(
	ctx context.Context, r pebble.Reader, name string, fields, values []string,
	visit func(source.Rows) error,
) error {
	t, err := d.tableOf(name)
	if err != nil || t.way != nil { // other tables have rows of patients
		return err
	}
	index, order := t.index(fields)
	if index < 0 || len(values) != len(fields) {
		return fmt.Errorf("the table %q has no key of the fields %q", name, fields)
	}
	of := make([][]byte, len(order))
	for i, at := range order {
		of[i] = []byte(values[at])
	}
	g := gatherer{ctx: ctx, visit: visit}
	err = t.find(r, index, t.digest(index, of), func(row []byte, _ rowPlace) error {
		return g.add(nil, row)
	})
	if err != nil {
		return err
	}
	return g.end()
}

// find visits the rows with a key, by its digest.
func (t *table) find(
	r pebble.Reader, index int, d digest, visit func(row []byte, at rowPlace) error,
) error {
	return t.places(r, index, d, func(at rowPlace) error {
		return view(r, at.key(t), func(row []byte) error { return visit(row, at) })
	})
}

// places visits the places of the rows with a key, by its digest.
func (t *table) places(
	r pebble.Reader, index int, d digest, visit func(at rowPlace) error,
) error {
	one := func(_, v []byte) error {
		at, err := decodePlace(v)
		if err != nil {
			return err
		}
		return visit(at)
	}
	k := t.indexKey(index, d)
	if index > 0 {
		return each(r, k, one)
	}
	err := view(r, k, func(v []byte) error { return one(k, v) }) // of the primary key
	if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	return err
}

// Tables implements source.Native.
func (r *partRecord) Tables() *datapackage.Package { return r.population.tables.packageOf() }

// Rows implements source.Native.
func (r *partRecord) Rows(ctx context.Context, name string, visit func(source.Rows) error) error {
	t, err := r.population.tables.tableOf(name)
	if err != nil || r.part.Shared != (t.way == nil) {
		return err
	}
	g := gatherer{ctx: ctx, visit: visit}
	prefix := tableKey(kRow, t.Number)
	add := func(k, row []byte) error {
		rest := k[len(prefix):]
		return g.add(rest[:bytes.IndexByte(rest, 0)], row)
	}
	if r.part.Shared {
		err = each(r.population.store.db, rowsKey(t.Number, ""), add)
	} else {
		err = r.native(prefix, add)
	}
	if err != nil {
		return err
	}
	return g.end()
}

// Lookup implements source.Native.
func (r *partRecord) Lookup(
	ctx context.Context, name string, fields, values []string, visit func(source.Rows) error,
) error {
	p := r.population
	return p.tables.lookup(ctx, p.store.db, name, fields, values, visit)
}
