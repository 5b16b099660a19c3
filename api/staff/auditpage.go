package staff

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// pageEvents is how many events a page of the trail shows, and readTime how long it may take to
// find them.
const (
	pageEvents = 200
	readTime   = 5 * time.Second
)

// trailPage is a part of the audit trail: the events of an export, those of a day, or the latest
// ones of the last 24 hours.
type trailPage struct {
	Job, Day, Query string
	Title           string
	Events          []ehi.Event
	// Found is how many events were found. There may be more than Events, of which only the latest
	// are shown.
	Found int
	Late  bool   // the time was over before the end of the trail
	next  uint64 // the last event that was read, if more follow; 0 if not
}

// parsePage reads which part of the trail the address of a page asks for.
func (h *Audit) parsePage(c *fiber.Ctx) (t trailPage, filter bus.AuditFilter, err error) {
	t = trailPage{
		Job: c.Query("job"), Day: c.Query("day"), Query: strings.TrimSpace(c.Query("q")),
	}
	filter = bus.AuditFilter{From: now().Add(-24 * time.Hour)}
	switch {
	case t.Job != "":
		j, err := h.Exports.record(c, t.Job)
		if err != nil {
			return t, filter, err
		}
		filter.From, t.Title = j.CreatedAt.Add(-time.Minute), "Audit trail of an export"
	case t.Day != "":
		day, err := time.Parse(time.DateOnly, t.Day)
		if err != nil {
			return t, filter, ehi.Errorf(ehi.Invalid,
				"Invalid day %q: write it as year, month and day, like 2026-01-31", t.Day)
		}
		filter.From, filter.To, t.Title = day, day.AddDate(0, 0, 1), "Audit trail of "+t.Day
	default:
		t.Title = "Audit trail of the last 24 hours"
	}
	if filter.After, err = strconv.ParseUint(c.Query("after", "0"), 10, 63); err != nil {
		return t, filter, ehi.Errorf(ehi.Invalid,
			"Invalid place in the trail %q", c.Query("after"))
	}
	words := newSearch(t.Query)
	filter.Match = func(e ehi.Event) bool {
		if t.Job != "" && e.Job != t.Job {
			return false
		}
		text := strings.Join([]string{
			string(e.Action), string(e.Outcome), e.Agent, e.Client, e.Patient, e.Job, e.Detail,
		}, " ")
		return words.none() || words.name(text)
	}
	return t, filter, nil
}

// latest reports whether the page shows the newest events, and not those behind an event.
func (t *trailPage) latest(after uint64) bool { return t.Job == "" && t.Day == "" && after == 0 }

// Next is the address of the page with the events that follow, "" if none do.
func (t trailPage) Next() string {
	if t.next == 0 {
		return ""
	}
	q := url.Values{"after": {strconv.FormatUint(t.next, 10)}}
	for name, value := range map[string]string{"job": t.Job, "day": t.Day, "q": t.Query} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return auditPath + "?" + q.Encode()
}

// handlePage shows the events of an export (?job=), those of a day (?day=), or the latest ones
// of the last 24 hours. ?q= narrows the list, and ?after= continues behind an event.
func (h *Audit) handlePage(c *fiber.Ctx) error {
	t, filter, err := h.parsePage(c)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(c.UserContext(), readTime)
	defer stop()
	last := filter.After
	err = h.Events.Read(ctx, filter, func(seq uint64, e ehi.Event) (bool, error) {
		if !t.latest(filter.After) && len(t.Events) == pageEvents {
			t.next = last
			return false, nil
		}
		last = seq
		t.Found++
		if t.Events = append(t.Events, e); len(t.Events) > pageEvents {
			t.Events = t.Events[1:]
		}
		return true, nil
	})
	if t.Late = errors.Is(err, context.DeadlineExceeded); err != nil && !t.Late {
		return err
	}
	if t.Late {
		t.next = last
	}
	h.Trail.Record(c, nil, ehi.Event{Action: ehi.ActionAudit, Job: t.Job})
	return h.Pages.render(c, "audit", "audit", t.Title, fiber.Map{"Trail": t})
}
