package native

import (
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// tableWriting is a table that is being written. It begins with the first row that leaves.
type tableWriting struct {
	*writing
	of     *datapackage.Resource
	codec  *datapackage.Codec
	each   bool // Decide.Row decides
	needed *lookups
	refers []lookupKey // the foreign keys into look-up tables
	values [][]byte
	kept   []byte
	to     sink
	out    rowWriter
}

// begin prepares a table. It returns nil if nothing of it may leave.
func (w *writing) begin(r *datapackage.Resource, needed *lookups) (*tableWriting, error) {
	t := &tableWriting{writing: w, of: r, to: w.to}
	if w.Decide != nil {
		v, each, err := w.Decide.Table(r)
		if err != nil || v == Stays || v == Waits && w.Patient == "" {
			return nil, err
		}
		if t.each = each; v == Waits {
			t.to = w.held
		}
	}
	if needed != nil && t.to == w.to { // look-up rows do not wait
		t.needed = needed
		t.refers = needed.keysOf(r)
	}
	var err error
	t.codec, err = datapackage.NewCodec(r)
	return t, err
}

// take writes those rows that may leave.
func (t *tableWriting) take(rows source.Rows) error {
	if !t.each && len(t.refers) == 0 {
		return t.put(rows.Data, rows.Count)
	}
	t.kept = t.kept[:0]
	n := int64(0)
	for raw := range t.codec.Rows(rows.Data) {
		var err error
		if t.values, err = t.codec.Fields(raw, t.values[:0]); err != nil {
			return err
		}
		if t.each {
			if ok, err := t.Decide.Row(t.values, raw); err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		for _, k := range t.refers {
			t.needed.add(t.codec, k, t.values)
		}
		t.kept = append(t.kept, raw...)
		n++
	}
	return t.put(t.kept, n)
}

// put writes whole rows.
func (t *tableWriting) put(data []byte, n int64) (err error) {
	if len(data) == 0 {
		return nil
	}
	if t.out == nil {
		if t.out, err = t.to.table(t.of, t.codec.Header()); err != nil {
			return err
		}
		if t.to == t.writing.to {
			t.figures.Tables++
		}
	}
	if t.to == t.writing.to {
		t.figures.Rows += n
	}
	_, err = t.out.Write(data)
	return err
}

// end ends the table. ok is false after an error, when the batch is discarded.
func (t *tableWriting) end(ok bool) error {
	if t.out == nil || !ok {
		return nil
	}
	return t.out.Close()
}
