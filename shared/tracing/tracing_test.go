package tracing_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"ehi-server/shared/tracing"
)

// open is a tracer with a ratio, whose collector throws spans away.
func open(t *testing.T, ratio float64) *tracing.Tracer {
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(collector.Close)
	tracer, err := tracing.Open(t.Context(), tracing.Config{Endpoint: collector.URL, Ratio: ratio},
		"test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	return tracer
}

const sampled, unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

// Who decides whether a trace is kept: the client that names one, else the ratio; what cannot be
// read is no client's.
func TestWhoDecidesAboutATrace(t *testing.T) {
	all, none := open(t, 1), open(t, 0)
	for _, c := range []struct {
		tracer *tracing.Tracer
		parent string
		kept   bool
		id     string
	}{
		{all, "", true, ""}, {none, "", false, ""}, {nil, sampled, false, ""},
		{all, sampled, true, sampled[3:35]},
		{none, sampled, true, sampled[3:35]},
		{all, unsampled, false, ""},
		{none, "junk", false, ""}, {all, "junk", true, ""},
	} {
		ctx, span := c.tracer.Begin(t.Context(), c.parent, "request", trace.SpanKindServer)
		if id := tracing.ID(ctx); (id != "") != c.kept || c.id != "" && id != c.id {
			t.Errorf("%q: kept as %q", c.parent, id)
		}
		tracing.End(span, nil)
	}
}

// A trace goes on in another process by its traceparent, and nothing goes on that was not begun.
func TestATraceContinuesInAnotherProcess(t *testing.T) {
	tracer := open(t, 1)
	ctx, span := tracer.Begin(t.Context(), "", "kick-off", trace.SpanKindServer)
	parent := tracing.Parent(ctx)
	elsewhere, further := tracer.Continue(t.Context(), parent, "run command",
		trace.SpanKindConsumer)
	inner, actor := tracing.Start(elsewhere, "read")
	id := tracing.ID(ctx)
	if id == "" || tracing.ID(elsewhere) != id || tracing.ID(inner) != id ||
		!tracing.Traced(inner) {
		t.Errorf("%q, %q, %q", id, tracing.ID(elsewhere), tracing.ID(inner))
	}
	for _, s := range []trace.Span{actor, further, span} {
		tracing.End(s, io.ErrUnexpectedEOF)
	}
	for _, lost := range []string{"", "junk", unsampled} {
		ctx, _ := tracer.Continue(t.Context(), lost, "run command", trace.SpanKindConsumer)
		if tracing.Traced(ctx) {
			t.Errorf("%q is traced", lost)
		}
	}
	if got := tracing.Parent(t.Context()); got != "" {
		t.Errorf("nobody's parent is %q", got)
	}
}

// Without a tracer nothing is allocated for one.
func TestNoTracerCostsNothing(t *testing.T) {
	ctx := t.Context()
	var tracer *tracing.Tracer
	n := testing.AllocsPerRun(100, func() {
		c, span := tracer.Continue(ctx, "", "run command", trace.SpanKindConsumer)
		c, inner := tracing.Start(c, "read")
		if tracing.Parent(c) != "" || tracing.ID(c) != "" {
			t.Error("there is a trace")
		}
		tracing.End(inner, nil)
		tracing.End(span, nil)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
