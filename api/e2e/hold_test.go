package e2e

import (
	"context"
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
