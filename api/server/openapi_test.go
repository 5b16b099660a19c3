package server

import (
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/api/openapi"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/files"
)

// The OpenAPI document has every route of the server, and no other.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	b, err := bus.Open(t.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: t.TempDir(), AckWait: time.Second, MaxQueue: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	exports, err := files.NewLocal(files.Config{Root: filepath.Join(t.TempDir(), "exports")})
	if err != nil {
		t.Fatal(err)
	}
	var records source.Source // nothing is asked of it
	s, err := New(Config{PollBurst: 1}, Deps{Bus: b, Files: exports, Source: records, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	routed := map[string]bool{}
	variants := regexp.MustCompile(`^(/no-form|/auto-approve)*(/fhir)`)
	parameter := regexp.MustCompile(`:(\w+)`)
	for _, r := range s.app.GetRoutes(true) {
		if r.Method == "HEAD" || strings.Contains(r.Path, "%24") { // of each GET; the other spelling of $
			continue
		}
		path := parameter.ReplaceAllString(variants.ReplaceAllString(r.Path, "$2"), "{$1}")
		if path != "/" {
			path = strings.TrimSuffix(path, "/")
		}
		routed[r.Method+" "+path] = true
	}
	for _, byMiddleware := range []string{"/healthz", "/readyz", "/assets/{file}", "/admin/debug/pprof/{profile}"} {
		routed["GET "+byMiddleware] = true // Fiber's middleware answers them; the end-to-end test asks them
	}
	for _, o := range openapi.Operations() {
		what := o.String()
		if !routed[what] {
			t.Errorf("the document has %s, which the server does not, or twice", what)
		}
		delete(routed, what)
	}
	for what := range routed {
		t.Errorf("the document lacks %s", what)
	}
	if n := len(openapi.Operations()); n < 50 {
		t.Errorf("only %d operations", n)
	}
}
