package content

import (
	"context"
	"log/slog"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// always is an authority that never ends.
type always struct{}

func (always) Lasting(*fiber.Ctx) func() bool { return func() bool { return true } }

// noFiles is a store without files.
type noFiles struct{}

func (noFiles) FindNative(
	context.Context, *ehi.Job, string,
) (f ehi.NativeFile, at jobs.Stored, err error) {
	return f, at, jobs.ErrFileNotFound
}

func (noFiles) FindHeld(
	context.Context, *ehi.Job, string,
) (f ehi.NativeFile, at jobs.Stored, err error) {
	return f, at, jobs.ErrFileNotFound
}

func (noFiles) OpenFile(context.Context, jobs.Stored) (files.Reader, error) {
	return nil, jobs.ErrFileNotFound
}

// newSender returns a Sender for tests without stored files.
func newSender(t testing.TB) *Sender {
	t.Helper()
	s, err := NewSender(noFiles{}, always{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asked returns the context of a request with some headers, as pairs of name and value.
func asked(t testing.TB, headers ...string) *fiber.Ctx {
	t.Helper()
	app := fiber.New()
	c := app.AcquireCtx(&fasthttp.RequestCtx{})
	t.Cleanup(func() { app.ReleaseCtx(c) })
	for i := 0; i+1 < len(headers); i += 2 {
		c.Request().Header.Add(headers[i], headers[i+1])
	}
	return c
}
