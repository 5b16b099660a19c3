package content

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Any value of Accept-Encoding, If-None-Match and Prefer is read safely.
func FuzzHeaders(f *testing.F) {
	f.Add("gzip;q=0.5, br", `W/"x", "y"`, "respond-async, handling=lenient")
	f.Add(";q=", ",,", "")
	app := fiber.New()
	f.Fuzz(func(t *testing.T, encoding, match, prefer string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().Header.Set("Accept-Encoding", encoding)
		c.Request().Header.Set("Prefer", prefer)
		if Accepts(c, "gzip") && !strings.Contains(strings.ToLower(encoding), "gzip") {
			t.Fatalf("gzip for %q", encoding)
		}
		if Preferred(c).Lenient() && !strings.Contains(strings.ToLower(prefer), "lenient") {
			t.Fatalf("lenient for %q", prefer)
		}
		matches(match, `"tag"`)
	})
}

// For any Range, the response is the part of the file that Content-Range names, the whole file,
// or 416. The file is closed.
func FuzzRange(f *testing.F) {
	for _, r := range []string{
		"bytes=0-4", "bytes=5-", "bytes=-3", "bytes=9-2", "bytes=0-1,3-4", "bytes=-0", "lines=1-2",
		"bytes=99999999999999999999-", "bytes=+1-2", "bytes=1--2",
	} {
		f.Add(r, "")
	}
	f.Add("bytes=0-4", `"tag"`)
	const digits = "0123456789"
	sender, app := newSender(f), fiber.New()
	f.Fuzz(func(t *testing.T, asked, ifRange string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().Header.Set("Range", asked)
		c.Request().Header.Set("If-Range", ifRange)
		closed := &countingCloser{}
		err := sender.Send(c, Body{
			ReadSeeker: strings.NewReader(digits),
			Closer:     closed,
			Size:       int64(len(digits)),
			MIME:       NDJSON,
			Tag:        "tag",
		})
		if err != nil {
			t.Fatal(err)
		}
		body := string(c.Response().Body()) // reads the stream and closes it
		named := string(c.Response().Header.Peek("Content-Range"))
		switch status := c.Response().StatusCode(); status {
		case 200:
			if body != digits {
				t.Fatalf("%q: the whole is %q", asked, body)
			}
		case 206:
			var from, to, size int
			_, err := fmt.Sscanf(named, "bytes %d-%d/%d", &from, &to, &size)
			if err != nil || size != len(digits) || from < 0 || to < from || to >= size ||
				body != digits[from:to+1] {
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
