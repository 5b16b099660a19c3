package bench

import (
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
)

// BenchmarkGenerator generates patients on one core and discards them. An operation is one
// patient with 1,000 resources.
func BenchmarkGenerator(b *testing.B) {
	for _, c := range []struct {
		name string
		synthetic.Config
	}{
		{"natural", synthetic.Config{Seed: seed(b), Resources: 1000}},
		{"600", synthetic.Config{Seed: seed(b), Resources: 1000, Size: 600}},
		{"4096", synthetic.Config{Seed: seed(b), Resources: 1000, Size: 4096}},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := synthetic.NewGenerator(c.Config)
			var bytes, resources int64
			k := 0
			for b.Loop() {
				err := g.Patient(k, func(r source.Resource) error {
					bytes += int64(len(r.Line)) + 1
					resources++
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				k++
			}
			seconds := b.Elapsed().Seconds()
			b.ReportMetric(float64(bytes)/seconds/1e6, "MB/s")
			b.ReportMetric(float64(resources)/seconds, "res/s")
			b.ReportMetric(float64(bytes)/float64(resources), "B/res")
		})
	}
}
