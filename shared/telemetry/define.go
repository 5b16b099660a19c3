package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Definition is a metric as docs/metrics.md lists it.
type Definition struct {
	Name, Type, Help string
	Labels           []string
}

// definitions is every metric of this project, in the order of metrics.go.
var definitions []Definition

// Definitions lists every metric of this project, in the order of metrics.go. Besides them there are those of the Go runtime and of the
// process.
func Definitions() []Definition { return definitions }

func define[C prometheus.Collector](c C, typ, name, help string, labels ...string) C {
	definitions = append(definitions, Definition{name, typ, help, labels})
	Registry.MustRegister(c)
	return c
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return define(prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels), "counter", name, help, labels...)
}

func counter(name, help string) prometheus.Counter {
	return define(prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}), "counter", name, help)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return define(prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels), "gauge", name, help, labels...)
}

func gauge(name, help string) prometheus.Gauge {
	return define(prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}), "gauge", name, help)
}

// nativeFactor is how far the borders of a native histogram's buckets lie apart, where Prometheus asks for them.
const nativeFactor = 1.1

func durations(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds, NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: 160}
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return define(prometheus.NewHistogramVec(durations(name, help), labels), "histogram", name, help, labels...)
}

func histogram(name, help string) prometheus.Histogram {
	return define(prometheus.NewHistogram(durations(name, help)), "histogram", name, help)
}
