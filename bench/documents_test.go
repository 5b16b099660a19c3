package bench

import (
	"bufio"
	"crypto/rand"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
)

// documents are the documents of a patient.
type documents struct {
	number int64
	size   int64 // of each, in bytes
}

// storeDocuments fills a store with a patient who has documents, and returns the patient's ID.
func storeDocuments(b *testing.B, data string, d documents) string {
	b.Helper()
	folder := b.TempDir()
	if err := writeDocuments(folder, d); err != nil {
		b.Fatal(err)
	}
	store, err := kinds.Store(kinds.Config{Data: data, Bulk: true})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close() // the import has flushed everything
	report, err := store.Import(b.Context(), []string{folder},
		source.ImportOptions{Strict: true, Now: time.Now()})
	if err != nil {
		b.Fatalf("%+v: %v", report, err)
	}
	removeAll(b, folder)
	return "p"
}

// writeDocuments writes a Patient, documents of random bytes and their index.
func writeDocuments(folder string, d documents) error {
	scans := filepath.Join(folder, "scans")
	err := errors.Join(os.Mkdir(scans, 0o700), os.WriteFile(filepath.Join(folder, "p.ndjson"),
		[]byte(`{"resourceType":"Patient","id":"p","name":[{"family":"Doe"}]}`), 0o600))
	if err != nil {
		return err
	}
	index, err := os.Create(filepath.Join(scans, "documents.csv"))
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(index)
	rows := csv.NewWriter(buffered)
	_ = rows.Write([]string{"patient", "path", "type", "category", "date", "title"})
	content := make([]byte, d.size) // errors of writes stay with rows until Flush
	for i := range int(d.number) {
		name := "scan-" + strconv.Itoa(i) + ".bin"
		_, _ = rand.Read(content) // never fails
		if err := os.WriteFile(filepath.Join(scans, name), content, 0o600); err != nil {
			return err
		}
		_ = rows.Write([]string{"p", name, "http://loinc.org|18748-4", "radiology", "2024-01-05",
			"Scan " + strconv.Itoa(i)})
	}
	rows.Flush()
	return errors.Join(rows.Error(), buffered.Flush(), index.Close())
}

// BenchmarkDocuments exports a patient with 200 documents of 1 MiB, and one with 2,000 documents of
// 16 KiB, from kick-off to manifest: each document by itself, which links the large ones, and in a
// ZIP archive, which copies them. It compares the archive with cp and sync of the same file.
func BenchmarkDocuments(b *testing.B) {
	for name, d := range map[string]documents{
		"200x1MiB": {200, 1 << 20}, "2000x16KiB": {2000, 16 << 10},
	} {
		b.Run(name, func(b *testing.B) {
			data := b.TempDir()
			patient := storeDocuments(b, data, d)
			p := startOn(b, data)
			p.authorize(b, patient)
			for _, way := range []string{"files", "zip"} {
				b.Run(way, func(b *testing.B) { p.documents(b, patient, way, d) })
			}
		})
	}
}

func (p *process) documents(b *testing.B, patient, way string, d documents) {
	b.Helper()
	target := noForm + "/fhir/Patient/" + patient + "/$ehi-export?_package=" + way
	linked := p.metric(b, `ehi_native_bytes_total{way="linked"}`)
	written := p.metric(b, `ehi_native_bytes_total{way="written"}`)
	var took []time.Duration
	var all, copied time.Duration
	p.forgetPeak()
	for b.Loop() {
		syncDisk()
		start := time.Now()
		j, err := p.client.Start(b.Context(), "POST", target, nil)
		if err != nil {
			b.Fatal(err)
		}
		m := p.manifest(b, j, 500*time.Microsecond)
		took = append(took, time.Since(start))
		all += took[len(took)-1]
		want := d.number
		if way == "zip" {
			want = 1
			syncDisk()
			dst := filepath.Join(b.TempDir(), "copy")
			copied += copyAndSync(b, filepath.Join(p.data, "exports"), dst)
			removeAll(b, dst)
		}
		if last := m.Output[len(m.Output)-1]; last.Count != want {
			b.Fatalf("the manifest ends with %+v", last)
		}
		if err := p.client.Delete(b.Context(), j.StatusURL); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(float64(d.number*d.size)*float64(len(took))/all.Seconds()/1e6, "MB/s")
	linked = p.metric(b, `ehi_native_bytes_total{way="linked"}`) - linked
	written = p.metric(b, `ehi_native_bytes_total{way="written"}`) - written
	b.ReportMetric(linked/float64(len(took))/1e6, "linked-MB")
	b.ReportMetric(written/float64(len(took))/1e6, "copied-MB")
	b.ReportMetric(p.rssPeak(), "rss-MB")
	if copied > 0 {
		b.ReportMetric(all.Seconds()/copied.Seconds(), "cp-ratio")
	}
}

// smallDocument is the approximate size of a small document in an archive, with its line in the
// list.
const smallDocument = 1700

// BenchmarkSmallDocuments exports a generated population of EHI_BENCH_SIZE whose patients have
// 1,000 small documents each, from kick-off to manifest.
func BenchmarkSmallDocuments(b *testing.B) {
	p := startOn(b, b.TempDir(), fmt.Sprintf(
		"EHI_SOURCE=synthetic:patients=%d,seed=%d,native=tsv-tables,documents=1000",
		max(2, size(b)/smallDocument/1000), seed(b)))
	c := p.service(b)
	count := func() float64 { return p.metric(b, `ehi_native_files_total{kind="document"}`) }
	before := count()
	var took time.Duration
	var last population
	for b.Loop() {
		last = p.exportPopulation(b, c, "POST",
			"/auto-approve/fhir/$ehi-export?_type=DocumentReference", false)
		took += last.took
	}
	all := count() - before
	b.ReportMetric(all/float64(b.N), "docs")
	b.ReportMetric(all/took.Seconds(), "docs/s")
	b.ReportMetric(float64(last.bytes)/1e6, "MB")
	b.ReportMetric(float64(last.manifest)/1e3, "manifest-kB")
	b.ReportMetric(p.rssPeak(), "rss-MB")
}
