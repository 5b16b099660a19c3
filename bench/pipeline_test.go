package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files/local"
)

// sizeEnv is the size of the benchmarks' data in MiB.
const sizeEnv = "EHI_BENCH_SIZE"

// size returns the size of the benchmarks' data in bytes: EHI_BENCH_SIZE in MiB, or 32 MiB if it
// is not set.
func size(b *testing.B) int64 {
	mib := int64(32)
	if s := os.Getenv(sizeEnv); s != "" {
		var err error
		if mib, err = strconv.ParseInt(s, 10, 64); err != nil {
			b.Fatalf("%s: %v", sizeEnv, err)
		}
	}
	return mib << 20
}

// BenchmarkPipelineAgainstCopy exports NDJSON of 17 types through the actors to durable files,
// and compares the time with that of cp and sync of the same bytes. In both cases the source is
// in the page cache.
func BenchmarkPipelineAgainstCopy(b *testing.B) {
	dir := b.TempDir()
	src := filepath.Join(dir, "source")
	total := writeSource(b, src, size(b), 17)
	policy := everything(b)
	var piped, copied time.Duration
	peak := watchHeap()
	for b.Loop() {
		out := filepath.Join(dir, "out")
		syncDisk()
		piped += runPipeline(b, src, out, policy, total)
		removeAll(b, out)
		syncDisk()
		copied += copyAndSync(b, src, out)
		removeAll(b, out)
	}
	b.ReportMetric(piped.Seconds()/copied.Seconds(), "cp-ratio")
	b.ReportMetric(float64(total)*float64(b.N)/piped.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(total)*float64(b.N)/copied.Seconds()/1e6, "cp-MB/s")
	b.ReportMetric(peak(), "heap-MB")
}

func everything(b *testing.B) *release.Policy {
	b.Helper()
	rules, err := release.RulesFromFile("")
	if err != nil {
		b.Fatal(err)
	}
	p, err := rules.Policy(nil, ehi.KickOff{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// watchHeap samples the memory that the Go runtime holds until peak is called. peak returns the
// maximum in MiB.
func watchHeap() (peak func() float64) {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan uint64, 1)
	go func() {
		var most uint64
		var m runtime.MemStats
		t := time.NewTicker(10 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				result <- most
				return
			case <-t.C:
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
		}
	}()
	return func() float64 {
		cancel()
		return float64(<-result) / (1 << 20)
	}
}

// writeSource writes at least bytesWanted of synthetic NDJSON, one file for each of the first n
// types.
func writeSource(b *testing.B, dir string, bytesWanted int64, n int) (total int64) {
	b.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	out := map[string]*bufio.Writer{}
	var closers []io.Closer
	put := func(r source.Resource) error {
		typ := r.Type
		w := out[typ]
		if w == nil {
			if len(out) == n {
				return nil
			}
			f, err := os.Create(filepath.Join(dir, typ+".ndjson"))
			if err != nil {
				return err
			}
			closers = append(closers, f)
			w = bufio.NewWriterSize(f, 1<<20)
			out[typ] = w
		}
		m, err := w.Write(append(slices.Clip(r.Line), '\n'))
		total += int64(m)
		return err
	}
	g := synthetic.NewGenerator(synthetic.Config{Seed: seed(b)})
	for k := 0; total < bytesWanted; k++ {
		if err := g.Patient(k, put); err != nil {
			b.Fatal(err)
		}
	}
	var err error
	for _, w := range out {
		err = errors.Join(err, w.Flush())
	}
	for _, c := range closers {
		err = errors.Join(err, c.Close())
	}
	if err != nil || len(out) != n {
		b.Fatalf("%d types, %v", len(out), err)
	}
	return total
}

// folder is a source.Record that reads NDJSON files named after their types.
type folder struct {
	source.NoNative
	dir string
}

func (folder) TakenAt() time.Time { return time.Now() }

func (folder) Records() ehi.Records { return ehi.Records{} }
func (folder) Total() int64         { return 0 }
func (folder) Complete() bool       { return true }
func (folder) Close() error         { return nil }

func (folder) Resolves(string, string) (bool, error) { return true, nil }

func (folder) Has(string, string, string) (bool, error) { return true, nil }

func (folder) Another(string, string, string) (bool, error) { return false, nil }

func (folder) Find(context.Context, source.Query, string, string) ([]byte, error) {
	return nil, nil
}

func (folder) Beside(context.Context, []source.Name, func([]byte) error) error { return nil }

func (f folder) Scan(ctx context.Context, _ source.Query, visit func(source.Resource) error) error {
	paths, err := filepath.Glob(filepath.Join(f.dir, "*.ndjson"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := scanFile(ctx, path, visit); err != nil {
			return err
		}
	}
	return nil
}

func scanFile(ctx context.Context, path string, visit func(source.Resource) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	typ := strings.TrimSuffix(filepath.Base(path), ".ndjson")
	r := bufio.NewReaderSize(file, 256<<10)
	for ctx.Err() == nil {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = visit(source.Resource{Type: typ, Line: bytes.TrimSuffix(line, []byte{'\n'})})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// runPipeline exports the folder and checks that the output has as many bytes as the input.
func runPipeline(b *testing.B, src, out string, policy *release.Policy, want int64) time.Duration {
	b.Helper()
	start := time.Now()
	store, err := local.Open(local.Config{Root: out})
	if err != nil {
		b.Fatal(err)
	}
	batch, err := store.NewBatch("job", 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	res, err := pipeline.Run(b.Context(), pipeline.Task{
		Record: folder{dir: src},
		Policy: policy,
		Batch:  batch,
	})
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	var got int64
	for _, f := range res.Files {
		got += f.Bytes
	}
	if got != want {
		b.Fatalf("%d bytes came out, %d went in", got, want)
	}
	return took
}

func copyAndSync(b *testing.B, src, out string) time.Duration {
	b.Helper()
	start := time.Now()
	script := fmt.Sprintf("cp -r %q %q && find %q -exec sync {} +", src, out, out)
	text, err := exec.CommandContext(b.Context(), "sh", "-c", script).CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	return time.Since(start)
}

func removeAll(b *testing.B, dir string) {
	b.Helper()
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
}
