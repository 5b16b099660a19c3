package native

import (
	"context"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// tableWriting is a table that is being written. It begins with the first row that leaves.
type tableWriting struct {
	*writing
	of        *datapackage.Resource
	codec     *datapackage.Codec
	each      bool // Decide.Row decides
	unwritten bool
	lookups   *lookups
	refers    []lookupKey // the foreign keys into look-up tables
	needs     *needed     // what the rows that are written refer to
	values    [][]byte
	found     []*lookedUp // of the current row
	kept      []byte
	to        sink
	out       rowWriter
	claims    *claims
}

// begin prepares a table. It returns nil if nothing of it may leave.
func (w *writing) begin(r *datapackage.Resource, l *lookups) (*tableWriting, error) {
	t := &tableWriting{writing: w, of: r, to: w.to, lookups: l, claims: w.claims}
	if w.Decide != nil {
		v, each, err := w.Decide.Table(r)
		if err != nil || v == Stays {
			return nil, err
		}
		if t.each = each; v == Waits {
			t.to = w.held
			t.unwritten = w.Patient == "" // its rows count for those that refer to them
		}
	}
	if l != nil {
		t.refers, t.needs = l.keysOf(r), &l.needed
		if t.to != w.to {
			t.needs = new(needed)
		}
	}
	var err error
	if t.codec, err = datapackage.NewCodec(r); err != nil {
		return nil, err
	}
	if t.to == w.held { // described alone
		t.claims = newClaims(w.Record.Tables(), false)
	}
	t.claims.watch(r, t.codec)
	return t, nil
}

// take returns a visit that writes those rows that may leave.
func (t *tableWriting) take(ctx context.Context) func(rows source.Rows) error {
	return func(rows source.Rows) error {
		if t.dry { // otherwise what is written is a sign of progress
			if err := t.pace.pass(len(rows.Data)); err != nil {
				return err
			}
		}
		if !t.each && len(t.refers) == 0 {
			return t.put(rows.Data, rows.Count)
		}
		if t.each {
			t.Decide.Of(rows.Patient)
		}
		t.kept = t.kept[:0]
		n := int64(0)
		for raw := range t.codec.Rows(rows.Data) {
			leaves, err := t.row(ctx, raw)
			if err != nil {
				return err
			}
			if leaves {
				t.kept = append(t.kept, raw...)
				n++
			}
		}
		return t.put(t.kept, n)
	}
}

// row decides about a row, and notes the look-up rows that it refers to if it leaves.
func (t *tableWriting) row(ctx context.Context, raw []byte) (leaves bool, err error) {
	if t.values, err = t.codec.Fields(raw, t.values[:0]); err != nil {
		return false, err
	}
	refers := t.found[:0]
	stays := false
	for _, k := range t.refers {
		to, err := t.lookups.find(ctx, t.codec, k, t.values)
		if err != nil {
			return false, err
		}
		if to != nil {
			refers = append(refers, to)
			stays = stays || to.stays
		}
	}
	t.found = refers
	if t.each {
		leaves, err := t.Decide.Row(t.values, raw, stays)
		if err != nil || !leaves {
			return false, err
		}
	}
	for _, to := range refers {
		t.needs.add(to)
	}
	return true, nil
}

// put writes whole rows.
func (t *tableWriting) put(data []byte, n int64) (err error) {
	if len(data) == 0 || t.dry || t.unwritten {
		return nil
	}
	if t.out == nil {
		if t.out, err = t.to.table(t.of, t.codec.Header(data)); err != nil {
			return err
		}
		if t.to == t.writing.to {
			t.figures.Tables++
		}
	}
	if t.to == t.writing.to {
		t.figures.Rows += n
	}
	if err = t.claims.see(t.of, data); err == nil {
		_, err = t.out.Write(data)
	}
	return err
}

// end ends the table. ok is false after an error, when the batch is discarded.
func (t *tableWriting) end(ok bool) error {
	if t.out == nil || !ok {
		return nil
	}
	return t.out.Close()
}
