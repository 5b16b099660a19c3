package server

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// jobsPage is how many jobs a page of the list shows, and maxPage the last page that there is: who looks for older ones searches. maxBulk is how many
// can be decided about at once.
const (
	jobsPage = 50
	maxPage  = 200
	maxBulk  = 200
)

// jobFilter is what a list of jobs shows, as its address says it.
type jobFilter struct {
	Status ehi.Status
	Level  string // the kind, "" for any
	Client string
	Search string // in the patient's name or id, the group, the job's id
	Sort   string // a key of jobOrders
	Page   int    // from 1
}

// jobOrders are the orders of a list; the first in the alphabet of equals is by time.
var jobOrders = map[string]func(a, b bus.Summary) int{
	"newest": func(a, b bus.Summary) int { return b.CreatedAt.Compare(a.CreatedAt) },
	"oldest": func(a, b bus.Summary) int { return a.CreatedAt.Compare(b.CreatedAt) },
	"name": func(a, b bus.Summary) int {
		return cmp.Compare(strings.ToLower(a.Patient.Name), strings.ToLower(b.Patient.Name))
	},
	"status": func(a, b bus.Summary) int { return cmp.Compare(a.Status, b.Status) },
}

func readJobFilter(c *fiber.Ctx) (f jobFilter, err error) {
	f = jobFilter{Status: ehi.Status(c.Query("status")), Level: c.Query("level"), Client: c.Query("client"), Search: strings.TrimSpace(c.Query("q")), Sort: c.Query("sort", "newest"), Page: c.QueryInt("page", 1)}
	_, ordered := jobOrders[f.Sort]
	switch {
	case f.Status != "" && !f.Status.Valid():
		err = ehi.Errorf(ehi.Invalid, "Invalid status %q", f.Status)
	case !ordered:
		err = ehi.Errorf(ehi.Invalid, "Invalid order %q", f.Sort)
	case f.Page < 1:
		err = ehi.Errorf(ehi.Invalid, "Invalid page %q", c.Query("page"))
	}
	return f, err
}

// With is the address of the list with one thing changed; any change but of the page begins at the first page.
func (f jobFilter) With(name, value string) string {
	q := url.Values{}
	for k, v := range map[string]string{"status": string(f.Status), "level": f.Level, "client": f.Client, "q": f.Search, "sort": f.Sort} {
		if k == name {
			v = value
		}
		if v != "" && (k != "sort" || v != "newest") {
			q.Set(k, v)
		}
	}
	if name == "page" && value != "1" {
		q.Set("page", value)
	}
	if len(q) == 0 {
		return staffJobs
	}
	return staffJobs + "?" + q.Encode()
}

// Previous and Next are the addresses of the pages beside this one.
func (f jobFilter) Previous() string { return f.With("page", strconv.Itoa(f.Page-1)) }

// Next is the address of the page behind this one.
func (f jobFilter) Next() string { return f.With("page", strconv.Itoa(f.Page+1)) }

// admits reports whether the list shows a job, whatever its status.
func (f jobFilter) admits(j bus.Summary, search string) bool {
	return (f.Level == "" || j.Level.Kind() == f.Level) && (f.Client == "" || j.ClientID == f.Client) &&
		(search == "" || strings.Contains(strings.ToLower(j.Patient.Name), search) || strings.EqualFold(j.Patient.ID, search) || strings.EqualFold(j.Group, search) || strings.HasPrefix(strings.ToLower(j.ID), search))
}

// jobRow is a line of the list.
type jobRow struct {
	bus.Summary
	Title, What, State, Asked, Waits string
	Late                             bool // it waits for review longer than it should
	Percent                          int
	Running, Reviewable              bool
	Resources                        int64
}

// row makes a job's line. The record says more than the summary; where it went meanwhile the line says less.
func (s *Server) row(c *fiber.Ctx, v bus.Summary, at time.Time) jobRow {
	r := jobRow{Summary: v, Title: v.Patient.Name, What: levelWords[v.Level], State: statusWords[v.Status], Asked: age(at.Sub(v.CreatedAt)), Running: v.Status == ehi.Requested, Reviewable: v.Status == ehi.Retrieved}
	switch {
	case v.Level == ehi.OneGroup:
		r.Title = "Group " + v.Group
	case v.Level != ehi.OnePatient:
		r.Title = levelWords[v.Level]
	case r.Title == "":
		r.Title = v.Patient.ID
	}
	j, err := s.Bus.Jobs.Peek(c.UserContext(), v.ID)
	if err != nil {
		return r
	}
	for _, n := range j.Counts {
		r.Resources += n
	}
	if r.Running {
		r.Percent = s.percent(j)
	}
	if r.Reviewable {
		waits := at.Sub(j.CompletedAt)
		r.Waits, r.Late = age(waits), s.ReviewDue > 0 && waits > s.ReviewDue
	}
	return r
}

