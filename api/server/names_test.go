package server

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/bus"
	"ehi-server/shared/files/local"
)

// Whatever a client puts into a path, routing answers it, as no file: only a job's own table
// makes names into files.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{
		"/jobs/x/download/../../etc/passwd",
		"/jobs/%2e%2e/status",
		"/fhir/Patient/%00/$ehi-export",
		"/jobs/x/download/attachments/%zz",
		"//",
		"/jobs/" + strings.Repeat("a", 300) + "/status",
		"/no-form/auto-approve/fhir/Patient/a%2Fb/$ehi-export",
	} {
		f.Add(p)
	}
	s := routed(f)
	f.Fuzz(func(t *testing.T, path string) {
		ctx := &fasthttp.RequestCtx{}
		ctx.Request.Header.SetMethod("GET")
		ctx.Request.SetRequestURI("/" + strings.TrimLeft(path, "/"))
		s.app.Handler()(ctx)
		if status := ctx.Response.StatusCode(); status >= 500 || status == 0 {
			t.Fatalf("%q: %d %s", path, status, ctx.Response.Body())
		}
	})
}

// routed is a server on a real bus and an empty store.
func routed(f testing.TB, change ...func(*Config)) *Server {
	f.Helper()
	return routedWith(f, func(c *Config, _ *Deps) {
		for _, f := range change {
			f(c)
		}
	})
}

// routedWith is routed with a change of what the server works on.
func routedWith(f testing.TB, change func(*Config, *Deps)) *Server {
	f.Helper()
	b, err := bus.Open(f.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(b.Close)
	store, err := kinds.Store(kinds.Config{Data: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	exports, err := local.Open(local.Config{Root: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	a, err := auth.New(f.Context(), auth.Config{
		KV:      b.Auth,
		Issuer:  "http://server.test",
		Sandbox: true,
	})
	if err != nil {
		f.Fatal(err)
	}
	cfg := Config{
		Config:  jobs.Config{Sandbox: true},
		Origins: request.Origins{BaseURL: "http://server.test"},
		Flags:   Flags{MaxBodyBytes: 1 << 20, MaxHeaderBytes: 16 << 10},
	}
	deps := Deps{
		Bus:    b,
		Auth:   a,
		Source: store,
		Files:  exports,
		Log:    slog.New(slog.DiscardHandler),
	}
	change(&cfg, &deps)
	s, err := New(cfg, deps)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		a.Close()
		// a test may close the bus
		if err := errors.Join(s.Close(), store.Close()); err != nil && !bus.IsAway(err) {
			f.Error(err)
		}
	})
	return s
}
