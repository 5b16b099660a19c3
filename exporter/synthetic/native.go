package synthetic

import (
	"context"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

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
	switch {
	case r.source.native == nil:
		return nil
	case !r.own:
		return r.source.native.Shared(table, rowsOf("", visit))
	case r.reader == nil:
		r.reader = r.source.native.NewReader()
	}
	for i := r.from; i < r.to; i++ {
		k := r.of.at(i)
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.reader.Rows(ctx, table, uint64(k), rowsOf(r.source.cfg.PatientID(k), visit))
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
	context.Context, source.Query, func(*source.Document) error,
) error {
	return nil
}
