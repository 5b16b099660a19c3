package trail_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// book keeps what is recorded.
type book struct{ events []ehi.Event }

func (b *book) Record(e ehi.Event) { b.events = append(b.events, e) }

// recorded returns the events in the trail after n requests to a handler.
func recorded(t *testing.T, n int, handlers func(*trail.Recorder) []fiber.Handler) []ehi.Event {
	t.Helper()
	b := &book{}
	r, err := trail.New(b, request.Origins{BaseURL: "http://server.test"})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	app.Get("/jobs/:id", append([]fiber.Handler{request.Identify}, handlers(r)...)...)
	for range n {
		_, err := app.Test(httptest.NewRequest(http.MethodGet, "/jobs/j1", nil), -1)
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.events
}

// signedIn treats every request as an administrator's.
func signedIn(c *fiber.Ctx) error {
	request.SetAdministrator(c, &request.Administrator{Name: "ada", Role: auth.Viewer})
	return c.Next()
}

// about stores the job of a request.
func about(c *fiber.Ctx) error {
	request.NoteJob(c, &ehi.Job{ID: "j1", Patient: ehi.Patient{ID: "p1"}})
	return c.Next()
}

func answer(c *fiber.Ctx) error { return c.SendString("here") }

// An event names the sender of the request and its outcome, but not the text of the error.
func TestAnEventNamesItsSenderAndItsOutcome(t *testing.T) {
	for want, access := range map[string]*auth.Access{
		"nobody":     nil,
		"client app": {ClientID: "app"},
		"patient p1": {ClientID: "app", Patient: "p1"},
	} {
		events := recorded(t, 1, func(r *trail.Recorder) []fiber.Handler {
			return []fiber.Handler{func(c *fiber.Ctx) error {
				if access != nil {
					request.SetAccess(c, access)
				}
				r.Record(c, ehi.Errorf(ehi.NotFound, "no typed word"),
					ehi.Event{Action: ehi.ActionRead})
				return nil
			}}
		})
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		e := events[0]
		if e.Agent != want || e.Detail != string(ehi.NotFound) || e.Outcome == ehi.Succeeded {
			t.Errorf("%s: %+v", want, e)
		}
		if e.Address == "" || e.Request == "" || e.At.IsZero() ||
			access != nil && e.Client != "app" {
			t.Errorf("%s: %+v", want, e)
		}
	}
}

// Each field of ehi.Sender is filled in from the request.
func TestEachFieldOfTheSenderIsInTheTrail(t *testing.T) {
	events := recorded(t, 1, func(r *trail.Recorder) []fiber.Handler {
		return []fiber.Handler{func(c *fiber.Ctx) error {
			r.Record(c, nil, ehi.Event{Action: ehi.ActionRead})
			return nil
		}}
	})
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	sender := reflect.ValueOf(events[0].Sender)
	for i := range sender.NumField() {
		if sender.Field(i).IsZero() {
			t.Errorf("%s is empty", sender.Type().Field(i).Name)
		}
	}
}

// A disclosure is recorded once for each access token, and a reading once for each session.
func TestRepetitionsLeaveOneEvent(t *testing.T) {
	access := &auth.Access{ClientID: "app"}
	events := recorded(t, 3, func(r *trail.Recorder) []fiber.Handler {
		return []fiber.Handler{func(c *fiber.Ctx) error {
			request.SetAccess(c, access)
			r.Disclose(c, &ehi.Job{ID: c.Params("id")})
			return nil
		}}
	})
	if len(events) != 1 || events[0].Action != ehi.ActionDisclose || events[0].Job != "j1" {
		t.Errorf("disclosures: %+v", events)
	}
	events = recorded(t, 3, func(r *trail.Recorder) []fiber.Handler {
		return []fiber.Handler{r.Reads, signedIn, about, answer}
	})
	if len(events) != 1 || events[0].Agent != "admin ada" || events[0].Job != "j1" ||
		events[0].Detail != "/jobs/:id" {
		t.Errorf("readings: %+v", events)
	}
	if events = recorded(t, 1, func(r *trail.Recorder) []fiber.Handler {
		return []fiber.Handler{r.Reads, about, answer}
	}); len(events) != 0 {
		t.Errorf("of nobody: %+v", events)
	}
}

// A refusal is recorded unless something else has recorded it, also if a page redirects back.
func TestARefusalIsRecordedOnce(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		handler func(*trail.Recorder, *fiber.Ctx) error
		want    int
	}{
		"an error": {func(*trail.Recorder, *fiber.Ctx) error { return refused }, 1},
		"a redirect": {
			func(_ *trail.Recorder, c *fiber.Ctx) error {
				request.SetRefused(c, refused)
				return nil
			},
			1,
		},
		"a success": {func(*trail.Recorder, *fiber.Ctx) error { return nil }, 0},
		"by a change": {
			func(r *trail.Recorder, c *fiber.Ctx) error {
				return r.Change(c, refused, "add a client")
			},
			1,
		},
	} {
		events := recorded(t, 1, func(r *trail.Recorder) []fiber.Handler {
			return []fiber.Handler{
				r.Refusals(ehi.ActionApprove),
				signedIn,
				about,
				func(ctx *fiber.Ctx) error {
					return c.handler(r, ctx)
				},
			}
		})
		if len(events) != c.want || c.want == 1 && events[0].Outcome == ehi.Succeeded {
			t.Errorf("%s: %+v", name, events)
		}
	}
}
