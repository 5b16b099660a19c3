// Package tracing makes one OpenTelemetry trace of each export: from the kick-off through the
// NATS headers to worker, task, actors and files. Its spans go to a collector by OTLP/HTTP
// (https://opentelemetry.io/docs/specs/otlp/), their context travels as a traceparent
// (https://www.w3.org/TR/trace-context/). Where no collector is named there is no Tracer, and
// every function here returns at once.
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

// Config is part of the command lines of server and exporter.
type Config struct {
	Endpoint string  `help:"URL of an OpenTelemetry collector that takes traces by OTLP/HTTP, without /v1/traces. OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE and _TIMEOUT go with it. Default: no traces." env:"EHI_TRACE_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT" form:"url"`
	Ratio    float64 `help:"Share of the traces that are kept, from 0 to 1; a client that sends a traceparent decides for itself." default:"1" env:"EHI_TRACE_RATIO" range:"0..1"`
}

// name is this instrumentation's (the scope of its spans).
const name = "ehi-server"

// maxQueue is how many ended spans wait for the collector; further ones are dropped rather than
// waited for.
const maxQueue = 16384

// Job is the attribute that names a job.
const Job = "ehi.job"

// Tracer begins traces. A nil one begins none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	ratio    float64
	log      *slog.Logger
}

// Open makes the Tracer of a process; nil where no endpoint is set. service is what its spans
// are filed under unless OTEL_SERVICE_NAME says otherwise. A collector that is away costs spans
// and a warning each, nothing else. Errors: an endpoint that is no http(s) URL, a ratio outside
// of 0 to 1.
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

// flushTime bounds how long the last spans may take to be sent.
const flushTime = 5 * time.Second

// Close sends what is left. What cannot be sent is lost, with a warning: that is no failure of
// the process.
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

// Begin begins a span below parent, a client's traceparent; where there is none that can be
// read, a trace begins here, if its turn comes by the ratio that is kept. End ends the span.
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

// Continue begins a span below parent, the traceparent of one of our own processes; where there
// is none nothing is traced. What ctx was part of is linked to. End ends the span.
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

// Start begins a span below the one of ctx. Where that is not recorded, this one is not either,
// and ctx is returned as it is.
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

// End ends a span of Start or Continue, with its outcome.
func End(span trace.Span, err error) {
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Traced reports whether the span of ctx is recorded: only then is it worth while to say
// anything about it.
func Traced(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Note adds to what is known of the span of ctx. Callers whose figures cost something ask Traced
// before.
func Note(ctx context.Context, about ...attribute.KeyValue) {
	trace.SpanFromContext(ctx).SetAttributes(about...)
}

// ID is the id of the trace that ctx belongs to, where it is recorded; else "".
func ID(ctx context.Context) string {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return s.SpanContext().TraceID().String()
	}
	return ""
}

// Header carries the context of a span, over HTTP as in NATS messages.
const Header = "traceparent"

// Parent is the traceparent of ctx's span, "" where it has none.
func Parent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[Header]
}

// WithParent puts a traceparent that came from elsewhere in place of ctx's span.
func WithParent(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return trace.ContextWithSpan(ctx, off)
	}
	return propagation.TraceContext{}.Extract(trace.ContextWithSpan(ctx, off),
		propagation.MapCarrier{Header: parent})
}

// Observe puts a duration into a histogram, with the id of ctx's trace where there is one.
func Observe(ctx context.Context, h prometheus.Observer, d time.Duration) {
	if id := ID(ctx); id != "" {
		if e, ok := h.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": id})
			return
		}
	}
	h.Observe(d.Seconds())
}
