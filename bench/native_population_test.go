package bench

import (
	"fmt"
	"testing"
)

// nativePatientBytes is the approximate size of the tables of a synthetic patient.
const nativePatientBytes = 420_000

// BenchmarkNativePopulation exports the tables of generated populations of 1, 4 and 16 times
// EHI_BENCH_SIZE as ZIP archives, each with a server of its own. It compares the time with that of
// cp and sync of the same files, and the time per byte with that of the smallest population. Of
// resources, only DocumentReferences go along.
func BenchmarkNativePopulation(b *testing.B) {
	const target = "/auto-approve/fhir/$ehi-export?_type=DocumentReference"
	var perByte float64 // of 1x
	for _, times := range []int64{1, 4, 16} {
		b.Run(fmt.Sprintf("%dx", times), func(b *testing.B) {
			p := startOn(b, b.TempDir(),
				fmt.Sprintf("EHI_SOURCE=synthetic:patients=%d,seed=%d,native=tsv-tables",
					max(2, times*size(b)/nativePatientBytes), seed(b)))
			c := p.service(b)
			p.exportPopulation(b, c, "POST", target, false)
			p.forgetPeak()
			var runs []population
			for b.Loop() {
				runs = append(runs, p.exportPopulation(b, c, "POST", target, true))
			}
			reportPopulation(b, p, runs)
			var took float64
			var bytes int64
			for _, r := range runs {
				took, bytes = took+r.took.Seconds(), bytes+r.bytes
			}
			if times == 1 {
				perByte = took / float64(bytes)
			}
			if perByte > 0 { // only if the smallest size is part of this run
				b.ReportMetric(took/float64(bytes)/perByte, "1x-ratio")
			}
		})
	}
}
