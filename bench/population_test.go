package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// patientBytes is the approximate size of a synthetic patient with default settings.
const patientBytes = 417_000

// populate fills a store with about this many bytes, and returns its number of resources by
// type.
func populate(b *testing.B, data string, bytes int64) map[string]int64 {
	b.Helper()
	store, err := kinds.Store(kinds.Config{Data: data, Bulk: true})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close() // Generate has flushed everything
	if err := store.Generate(b.Context(),
		synthetic.Config{Patients: int(max(2, bytes/patientBytes)), Seed: seed(b)}, time.Now(),
		func(int, int) {}); err != nil {
		b.Fatal(err)
	}
	counts, err := store.Counts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return counts
}

// population is the result of one population's export.
type population struct {
	took   time.Duration
	counts map[string]int64 // by type
	bytes  int64
	files  int
	// manifest is the size of the manifest in bytes.
	manifest int
	copied   time.Duration // the time of cp and sync for the same files
}

func (p population) resources() (n int64) {
	for _, k := range p.counts {
		n += k
	}
	return n
}

// exportPopulation exports a population from kick-off to manifest. With compare, it copies the
// files. Then it deletes the export.
func (p *process) exportPopulation(
	b *testing.B, c *client.Client, method, target string, compare bool,
) (out population) {
	b.Helper()
	syncDisk()
	start := time.Now()
	job, err := c.Start(b.Context(), method, target, nil)
	if err != nil {
		b.Fatal(err)
	}
	m := waitFor(b, c, job, 5*time.Millisecond)
	out.took = time.Since(start)
	out.counts, out.files = map[string]int64{}, len(m.Output)
	text, err := json.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	out.manifest = len(text)
	for _, e := range m.Output {
		out.counts[e.Type] += e.Count
	}
	if len(m.Error) > 0 {
		b.Fatalf("the export reports errors: %+v", m.Error)
	}
	out.bytes = bytesOf(b, c, job)
	if compare {
		syncDisk()
		dst := filepath.Join(b.TempDir(), "copy")
		out.copied = copyAndSync(b, filepath.Join(p.data, "exports"), dst)
		removeAll(b, dst)
	}
	if err := c.Delete(b.Context(), job.StatusURL); err != nil {
		b.Fatal(err)
	}
	return out
}

// bytesOf asks the server for the number of bytes in a job's lines.
func bytesOf(b *testing.B, c *client.Client, job client.Job) int64 {
	b.Helper()
	data, err := c.Download(b.Context(), "/jobs/"+job.ID+"/metadata")
	var v struct {
		Bytes int64 `json:"bytes"`
	}
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil || v.Bytes == 0 {
		b.Fatalf("metadata %s: %v", data, err)
	}
	return v.Bytes
}

// reportPopulation reports an operation that ran b.N times.
func reportPopulation(b *testing.B, p *process, runs []population) {
	b.Helper()
	var took, copied time.Duration
	var bytes, resources int64
	for _, r := range runs {
		took, copied, bytes, resources = took+r.took, copied+r.copied, bytes+r.bytes, resources+
			r.resources()
	}
	b.ReportMetric(float64(bytes)/took.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(resources)/took.Seconds(), "res/s")
	b.ReportMetric(float64(bytes)/float64(len(runs))/1e6, "MB")
	b.ReportMetric(p.rssPeak(), "rss-MB")
	if copied > 0 {
		b.ReportMetric(took.Seconds()/copied.Seconds(), "cp-ratio")
	}
}

