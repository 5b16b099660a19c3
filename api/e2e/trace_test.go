package e2e

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
	"ehi-server/shared/tracing"
)

// spans is a collector that keeps what it receives.
type spans struct {
	mu  sync.Mutex
	all []*otlp.Span
}

// collect starts a collector and returns it with its URL.
func collect(t *testing.T) (*spans, string) {
	t.Helper()
	s := &spans{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			t.Errorf("%s, %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, rs := range sent.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				s.all = append(s.all, ss.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(srv.Close)
	return s, srv.URL
}

// has reports whether a span of a trace has arrived.
func (s *spans) has(id, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(span *otlp.Span) bool {
		return span.Name == name && hex.EncodeToString(span.TraceId) == id
	})
}

// trace returns the spans of one trace by name. The parent of each must be among them, or be a
// span of the client, unless it is the root.
func (s *spans) trace(t *testing.T, id, client string) map[string][]*otlp.Span {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, byName := map[string]bool{"": true, client: true}, map[string][]*otlp.Span{}
	for _, span := range s.all {
		if hex.EncodeToString(span.TraceId) == id {
			ids[string(span.SpanId)] = true
			byName[span.Name] = append(byName[span.Name], span)
		}
	}
	for name, of := range byName {
		for _, span := range of {
			if !ids[string(span.ParentSpanId)] {
				t.Errorf("the parent of %s is not in its trace", name)
			}
		}
	}
	return byName
}

// has reports which of the names are missing in a trace.
func has(t *testing.T, trace map[string][]*otlp.Span, names ...string) {
	t.Helper()
	for _, name := range names {
		if len(trace[name]) == 0 {
			t.Errorf("no span %q", name)
		}
	}
}

// An export is one trace, from its kick-off through the form and NATS to worker, task, actors
// and files; so is a population's export. No span names a patient or contains a secret.
func TestAnExportIsOneTrace(t *testing.T) {
	seen, url := collect(t)
	cfg := config()
	cfg.Trace = tracing.Config{Endpoint: url, Ratio: 1}
	var one, many, outcomeID, metrics string
	var secrets []string
	t.Run("exports", func(t *testing.T) { // stopping the server sends its last spans
		w := start(t, t.TempDir(), cfg, node.Options{})
		p := w.demoPatient()
		pat, tokens, err := w.open.Authorize(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		secrets = []string{p, tokens.AccessToken, tokens.RefreshToken, "admin-password"}
		a := w.do(pat, "POST", "/auto-approve/fhir/Patient/"+p+"/$ehi-export")
		w.want(a, 202, "")
		one = a.Header.Get("X-Request-Id")
		if !strings.Contains(string(a.Body), `"id":"`+one+`"`) {
			t.Errorf("the OperationOutcome does not have the request's id %s: %s", one, a.Body)
		}
		j := client.Job{StatusURL: a.Header.Get("Content-Location")}
		j.ID = strings.TrimSuffix(strings.TrimPrefix(j.StatusURL, w.node.URL+"/jobs/"), "/status")
		w.submit(pat, j.ID, everything())
		w.manifest(pat, j)

		all, err := w.open.Service(t.Context(), "test_client_secret", "system/*.rs")
		if err != nil {
			t.Fatal(err)
		}
		// the example of the W3C
		parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		many = parent[3:35]
		a, err = all.Do(t.Context(), "GET", "/fhir/Patient/$export", nil, "Prefer", "respond-async",
			"traceparent", parent, "X-Request-Id", "of-the-client")
		if err != nil || a.Status != 202 || a.Header.Get("X-Request-Id") != "of-the-client" {
			t.Fatalf("%+v, %v", a, err)
		}
		status := a.Header.Get("Content-Location")
		if _, err := all.Do(t.Context(), "GET", status, nil, "traceparent", parent); err != nil {
			t.Fatal(err)
		}
		w.manifest(all, client.Job{StatusURL: status})

		metrics = string(w.do(w.open, "GET", "/metrics", "Accept",
			"application/openmetrics-text;version=1.0.0").Body)
		a = w.do(pat, "GET", "/jobs/nothing/metadata")
		w.want(a, 404, `"id":"`+a.Header.Get("X-Request-Id")+`"`)
		outcomeID = a.Header.Get("X-Request-Id")
		a, err = pat.Do(t.Context(), "GET", "/jobs/nothing/metadata", nil, "X-Request-Id",
			"no id\tat all")
		if id := a.Header.Get("X-Request-Id"); err != nil || len(id) != 32 {
			t.Errorf("an id that is none was taken: %q, %v", id, err)
		}
	})
	if !regexp.MustCompile(`ehi_job_phase_duration_seconds_bucket\{lane="interactive",` +
		`phase="export",le="[^"]+"\} \d+ # \{trace_id="` + one + `"\}`).MatchString(metrics) {
		t.Errorf("no exemplar leads to the trace %s", one)
	}
	trace := seen.trace(t, one, "")
	has(t, trace, "POST /auto-approve/fhir/Patient/:id/$ehi-export", "submit form", "run command",
		"attempt task", "read", "release", "route", "write Patient", "write Observation",
		"commit files")
	if n := len(trace["submit form"]); n != 1 || len(trace["submit form"][0].Links) != 1 {
		t.Errorf("the submission, of %d, is not linked to its request", n)
	}
	ofClient, err := hex.DecodeString("b7ad6b7169203331")
	if err != nil {
		t.Fatal(err)
	}
	ofMany := seen.trace(t, many, string(ofClient))["run command"]
	if len(ofMany) < 2 { // the plan, and at least one task
		t.Errorf("%d commands of a population were traced", len(ofMany))
	}
	has(t, seen.trace(t, outcomeID, ""), "GET /jobs/:id/metadata")
	seen.mu.Lock()
	defer seen.mu.Unlock()
	polls := 0
	for _, span := range seen.all {
		if span.Name == "GET /jobs/:id/status" {
			polls++
		}
	}
	if polls != 1 {
		t.Errorf("%d polls were traced, want the one that was part of its client's trace", polls)
	}
	for _, span := range seen.all {
		for _, secret := range secrets {
			if strings.Contains(span.String(), secret) {
				t.Errorf("%q is in the span %s", secret, span)
			}
		}
	}
}

// An unavailable collector only loses its spans.
func TestACollectorThatIsAwayIsMissedByNobody(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	cfg := config()
	cfg.Trace = tracing.Config{Endpoint: gone.URL, Ratio: 1}
	w := start(t, t.TempDir(), cfg, node.Options{})
	if got, _ := w.export(w.demoPatient(), nil); len(got) == 0 {
		t.Error("nothing was exported")
	}
}

// An invalid configuration of traces is refused at the start.
func TestATraceConfigurationThatCannotWorkIsRefused(t *testing.T) {
	for _, c := range []tracing.Config{
		{Endpoint: "collector:4318", Ratio: 1},
		{Endpoint: "http://", Ratio: 1},
		{Endpoint: "http://127.0.0.1:4318", Ratio: 2},
	} {
		cfg := config()
		cfg.Trace = c
		n, err := node.Open(t.Context(), cfg, t.TempDir(), slog.New(slog.DiscardHandler),
			node.Options{})
		if err == nil {
			t.Errorf("%+v is taken: %v", c, n.Close())
		}
	}
}

// The job's record contains its trace, so that a lost command is published again into the same
// trace.
func TestAJobKnowsItsTrace(t *testing.T) {
	_, url := collect(t)
	cfg := config()
	cfg.Trace = tracing.Config{Endpoint: url, Ratio: 1}
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "", p, nil)
	rec, err := w.node.Bus.Jobs.Get(t.Context(), j.ID)
	if err != nil || rec.Status != ehi.AwaitingInput || len(rec.Trace) != 55 {
		t.Errorf("%+v, %v", rec, err)
	}
}
