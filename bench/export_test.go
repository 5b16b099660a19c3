package bench

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// BenchmarkExportLatency measures consecutive exports over HTTP, from POST to the approved
// manifest. Run it with -benchtime=200x.
func BenchmarkExportLatency(b *testing.B) {
	startServer(b).latency(b)
}

// latency measures consecutive exports.
func (p *process) latency(b *testing.B) {
	b.Helper()
	p.inARow(b, 20, nil) // warm up
	syncDisk()
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		took = append(took, p.inARow(b, 1, nil)...)
	}
	slices.Sort(took)
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkExportsAtOnce starts many exports of one patient at the same time and waits for all
// manifests. Outside the measured time, it downloads every file of every job and compares its
// sorted lines with those of the first export.
func BenchmarkExportsAtOnce(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { startServer(b).atOnce(b, n) })
	}
}

// BenchmarkDurability measures concurrent and consecutive exports with JetStream's records
// synced periodically and always: the price of --durability safe.
func BenchmarkDurability(b *testing.B) {
	for _, durability := range []bus.Durability{bus.Fast, bus.Safe} {
		b.Run(string(durability)+"/latency", func(b *testing.B) {
			startServer(b, "EHI_DURABILITY="+string(durability)).latency(b)
		})
		b.Run(string(durability)+"/500", func(b *testing.B) {
			startServer(b, "EHI_DURABILITY="+string(durability)).atOnce(b, 500)
		})
	}
}

// atOnce measures n exports that are started together.
func (p *process) atOnce(b *testing.B, n int) {
	b.Helper()
	want := p.digest(b, p.export(b))
	disk := p.diskRate(b, n)
	syncDisk()
	var cpu float64
	for b.Loop() {
		before := p.cpuSeconds()
		jobs := p.kickOffAll(b, n)
		manifests := make([]*ehi.Manifest, n)
		for i, j := range jobs {
			manifests[i] = p.manifest(b, j, 2*time.Millisecond)
		}
		b.StopTimer()
		cpu += p.cpuSeconds() - before
		p.checkAll(b, jobs, manifests, want)
		syncDisk()
		b.StartTimer()
	}
	rate := float64(n*b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "jobs/s")
	b.ReportMetric(disk/rate, "disk-ratio")
	b.ReportMetric(rate*float64(p.total), "res/s")
	b.ReportMetric(p.rssPeak(), "rss-MB")
	b.ReportMetric(cpu*1000/float64(n*b.N), "server-cpu-ms/job")
}

// diskRate returns how many files of an export's size four writers can write and sync per
// second, without any other work. It is an upper bound for the disk at this moment.
func (p *process) diskRate(b *testing.B, n int) float64 {
	b.Helper()
	var size int
	for _, e := range p.export(b).Output {
		data, err := p.client.Download(b.Context(), e.URL)
		if err != nil {
			b.Fatal(err)
		}
		size += len(data)
	}
	dir, data := b.TempDir(), make([]byte, size)
	syncDisk()
	start := time.Now()
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := k; i < n; i += 4 {
				if err := writeSynced(filepath.Join(dir, fmt.Sprint(i)), data); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	rate := float64(n) / time.Since(start).Seconds()
	removeAll(b, dir)
	return rate
}

func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// kickers is the number of connections that kick off concurrently.
const kickers = 16

func (p *process) kickOffAll(b *testing.B, n int) []client.Job {
	b.Helper()
	jobs := make([]client.Job, n)
	var wg sync.WaitGroup
	for k := range kickers {
		wg.Go(func() {
			for i := k; i < n; i += kickers {
				j, err := p.client.KickOff(b.Context(), noForm, p.patient, nil)
				if err != nil {
					b.Error(err)
					return
				}
				jobs[i] = j
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return jobs
}

func (p *process) checkAll(
	b *testing.B, jobs []client.Job, manifests []*ehi.Manifest, want [32]byte,
) {
	b.Helper()
	var wg sync.WaitGroup
	for k := range kickers {
		wg.Go(func() {
			for i := k; i < len(jobs); i += kickers {
				if got := p.digest(b, manifests[i]); got != want {
					b.Errorf("job %s differs from the first export", jobs[i].ID)
				}
				if err := p.client.Delete(b.Context(), jobs[i].StatusURL); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// digest downloads all files of an export and hashes their sorted lines.
func (p *process) digest(b *testing.B, m *ehi.Manifest) [32]byte {
	b.Helper()
	h := sha256.New()
	for _, e := range m.Output {
		data, err := p.client.Download(b.Context(), e.URL)
		if err != nil {
			b.Error(err)
			return [32]byte{}
		}
		lines := bytes.Split(data, []byte{'\n'})
		if int64(len(lines)-1) != e.Count {
			b.Errorf("%s has %d lines, the manifest says %d", e.URL, len(lines)-1, e.Count)
		}
		slices.SortFunc(lines, bytes.Compare)
		for _, l := range lines {
			h.Write(l)
		}
	}
	return [32]byte(h.Sum(nil))
}
