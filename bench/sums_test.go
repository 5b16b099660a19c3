package bench

import (
	"slices"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
)

// together is how many patients' exports are asked for at once.
const together = 1000

// BenchmarkChecksums compares a server that takes checksums of its files with one that takes none, in
// alternation, so that what else the machine does meets both. It reports the speed with checksums by that
// without: the median of the pairs, for a population of EHI_BENCH_SIZE and for 1,000 exports at once.
func BenchmarkChecksums(b *testing.B) {
	b.Run("population", func(b *testing.B) {
		var servers []measured
		for _, env := range [][]string{nil, {unsummedEnv + "=1"}} {
			data := b.TempDir()
			populate(b, data, size(b))
			p := startOn(b, data, env...)
			c := p.service(b)
			servers = append(servers, func(b *testing.B) time.Duration { return p.exportPopulation(b, c, "/fhir/$export", false).took })
		}
		comparePairs(b, servers[0], servers[1])
	})
	b.Run("1000 exports", func(b *testing.B) {
		var servers []measured
		for _, env := range [][]string{nil, {unsummedEnv + "=1"}} {
			p := startServer(b, append([]string{"EHI_CLIENT_JOBS=10000"}, env...)...)
			servers = append(servers, p.exportTogether)
		}
		comparePairs(b, servers[0], servers[1])
	})
}

// measured does something once and says how long it took.
type measured func(b *testing.B) time.Duration

// comparePairs measures two servers in turn, each of them first as often as the other.
func comparePairs(b *testing.B, with, without measured) {
	b.Helper()
	with(b) // both are warm then
	without(b)
	var ratios []float64
	for b.Loop() {
		var a, o time.Duration
		if len(ratios)%2 == 0 {
			a, o = with(b), without(b)
		} else {
			o, a = without(b), with(b)
		}
		ratios = append(ratios, o.Seconds()/a.Seconds())
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(ratios[0], "ratio-min")
	b.ReportMetric(ratios[len(ratios)-1], "ratio-max")
}

// exportTogether asks for the exports of a patient all at once, waits for all manifests, and deletes them.
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
