package release_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// BenchmarkDecisions processes synthetic records: a population's filter for each line, and the
// two passes of a review.
func BenchmarkDecisions(b *testing.B) {
	var lines [][]byte
	var size int64
	take := func(r source.Resource) error {
		lines = append(lines, bytes.Clone(r.Line))
		size += int64(len(r.Line)) + 1
		return nil
	}
	g := synthetic.NewGenerator(synthetic.Config{Seed: 1})
	err := g.Shared(take)
	for k := range 10 {
		err = errors.Join(err, g.Patient(k, take))
	}
	if err != nil {
		b.Fatal(err)
	}
	all := []ehi.Category{}
	for _, c := range ehi.Categories() {
		all = append(all, c.Key)
	}
	for name, f := range map[string]*ehi.ReleaseForm{
		"sensitive": form(all...),
		"visits":    form(all[1:]...),
	} {
		p, err := rules(b).Policy(f, ehi.KickOff{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/filter", func(b *testing.B) {
			defer cpu(b, size)()
			for b.Loop() {
				x := p.Filter().Releaser()
				for _, l := range lines {
					if _, _, err = x.Release(l); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		observe := func() *release.Review {
			r := p.Review()
			o := r.Observer()
			for _, l := range lines {
				if err := o.Observe(l); err != nil {
					b.Fatal(err)
				}
			}
			r.Resolved()
			if r.Conclude() != nil {
				b.Fatal("something comes twice")
			}
			return r
		}
		b.Run(name+"/observe", func(b *testing.B) {
			defer cpu(b, size)()
			for b.Loop() {
				observe()
			}
		})
		b.Run(name+"/release", func(b *testing.B) {
			r := observe().Releaser()
			defer cpu(b, size)()
			for b.Loop() {
				for _, l := range lines {
					if _, _, err = r.Release(l); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// cpu reports bytes per processor time, which on a shared machine is more reliable than the
// clock.
func cpu(b *testing.B, size int64) func() {
	b.Helper()
	used := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(size)*float64(b.N)/(used()-before)*1e3, "cpu-MB/s") }
}
