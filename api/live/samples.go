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

// Samples are recent values of some metrics of this process, for administrators without Grafana:
// one sample every five seconds, for half an hour.
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

// sample has the sum over all labels for each metric.
type sample struct {
	at     time.Time
	values map[string]float64
}

// TakeSamples starts sampling. Stop ends it.
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

// Stop ends the sampling. It can be called more than once.
func (s *Samples) Stop() {
	select {
	case <-s.end:
	default:
		close(s.end)
	}
	<-s.done
}

func (s *Samples) take() {
	families, _ := telemetry.Registry.Gather() // GET /metrics reports errors; use what is there
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

// chart is a metric that is plotted.
type chart struct {
	title, metric string
	rate          bool // of change per second
	per           float64
}

var charts = []chart{
	{"Exports ended per second", "ehi_jobs_ended_total", true, 1},
	{"Resources written per second", "ehi_pipeline_resources_total", true, 1},
	{"Megabytes written per second", "ehi_pipeline_bytes_total", true, 1e6},
	{"HTTP requests per second", "ehi_http_requests_total", true, 1},
	{"Commands waiting for a worker", "ehi_queue_pending", false, 1},
}

// Plots returns the current plots.
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

// Draw renders a plot for a page.
func Draw(p plot.Plot) (template.HTML, error) {
	var out strings.Builder
	err := plot.Template.ExecuteTemplate(&out, "plot", p)
	return template.HTML(out.String()), err
}

func clock(seconds float64) string { return time.Unix(int64(seconds), 0).UTC().Format("15:04:05") }
