package server

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
)

// The stream of changes sends an event for each change, no patient's name or ID, and ends when
// the server stops.
func TestAdministratorsPagesAreToldOfChanges(t *testing.T) {
	b, _ := seated(t)
	b.another().wants("GET", "/admin/ui/events", "", 401, "")
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod("GET")
	c.Request.SetRequestURI("/admin/ui/events")
	c.Request.SetHost("ehi.example")
	c.Request.Header.Set("Cookie", b.cookie())
	b.s.app.Handler()(&c)
	if h := &c.Response.Header; c.Response.StatusCode() != 200 ||
		string(h.ContentType()) != "text/event-stream" ||
		string(h.Peek("Cache-Control")) != "no-store" {
		t.Fatalf("%d %s", c.Response.StatusCode(), h)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	body := c.Response.BodyStream()
	defer context.AfterFunc(ctx, func() { _ = c.Response.CloseBodyStream() })()
	lines := bufio.NewScanner(body)
	lines.Scan() // it has begun
	j := &ehi.Job{
		Version: ehi.RecordVersion, Lane: ehi.Interactive, ID: "j", Level: ehi.OnePatient,
		Status: ehi.Retrieved, Patient: ehi.Patient{ID: "patient-1", Name: "Zebedee Markworthy"},
		ClientID: "app", CreatedAt: now(), CompletedAt: now(), ExpiresAt: now().Add(time.Hour),
	}
	if err := b.s.Bus.Jobs.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	seen := ""
	for !strings.Contains(seen, `{"id":"j","status":"retrieved"}`) && lines.Scan() {
		seen += lines.Text() + "\n"
	}
	if lines.Err() != nil || !strings.Contains(seen, "event: jobs\n") ||
		!strings.Contains(seen, `"retrieved"`) || strings.Contains(seen, j.Patient.ID) ||
		strings.Contains(seen, j.Patient.Name) {
		t.Errorf("%v: %s", lines.Err(), seen)
	}
	b.wants("DELETE", "/admin/jobs/j", "", 200, "")
	for seen = ""; !strings.Contains(seen, `{"id":"j"}`) && lines.Scan(); {
		seen = lines.Text()
	}
	if lines.Err() != nil || !strings.Contains(seen, `{"id":"j"}`) {
		t.Errorf("of the deletion: %v, last %s", lines.Err(), seen)
	}
	b.s.feed.Stop()
	for lines.Scan() {
	}
	if err := ctx.Err(); err != nil {
		t.Errorf("the stream goes on after the stop: %v", err)
	}
}
