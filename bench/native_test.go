package bench

import (
	"errors"
	"io"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/synthetic/native"
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

// BenchmarkNativeDocuments generates the documents of patients on one core and discards them, of
// their natural size and of 1 MiB. An operation is 100 patients, or 1 with the larger documents.
func BenchmarkNativeDocuments(b *testing.B) {
	for _, shape := range native.Shapes() {
		for name, c := range map[string]synthetic.Config{
			"natural": {Patients: 100},
			"1MiB":    {Patients: 1, Documents: 100, DocumentBytes: 1 << 20},
		} {
			b.Run(shape+"/"+name, func(b *testing.B) {
				c.Seed, c.Native = seed(b), shape
				r, buffer := part(b, c), make([]byte, 64<<10)
				var bytes, documents int64
				for b.Loop() {
					err := r.Documents(b.Context(), source.Query{}, func(d *source.Document) error {
						content, err := d.Open()
						if err != nil {
							return err
						}
						n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, content, buffer)
						bytes += n
						documents++
						return errors.Join(err, content.Close())
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				seconds := b.Elapsed().Seconds()
				b.ReportMetric(float64(bytes)/seconds/1e6, "MB/s")
				b.ReportMetric(float64(documents)/seconds, "docs/s")
				b.ReportMetric(float64(bytes)/float64(documents), "B/doc")
			})
		}
	}
}
