package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// audit records what a request did. Who did it is filled in as far as the request's credentials say, and err decides about the outcome.
func (s *Server) audit(c *fiber.Ctx, err error, e ehi.Event) {
	e.At, e.Address, e.Request = now(), s.Origins.Address(c), request.ID(c)
	if e.Agent == "" {
		e.Agent = agent(c)
	}
	if a := request.Access(c); a != nil && e.Client == "" {
		e.Client = a.ClientID
	}
	e.Outcome = outcomeOf(err)
	if err != nil && e.Detail == "" {
		e.Detail = reason(err)
	}
	s.Bus.Audit.Record(e)
	request.SetRecorded(c)
}

// disclosures remember of which jobs it is recorded that files went out: once for each access token, not for each file and range of it.
type disclosures struct {
	*lru.Cache[disclosure, struct{}]
}

type disclosure struct {
	job    string
	access *auth.Access
}

// knownDisclosures bounds what is remembered; what is forgotten is recorded again.
const knownDisclosures = 1 << 16

func newDisclosures() (disclosures, error) {
	c, err := lru.New[disclosure, struct{}](knownDisclosures)
	return disclosures{c}, err
}

// auditDisclosure records that files of a job go out.
func (s *Server) auditDisclosure(c *fiber.Ctx, j *ehi.Job) {
	if seen, _ := s.told.ContainsOrAdd(disclosure{j.ID, request.Access(c)}, struct{}{}); !seen {
		s.audit(c, nil, ehi.About(ehi.ActionDisclose, j))
	}
}

// agent is who asks.
func agent(c *fiber.Ctx) string {
	if name := request.AdministratorName(c); name != "" {
		return "admin " + name
	}
	if a := request.Access(c); a != nil {
		if a.Patient != "" {
			return "patient " + a.Patient
		}
		return "client " + a.ClientID
	}
	return "nobody"
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

// reason is the class of an error: its words may repeat what was asked for.
func reason(err error) string {
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*openid.Refused](err); ok {
		return string(ehi.Unauthenticated)
	}
	return string(ehi.CodeOf(err))
}

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
	s.audit(c, nil, ehi.Event{Action: ehi.ActionAudit, Patient: asked.filter.Patient})
	c.Set(fiber.HeaderContentType, mimeNDJSON)
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="audit.AuditEvent.ndjson"`)
	source := s.Origins.Base(c)
	s.writeStream(c, func(w *bufio.Writer) error {
		return s.writeAudit(w, asked, source)
	})
	return nil
}

// writeAudit writes the events of a query.
func (s *Server) writeAudit(w io.Writer, asked auditQuery, source string) error {
	sent := 0
	return s.Bus.Audit.Read(context.Background(), asked.filter, func(seq uint64, e ehi.Event) (bool, error) {
		line, err := json.Marshal(newAuditEvent(seq, e, source))
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
