package server

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/staff"
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
	Search string // words of the patient's name, or the beginning of an id
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

// Here is the address of this page.
func (f jobFilter) Here() string { return f.With("page", strconv.Itoa(f.Page)) }

// Previous and Next are the addresses of the pages beside this one.
func (f jobFilter) Previous() string { return f.With("page", strconv.Itoa(f.Page-1)) }

// Next is the address of the page behind this one.
func (f jobFilter) Next() string { return f.With("page", strconv.Itoa(f.Page+1)) }

// admits reports whether the list shows a job, whatever its status.
func (f jobFilter) admits(j bus.Summary, s search) bool {
	return (f.Level == "" || j.Level.Kind() == f.Level) && (f.Client == "" || j.ClientID == f.Client) &&
		(s.none() || s.name(j.Patient.Name) || s.id(j.Patient.ID) || s.id(j.Group) || s.id(j.ClientID) || s.id(j.ID))
}

// jobRow is a line of the list.
type jobRow struct {
	bus.Summary
	Title, What, State, Asked, Waits string
	Late                             bool // it waits for review longer than it should
	Percent                          int
	Running, Reviewable              bool
	Resources                        int64
	Contents                         string // of the page that asks for a decision: see ehi.Job.Contents
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
		p, _ := s.progress.Of(j.ID)
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
	if f := s.adminPages.left(c); f.Decided != nil {
		return s.adminPages.render(c, "decided", "jobs", f.Title, fiber.Map{})
	}
	if c.Query("do") != "" {
		return s.renderDecision(c)
	}
	f, err := readJobFilter(c)
	if err != nil {
		return err
	}
	at, search := now(), newSearch(f.Search)
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
	return s.adminPages.render(c, "jobs", "jobs", "Exports", fiber.Map{
		"Filter": f, "Rows": rows, "Revision": seen.Sum64(), "Tabs": tabs, "Matches": int64(matches), "First": first + 1, "Last": first + len(rows), "Pages": pages, "Levels": levelWords,
		"Clients": offered(clients, f.Client), "Reach": maxPage * jobsPage, "Hidden": matches > maxPage*jobsPage, "More": f.Page < min(pages, maxPage), "Done": c.Query("done"), "ReviewDue": age(s.ReviewDue), "Reviewing": s.ReviewDue > 0,
	})
}

// maxOffered is how many clients the list's filter offers.
const maxOffered = 200

// offered are the clients to choose from, and the one that is chosen.
func offered(clients map[string]bool, chosen string) []string {
	out := slices.Sorted(maps.Keys(clients))
	if len(out) > maxOffered {
		out = out[:maxOffered]
	}
	if chosen != "" && !slices.Contains(out, chosen) {
		out = append(out, chosen)
	}
	return out
}

// decided is how a decision about one of several jobs went.
type decided struct{ ID, Title, Problem string }

// postedJobs are the jobs that a form names, each once.
func postedJobs(c *fiber.Ctx) (ids []string) {
	for _, id := range posted(c, "job") {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// posted are the values of a form's field, in their order.
func posted(c *fiber.Ctx, field string) (values []string) {
	for key, value := range c.Request().PostArgs().All() {
		if string(key) == field {
			values = append(values, string(value))
		}
	}
	return values
}

// unseen is no digest of an export: one that could not be shown is not decided about.
const unseen = "unseen"

// decisionPage is the page that asks whether a decision about several jobs is meant.
func decisionPage(ids []string, action ehi.Action) string {
	return staffJobs + "?" + url.Values{"do": {string(action)}, "job": ids}.Encode()
}

// verbs are the decisions about several jobs.
var verbs = map[ehi.Action]string{ehi.ActionApprove: "Approve", ehi.ActionReject: "Reject"}

// handleStaffBulk takes the wish to decide about several jobs, and leads to the question whether that
// is meant; where that was answered, it decides.
func (s *Server) handleStaffBulk(c *fiber.Ctx) error {
	action, ids := ehi.Action(page.Field(c, "do")), postedJobs(c)
	back := s.site.Local(c, page.Field(c, "back"))
	if at, _, _ := strings.Cut(back, "?"); at != staffJobs {
		back = staffJobs
	}
	switch {
	case verbs[action] == "":
		return s.adminPages.again(c, back, errNoDecision)
	case len(ids) == 0:
		return s.adminPages.again(c, back, ehi.Errorf(ehi.Invalid,
			"Nothing was decided, because no export is ticked. Tick the exports that you mean; only those that wait for review can be ticked"))
	case len(ids) > maxBulk:
		return s.adminPages.again(c, back, ehi.Errorf(ehi.Invalid,
			"Nothing was decided: %d exports are ticked, and %d is the most at once", len(ids), maxBulk))
	}
	seen := posted(c, "contents") // in the order of the exports
	if len(seen) != len(ids) {    // the page that asks for the decision was not shown
		return c.Redirect(decisionPage(ids, action), http.StatusSeeOther)
	}
	out := staffFlash{Flash: page.Flash{Title: verbs[action] + ": done"}}
	for i, id := range ids {
		v, known := s.Bus.Jobs.Summary(id)
		d := decided{ID: id, Title: s.row(c, v, now()).Title}
		if !known {
			d.Title = id
		}
		given := staff.Decision{
			Reason: page.Field(c, "reason"), Contents: cmp.Or(seen[i], unseen),
		}
		if _, err := s.exports.Decide(c, id, action, given); err != nil {
			_, _, d.Problem = s.explain.Describe(c, err)
		}
		out.Decided = append(out.Decided, d)
	}
	return s.adminPages.leave(c, back, out)
}

// Failed is how many decisions could not be made.
func (f *staffFlash) Failed() (n int) {
	for _, d := range f.Decided {
		if d.Problem != "" {
			n++
		}
	}
	return n
}

// Made is how many decisions were made.
func (f *staffFlash) Made() int { return len(f.Decided) - f.Failed() }

// renderDecision asks whether a decision about several jobs is meant.
func (s *Server) renderDecision(c *fiber.Ctx) error {
	action := ehi.Action(c.Query("do"))
	var list []jobRow
	for _, id := range c.Context().QueryArgs().PeekMulti("job") {
		if v, known := s.Bus.Jobs.Summary(string(id)); known && len(list) < maxBulk {
			r := s.row(c, v, now())
			if j, err := s.Bus.Jobs.Get(c.UserContext(), v.ID); err == nil {
				r.Contents = j.Contents()
			}
			list = append(list, r)
		}
	}
	if verbs[action] == "" || len(list) == 0 {
		return ehi.Errorf(ehi.NotFound, "There is nothing to decide about here any more")
	}
	title := verbs[action] + " " + strconv.Itoa(len(list)) + " exports?"
	if len(list) == 1 {
		title = verbs[action] + " 1 export?"
	}
	return s.adminPages.render(c, "confirm", "jobs", title, fiber.Map{
		"List": list, "Action": action, "Verb": verbs[action],
		"FourEyes": s.FourEyes && action == ehi.ActionApprove,
	})
}
