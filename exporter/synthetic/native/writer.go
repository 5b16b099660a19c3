package native

import (
	"context"

	"ehi-server/exporter/synthetic/outline"
)

// writer writes the rows of one patient in one table.
type writer struct {
	table  *table
	schema *schema
	data   []byte
	count  int64
	visit  Rows
	salt   uint64 // of the table and the seed
	row    row
	err    error
}

// write writes all rows.
func (w *writer) write(ctx context.Context, all *outlines) {
	p := w.row.patient
	switch w.table.grain.of {
	case ofPatient:
		w.at(p.Since.Unix())
		w.rows()
	case ofProblem:
		w.problems()
	case ofDocument:
		for i := range outline.Documents {
			if p.others+uint32(i) < p.limit {
				w.row.item = i
				w.at(p.Start.Unix() + (800+30*int64(i))*day)
				w.rows()
			}
		}
	case ofVisit:
		all.each(p, func(v *visit) bool {
			if int(v.N)%w.table.grain.every == w.table.grain.rest {
				w.err = ctx.Err()
				w.row.visit = v
				w.row.at, w.row.start, w.row.end = v.Start, v.start, v.end
				w.rows()
			}
			return w.err == nil
		})
	}
	w.flush()
}

// problems writes the rows of the conditions that the record has.
func (w *writer) problems() {
	p := w.row.patient
	for i := range p.Conditions + len(sensitive) {
		if w.row.item = i; w.row.problem() >= p.limit {
			continue
		}
		w.at(p.Since.Unix())
		if i >= p.Conditions {
			w.at(p.Start.Unix() + 1200*day)
		}
		w.rows()
	}
}

// at sets the start and the end of the following rows.
func (w *writer) at(unix int64) {
	w.row.at = unix
	instant(&w.row.start, unix)
	w.row.end = w.row.start
}

// rows writes the rows of one subject.
func (w *writer) rows() {
	for i := range w.table.grain.times {
		w.row.sub = i
		w.row.draw = outline.Mix(w.salt ^ uint64(w.row.key(w.row.n)))
		if w.schema.json {
			w.data = w.table.object(w.data, &w.row)
		} else {
			w.line()
		}
		w.row.n++
		w.count++
	}
	if len(w.data) >= flushBytes {
		w.flush()
	}
}

// line writes a row as a line of text.
func (w *writer) line() {
	last := len(w.table.cells) - 1
	for j, cell := range w.table.cells {
		w.data = cell(w.data, &w.row)
		if j < last {
			w.data = append(w.data, w.schema.delimiter)
		}
	}
	w.data = append(w.data, w.schema.terminator...)
}

// flush hands the rows over.
func (w *writer) flush() {
	if w.err == nil && w.count > 0 {
		w.err = w.visit(w.data, w.count)
	}
	w.data, w.count = w.data[:0], 0
}