// BenchmarkPopulation exports a stored population of 1, 4 and 16 times EHI_BENCH_SIZE, each with
// a server of its own. It compares the time with that of cp and sync of the same files, and the
// time per byte with that of the smallest population.
func BenchmarkPopulation(b *testing.B) {
	var perByte float64 // of 1x
	for _, times := range []int64{1, 4, 16} {
		b.Run(fmt.Sprintf("%dx", times), func(b *testing.B) {
			data := b.TempDir()
			want := populate(b, data, times*size(b))
			p := startOn(b, data)
			c := p.service(b)
			p.exportPopulation(b, c, "GET", "/fhir/$export", false)
			p.forgetPeak()
			allocated := p.metric(b, "go_memstats_mallocs_total")
			var runs []population
			for b.Loop() {
				r := p.exportPopulation(b, c, "GET", "/fhir/$export", true)
				if !maps.Equal(r.counts, want) {
					b.Fatalf("exported %v, stored %v", r.counts, want)
				}
				runs = append(runs, r)
			}
			reportPopulation(b, p, runs)
			var took float64
			var resources, bytes int64
			for _, r := range runs {
				took, resources, bytes = took+r.took.Seconds(), resources+r.resources(), bytes+
					r.bytes
			}
			b.ReportMetric((p.metric(b, "go_memstats_mallocs_total")-allocated)/float64(resources),
				"allocs/res")
			if times == 1 {
				perByte = took / float64(bytes)
			}
			if perByte > 0 { // only if the smallest size is part of this run
				b.ReportMetric(took/float64(bytes)/perByte, "1x-ratio")
			}
		})
	}
}

// BenchmarkPopulationStored exports with each way of storing files.
func BenchmarkPopulationStored(b *testing.B) {
	data := b.TempDir()
	populate(b, data, 4*size(b))
	p := startOn(b, data)
	c := p.service(b)
	for _, compression := range ehi.Compressions() {
		b.Run(string(compression), func(b *testing.B) {
			var runs []population
			for b.Loop() {
				runs = append(runs,
					p.exportPopulation(b, c, "GET",
						"/fhir/$export?_compression="+string(compression), false))
			}
			reportPopulation(b, p, runs)
		})
	}
}

// BenchmarkPopulationSynthetic exports patients that are generated while they are read, with
// small resources (600 bytes and more) and with resources of default size.
func BenchmarkPopulationSynthetic(b *testing.B) {
	for name, options := range map[string]string{"600": ",size=600", "natural": ""} {
		b.Run(name, func(b *testing.B) {
			p := startOn(b, b.TempDir(),
				fmt.Sprintf("EHI_SOURCE=synthetic:patients=%d,seed=%d%s",
					max(2, 4*size(b)/patientBytes), seed(b), options))
			c := p.service(b)
			var runs []population
			for b.Loop() {
				runs = append(runs, p.exportPopulation(b, c, "GET", "/fhir/$export", true))
			}
			reportPopulation(b, p, runs)
		})
	}
}

// BenchmarkPatientsBesidePopulation exports single patients consecutively, on an idle server and
// during a population's export. An operation is 200 patients' exports alone, a population alone,
// and both concurrently.
func BenchmarkPatientsBesidePopulation(b *testing.B) {
	data := b.TempDir()
	populate(b, data, 16*size(b))
	patient := generate(b, data)
	p := startOn(b, data)
	p.authorize(b, patient)
	c := p.service(b)
	var idle, beside []time.Duration
	var alone, both time.Duration
	for b.Loop() {
		idle = append(idle, p.inARow(b, 200, nil)...)
		alone += p.exportPopulation(b, c, "GET", "/fhir/$export", false).took
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			defer cancel()
			both += p.exportPopulation(b, c, "GET", "/fhir/$export", false).took
		})
		beside = append(beside, p.inARow(b, 200, ctx.Done())...)
		wg.Wait()
		cancel()
	}
	slices.Sort(idle)
	slices.Sort(beside)
	b.ReportMetric(ms(idle[len(idle)*99/100]), "idle-p99-ms")
	b.ReportMetric(ms(beside[len(beside)*99/100]), "p99-ms")
	b.ReportMetric(ms(beside[len(beside)/2]), "p50-ms")
	b.ReportMetric(ms(beside[len(beside)*99/100])/ms(idle[len(idle)*99/100]), "p99-ratio")
	b.ReportMetric(both.Seconds()/alone.Seconds(), "population-ratio")
	b.ReportMetric(float64(len(beside)), "exports-beside")
	b.ReportMetric(p.rssPeak(), "rss-MB")
}

// inARow exports a patient n times, or until stop is closed, and returns how long each export
// took.
func (p *process) inARow(b *testing.B, n int, stop <-chan struct{}) (took []time.Duration) {
	b.Helper()
	for range n {
		select {
		case <-stop:
			return took
		default:
		}
		start := time.Now()
		p.export(b)
		took = append(took, time.Since(start))
	}
	return took
}
