package native_test

import (
	"testing"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// BenchmarkRowsAreDecided decides about the rows of 100 patients by rules that search little.
func BenchmarkRowsAreDecided(b *testing.B) {
	for _, shape := range []string{"tsv-tables", "csv-zip", "mixed"} {
		b.Run(shape, func(b *testing.B) {
			s, err := synthetic.NewSource(synthetic.Config{Patients: 100, Native: shape})
			if err != nil {
				b.Fatal(err)
			}
			all := source.Selection{Level: ehi.AllPatients}
			p, err := s.Freeze(b.Context(), "rows")
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			parts, err := p.Plan(b.Context(), all, 1<<40)
			if err != nil {
				b.Fatal(err)
			}
			record, err := p.Open(b.Context(), all, parts[0])
			if err != nil {
				b.Fatal(err)
			}
			defer record.Close()
			bytes := 0
			b.ReportAllocs()
			for b.Loop() {
				bytes = decideRows(b, record)
			}
			b.SetBytes(int64(bytes))
		})
	}
}

// decideRows decides about all rows of a record, and returns their size.
func decideRows(b *testing.B, record source.Record) (bytes int) {
	decide := native.NewRelease(strict{}, record.Tables())
	for i := range record.Tables().Resources {
		t := &record.Tables().Resources[i]
		codec, err := datapackage.NewCodec(t)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := decide.Table(t); err != nil {
			b.Fatal(err)
		}
		var values [][]byte
		err = record.Rows(b.Context(), t.Name, func(some source.Rows) error {
			bytes += len(some.Data)
			for raw := range codec.Rows(some.Data) {
				if values, err = codec.Fields(raw, values[:0]); err != nil {
					return err
				}
				if _, err := decide.Row(values, raw, false); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return bytes
}
