package bench

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// openStore opens a store of size EHI_BENCH_SIZE until the benchmark ends.
func openStore(b *testing.B) (*dataset.Store, string) {
	b.Helper()
	data := b.TempDir()
	populate(b, data, size(b))
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return store, data
}

// cool drops the files below dir from the page cache. The store's own cache of 32 MiB remains.
func cool(b *testing.B, dir string) {
	b.Helper()
	syncDisk()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() // read only
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStoreScan reads a whole population from the store, one task after the other, with the
// store's files in the page cache (warm), and dropped from it before each operation (cold).
func BenchmarkStoreScan(b *testing.B) {
	store, data := openStore(b)
	for _, temperature := range []string{"warm", "cold"} {
		b.Run(temperature, func(b *testing.B) {
			var bytes, resources int64
			for b.Loop() {
				if temperature == "cold" {
					b.StopTimer()
					cool(b, data)
					b.StartTimer()
				}
				n, k := scanAll(b, store)
				bytes, resources = bytes+n, resources+k
			}
			b.ReportMetric(float64(bytes)/b.Elapsed().Seconds()/1e6, "MB/s")
			b.ReportMetric(float64(resources)/b.Elapsed().Seconds(), "res/s")
		})
	}
}

func scanAll(b *testing.B, store *dataset.Store) (bytes, resources int64) {
	b.Helper()
	population, err := store.Freeze(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	selection := source.Selection{Level: ehi.System}
	parts, err := population.Plan(b.Context(), selection, 64<<20)
	if err != nil {
		b.Fatal(err)
	}
	for _, part := range parts {
		r, err := population.Open(b.Context(), selection, part)
		if err != nil {
			b.Fatal(err)
		}
		err = r.Scan(b.Context(), source.Query{}, func(r source.Resource) error {
			bytes += int64(len(r.Line)) + 1
			resources++
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if err := population.Close(); err != nil {
		b.Fatal(err)
	}
	if err := store.Thaw("bench"); err != nil {
		b.Fatal(err)
	}
	return bytes, resources
}

// BenchmarkStorePatient reads one patient's record after the other, warm and cold (with the
// files dropped before each one).
func BenchmarkStorePatient(b *testing.B) {
	store, data := openStore(b)
	list, err := store.Patients(b.Context(), 1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, temperature := range []string{"warm", "cold"} {
		b.Run(temperature, func(b *testing.B) {
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				if temperature == "cold" {
					b.StopTimer()
					cool(b, data)
					b.StartTimer()
				}
				start := time.Now()
				scanPatient(b, store, list[i%len(list)].ID)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
			b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
		})
	}
}

func scanPatient(b *testing.B, store *dataset.Store, id string) {
	b.Helper()
	r, err := store.Open(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	n := int64(0)
	err = r.Scan(b.Context(), source.Query{}, func(source.Resource) error { n++; return nil })
	if err != nil || n != r.Total() {
		b.Fatalf("%d of %d resources: %v", n, r.Total(), err)
	}
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFilter runs the pipeline over one large record, with and without a release form that
// withholds every sensitive category. MB/cpu-s uses the processor time of all threads, so other
// load on the machine hardly affects it.
func BenchmarkFilter(b *testing.B) {
	src := filepath.Join(b.TempDir(), "source")
	total := writeSource(b, src, size(b), 17)
	rules, err := release.RulesFromFile("")
	if err != nil {
		b.Fatal(err)
	}
	form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, c := range ehi.Categories() {
		form.Parameters[c.Key] = ehi.Choice{}
	}
	for name, f := range map[string]*ehi.ReleaseForm{"off": nil, "on": form} {
		b.Run(name, func(b *testing.B) {
			policy, err := rules.Policy(f, ehi.KickOff{})
			if err != nil {
				b.Fatal(err)
			}
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				out := b.TempDir()
				batch := newBatch(b, out)
				before := processorTime(b)
				b.StartTimer()
				res, err := pipeline.Run(b.Context(), pipeline.Task{
					Record:     folder{dir: src},
					Policy:     policy,
					Population: true,
					Batch:      batch,
				})
				if err != nil {
					b.Fatal(err)
				}
				if f != nil && len(res.Withheld) == 0 || f == nil && len(res.Files) != 17 {
					b.Fatalf("withheld %v, %d files", res.Withheld, len(res.Files))
				}
				b.StopTimer()
				cpu += processorTime(b) - before
				removeAll(b, out)
				b.StartTimer()
			}
			carried := float64(total) * float64(b.N) / 1e6
			b.ReportMetric(carried/b.Elapsed().Seconds(), "MB/s")
			b.ReportMetric(carried/cpu.Seconds(), "MB/cpu-s")
		})
	}
}

// processorTime returns the processor time of this process so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func newBatch(b *testing.B, root string) files.Batch {
	b.Helper()
	store, err := local.Open(local.Config{Root: root})
	if err != nil {
		b.Fatal(err)
	}
	batch, err := store.NewBatch("job", 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// importSize is the number of bytes that BenchmarkImport imports if EHI_BENCH_SIZE is not set.
// With fewer bytes, waiting for the disk at the end would dominate.
const importSize = 256 << 20

// BenchmarkImport imports NDJSON by type into an empty store in a process of its own, until it
// can be exported. MB/s counts the bytes of NDJSON from opening to closing the store. MB/cpu-s
// uses the processor time of all threads, so other load on the machine hardly affects it.
func BenchmarkImport(b *testing.B) {
	bytes := int64(importSize)
	if os.Getenv(sizeEnv) != "" {
		bytes = size(b)
	}
	plain := filepath.Join(b.TempDir(), "ndjson")
	total := writeSource(b, plain, bytes, 26)
	zipped := zipAll(b, plain)
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, src string }{{"ndjson", plain}, {"gzip", zipped}} {
		b.Run(c.name, func(b *testing.B) {
			var rss int64
			var all imported
			for b.Loop() {
				cmd := exec.Command(exe)
				cmd.Env = append(os.Environ(), importEnv+"="+b.TempDir(), importFromEnv+"="+c.src)
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if err != nil {
					b.Fatal(err)
				}
				var one imported
				if err := json.Unmarshal(out, &one); err != nil {
					b.Fatal(err)
				}
				if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
					rss = max(rss, usage.Maxrss)
				}
				all.Took, all.CPU = all.Took+one.Took, all.CPU+one.CPU
			}
			b.ReportMetric(float64(rss)/1024, "rss-MB")
			b.ReportMetric(float64(total)*float64(b.N)/all.CPU.Seconds()/1e6, "MB/cpu-s")
			b.ReportMetric(float64(total)*float64(b.N)/all.Took.Seconds()/1e6, "MB/s")
		})
	}
}

// zipAll gzips the files of a folder into another one.
func zipAll(b *testing.B, dir string) string {
	b.Helper()
	out := b.TempDir()
	paths, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range paths {
		if err := zipOne(path, filepath.Join(out, filepath.Base(path)+".gz")); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

func zipOne(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	w, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}

// BenchmarkNATS exports patients consecutively with the embedded NATS, and with one in a process
// of its own.
func BenchmarkNATS(b *testing.B) {
	for _, kind := range []string{"embedded", "external"} {
		b.Run(kind, func(b *testing.B) {
			var env []string
			if kind == "external" {
				nats := &process{}
				env = append(env,
					fmt.Sprintf("EHI_NATS=%s", nats.spawn(b, self(b), natsEnv+"="+b.TempDir())))
			}
			startServer(b, env...).latency(b)
		})
	}
}
