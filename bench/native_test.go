package bench

import (
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// BenchmarkNativeTables generates the rows of tables on one core and discards them, table by table
// over the same patients, as a population's export reads them. An operation is 100 patients.
func BenchmarkNativeTables(b *testing.B) {
	for _, shape := range []string{"tsv-tables", "csv-zip", "mixed"} {
		b.Run(shape, func(b *testing.B) {
			r := part(b, synthetic.Config{Patients: 100, Seed: seed(b), Native: shape})
			var bytes, rows int64
			for b.Loop() {
				for _, table := range r.Tables().Resources {
					err := r.Rows(b.Context(), table.Name, func(of source.Rows) error {
						bytes += int64(len(of.Data))
						rows += of.Count
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			seconds := b.Elapsed().Seconds()
			b.ReportMetric(float64(bytes)/seconds/1e6, "MB/s")
			b.ReportMetric(float64(rows)/seconds, "rows/s")
			b.ReportMetric(float64(bytes)/float64(rows), "B/row")
		})
	}
}

// part opens all patients of a population as one part.
func part(b *testing.B, c synthetic.Config) source.Record {
	b.Helper()
	s, err := synthetic.NewSource(c)
	if err != nil {
		b.Fatal(err)
	}
	p, err := s.Freeze(b.Context(), "native")
	if err != nil {
		b.Fatal(err)
	}
	parts, err := p.Plan(b.Context(), source.Selection{Level: ehi.AllPatients}, 1<<40)
	if err != nil {
		b.Fatal(err)
	}
	r, err := p.Open(b.Context(), source.Selection{Level: ehi.AllPatients}, parts[0])
	if err != nil {
		b.Fatal(err)
	}
	return r
}
