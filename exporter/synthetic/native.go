package synthetic

import (
	"context"
	"errors"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/shared/datapackage"
)

// Tables implements source.Source.
func (s *Source) Tables(context.Context) (*datapackage.Package, error) {
	if s.native == nil {
		return nil, nil
	}
	return s.native.Tables(), nil
}

// sampleBytes is about how many bytes of rows Sample returns at most.
const sampleBytes = 64 << 10

// Sample returns the first rows of a table, for its documentation: nobody real is in them.
func (s *Source) Sample(ctx context.Context, table string) ([]byte, error) {
	if s.native == nil {
		return nil, nil
	}
	var rows []byte
	add := func(data []byte, _ int64) error {
		if rows = append(rows, data...); len(rows) > sampleBytes {
			return errSampled
		}
		return nil
	}
	err := s.native.Shared(table, add)
	if err == nil && rows == nil {
		err = s.native.NewReader().Rows(ctx, table, 0, add)
	}
	if errors.Is(err, errSampled) {
		err = nil
	}
	return rows, err
}

var errSampled = errors.New("the sample is large enough")

// Tables implements source.Native.
func (r *record) Tables() *datapackage.Package {
	if r.source.native == nil {
		return nil
	}
	return r.source.native.Tables()
}

// Rows implements source.Native.
func (r *record) Rows(
	ctx context.Context, table string, visit func(source.Rows) error,
) error {
	if r.source.native == nil {
		return nil
	}
	if !r.own {
		return r.source.native.Shared(table, rowsOf("", visit))
	}
	for i := r.from; i < r.to; i++ {
		k := r.of.at(i)
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.content().Rows(ctx, table, uint64(k), rowsOf(r.source.cfg.PatientID(k), visit))
		if err != nil {
			return err
		}
	}
	return nil
}

// rowsOf visits the rows of a patient.
func rowsOf(patient string, visit func(source.Rows) error) func(data []byte, count int64) error {
	return func(data []byte, count int64) error {
		return visit(source.Rows{Patient: patient, Data: data, Count: count})
	}
}

// Lookup implements source.Native.
func (r *record) Lookup(
	ctx context.Context, table string, fields, values []string, visit func(source.Rows) error,
) error {
	if r.source.native == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.source.native.Lookup(table, fields, values, rowsOf("", visit))
}

// Documents implements source.Native.
func (r *record) Documents(
	ctx context.Context, q source.Query, visit func(*source.Document) error,
) error {
	if r.source.native == nil || !r.own || !q.Names("DocumentReference") {
		return nil
	}
	for i := r.from; i < r.to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.content().Documents(ctx, uint64(r.of.at(i)), q, visit); err != nil {
			return err
		}
	}
	return nil
}

// content returns the reader of the native content.
func (r *record) content() *native.Reader {
	if r.reader == nil {
		r.reader = r.source.native.NewReader()
	}
	return r.reader
}
