package bench

import (
	"path/filepath"
	"testing"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/sources"
)

// BenchmarkImport imports NDJSON by type, of EHI_BENCH_SIZE, into an empty store until it can be exported.
func BenchmarkImport(b *testing.B) {
	src := filepath.Join(b.TempDir(), "ndjson")
	total := writeSource(b, src, size(b), 26)
	for b.Loop() {
		store, err := sources.Store(sources.Config{Data: b.TempDir(), Bulk: true})
		if err != nil {
			b.Fatal(err)
		}
		rep, err := store.Import(b.Context(), []string{src}, source.ImportOptions{Now: time.Now()})
		if err != nil || len(rep.Bad) > 0 {
			b.Fatalf("%v %v", err, rep.Bad)
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds()/1e6, "MB/s")
}
