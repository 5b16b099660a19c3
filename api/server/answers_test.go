package server

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"ehi-server/api/content"
	"ehi-server/shared/bus"
)

// ownBodies are Fiber's methods that fill in a body without a Content-Type.
var ownBodies = []string{"SendStatus", "SendString", "Write", "WriteString", "Writef"}

// Handlers answer through content.Empty, content.Text, JSON, or with a Content-Type that they set:
// Fiber's methods that make up a body are not called on a context.
func TestNoHandlerLeavesItsBodyToTheFramework(t *testing.T) {
	set, files := handlerFiles(t)
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if name := onContext(call); name != "" {
					t.Errorf("%s: %s leaves the body to Fiber; use content.Empty or content.Text",
						set.Position(n.Pos()), name)
				}
			}
			return true
		})
	}
}

// handlerFiles are the files of the packages below api that use Fiber, by path, without their
// tests.
func handlerFiles(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	paths, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	set, out := token.NewFileSet(), map[string]*ast.File{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		uses := func(i *ast.ImportSpec) bool {
			return strings.HasPrefix(i.Path.Value, `"github.com/gofiber/fiber/v2`)
		}
		if slices.ContainsFunc(file.Imports, uses) {
			out[path] = file
		}
	}
	if len(out) < 40 {
		t.Fatalf("only %d files use Fiber", len(out))
	}
	return set, out
}

// onContext is the method of a call such as c.SendStatus(204) or c.Status(204).SendString(""), if
// it is one of ownBodies.
func onContext(call *ast.CallExpr) string {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	for _, name := range ownBodies {
		if method.Sel.Name != name {
			continue
		}
		if x, ok := method.X.(*ast.Ident); ok && x.Name != "c" {
			continue
		}
		if _, ok := method.X.(*ast.SelectorExpr); ok {
			continue // a field: not a context
		}
		return name
	}
	return ""
}

// ask sends a request to a server's application, header lines in pairs.
func ask(t *testing.T, s *Server, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	a, err := s.app.Test(r, -1)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Whatever a middleware fills in does not leave the server without a Content-Type.
func TestABodyThatNobodyAnnouncedIsNotSent(t *testing.T) {
	s := routed(t)
	s.app.Get("/filled-in", func(c *fiber.Ctx) error { return c.SendStatus(fiber.StatusTeapot) })
	a := ask(t, s, "GET", "/filled-in")
	if a.StatusCode != fiber.StatusTeapot || a.ContentLength != 0 ||
		a.Header.Get("Content-Type") != "" {
		t.Errorf("%d with %d bytes of %q", a.StatusCode, a.ContentLength,
			a.Header.Get("Content-Type"))
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		for _, method := range []string{"GET", "HEAD"} {
			a := ask(t, s, method, path)
			if a.ContentLength > 0 || a.StatusCode >= 400 || a.Header.Get("Content-Type") != "" {
				t.Errorf("%s %s: %d with %d bytes of %q", method, path, a.StatusCode,
					a.ContentLength, a.Header.Get("Content-Type"))
			}
		}
	}
}

// EHI-10: a log-in without a body, or with one that is no log-in, is answered as any other wrong
// one.
func TestEHI10AnyWrongLoginIsAnsweredAlike(t *testing.T) {
	s := routed(t)
	for _, header := range [][]string{
		nil,
		{"Content-Type", "application/json"},
		{"Content-Type", "application/x-www-form-urlencoded"},
	} {
		if a := ask(t, s, "POST", "/admin/login", header...); a.StatusCode != 401 {
			t.Errorf("%v: %d", header, a.StatusCode)
		}
	}
}

// An answer in another format is refused on a page to a browser, and as a resource to a program.
func TestAnUnacceptableFormatIsRefusedAsTheClientReads(t *testing.T) {
	s := routed(t)
	for accept, mime := range map[string]string{
		"application/fhir+xml": content.FHIR,
		"text/html":            "text/html; charset=utf-8",
	} {
		a := ask(t, s, "GET", "/fhir/metadata", "Accept", accept)
		if a.StatusCode != http.StatusNotAcceptable || a.Header.Get("Content-Type") != mime {
			t.Errorf("Accept %q: %d %s", accept, a.StatusCode, a.Header.Get("Content-Type"))
		}
	}
	if a := ask(t, s, "GET", "/fhir/metadata?_format=xml"); a.StatusCode != http.StatusBadRequest {
		t.Errorf("_format=xml: %d", a.StatusCode)
	}
}

// Where NATS does not let the process in any more, and so no new connection can be opened, the
// process says that it is to be replaced: liveness fails, not readiness alone.
func TestAProcessThatNATSRefusesIsNotAlive(t *testing.T) {
	opts := &natsserver.Options{
		Host:      "127.0.0.1",
		Port:      -1,
		JetStream: true,
		StoreDir:  t.TempDir(),
		NoLog:     true,
		NoSigs:    true,
		Users:     []*natsserver.User{{Username: "ehi", Password: "of-the-test"}},
	}
	nats, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	b, err := bus.Open(t.Context(), bus.Config{
		Flags: bus.Flags{
			URL:  nats.ClientURL(),
			Dial: bus.Dial{Access: bus.Access{Password: "of-the-test"}},
		},
		Audit: &bus.AuditConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s := routed(t)
	s.Bus = b
	alive := func() int { return answer(s, "GET", "/healthz", "").StatusCode() }
	if got := alive(); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	changed := opts.Clone()
	changed.Users = []*natsserver.User{{Username: "ehi", Password: "another one"}}
	if err := nats.ReloadOptions(changed); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); alive() != http.StatusServiceUnavailable; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it says that it is alive")
		}
	}
}
