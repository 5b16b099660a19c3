package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/trail"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// auditQuery is what GET /admin/audit takes.
type auditQuery struct {
	filter bus.AuditFilter
	limit  int
}

// auditLimit is how many events a page has where the request does not say.
const auditLimit = 1000

func parseAudit(q url.Values) (out auditQuery, err error) {
	out.limit = auditLimit
	var action, outcome, agent, client, job string
	for name, values := range q {
		v := values[0]
		switch name {
		case "patient":
			out.filter.Patient = v
			if !fhir.ValidID(v) {
				err = errors.New("it is no id")
			}
		case "action":
			action = v
		case "outcome":
			outcome = v
		case "agent":
			agent = v
		case "client":
			client = v
		case "job":
			job = v
		case "from":
			out.filter.From, err = auditInstant(v)
		case "to":
			out.filter.To, err = auditInstant(v)
		case "after":
			out.filter.After, err = strconv.ParseUint(v, 10, 63)
		case "limit":
			out.limit, err = strconv.Atoi(v)
			if err == nil && out.limit < 0 {
				err = errors.New("it is negative")
			}
		default:
			err = errors.New("there is no such parameter")
		}
		if err != nil {
			return out, ehi.Errorf(ehi.Invalid, "Invalid parameter %q: %v", name, err)
		}
	}
	for _, a := range ehi.Actions() {
		if string(a) == action {
			out.filter.Action = a
		}
	}
	if action != "" && out.filter.Action == "" {
		return out, ehi.Errorf(ehi.Invalid, "Invalid parameter %q: there is no such action", "action")
	}
	out.filter.Match = func(e ehi.Event) bool {
		return (outcome == "" || string(e.Outcome) == outcome) && (agent == "" || e.Agent == agent) && (client == "" || e.Client == client) && (job == "" || e.Job == job)
	}
	return out, nil
}

// auditInstant reads an instant or a day.
func auditInstant(v string) (time.Time, error) {
	s, err := fhir.ParseAsked(v)
	if err != nil {
		return s.Start, errors.New("it must be such as 2026-11-25 or 2026-11-25T12:00:00Z")
	}
	return s.Start, nil
}

// handleAudit sends the audit trail as FHIR AuditEvents, one a line, oldest first: ?patient=&action=&outcome=&agent=&client=&job=&from=&to= narrow,
// ?limit= bounds (0: all of it), ?after= goes on behind an event's id. What patient= gives with action=disclose is the accounting of disclosures
// of 45 CFR 164.528.
func (s *Server) handleAudit(c *fiber.Ctx) error {
	q, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return ehi.Errorf(ehi.Invalid, "The query cannot be read")
	}
	asked, err := parseAudit(q)
	if err != nil {
		return err
	}
	s.trail.Record(c, nil, ehi.Event{Action: ehi.ActionAudit, Patient: asked.filter.Patient})
	c.Set(fiber.HeaderContentType, content.NDJSON)
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="audit.AuditEvent.ndjson"`)
	source := s.Origins.Base(c)
	s.sender.SendChunked(c, func(w *bufio.Writer) error {
		return s.writeAudit(w, asked, source)
	})
	return nil
}

// writeAudit writes the events of a query.
func (s *Server) writeAudit(w io.Writer, asked auditQuery, source string) error {
	sent := 0
	return s.Bus.Audit.Read(context.Background(), asked.filter, func(seq uint64, e ehi.Event) (bool, error) {
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
