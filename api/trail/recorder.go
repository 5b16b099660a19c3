// Package trail records in the audit trail what requests do, and converts events to FHIR. It
// fills in who acted, from where, and the outcome; its callers say what was done. Handlers and
// middleware of all HTTP packages use it. Package exporter/jobs records the events of jobs.
//
// It neither stores nor reads the trail: shared/bus does.
package trail

import (
	"errors"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Log accepts events for the audit trail (bus.Audit).
type Log interface {
	Record(e ehi.Event)
}

// Recorder records what requests do.
type Recorder struct {
	log     Log
	origins request.Origins
	told    *lru.Cache[disclosure, struct{}] // jobs whose disclosure is recorded
	reads   *lru.Cache[reading, struct{}]    // what administrators have read
}

// disclosure identifies a disclosure, which is recorded once, not for each file and range.
type disclosure struct {
	job    string
	access *auth.Access
}

// reading identifies what an administrator has read, which is recorded once.
type reading struct{ session, route, job string }

// remembered is the maximum number of disclosures, and of readings, that are remembered. A
// forgotten one is recorded again.
const remembered = 1 << 16

// New returns a Recorder that writes to log.
func New(log Log, origins request.Origins) (*Recorder, error) {
	told, err := lru.New[disclosure, struct{}](remembered)
	if err != nil {
		return nil, err
	}
	reads, err := lru.New[reading, struct{}](remembered)
	return &Recorder{log: log, origins: origins, told: told, reads: reads}, err
}

// Record records what a request did. It fills in the actor, as far as the request's credentials
// tell. err determines the outcome; nil is success.
func (r *Recorder) Record(c *fiber.Ctx, err error, e ehi.Event) {
	e.At, e.Sender = time.Now().UTC(), r.origins.Sender(c)
	if e.Agent == "" {
		e.Agent = Agent(c)
	}
	if a := request.Access(c); a != nil && e.Client == "" {
		e.Client = a.ClientID
	}
	e.Outcome = outcomeOf(err)
	if err != nil && e.Detail == "" {
		e.Detail = Reason(err)
	}
	r.log.Record(e)
	request.SetRecorded(c)
}

// Change records a change by an administrator, or a failed attempt if err is not nil. It returns
// err.
func (r *Recorder) Change(c *fiber.Ctx, err error, what string) error {
	e := ehi.Event{Action: ehi.ActionAdministrate, Detail: what}
	if err != nil {
		e.Detail += ": " + Reason(err)
	}
	r.Record(c, err, e)
	return err
}

// Disclose records that files of a job are sent, once for each access token.
func (r *Recorder) Disclose(c *fiber.Ctx, j *ehi.Job) {
	if seen, _ := r.told.ContainsOrAdd(disclosure{j.ID, request.Access(c)}, struct{}{}); !seen {
		r.Record(c, nil, ehi.About(ehi.ActionDisclose, j))
	}
}

// Reads is middleware that records that an administrator has read something: once for each
// session, route and job, not each time.
func (r *Recorder) Reads(c *fiber.Ctx) error {
	err := c.Next()
	if err != nil || c.Response().StatusCode() >= http.StatusBadRequest ||
		request.SignedIn(c) == nil {
		return err
	}
	e := ehi.Event{Action: ehi.ActionRead, Detail: c.Route().Path}
	if j := request.Job(c); j != nil && c.Params("id") == j.ID {
		e = ehi.About(ehi.ActionRead, j)
		e.Detail = c.Route().Path
	}
	session := c.Cookies(r.origins.Cookie(request.StaffSession))
	seen := reading{request.Digest(session), e.Detail, e.Job}
	if known, _ := r.reads.ContainsOrAdd(seen, struct{}{}); !known {
		r.Record(c, nil, e)
	}
	return nil
}

// Refusals is middleware that records the refused requests of administrators that nothing else
// records: for an export that does not exist, with an invalid body, or with a proof that is too
// old. The event does not repeat the input.
func (r *Recorder) Refusals(action ehi.Action) fiber.Handler {
	return func(c *fiber.Ctx) error {
		err := c.Next()
		refused := err
		if refused == nil {
			refused = request.Refused(c)
		}
		if refused == nil || request.Recorded(c) || request.SignedIn(c) == nil {
			return err
		}
		e := ehi.Event{Action: action}
		if j := request.Job(c); j != nil {
			e = ehi.About(action, j)
		}
		e.Detail = c.Method() + " " + c.Route().Path + ": " + Reason(refused)
		r.Record(c, refused, e)
		return err
	}
}

// Agent returns the sender of a request, as the trail names them.
func Agent(c *fiber.Ctx) string {
	if who := request.SignedIn(c); who != nil {
		return "admin " + who.Name
	}
	a := request.Access(c)
	switch {
	case a == nil:
		return "nobody"
	case a.Patient != "":
		return "patient " + a.Patient
	}
	return "client " + a.ClientID
}

func outcomeOf(err error) ehi.Outcome {
	if e, ok := errors.AsType[*auth.Error](err); ok && e.Status() < http.StatusInternalServerError {
		return ehi.Denied
	}
	if _, ok := errors.AsType[*openid.Refused](err); ok {
		return ehi.Denied
	}
	return ehi.OutcomeOf(err)
}

// Reason returns the class of an error. The text of the error may repeat the input.
func Reason(err error) string {
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*openid.Refused](err); ok {
		return string(ehi.Unauthenticated)
	}
	return string(ehi.CodeOf(err))
}
