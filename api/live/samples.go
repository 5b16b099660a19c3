package live

import (
	"html/template"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"ehi-server/shared/plot"
	"ehi-server/shared/telemetry"
)

// Samples are this process's latest figures, for administrators who have no Grafana at hand: some
// of the metrics, every five seconds for half an hour.
type Samples struct {
	mu   sync.Mutex
	list []sample
	end  chan struct{}
	done chan struct{}
}

const (
	sampleEvery = 5 * time.Second
	sampleSpan  = 30 * time.Minute
)

// sample is the sum of each metric that is shown over its labels.
type sample struct {
	at     time.Time
	values map[string]float64
}

// TakeSamples starts to take them; Stop ends it.
func TakeSamples() *Samples {
	s := &Samples{end: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		every := time.NewTicker(sampleEvery)
		defer every.Stop()
		for {
			s.take()
			select {
			case <-every.C:
			case <-s.end:
				return
			}
		}
	}()
	return s
}

// Stop ends the taking. It can be called again.
func (s *Samples) Stop() {
	select {
	case <-s.end:
	default:
		close(s.end)
	}
	<-s.done
}

func (s *Samples) take() {
	families, _ := telemetry.Registry.Gather() // GET /metrics reports errors; the rest is there
	now := sample{time.Now(), map[string]float64{}}
	for _, f := range families {
		if !slices.ContainsFunc(charts, func(c chart) bool { return c.metric == f.GetName() }) {
			continue
		}
		for _, m := range f.GetMetric() {
			now.values[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, now)
	if most := int(sampleSpan / sampleEvery); len(s.list) > most {
		s.list = slices.Delete(s.list, 0, len(s.list)-most)
	}
}

// chart is a metric that is shown over time.
type chart struct {
	title, metric string
	rate          bool // of change a second
	per           float64
}

var charts = []chart{
	{"Exports that ended, a second", "ehi_jobs_ended_total", true, 1},
	{"Resources written, a second", "ehi_pipeline_resources_total", true, 1},
	{"Megabytes written, a second", "ehi_pipeline_bytes_total", true, 1e6},
	{"HTTP requests, a second", "ehi_http_requests_total", true, 1},
	{"Commands that wait for a worker", "ehi_queue_pending", false, 1},
}

// Plots are the charts, as they are now.
func (s *Samples) Plots() (out []plot.Plot) {
	s.mu.Lock()
	list := slices.Clone(s.list)
	s.mu.Unlock()
	for _, c := range charts {
		line := plot.Series{Name: c.metric}
		for i, v := range list {
			if i == 0 && c.rate {
				continue
			}
			y := v.values[c.metric]
			if c.rate {
				before := list[i-1]
				y = math.Max(0, y-before.values[c.metric]) / v.at.Sub(before.at).Seconds()
			}
			line.Points = append(line.Points, [2]float64{float64(v.at.Unix()), y / c.per})
		}
		out = append(out, plot.Plot{
			Title:  c.title,
			X:      plot.Axis{Scale: plot.Time, Format: clock},
			Series: []plot.Series{line},
		})
	}
	return out
}

// Draw draws a plot within a page.
func Draw(p plot.Plot) (template.HTML, error) {
	var out strings.Builder
	err := plot.Template.ExecuteTemplate(&out, "plot", p)
	return template.HTML(out.String()), err
}

func clock(seconds float64) string { return time.Unix(int64(seconds), 0).UTC().Format("15:04:05") }
