package content

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
)

// ending is an authority that ends after some pieces.
type ending struct{ pieces int }

func (e *ending) Lasting(*fiber.Ctx) func() bool {
	return func() bool {
		e.pieces--
		return e.pieces >= 0
	}
}

// If the authority ends or the writer fails, the response breaks off with another error than
// io.EOF, which the client would take for a complete response.
func TestAnAnswerThatBreaksOffHasNoEnd(t *testing.T) {
	broken := errors.New("broken")
	twice := func(w *bufio.Writer, err error) error {
		_, _ = w.WriteString("one")
		if err := w.Flush(); err != nil {
			return err
		}
		_, _ = w.WriteString("two")
		return err
	}
	for _, c := range []struct {
		about  string
		pieces int
		fails  error
		want   string
		whole  bool
	}{
		{"nothing happens", 9, nil, "onetwo", true},
		{"the authority ends", 1, nil, "one", false},
		{"the writer fails", 9, broken, "one", false},
		{"the writer ends too early", 9, io.EOF, "one", false},
	} {
		s, err := NewSender(noFiles{}, &ending{c.pieces}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx := asked(t)
		s.SendChunked(ctx, func(w *bufio.Writer) error { return twice(w, c.fails) })
		got, err := io.ReadAll(ctx.Context().Response.BodyStream())
		if string(got) != c.want || (err == nil) != c.whole {
			t.Errorf("%s: %q, %v", c.about, got, err)
		}
	}
	s, err := NewSender(noFiles{}, &ending{1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx := asked(t)
	if err := s.SendSized(ctx, io.NopCloser(strings.NewReader("text")), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(ctx.Context().Response.BodyStream()); !errors.Is(err, errEnded) {
		t.Errorf("an answer of a known length ends with %v", err)
	}
	if err := s.SendSized(ctx, io.NopCloser(strings.NewReader("")), -1); err == nil {
		t.Error("an answer without a length is sent")
	}
}

// Want-Repr-Digest is a dictionary of weights (RFC 9530 4).
func TestTheWeightOfSHA256IsRead(t *testing.T) {
	for field, want := range map[string]int{
		"":                          -1,
		"sha-512=3":                 -1,
		"sha-256=1":                 1,
		"sha-512=3, sha-256=10":     10,
		"sha-256=0":                 0,
		"sha-256=11":                -1,
		"sha-256=-1":                -1,
		"sha-256":                   -1,
		"sha-256=1;x=2":             1,
		"sha-256=1, \tsha-256=2":    2,
		"sha-256=1, sha-256=nobody": -1,
	} {
		if got := weighSHA256(field); got != want {
			t.Errorf("%q weighs %d", field, got)
		}
	}
}

// A prepared response is sent only to clients that do not have it yet. Each filling has its own
// tag.
func TestAPreparedAnswerIsSentOnce(t *testing.T) {
	p := Prepare("text/plain", []byte("from "), []byte(" to "), []byte("."))
	tags := map[string]bool{}
	for _, filling := range []string{"a", "b", ""} {
		c := asked(t)
		if err := p.Send(c, []byte(filling)); err != nil {
			t.Fatal(err)
		}
		want := "from " + filling + " to " + filling + "."
		if got := string(c.Response().Body()); got != want {
			t.Errorf("%q", got)
		}
		tag := c.GetRespHeader("ETag")
		if tag == "" || tags[tag] {
			t.Errorf("%q has the tag %s", filling, tag)
		}
		tags[tag] = true
		again := asked(t, "If-None-Match", tag)
		if err := p.Send(again, []byte(filling)); err != nil {
			t.Fatal(err)
		}
		if status := again.Response().StatusCode(); status != 304 ||
			len(again.Response().Body()) > 0 {
			t.Errorf("%q: %d to who has it", filling, status)
		}
	}
}
