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
	unread  []unread
}

// needed collects look-up rows that some rows refer to.
type needed struct {
	tables map[string]*found
	seen   map[*lookedUp]bool
}

// lookupKey is a foreign key into a look-up table.
type lookupKey struct {
	table   string
	fields  []string   // of the table
	columns []columnOf // of the row that refers to it
}

// lookedUp is what a key leads to.
type lookedUp struct {
	table string
	rows  []lookupRow
	// stays means that a row that refers to it stays, see Decider.Lookup.
	stays bool
}

// unread is a key whose rows are not read yet.
type unread struct {
	key    lookupKey
	values []string // as the row that refers to it writes them
	plain  []string // in the canonical form
	to     *lookedUp
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
		out = append(out, lookupKey{
			table: target.Name, fields: k.Reference.Fields, columns: keyColumns(r, k, target),
		})
	}
	return out
}

// find returns what the key of a row leads to; nil if the row has none. It reads everything to
// which that leads, because rows can refer to each other in a circle: one that does not stay may
// refer to one that is found to stay only later.
func (l *lookups) find(
	ctx context.Context, codec *datapackage.Codec, k lookupKey, row [][]byte,
) (*lookedUp, error) {
	to := l.enter(codec, k, row)
	var read []*lookedUp
	for len(l.unread) > 0 {
		last := len(l.unread) - 1
		next := l.unread[last]
		l.unread = l.unread[:last]
		if err := l.read(ctx, next); err != nil {
			return nil, fmt.Errorf("look-up table %s: %w", next.to.table, err)
		}
		read = append(read, next.to)
	}
	spread(read)
	return to, nil
}

// enter returns what the key of a row leads to, and notes that it is to be read if it is new.
func (l *lookups) enter(codec *datapackage.Codec, k lookupKey, row [][]byte) *lookedUp {
	var id strings.Builder
	id.WriteString(k.table + "\x00" + strings.Join(k.fields, "\x00"))
	values := make([]string, len(k.columns))
	for i, c := range k.columns {
		if c.at >= len(row) || codec.Missing(c.at, row[c.at]) {
			return nil
		}
		values[i] = string(row[c.at])
		id.WriteString("\x00" + strconv.Itoa(len(values[i])) + "\x00" + values[i])
	}
	to := l.keys[id.String()]
	if to == nil {
		to = &lookedUp{table: k.table}
		l.keys[id.String()] = to
		plain := make([]string, len(values))
		for i, c := range k.columns {
			plain[i] = string(appendKey(nil, c.field, []byte(values[i])))
		}
		l.unread = append(l.unread, unread{k, values, plain, to})
	}
	return to
}

// spread makes everything stay that leads to something that stays. What was read before is decided.
func spread(read []*lookedUp) {
	var staying []*lookedUp
	from := map[*lookedUp][]*lookedUp{} // the reverse of lookupRow.next
	for _, to := range read {
		for _, row := range to.rows {
			for _, next := range row.next {
				to.stays = to.stays || next.stays
				from[next] = append(from[next], to)
			}
		}
		if to.stays {
			staying = append(staying, to)
		}
	}
	for len(staying) > 0 {
		last := len(staying) - 1
		to := staying[last]
		staying = staying[:last]
		for _, f := range from[to] {
			if !f.stays {
				f.stays = true
				staying = append(staying, f)
			}
		}
	}
}

// read reads the rows of a key, and enters what they refer to.
func (l *lookups) read(ctx context.Context, u unread) error {
	r, err := l.reader(u.to.table)
	if err != nil {
		return err
	}
	var rows [][]byte
	find := func(values []string) error {
		return l.writing.Record.Lookup(ctx, u.to.table, u.key.fields, values,
			func(some source.Rows) error {
				for raw := range r.codec.Rows(some.Data) {
					rows = append(rows, bytes.Clone(raw))
				}
				return nil
			})
	}
	if err = find(u.values); err == nil && len(rows) == 0 && !slices.Equal(u.plain, u.values) {
		err = find(u.plain) // a source may find keys as they are written
	}
	for _, raw := range rows {
		if err != nil {
			return err
		}
		err = l.add(r, raw, u.to)
	}
	return err
}

func (l *lookups) add(r *lookupReader, raw []byte, to *lookedUp) error {
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
		if next := l.enter(r.codec, k, fields); next != nil {
			row.next = append(row.next, next)
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
