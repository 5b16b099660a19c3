package page

import (
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/bus"
	"ehi-server/shared/subject"
)

// patience charges addresses until it has been called this often.
type patience int

func (p *patience) Charge(*fiber.Ctx) (bool, error) {
	*p--
	return *p >= 0, nil
}

// stationer keeps flashes on a separate bus.
type stationer struct {
	t   *testing.T
	app *fiber.App
	Flashes
}

func newStationer(t *testing.T) *stationer {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	charges := patience(1)
	return &stationer{t, fiber.New(), Flashes{
		Safe: Safe{b.Sessions.Part(subject.Kind{})}, Failures: &charges,
		Log: slog.New(slog.DiscardHandler),
	}}
}

// ask calls a handler with a request.
func (s *stationer) ask(method, path, cookies string, handle func(*fiber.Ctx) error) {
	s.t.Helper()
	var rc fasthttp.RequestCtx
	rc.Request.Header.SetMethod(method)
	rc.Request.SetRequestURI(path)
	rc.Request.Header.Set("Cookie", cookies)
	c := s.app.AcquireCtx(&rc)
	defer s.app.ReleaseCtx(c)
	if err := handle(c); err != nil {
		s.t.Fatal(err)
	}
}

// A flash can be read once: on its page, in its session, by its owner.
func TestAFlashIsForOnePageAndItsReader(t *testing.T) {
	s := newStationer(t)
	flash := ""
	s.ask("POST", "/form", "", func(c *fiber.Ctx) error {
		f := &Flash{Session: SessionDigest("mine"), Owner: "ada", Problem: "no"}
		err := s.Leave(c, "/page?x=y", f)
		flash = string(c.Response().Header.PeekCookie(flashCookie))
		return err
	})
	flash, _, _ = strings.Cut(flash, ";")
	left := func(method, path, cookies, reader string) string {
		var f Flash
		s.ask(method, path, cookies, func(c *fiber.Ctx) error {
			if s.Left(c, "sid", reader, &f) {
				var again Flash // a page may read it twice
				if !s.Left(c, "sid", reader, &again) || again.Problem != f.Problem {
					t.Errorf("%+v, then %+v", f, again)
				}
			}
			return nil
		})
		return f.Problem
	}
	for name, got := range map[string]string{
		"another page":    left("GET", "/other", "sid=mine; "+flash, "ada"),
		"another session": left("GET", "/page", "sid=other; "+flash, "ada"),
		"somebody else":   left("GET", "/page", "sid=mine; "+flash, "bob"),
		"a form":          left("POST", "/page", "sid=mine; "+flash, "ada"),
		"no cookie":       left("GET", "/page", "sid=mine", "ada"),
		"another cookie":  left("GET", "/page", "sid=mine; "+flashCookie+"=x", "ada"),
	} {
		if got != "" {
			t.Errorf("%s reads %q", name, got)
		}
	}
	for _, want := range []string{"no", ""} {
		if got := left("GET", "/page", "sid=mine; "+flash, "ada"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// Input that is too long is dropped, and nothing is kept for an address with too many failures.
func TestWhatIsTypedIsKeptWithinBounds(t *testing.T) {
	s := newStationer(t)
	long := &Flash{Fields: url.Values{"a": {strings.Repeat("x", maxTyped)}}}
	for _, want := range []bool{true, false} {
		s.ask("POST", "/form", "", func(c *fiber.Ctx) error {
			kept, err := s.KeepTyped(c, "/form", long)
			if kept != want {
				t.Errorf("kept: %v, not %v", kept, want)
			}
			return err
		})
	}
	if long.Fields != nil || !strings.Contains(long.Problem, "too long to keep") {
		t.Errorf("%.100v", long)
	}
}
