package fhirapi

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// patient are flags with which a request is held for longer than a test takes.
func patient(f *Flags) { f.Hold, f.MaxHold, f.MaxHeld = time.Minute, time.Minute, 100 }

// everyScope is what a service may have.
const everyScope = "system/*.rs system/$ehi-export"

// poll requests the status of a job in the background, and returns once the request is held.
func (e *exports) poll(token, job string, header ...string) <-chan *fasthttp.Response {
	e.t.Helper()
	answer := make(chan *fasthttp.Response, 1)
	go func() { answer <- e.ask(token, "GET", job+"/status", header...) }()
	select {
	case id := <-e.held:
		if job != "/jobs/"+id {
			e.t.Fatalf("a poll of %s is held, not of %s", id, job)
		}
	case a := <-answer:
		e.t.Fatalf("the poll is not held: %d %s", a.StatusCode(), a.Body())
	}
	return answer
}

// wantPreference checks which preference an answer says it has honoured; "" for none.
func (e *exports) wantPreference(a *fasthttp.Response, want string) {
	e.t.Helper()
	if got := string(a.Header.Peek("Preference-Applied")); got != want {
		e.t.Errorf("Preference-Applied %q, want %q", got, want)
	}
}

// A status request is held while the export runs: the first poll returns the manifest. An export
// that then waits for an administrator is reported immediately.
func TestTheFirstPollHasTheManifestOfAShortExport(t *testing.T) {
	e := newExports(t, patient)
	token := e.serviceFor(everyScope)
	job := e.kickOffPatient(token, "/no-form/auto-approve")
	polled := e.poll(token, job)
	e.export(job, "Patient")
	a := <-polled
	e.want(a, 200, `"output"`)
	e.wantPreference(a, "")
	job = e.kickOffPatient(token, "/no-form")
	polled = e.poll(token, job)
	e.export(job, "Patient")
	a = <-polled
	e.want(a, 202, "")
	if at := string(a.Header.Peek("X-Progress")); !strings.HasPrefix(at, "retrieved") {
		t.Errorf("it is %q", at)
	}
}

// A request is held for at most --hold, and not at all while a person acts. Polls that are held
// do not count.
func TestAPollIsHeldForATime(t *testing.T) {
	e := newExports(t, func(f *Flags) {
		patient(f)
		f.Hold, f.PollBurst = 50*time.Millisecond, 1
	})
	token := e.serviceFor(everyScope)
	job := e.kickOffPatient(token, "/no-form")
	for range 5 { // more than the burst
		began := time.Now()
		a := e.ask(token, "GET", job+"/status")
		took := time.Since(began)
		if wait := string(a.Header.Peek("Retry-After")); a.StatusCode() != 202 ||
			len(a.Body()) > 0 || took < 50*time.Millisecond || wait != "1" {
			t.Errorf("%d %q after %s, Retry-After %q", a.StatusCode(), a.Body(), took, wait)
		}
	}
	if len(e.held) != 5 {
		t.Errorf("%d of 5 polls were held", len(e.held))
	}
	form := e.kickOffPatient(token, "")
	e.want(e.ask(token, "GET", form+"/status"), 202, "")
	if len(e.held) != 5 {
		t.Error("a poll was held while the patient chooses")
	}
}

