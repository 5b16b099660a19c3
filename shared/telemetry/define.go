package telemetry

import (
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Definition is a metric as docs/metrics.md lists it.
type Definition struct {
	Name, Type, Help string
	Labels           []string
}

// definitions holds every metric of this project in the order of metrics.go.
var definitions []Definition

// Definitions lists every metric of this project in the order of metrics.go. The process also
// exports the metrics of the Go runtime and of the process.
func Definitions() []Definition { return definitions }

func define[C prometheus.Collector](c C, typ, name, help string, labels ...string) C {
	definitions = append(definitions, Definition{name, typ, help, labels})
	Registry.MustRegister(c)
	return c
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return define(prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels),
		"counter", name, help, labels...)
}

func counter(name, help string) prometheus.Counter {
	return define(prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}), "counter",
		name, help)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return define(prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels),
		"gauge", name, help, labels...)
}

func gauge(name, help string) prometheus.Gauge {
	return define(prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}), "gauge", name,
		help)
}

// nativeFactor is the growth factor of the buckets of native histograms.
const nativeFactor = 1.1

func durations(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name:                           name,
		Help:                           help,
		Buckets:                        buckets,
		NativeHistogramBucketFactor:    nativeFactor,
		NativeHistogramMaxBucketNumber: 160,
	}
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return define(prometheus.NewHistogramVec(durations(name, help, seconds), labels), "histogram",
		name, help, labels...)
}

func fineHistograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return define(prometheus.NewHistogramVec(durations(name, help, fineSeconds), labels),
		"histogram", name, help, labels...)
}

func longHistograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return define(prometheus.NewHistogramVec(durations(name, help, longSeconds), labels),
		"histogram", name, help, labels...)
}

func histogram(name, help string) prometheus.Histogram {
	return define(prometheus.NewHistogram(durations(name, help, seconds)), "histogram", name, help)
}

// Sampled is a gauge or counter whose value is read at each scrape. It is not exported before
// the first Set.
type Sampled struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	set   atomic.Bool
	value atomic.Uint64 // bits of a float64
}

// Set sets the current value.
func (s *Sampled) Set(v float64) {
	s.value.Store(math.Float64bits(v))
	s.set.Store(true)
}

// Describe implements prometheus.Collector.
func (s *Sampled) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

// Collect implements prometheus.Collector.
func (s *Sampled) Collect(ch chan<- prometheus.Metric) {
	if s.set.Load() {
		ch <- prometheus.MustNewConstMetric(s.desc, s.typ, math.Float64frombits(s.value.Load()))
	}
}

func sampledCounter(name, help string) *Sampled {
	return define(&Sampled{
		desc: prometheus.NewDesc(name, help, nil, nil),
		typ:  prometheus.CounterValue,
	}, "counter", name, help)
}

func sampledGauge(name, help string) *Sampled {
	return define(&Sampled{
		desc: prometheus.NewDesc(name, help, nil, nil),
		typ:  prometheus.GaugeValue,
	}, "gauge", name, help)
}
