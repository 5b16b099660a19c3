package bench

import (
	"slices"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
)

// together is the number of patients' exports that are started together.
const together = 1000

// BenchmarkChecksums compares a server that computes checksums of its files with one that does
// not. It alternates between them, so that other load on the machine affects both. It reports
// the speed with checksums divided by the speed without: the median of the pairs, for a
// population of EHI_BENCH_SIZE and for 1,000 exports at once. cpu-ratio divides the servers'
// processor times of all rounds, which other load affects less.
func BenchmarkChecksums(b *testing.B) {
	b.Run("population", func(b *testing.B) {
		var servers []measured
		for _, env := range [][]string{nil, {unsummedEnv + "=1"}} {
			data := b.TempDir()
			populate(b, data, size(b))
			p := startOn(b, data, env...)
			c := p.service(b)
			servers = append(servers, measured{p, func(b *testing.B) time.Duration {
				return p.exportPopulation(b, c, "GET", "/fhir/$export", false).took
			}})
		}
		comparePairs(b, servers[0], servers[1])
	})
	b.Run("1000 exports", func(b *testing.B) {
		var servers []measured
		for _, env := range [][]string{nil, {unsummedEnv + "=1"}} {
			p := startServer(b, append([]string{"EHI_CLIENT_JOBS=10000"}, env...)...)
			servers = append(servers, measured{p, p.exportTogether})
		}
		comparePairs(b, servers[0], servers[1])
	})
}

// measured is a server with an operation that returns its duration.
type measured struct {
	*process
	once func(b *testing.B) time.Duration
}

// spent runs the operation and adds the server's processor time to cpu.
func (m measured) spent(b *testing.B, cpu *float64) time.Duration {
	before := m.cpuSeconds()
	took := m.once(b)
	*cpu += m.cpuSeconds() - before
	return took
}

// comparePairs measures two servers alternately. Each of them is first equally often.
func comparePairs(b *testing.B, with, without measured) {
	b.Helper()
	with.once(b) // warm up both
	without.once(b)
	var ratios []float64
	var cpuWith, cpuWithout float64
	for b.Loop() {
		var a, o time.Duration
		if len(ratios)%2 == 0 {
			a, o = with.spent(b, &cpuWith), without.spent(b, &cpuWithout)
		} else {
			o, a = without.spent(b, &cpuWithout), with.spent(b, &cpuWith)
		}
		ratios = append(ratios, o.Seconds()/a.Seconds())
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(ratios[0], "ratio-min")
	b.ReportMetric(ratios[len(ratios)-1], "ratio-max")
	b.ReportMetric(cpuWith, "cpu-s-with")
	b.ReportMetric(cpuWithout, "cpu-s-without")
	b.ReportMetric(cpuWithout/cpuWith, "cpu-ratio")
}

// exportTogether starts the exports of a patient together, waits for all manifests, and deletes
// them.
func (p *process) exportTogether(b *testing.B) time.Duration {
	b.Helper()
	syncDisk()
	jobs := make([]client.Job, together)
	var all sync.WaitGroup
	start := time.Now()
	for i := range jobs {
		all.Go(func() {
			j, err := p.client.KickOff(b.Context(), noForm, p.patient, nil)
			if err == nil {
				_, err = p.client.Wait(b.Context(), j.StatusURL, 50*time.Millisecond)
			}
			if err != nil {
				b.Error(err)
			}
			jobs[i] = j
		})
	}
	all.Wait()
	took := time.Since(start)
	for _, j := range jobs {
		if err := p.client.Delete(b.Context(), j.StatusURL); err != nil {
			b.Fatal(err)
		}
	}
	return took
}