// RFC 7240 4.3: Prefer: wait holds a request in any state that is not final, until the job ends
// or the server's limit is reached.
func TestPreferWaitHoldsAPoll(t *testing.T) {
	e := newExports(t, func(f *Flags) {
		patient(f)
		f.MaxHold = 30 * time.Second
	})
	token := e.serviceFor(everyScope)
	job := e.kickOffPatient(token, "/auto-approve")
	polled := e.poll(token, job, "Prefer", "respond-async, wait=100")
	e.submit(job)
	e.export(job, "Patient")
	a := <-polled
	e.want(a, 200, `"output"`)
	e.wantPreference(a, "wait=30")
	a = e.ask(token, "GET", job+"/status", "Prefer", "wait=7") // it has ended
	e.want(a, 200, "")
	e.wantPreference(a, "wait=7")

	reviewed := e.kickOffPatient(token, "/no-form")
	e.export(reviewed, "Patient")
	e.want(e.ask(token, "GET", reviewed+"/status"), 202, "")
	polled = e.poll(token, reviewed, "Prefer", `Wait = "20"`)
	e.change(reviewed, func(j *ehi.Job) error { return j.Reject("rita", time.Now()) })
	e.want(<-polled, 403, "rejected")

	gone := e.kickOffPatient(token, "")
	polled = e.poll(token, gone, "Prefer", "wait=20")
	e.want(e.ask(token, "DELETE", gone+"/status"), 202, "")
	e.want(<-polled, 404, "Export job not found!")

	a = e.ask(token, "GET", e.kickOffPatient(token, "")+"/status", "Prefer", "wait=0")
	e.want(a, 202, "")
	e.wantPreference(a, "wait=0")
}

// A poll whose token was revoked while it was held gets nothing.
func TestAHeldPollIsRefusedOnceItsTokenIsRevoked(t *testing.T) {
	e := newExports(t, patient)
	token := e.serviceFor(everyScope)
	job := e.kickOffPatient(token, "/auto-approve")
	polled := e.poll(token, job, "Prefer", "wait=20")
	err := e.auth.RevokeToken(t.Context(), auth.TokenRequest{Form: url.Values{
		"client_id": {auth.SandboxClientID}, "client_secret": {secret}, "token": {token},
	}})
	if err != nil {
		t.Fatal(err)
	}
	e.submit(job)
	e.export(job, "Patient")
	e.want(<-polled, 401, "Invalid token")
	e.want(e.ask(e.serviceFor(everyScope), "GET", job+"/status"), 200, `"output"`)
}

// paced delays or refuses polls for as long as it says.
type paced struct{ delay, refuse time.Duration }

func (p *paced) Admit(string, time.Time) (delay, refused time.Duration) {
	if p.delay > 0 {
		return p.delay, 0
	}
	return 0, p.refuse
}

func (p *paced) Refuse(string, time.Time) (refused time.Duration) { return p.refuse }

// BULK-4, REAL-1: a poll that comes too early is refused, and told when to come again.
func TestBULK4APollThatIsTooEarlyIsToldWhenToComeAgain(t *testing.T) {
	e := newExports(t, patient)
	token, pace := e.serviceFor(everyScope), &paced{refuse: 2500 * time.Millisecond}
	e.h.Paces = pace
	job := e.kickOffPatient(token, "")
	a := e.ask(token, "GET", job+"/status")
	e.wantOutcome(a, 429, "")
	if wait := string(a.Header.Peek("Retry-After")); wait != "3" {
		t.Errorf("Retry-After %q", wait)
	}
	pace.refuse = 0
	e.want(e.ask(token, "GET", job+"/status"), 202, "")
}

// crowded has no room for another held request.
type crowded struct{ Holds }

func (crowded) Hold(
	*fiber.Ctx, string, time.Duration, func() (bool, error),
) (waited bool, err error) {
	return false, nil
}

// BULK-4: a client that has obeyed a refusal is delayed instead of refused again, unless too many
// requests are held.
func TestBULK4APollOfAClientThatObeysIsDelayed(t *testing.T) {
	e := newExports(t, patient)
	token := e.serviceFor(everyScope)
	e.h.Paces = &paced{delay: 50 * time.Millisecond, refuse: 3 * time.Second}
	job := e.kickOffPatient(token, "")
	began := time.Now()
	e.want(e.ask(token, "GET", job+"/status"), 202, "")
	if took := time.Since(began); took < 50*time.Millisecond || len(e.held) != 1 {
		t.Errorf("it is answered after %v, and %d polls were held", took, len(e.held))
	}
	e.h.Holds = crowded{e.h.Holds}
	a := e.ask(token, "GET", job+"/status")
	e.wantOutcome(a, 429, "")
	if wait := string(a.Header.Peek("Retry-After")); wait != "3" {
		t.Errorf("Retry-After %q", wait)
	}
}
