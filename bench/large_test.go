package bench

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// resourcesEnv is the number of resources of the patient in the following benchmarks.
const resourcesEnv = "EHI_BENCH_RESOURCES"

// startLarge starts a server whose patients have very many resources, which are generated while
// they are read.
func startLarge(b *testing.B) *process {
	b.Helper()
	n := 150_000
	if s := os.Getenv(resourcesEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatalf("%s: %v", resourcesEnv, err)
		}
	}
	population := synthetic.Config{Patients: 2, Resources: n, Seed: seed(b)}
	p := startOn(b, b.TempDir(),
		fmt.Sprintf("EHI_SOURCE=synthetic:patients=2,resources=%d,seed=%d", n, population.Seed))
	p.patient = population.PatientID(0)
	var err error
	if p.client, _, err = p.open.Authorize(b.Context(), p.patient); err != nil {
		b.Fatal(err)
	}
	return p
}

// everyLine returns a form that releases all categories, but nothing that needs an
// authorization.
func everyLine() map[string]any {
	lines := map[string]any{}
	for _, c := range ehi.Categories() {
		lines[string(c.Key)] = map[string]any{"name": c.Name, "enabled": true}
	}
	return map[string]any{"parameters": lines}
}

// BenchmarkLargePatient exports one patient with EHI_BENCH_RESOURCES resources (150,000):
// completely, with a form that withholds protected resources, and with one that also withholds
// visits, to which most of the record refers. A ratio is the time divided by the time of the
// complete export.
func BenchmarkLargePatient(b *testing.B) {
	sensitive, visits := everyLine(), everyLine()
	visits["parameters"].(map[string]any)["visits"] = map[string]any{
		"name":    "Clinic visits",
		"enabled": false,
	}
	var whole float64
	for _, c := range []struct {
		name string
		form map[string]any
	}{{"whole", nil}, {"sensitive", sensitive}, {"visits", visits}} {
		b.Run(c.name, func(b *testing.B) {
			p := startLarge(b)
			var took time.Duration
			cpu := p.cpuSeconds()
			for b.Loop() {
				took += p.released(b, c.form)
			}
			b.ReportMetric((p.cpuSeconds()-cpu)/float64(b.N), "cpu-s")
			seconds := took.Seconds() / float64(b.N)
			if c.form == nil {
				whole = seconds
			}
			b.ReportMetric(seconds, "s")
			b.ReportMetric(seconds/whole, "whole-ratio")
			b.ReportMetric(p.rssPeak(), "rss-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// released exports the patient's record, with a form if there is one, and deletes the export. It
// returns the time from the form, or from the kick-off, to the manifest.
func (p *process) released(b *testing.B, form map[string]any) time.Duration {
	b.Helper()
	base := "/auto-approve"
	if form == nil {
		base = noForm
	}
	syncDisk()
	began := time.Now()
	j, err := p.client.KickOff(b.Context(), base, p.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	if form != nil {
		began = time.Now()
		a, err := p.client.Submit(b.Context(), j.ID, form)
		if err != nil || a.Status != http.StatusOK {
			b.Fatalf("submit: %+v, %v", a, err)
		}
	}
	if m := waitFor(b, p.client, j, 5*time.Millisecond); len(m.Output) == 0 {
		b.Fatal("nothing was exported")
	}
	took := time.Since(began)
	if err := p.client.Delete(b.Context(), j.StatusURL); err != nil {
		b.Fatal(err)
	}
	return took
}

// BenchmarkPreview opens the release form of a patient with EHI_BENCH_RESOURCES resources:
// alone, and 20 forms concurrently with complete exports of the other patient. The ratio says
// how much longer these exports take.
func BenchmarkPreview(b *testing.B) {
	p := startLarge(b)
	j, err := p.client.KickOff(b.Context(), "", p.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	page := "/jobs/" + j.ID + "/customize?_patient=" + p.patient
	var first, again, alone, beside time.Duration
	for i := 0; b.Loop(); i++ {
		if took := p.page(b, page); i == 0 {
			first = took
		} else {
			again = max(again, took)
		}
		alone += p.released(b, nil)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() { p.page(b, page) })
		}
		beside += p.released(b, nil)
		group.Wait()
	}
	b.ReportMetric(ms(first), "first-ms")
	b.ReportMetric(ms(again), "again-max-ms")
	b.ReportMetric(beside.Seconds()/alone.Seconds(), "export-ratio")
	b.ReportMetric(p.rssPeak(), "rss-MB")
	b.ReportMetric(0, "ns/op")
}

func (p *process) page(b *testing.B, target string) time.Duration {
	began := time.Now()
	if _, err := p.open.Download(b.Context(), target); err != nil { // a browser, which has no token
		b.Error(err)
	}
	return time.Since(began)
}
