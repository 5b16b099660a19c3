// Package telemetry has metrics that do nothing. BenchmarkCost builds a server with this file
// instead of shared/telemetry/define.go.
package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Definition has the fields of the real one.
type Definition struct {
	Name, Type, Help string
	Labels           []string
}

// Definitions returns none.
func Definitions() []Definition { return nil }

// nothing implements every kind of metric.
type nothing struct{ prometheus.Metric }

func (nothing) Inc()                             {}
func (nothing) Dec()                             {}
func (nothing) Add(float64)                      {}
func (nothing) Sub(float64)                      {}
func (nothing) Set(float64)                      {}
func (nothing) SetToCurrentTime()                {}
func (nothing) Observe(float64)                  {}
func (nothing) Describe(chan<- *prometheus.Desc) {}
func (nothing) Collect(chan<- prometheus.Metric) {}

type vec[M any] struct{ none M }

func (v *vec[M]) WithLabelValues(...string) M { return v.none }

func counters(string, string, ...string) *vec[prometheus.Counter] {
	return &vec[prometheus.Counter]{nothing{}}
}
func gauges(string, string, ...string) *vec[prometheus.Gauge] {
	return &vec[prometheus.Gauge]{nothing{}}
}
func histograms(string, string, ...string) *vec[prometheus.Observer] {
	return &vec[prometheus.Observer]{nothing{}}
}
func fineHistograms(string, string, ...string) *vec[prometheus.Observer] {
	return &vec[prometheus.Observer]{nothing{}}
}
func longHistograms(string, string, ...string) *vec[prometheus.Observer] {
	return &vec[prometheus.Observer]{nothing{}}
}
func counter(string, string) prometheus.Counter      { return nothing{} }
func gauge(string, string) prometheus.Gauge          { return nothing{} }
func histogram(string, string) prometheus.Observer   { return nothing{} }
func sampledCounter(string, string) prometheus.Gauge { return nothing{} }
func sampledGauge(string, string) prometheus.Gauge   { return nothing{} }
