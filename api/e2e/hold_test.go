package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/telemetry"
)

// holding returns a server that holds status requests for a long time, so that tests do not
// depend on its speed.
func holding(t *testing.T, change func(*node.Config)) *world {
	t.Helper()
	cfg := config()
	cfg.FHIR.Hold, cfg.FHIR.MaxHold, cfg.FHIR.MaxHeld = time.Minute, time.Minute, 100
	change(&cfg)
	return start(t, t.TempDir(), cfg, node.Options{})
}

// poll requests a status in the background.
func (w *world) poll(
	ctx context.Context, c *client.Client, j client.Job, header ...string,
) <-chan *client.Answer {
	out := make(chan *client.Answer, 1)
	go func() {
		defer close(out)
		a, err := c.Do(ctx, "GET", j.StatusURL, nil, header...)
		if err == nil {
			out <- a
		}
	}()
	return out
}

// held waits until n requests are held.
func held(t *testing.T, n int) {
	t.Helper()
	await(t, "a request that is held", func() bool {
		return testutil.ToFloat64(telemetry.HTTPHeld) == float64(n)
	})
}

func answerOf(t *testing.T, polled <-chan *client.Answer) *client.Answer {
	t.Helper()
	select {
	case a, ok := <-polled:
		if !ok {
			t.Fatal("the poll failed")
		}
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("the poll is not answered")
	}
	return nil
}

// A status request is held while the export runs: the first poll returns the manifest.
func TestTheFirstPollHasTheManifestOfAShortExport(t *testing.T) {
	w := holding(t, func(*node.Config) {})
	p := w.demoPatient()
	c := w.patient(p)
	for range 5 {
		a := w.do(c, "GET", w.kickOff(c, "/no-form/auto-approve", p, nil).StatusURL)
		w.want(a, 200, `"output"`)
		if a.Header.Get("Preference-Applied") != "" {
			t.Error("a preference was applied that nobody had")
		}
	}
	// An export that then waits for an administrator is reported immediately.
	a := w.do(c, "GET", w.kickOff(c, "/no-form", p, nil).StatusURL)
	w.want(a, 202, "")
	if !strings.HasPrefix(a.Header.Get("X-Progress"), "retrieved") {
		t.Errorf("it is %q", a.Header.Get("X-Progress"))
	}
}

// A request is held for at most --hold, and not at all while a person acts.
func TestAPollIsHeldForATime(t *testing.T) {
	w := holding(t, func(c *node.Config) {
		c.FHIR.Hold, c.Worker.Workers, c.FHIR.PollBurst = 50*time.Millisecond, 0, 1
	})
	p := w.demoPatient()
	c := w.patient(p)
	j := w.kickOff(c, "/no-form", p, nil)
	for range 5 { // more than the burst, because held polls do not count
		began := time.Now()
		a := w.do(c, "GET", j.StatusURL)
		took := time.Since(began)
		if a.Status != 202 || len(a.Body) > 0 || took < 50*time.Millisecond ||
			a.Header.Get("Retry-After") != "1" {
			t.Errorf("%d %q after %s, Retry-After %q", a.Status, a.Body, took,
				a.Header.Get("Retry-After"))
		}
	}
	before := testutil.CollectAndCount(telemetry.HeldSeconds)
	form := w.kickOff(c, "", p, nil)
	w.want(w.do(c, "GET", form.StatusURL), 202, "")
	if testutil.CollectAndCount(telemetry.HeldSeconds) != before {
		t.Error("a poll was held while the patient chooses")
	}
}

