package staff

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Events are the events of the audit trail (bus.Audit).
type Events interface {
	// Read visits the events that a filter admits, oldest first, until visit returns false.
	Read(
		ctx context.Context, filter bus.AuditFilter,
		visit func(seq uint64, e ehi.Event) (more bool, err error),
	) error
}

// Audit lets administrators read the audit trail, by a page and as FHIR AuditEvents.
type Audit struct {
	Pages   *Pages
	Origins request.Origins
	Exports *Exports
	Events  Events
	Trail   Trail
	Sender  Streamer
}

// Routes registers the page and the API.
func (h *Audit) Routes(r Router) {
	r.OnPage("GET", auditPath, h.Pages.guarded(), h.handlePage)
	r.On("GET", "/admin/audit", h.handleAudit)
}

// auditQuery is what GET /admin/audit accepts.
type auditQuery struct {
	filter bus.AuditFilter
	limit  int // events; 0: all
}

// DefaultEvents is how many events an answer of GET /admin/audit has if the request does not say.
const DefaultEvents = 1000

func parseAudit(q url.Values) (out auditQuery, err error) {
	out.limit = DefaultEvents
	for name, values := range q {
		if err := out.set(name, values[0]); err != nil {
			return out, ehi.Errorf(ehi.Invalid, "Invalid parameter %q: %v", name, err)
		}
	}
	outcome, agent, client, job := q.Get("outcome"), q.Get("agent"), q.Get("client"), q.Get("job")
	out.filter.Match = func(e ehi.Event) bool {
		return (outcome == "" || string(e.Outcome) == outcome) &&
			(agent == "" || e.Agent == agent) &&
			(client == "" || e.Client == client) &&
			(job == "" || e.Job == job)
	}
	return out, nil
}

// set reads a parameter that is not one of those of Match.
func (q *auditQuery) set(name, v string) (err error) {
	switch name {
	case "outcome", "agent", "client", "job":
	case "patient":
		q.filter.Patient = v
		if !fhir.ValidID(v) {
			err = errors.New("it is no id")
		}
	case "action":
		q.filter.Action = ehi.Action(v)
		if v != "" && !slices.Contains(ehi.Actions(), q.filter.Action) {
			err = errors.New("there is no such action")
		}
	case "from":
		q.filter.From, err = auditInstant(v)
	case "to":
		q.filter.To, err = auditInstant(v)
	case "after":
		q.filter.After, err = strconv.ParseUint(v, 10, 63)
	case "limit":
		q.limit, err = strconv.Atoi(v)
		if err == nil && q.limit < 0 {
			err = errors.New("it is negative")
		}
	default:
		err = errors.New("there is no such parameter")
	}
	return err
}

// auditInstant reads an instant or a day.
func auditInstant(v string) (time.Time, error) {
	s, err := fhir.ParseAsked(v)
	if err != nil {
		return s.Start, errors.New("it must be such as 2026-11-25 or 2026-11-25T12:00:00Z")
	}
	return s.Start, nil
}

// handleAudit sends the audit trail as FHIR AuditEvents, one a line, oldest first. ?patient=,
// ?action=, ?outcome=, ?agent=, ?client=, ?job=, ?from= and ?to= narrow it, ?limit= bounds it (0:
// all of it), and ?after= continues behind an event's ID. With a patient and action=disclose, the
// answer is the accounting of disclosures of 45 CFR 164.528.
func (h *Audit) handleAudit(c *fiber.Ctx) error {
	q, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return ehi.Errorf(ehi.Invalid, "The query cannot be read")
	}
	asked, err := parseAudit(q)
	if err != nil {
		return err
	}
	h.Trail.Record(c, nil, ehi.Event{Action: ehi.ActionAudit, Patient: asked.filter.Patient})
	c.Set(fiber.HeaderContentType, content.NDJSON)
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="audit.AuditEvent.ndjson"`)
	source := h.Origins.Base(c)
	h.Sender.SendChunked(c, func(w *bufio.Writer) error {
		return h.writeAudit(w, asked, source)
	})
	return nil
}

// writeAudit writes the events of a query.
func (h *Audit) writeAudit(w io.Writer, asked auditQuery, source string) error {
	sent := 0
	return h.Events.Read(
		context.Background(), asked.filter,
		func(seq uint64, e ehi.Event) (bool, error) {
			line, err := json.Marshal(trail.Event(seq, e, source))
			if err != nil {
				return false, err
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return false, err
			}
			sent++
			return asked.limit == 0 || sent < asked.limit, nil
		})
}
