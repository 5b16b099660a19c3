// Package tracing creates one OpenTelemetry trace for each export: from the kick-off through
// NATS headers to worker, task, actors and files. It sends spans to a collector by OTLP/HTTP
// (https://opentelemetry.io/docs/specs/otlp/). Contexts travel as a traceparent
// (https://www.w3.org/TR/trace-context/). Without a configured collector there is no Tracer, and
// every function returns immediately.
//
// Spans name routes, resource types, jobs and tasks; never a patient, a path or a token.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ehi-server/shared/telemetry"
)

// Config holds the tracing flags of server and exporter.
type Config struct {
	Endpoint string  `help:"URL of an OpenTelemetry collector for traces (OTLP/HTTP), without /v1/traces. OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE and _TIMEOUT also apply. Default: no traces." env:"EHI_TRACE_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT" form:"url"`
	Ratio    float64 `help:"Fraction of requests to trace, from 0 to 1. A traceparent header of the client takes precedence." default:"1" env:"EHI_TRACE_RATIO" range:"0..1"`
}

// name is the instrumentation scope of the spans.
const name = "ehi-server"

// maxQueue is how many finished spans may wait for the collector. Further spans are dropped.
const maxQueue = 16384

// Job is the attribute with the ID of a job.
const Job = "ehi.job"

// Tracer starts traces. A nil Tracer starts none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	ratio    float64
	log      *slog.Logger
}

// Open returns the Tracer of a process, or nil if no endpoint is configured. service is the
// service name unless OTEL_SERVICE_NAME sets another one. An unreachable collector costs only
// the spans, with a warning each. It returns an error if the endpoint is not an http(s) URL or
// the ratio is not between 0 and 1.
func Open(ctx context.Context, c Config, service string, log *slog.Logger) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	if c.Ratio < 0 || c.Ratio > 1 {
		return nil, fmt.Errorf("the trace ratio %v is not between 0 and 1", c.Ratio)
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil,
			fmt.Errorf("the trace endpoint %q is not the http or https URL of a collector",
				c.Endpoint)
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", u.Redacted(), err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", service),
		attribute.String("service.version", telemetry.Version()),
	), resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("send traces", "err", err)
	}))
	p := sdk.NewTracerProvider(sdk.WithResource(about),
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(maxQueue)),
		sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())))
	return &Tracer{p, p.Tracer(name), c.Ratio, log}, nil
}

// flushTime bounds the sending of the last spans.
const flushTime = 5 * time.Second

// Close sends the remaining spans. Spans that cannot be sent are lost with a warning, which is
// not an error.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("send the last traces", "err", err)
	}
}

// Begin starts a span below parent, the traceparent of a client. Without a valid parent it
// starts a new trace, sampled by the configured ratio. End ends the span.
func (t *Tracer) Begin(
	ctx context.Context, parent, what string, kind trace.SpanKind, about ...attribute.KeyValue,
) (context.Context, trace.Span) {
	if t == nil {
		return ctx, off
	}
	if below := WithParent(ctx, parent); trace.SpanContextFromContext(below).IsValid() {
		ctx = below
	} else if rand.Float64() >= t.ratio {
		return ctx, off
	}
	return t.tracer.Start(ctx, what, trace.WithSpanKind(kind), trace.WithAttributes(about...))
}

// Continue starts a span below parent, the traceparent of one of our own processes. Without a
// parent nothing is traced. The span links to the span of ctx. End ends the span.
func (t *Tracer) Continue(
	ctx context.Context, parent, what string, kind trace.SpanKind, about ...attribute.KeyValue,
) (context.Context, trace.Span) {
	if t == nil || parent == "" {
		return ctx, off
	}
	below := WithParent(ctx, parent)
	if !trace.SpanContextFromContext(below).IsValid() {
		return ctx, off
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(about...)}
	if from := trace.SpanContextFromContext(ctx); from.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: from}))
	}
	return t.tracer.Start(below, what, opts...)
}

// Start starts a span below the span of ctx. If that span is not recorded, Start returns ctx
// unchanged.
func Start(
	ctx context.Context, what string, about ...attribute.KeyValue,
) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, off
	}
	return parent.TracerProvider().Tracer(name).Start(ctx, what, trace.WithAttributes(about...))
}

// off is a span that is not recorded.
var off = trace.SpanFromContext(context.Background())

// End ends a span of Start or Continue and sets its status from err.
func End(span trace.Span, err error) {
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Traced reports whether the span of ctx is recorded. Check it before computing costly
// attributes.
func Traced(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Note adds attributes to the span of ctx. Callers whose attributes are costly call Traced
// first.
func Note(ctx context.Context, about ...attribute.KeyValue) {
	trace.SpanFromContext(ctx).SetAttributes(about...)
}

// ID returns the trace ID of ctx if the span is recorded, or "".
func ID(ctx context.Context) string {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return s.SpanContext().TraceID().String()
	}
	return ""
}

// Header is the header with the context of a span, in HTTP and in NATS messages.
const Header = "traceparent"

// Parent returns the traceparent of the span of ctx, or "".
func Parent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[Header]
}

// WithParent replaces the span of ctx by that of a traceparent from another process.
func WithParent(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return trace.ContextWithSpan(ctx, off)
	}
	return propagation.TraceContext{}.Extract(trace.ContextWithSpan(ctx, off),
		propagation.MapCarrier{Header: parent})
}

// Observe records a duration in a histogram, with the trace ID of ctx as an exemplar if there is
// one.
func Observe(ctx context.Context, h prometheus.Observer, d time.Duration) {
	if id := ID(ctx); id != "" {
		if e, ok := h.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": id})
			return
		}
	}
	h.Observe(d.Seconds())
}