// RFC 7240 4.3: Prefer: wait holds a request in any state that is not final, until the job ends
// or the server's limit is reached. A token that was revoked meanwhile gets nothing.
func TestPreferWaitHoldsAPoll(t *testing.T) {
	w := holding(t, func(c *node.Config) { c.FHIR.MaxHold = 30 * time.Second })
	p := w.demoPatient()
	c := w.patient(p)
	j := w.kickOff(c, "/auto-approve", p, nil)
	polled := w.poll(t.Context(), c, j, "Prefer", "respond-async, wait=100")
	held(t, 1)
	w.submit(c, j.ID, everything())
	a := answerOf(t, polled)
	w.want(a, 200, `"output"`)
	if got := a.Header.Get("Preference-Applied"); got != "wait=30" {
		t.Errorf("Preference-Applied %q", got)
	}
	a = w.do(c, "GET", j.StatusURL, "Prefer", "wait=7")
	w.want(a, 200, "")
	if got := a.Header.Get("Preference-Applied"); got != "wait=7" {
		t.Errorf("of a job that has ended: Preference-Applied %q", got)
	}

	reviewed := w.kickOff(c, "/no-form", p, nil)
	w.want(w.do(c, "GET", reviewed.StatusURL), 202, "")
	polled = w.poll(t.Context(), c, reviewed, "Prefer", `Wait = "20"`)
	held(t, 1)
	if _, err := w.admin.Act(t.Context(), reviewed.ID, "reject"); err != nil {
		t.Fatal(err)
	}
	w.want(answerOf(t, polled), 403, "rejected")

	gone := w.kickOff(c, "", p, nil)
	polled = w.poll(t.Context(), c, gone, "Prefer", "wait=20")
	held(t, 1)
	if err := c.Delete(t.Context(), gone.StatusURL); err != nil {
		t.Fatal(err)
	}
	w.want(answerOf(t, polled), 404, "Export job not found!")
	held(t, 0)

	revoked := w.kickOff(c, "/auto-approve", p, nil)
	polled = w.poll(t.Context(), c, revoked, "Prefer", "wait=20")
	held(t, 1)
	a, err := w.open.Do(t.Context(), "POST", "/auth/revoke",
		strings.NewReader("client_id=test_client_id&token="+c.Token), "Content-Type",
		"application/x-www-form-urlencoded")
	if err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	c = w.patient(p)
	w.submit(c, revoked.ID, everything())
	w.want(answerOf(t, polled), 401, "Invalid token")

	a = w.do(c, "GET", w.kickOff(c, "", p, nil).StatusURL, "Prefer", "wait=0")
	w.want(a, 202, "")
	if got := a.Header.Get("Preference-Applied"); got != "wait=0" {
		t.Errorf("wait=0: Preference-Applied %q", got)
	}
}

// A held request ends when its client disconnects and when the server stops. Beyond the limit,
// requests are not held.
func TestHeldPollsEnd(t *testing.T) {
	w := holding(t, func(c *node.Config) { c.Worker.Workers, c.FHIR.MaxHeld = 0, 2 })
	p := w.demoPatient()
	c := w.patient(p)
	j := w.kickOff(c, "/no-form", p, nil)

	leaving, leave := context.WithCancel(t.Context())
	polled := w.poll(leaving, c, j, "Prefer", "wait=60")
	held(t, 1)
	leave()
	if a, ok := <-polled; ok {
		t.Fatalf("it was answered %d", a.Status)
	}
	held(t, 0)

	first, second := w.poll(t.Context(), c, j), w.poll(t.Context(), c, j)
	held(t, 2)
	w.want(w.do(c, "GET", j.StatusURL), 202, "") // a third one
	w.stop()
	for _, polled := range []<-chan *client.Answer{first, second} {
		w.want(answerOf(t, polled), 202, "")
	}
}

// BULK-4, REAL-1: a client that polls without a pause and obeys Retry-After sees only one
// refusal.
func TestBULK4OneRefusalRecovers(t *testing.T) {
	w := holding(t, func(c *node.Config) { c.FHIR.PollBurst = 3 })
	p := w.demoPatient()
	c := w.patient(p)
	j := w.kickOff(c, "", p, nil)
	refused := 0
	for range 10 {
		a := w.do(c, "GET", j.StatusURL)
		if a.Status != 429 {
			w.want(a, 202, "")
			continue
		}
		refused++
		wait, err := time.ParseDuration(a.Header.Get("Retry-After") + "s")
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Sleep(t.Context(), wait); err != nil {
			t.Fatal(err)
		}
	}
	if refused != 1 {
		t.Errorf("refused %d times", refused)
	}
}
