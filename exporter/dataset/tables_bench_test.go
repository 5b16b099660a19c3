package dataset_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// benchRows is how many rows of 100 bytes the benchmarks of tables use: of visits, each with a
// primary key, and twice as many of results, which follow them to their patients.
const benchRows = 500_000

// benchFolder writes a package of two tables for a number of patients.
func benchFolder(b *testing.B, rows, patients int) (dir string, bytes int64) {
	b.Helper()
	dir = b.TempDir()
	fill(b, dir, map[string]string{"datapackage.json": `{"resources": [
		{"name": "visits", "path": "visits.csv", "ehi:patient": ["patient"], "schema": {"fields": [
			{"name": "id"}, {"name": "patient"}, {"name": "day", "type": "date"}, {"name": "text"}],
			"primaryKey": "id"}},
		{"name": "results", "path": "results.csv", "ehi:patient": ["visit", "patient"],
			"schema": {"fields": [{"name": "id", "type": "integer"}, {"name": "visit"},
			{"name": "value", "type": "number"}, {"name": "text"}], "primaryKey": "id",
			"foreignKeys": [{"fields": "visit",
			"reference": {"resource": "visits", "fields": "id"}}]}}]}`})
	var people []byte
	for p := range patients {
		people = fmt.Appendf(people, `{"resourceType":"Patient","id":"p%07d"}`+"\n", p)
	}
	write := func(name, header string, n int, line func(i int) string) {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		w := bufio.NewWriter(f)
		_, _ = w.WriteString(header) // Flush returns the error
		for i := range n {
			text := line(i)
			_, _ = fmt.Fprintf(w, "%s,%0*d\n", text, 98-len(text), i)
		}
		size, err2 := f.Seek(0, 1)
		if err := errors.Join(w.Flush(), err2, f.Close()); err != nil {
			b.Fatal(err)
		}
		bytes += size
	}
	write("visits.csv", "id,patient,day,text\n", rows/3, func(i int) string {
		return fmt.Sprintf("v%d,p%07d,2024-01-02", i, i*patients/(rows/3))
	})
	write("results.csv", "id,visit,value,text\n", rows/3*2, func(i int) string {
		return fmt.Sprintf("%d,v%d,1.5", i, i/2)
	})
	fill(b, dir, map[string]string{"patients.ndjson": string(people)})
	return dir, int64(rows/3*3) * 100
}

func BenchmarkImportOfTables(b *testing.B) {
	from, bytes := benchFolder(b, benchRows, 1000)
	for _, bulk := range []bool{true, false} {
		b.Run(fmt.Sprintf("bulk=%v", bulk), func(b *testing.B) {
			b.SetBytes(bytes)
			for b.Loop() {
				s, err := dataset.Open(dataset.Config{
					Dir: filepath.Join(b.TempDir(), "records"), Bulk: bulk,
				})
				if err != nil {
					b.Fatal(err)
				}
				now := source.ImportOptions{Now: time.Now()}
				rep, err := s.Import(b.Context(), []string{from}, now)
				if err := errors.Join(err, s.Close()); err != nil || rep.Problems > 0 {
					b.Fatal(err, rep)
				}
			}
		})
	}
}

func BenchmarkScanOfTables(b *testing.B) {
	from, bytes := benchFolder(b, benchRows, 1000)
	dir := filepath.Join(b.TempDir(), "records")
	s, err := dataset.Open(dataset.Config{Dir: dir, Bulk: true})
	if err != nil {
		b.Fatal(err)
	}
	_, err = s.Import(b.Context(), []string{from}, source.ImportOptions{Now: time.Now()})
	if err := errors.Join(err, s.Close()); err != nil {
		b.Fatal(err)
	}
	s = openStore(b, dir)
	p, err := s.Freeze(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close() // read only
	rec, err := p.Open(b.Context(), source.Selection{Level: ehi.System}, ehi.Part{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(bytes)
	for b.Loop() {
		var n int64
		for _, table := range []string{"visits", "results"} {
			err := rec.Rows(b.Context(), table, func(r source.Rows) error {
				n += int64(len(r.Data))
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		if n != bytes {
			b.Fatalf("%d bytes instead of %d", n, bytes)
		}
	}
}
