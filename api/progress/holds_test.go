package progress

import (
	"errors"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// changes are the changes of a test's jobs.
type changes struct{ tell func(job string) }

func (c *changes) OnChange(f func(job string)) (stop func()) {
	c.tell = f
	return func() { c.tell = nil }
}

// holds allows most waiting requests.
func holds(t *testing.T, most int) (*Holds, *changes) {
	t.Helper()
	jobs := &changes{}
	h, err := NewHolds(jobs, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, jobs
}

// asked returns a request without a connection.
func asked(t *testing.T) *fiber.Ctx {
	t.Helper()
	app := fiber.New()
	c := app.AcquireCtx(&fasthttp.RequestCtx{})
	t.Cleanup(func() { app.ReleaseCtx(c) })
	return c
}

// A request waits through changes that do not end its wait, and ends with the one that does. The
// time is recorded.
func TestARequestIsHeldUntilItsJobHasChanged(t *testing.T) {
	h, jobs := holds(t, 1)
	c := asked(t)
	looks := 0
	waited, err := h.Hold(c, "job", time.Minute, func() (bool, error) {
		looks++
		jobs.tell("another")
		jobs.tell("job")
		return looks == 3, nil
	})
	if !waited || err != nil || looks != 3 {
		t.Errorf("waited %v, %v, after %d looks", waited, err, looks)
	}
	if Held(c) <= 0 {
		t.Error("no time is noted")
	}
}

// A request is held no longer than its time, and not after the stop.
func TestAHoldEnds(t *testing.T) {
	h, _ := holds(t, 1)
	never := func() (bool, error) { return false, nil }
	if waited, err := h.Hold(asked(t), "job", time.Millisecond, never); !waited || err != nil {
		t.Errorf("its time is over: %v, %v", waited, err)
	}
	waited, err := h.Hold(asked(t), "job", time.Minute, func() (bool, error) {
		h.Release()
		return false, nil
	})
	if !waited || err != nil {
		t.Errorf("it was released: %v, %v", waited, err)
	}
	if waited, _ := h.Hold(asked(t), "job", time.Minute, never); waited {
		t.Error("a request is held after the stop")
	}
}

// A request without time, or with too many others, is not held, and nobody reads the job.
func TestTooManyRequestsAreNotHeld(t *testing.T) {
	h, _ := holds(t, 1)
	look := func() (bool, error) {
		t.Error("a request is held that should not be")
		return true, nil
	}
	if waited, err := h.Hold(asked(t), "job", 0, look); waited || err != nil {
		t.Errorf("without time: %v, %v", waited, err)
	}
	wrong := errors.New("wrong")
	waited, err := h.Hold(asked(t), "job", time.Minute, func() (bool, error) {
		if waited, err := h.Hold(asked(t), "job", time.Minute, look); waited || err != nil {
			t.Errorf("beside another one: %v, %v", waited, err)
		}
		return false, wrong
	})
	if !waited || !errors.Is(err, wrong) {
		t.Errorf("%v, %v, want the error of the look", waited, err)
	}
}