// percent is how much of a running job is done: told by its worker, or by the tasks that are committed.
func (s *Server) percent(j *ehi.Job) int {
	if j.Level == ehi.OnePatient {
		p, _ := s.progress.of(j.ID)
		return p.Percent()
	}
	p := ehi.Progress{Done: int64(j.Done.Count()), Total: int64(j.Tasks)}
	return p.Percent()
}

// statusTab is a status to choose, with how many jobs are in it.
type statusTab struct {
	Status ehi.Status
	Name   string
	Jobs   int64
	Link   string
	Now    bool
}

// handleStaffJobs is the list of jobs.
func (s *Server) handleStaffJobs(c *fiber.Ctx) error {
	f, err := readJobFilter(c)
	if err != nil {
		return err
	}
	at, search := now(), strings.ToLower(f.Search)
	counts, total, matches, clients := map[ehi.Status]int64{}, int64(0), 0, map[string]bool{}
	keep := func(j bus.Summary) bool {
		if !j.Listed(at) {
			return false
		}
		clients[j.ClientID] = true
		if !f.admits(j, search) {
			return false
		}
		counts[j.Status]++
		total++
		if f.Status != "" && j.Status != f.Status {
			return false
		}
		matches++
		return true
	}
	limit := 0
	if f.Sort == "newest" { // which takes no sorting of all
		limit = min(f.Page, maxPage) * jobsPage
	}
	list := s.Bus.Jobs.Page(keep, "", limit)
	if f.Sort != "newest" {
		slices.SortStableFunc(list, jobOrders[f.Sort])
	}
	pages := max(1, (matches+jobsPage-1)/jobsPage)
	f.Page = min(f.Page, pages, maxPage)
	first := (f.Page - 1) * jobsPage
	var rows []jobRow
	for _, v := range list[first:min(first+jobsPage, len(list))] {
		rows = append(rows, s.row(c, v, at))
	}
	seen := fnv.New64a()
	for _, r := range rows {
		fmt.Fprintln(seen, r.ID, r.Revision(), r.Percent, r.Late)
	}
	fmt.Fprintln(seen, total, matches, counts)
	tabs := []statusTab{{"", "All", total, f.With("status", ""), f.Status == ""}}
	for _, status := range []ehi.Status{ehi.Retrieved, ehi.Requested, ehi.AwaitingInput, ehi.Approved, ehi.Rejected, ehi.Failed} {
		tabs = append(tabs, statusTab{status, statusWords[status], counts[status], f.With("status", string(status)), f.Status == status})
	}
	return s.staffRender(c, "jobs", "jobs", "Exports", fiber.Map{
		"Filter": f, "Rows": rows, "Revision": seen.Sum64(), "Tabs": tabs, "Matches": int64(matches), "First": first + 1, "Last": first + len(rows), "Pages": pages, "Levels": levelWords,
		"Clients": slices.Sorted(maps.Keys(clients)), "More": f.Page < min(pages, maxPage), "Done": c.Query("done"), "ReviewDue": age(s.ReviewDue), "Reviewing": s.ReviewDue > 0,
	})
}

// decided is how a decision about one of several jobs went.
type decided struct {
	jobRow
	Problem string
}

// handleStaffBulk approves or rejects several jobs: first it asks whether that is meant, then it says of each how it went.
func (s *Server) handleStaffBulk(c *fiber.Ctx) error {
	action := ehi.Action(c.FormValue("do"))
	if action != ehi.ActionApprove && action != ehi.ActionReject {
		return ehi.Errorf(ehi.Invalid, "Choose whether to approve or to reject")
	}
	var ids []string
	for key, value := range c.Request().PostArgs().All() {
		if string(key) == "job" && !slices.Contains(ids, string(value)) {
			ids = append(ids, string(value))
		}
	}
	if len(ids) == 0 || len(ids) > maxBulk {
		return ehi.Errorf(ehi.Invalid, "Choose 1 to %d exports", maxBulk)
	}
	confirmed, at := c.FormValue("confirmed") != "", now()
	var list []decided
	wrong := 0
	for _, id := range ids {
		v, known := s.Bus.Jobs.Summary(id)
		d := decided{jobRow: s.row(c, v, at)}
		if !known {
			d.ID, d.Title, d.Problem = id, id, errJobNotFound.Error()
		}
		if confirmed && known {
			if _, err := s.decide(c, id, action, c.FormValue("reason")); err != nil {
				_, _, d.Problem = s.describe(c, err)
			}
		}
		if d.Problem != "" {
			wrong++
		}
		list = append(list, d)
	}
	verb := map[ehi.Action]string{ehi.ActionApprove: "Approve", ehi.ActionReject: "Reject"}[action]
	if confirmed {
		return s.staffRender(c, "decided", "jobs", verb+": done", fiber.Map{"List": list, "Good": len(list) - wrong, "Wrong": wrong})
	}
	title := verb + " " + strconv.Itoa(len(list)) + " exports?"
	if len(list) == 1 {
		title = verb + " 1 export?"
	}
	return s.staffRender(c, "confirm", "jobs", title, fiber.Map{"List": list, "Action": action, "Verb": verb, "FourEyes": s.FourEyes && action == ehi.ActionApprove})
}
