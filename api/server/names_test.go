package server

import (
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/sources"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files/local"
)

// RFC 6266 and 8187: a name in ASCII for old browsers, and the true one.
func TestNamesInHeadersAreTrueAndASCII(t *testing.T) {
	app := fiber.New()
	for _, c := range []struct{ name, want string }{
		{"scan.pdf", `attachment; filename="scan.pdf"`},
		{"näme (1).pdf", `attachment; filename="name (1).pdf"; filename*=UTF-8''n%C3%A4me%20%281%29.pdf`},
		{"診.pdf", `attachment; filename="_.pdf"; filename*=UTF-8''%E8%A8%BA.pdf`},
		{`50%41'*.txt`, `attachment; filename="50_41'*.txt"; filename*=UTF-8''50%2541%27%2A.txt`},
	} {
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		offerAs(ctx, c.name)
		got := string(ctx.Response().Header.Peek("Content-Disposition"))
		_, params, err := mime.ParseMediaType(got)
		if got != c.want || err != nil || params["filename"] != c.name {
			t.Errorf("%q is offered as %s, which reads as %q, %v", c.name, got, params["filename"], err)
		}
		app.ReleaseCtx(ctx)
	}
}

func FuzzKickOffParameters(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"_since","valueInstant":"2020-01-01T00:00:00Z"},{"name":"x","part":[]}]}`), true)
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"_typeFilter","valueString":"Observation?date=ge2020,Condition?category=a|b,c"},
		{"name":"patient","valueReference":{"reference":"Patient/1"}},{"name":"_elements","valueString":"id,Patient.name"}]}`), true)
	f.Fuzz(func(t *testing.T, body []byte, lenient bool) {
		params, err := fhir.ParseParameters(body)
		if err != nil {
			return
		}
		for _, level := range []ehi.Level{ehi.OnePatient, ehi.AllPatients, ehi.System} {
			for _, op := range []ehi.Operation{ehi.EHIExport, ehi.BulkExport} {
				k, err := ehi.ParseKickOff(ehi.Asked{Level: level, Operation: op, Parameters: params, Lenient: lenient})
				if err != nil && ehi.CodeOf(err) != ehi.Invalid && ehi.CodeOf(err) != ehi.Unsupported {
					t.Fatal(err)
				}
				if err == nil && !lenient && len(k.Notices()) > 0 {
					t.Fatalf("unknown parameters were taken: %v", k.Notices())
				}
			}
		}
	})
}

// Whatever a client says in Accept-Encoding, If-None-Match and Prefer, it is read without harm.
func FuzzHeaders(f *testing.F) {
	f.Add("gzip;q=0.5, br", `W/"x", "y"`, "respond-async, handling=lenient")
	f.Add(";q=", ",,", "")
	app := fiber.New()
	f.Fuzz(func(t *testing.T, encoding, match, prefer string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().Header.Set("Accept-Encoding", encoding)
		c.Request().Header.Set("Prefer", prefer)
		if accepts(c, "gzip") && !strings.Contains(strings.ToLower(encoding), "gzip") {
			t.Fatalf("gzip for %q", encoding)
		}
		if preferred(c).lenient() && !strings.Contains(strings.ToLower(prefer), "lenient") {
			t.Fatalf("lenient for %q", prefer)
		}
		matches(match, `"tag"`)
	})
}

// Whatever Range a client asks for, the answer is a part of the file that Content-Range names truly, the whole, or 416; and the file is
// closed.
func FuzzRange(f *testing.F) {
	for _, r := range []string{"bytes=0-4", "bytes=5-", "bytes=-3", "bytes=9-2", "bytes=0-1,3-4", "bytes=99999999999999999999-", "bytes=-0", "lines=1-2", "bytes=+1-2", "bytes=1--2"} {
		f.Add(r, "")
	}
	f.Add("bytes=0-4", `"tag"`)
	const digits = "0123456789"
	app := fiber.New()
	f.Fuzz(func(t *testing.T, asked, ifRange string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().Header.Set("Range", asked)
		c.Request().Header.Set("If-Range", ifRange)
		closed := &countingCloser{}
		if err := new(Server).send(c, content{ReadSeeker: strings.NewReader(digits), closer: closed, size: int64(len(digits)), mime: mimeNDJSON, tag: "tag"}); err != nil {
			t.Fatal(err)
		}
		body := string(c.Response().Body()) // reads the stream and closes it
		switch status, named := c.Response().StatusCode(), string(c.Response().Header.Peek("Content-Range")); status {
		case 200:
			if body != digits {
				t.Fatalf("%q: the whole is %q", asked, body)
			}
		case 206:
			var from, to, size int
			if _, err := fmt.Sscanf(named, "bytes %d-%d/%d", &from, &to, &size); err != nil || size != len(digits) || from < 0 || to < from || to >= size || body != digits[from:to+1] {
				t.Fatalf("%q: %q is %q", asked, named, body)
			}
		case 416:
			if named != "bytes */10" {
				t.Fatalf("%q: 416 with %q", asked, named)
			}
		default:
			t.Fatalf("%q: %d", asked, status)
		}
		if closed.n != 1 {
			t.Fatalf("%q: closed %d times", asked, closed.n)
		}
	})
}

type countingCloser struct{ n int }

func (c *countingCloser) Close() error { c.n++; return nil }

// Whatever a client puts into a path, routing answers it, as no file: only a job's own table makes names into files.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{"/jobs/x/download/../../etc/passwd", "/jobs/%2e%2e/status", "/fhir/Patient/%00/$ehi-export", "/jobs/x/download/attachments/%zz", "//", "/jobs/" + strings.Repeat("a", 300) + "/status", "/no-form/auto-approve/fhir/Patient/a%2Fb/$ehi-export"} {
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
	b, err := bus.Open(f.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(b.Close)
	store, err := sources.Store(sources.Config{Data: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	exports, err := local.Open(local.Config{Root: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	a, err := auth.New(f.Context(), auth.Config{KV: b.Auth, Issuer: "http://server.test", Sandbox: true})
	if err != nil {
		f.Fatal(err)
	}
	cfg := Config{
		Config: jobs.Config{Sandbox: true}, Origins: request.Origins{BaseURL: "http://server.test"},
		MaxBodyBytes: 1 << 20, MaxHeaderBytes: 16 << 10,
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg, Deps{Bus: b, Auth: a, Source: store, Files: exports, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		a.Close()
		if err := errors.Join(s.Close(), store.Close()); err != nil && !bus.IsAway(err) { // a test may close the bus
			f.Error(err)
		}
	})
	return s
}
