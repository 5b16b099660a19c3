package staff

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

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

const (
	// jobsPage is how many exports a page of the list shows.
	jobsPage = 50
	// maxPage is the last page. Older exports are found by searching.
	maxPage = 200
	// maxBulk is how many exports can be decided about at once.
	maxBulk = 200
)

// Progress knows how running exports get on (progress.Book).
type Progress interface {
	Of(job string) (_ ehi.Progress, known bool)
}

// Queue shows administrators the list of exports, and lets them decide about several at once.
type Queue struct {
	Pages    *Pages
	Exports  *Exports
	Progress Progress
	// FourEyes is whether two administrators must approve an export.
	FourEyes bool
	// ReviewDue is how long an export may wait for review before the list calls it late; 0:
	// forever.
	ReviewDue time.Duration
}

// Routes registers the pages.
func (h *Queue) Routes(r Router) {
	guard := h.Pages.guarded()
	r.On("GET", "/admin", handleHome)
	r.OnPage("GET", jobsPath, guard, h.handleList)
	r.OnPage("POST", jobsPath, guard, h.handleDecisions)
}

func handleHome(c *fiber.Ctx) error { return c.Redirect(jobsPath, http.StatusFound) }

// jobFilter is what a list of exports shows, as its address says.
type jobFilter struct {
	Status ehi.Status
	Level  string // the kind; "" for any
	Client string
	Search string // words of the patient's name, or the beginning of an ID
	Sort   string // a key of jobOrders
	Page   int    // from 1
}

// jobOrders are the orders of a list. Exports that are equal in an order stay newest first.
var jobOrders = map[string]func(a, b bus.Summary) int{
	"newest": func(a, b bus.Summary) int { return b.CreatedAt.Compare(a.CreatedAt) },
	"oldest": func(a, b bus.Summary) int { return a.CreatedAt.Compare(b.CreatedAt) },
	"name": func(a, b bus.Summary) int {
		return cmp.Compare(strings.ToLower(a.Patient.Name), strings.ToLower(b.Patient.Name))
	},
	"status": func(a, b bus.Summary) int { return cmp.Compare(a.Status, b.Status) },
}

func readJobFilter(c *fiber.Ctx) (f jobFilter, err error) {
	f = jobFilter{
		Status: ehi.Status(c.Query("status")),
		Level:  c.Query("level"),
		Client: c.Query("client"),
		Search: strings.TrimSpace(c.Query("q")),
		Sort:   c.Query("sort", "newest"),
		Page:   c.QueryInt("page", 1),
	}
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

// With is the address of the list with one thing changed. Unless that is the page, the list begins
// at its first page.
func (f jobFilter) With(name, value string) string {
	q := url.Values{}
	for k, v := range map[string]string{
		"status": string(f.Status),
		"level":  f.Level,
		"client": f.Client,
		"q":      f.Search,
		"sort":   f.Sort,
	} {
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
		return jobsPath
	}
	return jobsPath + "?" + q.Encode()
}

// Here is the address of this page.
func (f jobFilter) Here() string { return f.With("page", strconv.Itoa(f.Page)) }

// Previous is the address of the page before this one.
func (f jobFilter) Previous() string { return f.With("page", strconv.Itoa(f.Page-1)) }

// Next is the address of the page after this one.
func (f jobFilter) Next() string { return f.With("page", strconv.Itoa(f.Page+1)) }

// admits reports whether the list shows a job, whatever its status.
func (f jobFilter) admits(j bus.Summary, s search) bool {
	found := s.none() || s.name(j.Patient.Name) || s.id(j.Patient.ID) || s.id(j.Group) ||
		s.id(j.ClientID) || s.id(j.ID)
	return found && (f.Level == "" || j.Level.Kind() == f.Level) &&
		(f.Client == "" || j.ClientID == f.Client)
}

// jobRow is a line of the list.
type jobRow struct {
	bus.Summary
	Title, What, State, Asked, Waits string
	Late                             bool // it has waited too long for its review
	Percent                          int
	Running, Reviewable              bool
	Resources                        int64
	// ToDecide is how many documents and tables wait for a decision.
	ToDecide int64
	// Contents is set on the page that asks for a decision (see ehi.Job.Contents).
	Contents string
}

// row makes a job's line. It says less where the job was deleted meanwhile.
func (h *Queue) row(c *fiber.Ctx, v bus.Summary, at time.Time) jobRow {
	r := jobRow{
		Summary:    v,
		Title:      v.Patient.Name,
		What:       levelWords[v.Level],
		State:      statusWords[v.Status],
		Asked:      age(at.Sub(v.CreatedAt)),
		Running:    v.Status == ehi.Requested,
		Reviewable: v.Status == ehi.Retrieved,
	}
	switch {
	case v.Level == ehi.OneGroup:
		r.Title = "Group " + v.Group
	case v.Level != ehi.OnePatient:
		r.Title = levelWords[v.Level]
	case r.Title == "":
		r.Title = v.Patient.ID
	}
	j, err := h.Exports.Index.Peek(c.UserContext(), v.ID)
	if err != nil {
		return r
	}
	for _, n := range j.Counts {
		r.Resources += n
	}
	if r.Running {
		r.Percent = h.percent(j)
	}
	if r.Reviewable {
		r.ToDecide = j.Waiting()
		waits := at.Sub(j.CompletedAt)
		r.Waits, r.Late = age(waits), h.ReviewDue > 0 && waits > h.ReviewDue
	}
	return r
}

// percent is how much of a running job is done. Its worker says so, or the tasks that are
// committed.
func (h *Queue) percent(j *ehi.Job) int {
	if j.Level == ehi.OnePatient {
		p, _ := h.Progress.Of(j.ID)
		return p.Percent()
	}
	p := ehi.Progress{Done: int64(j.Done.Count()), Total: int64(j.Tasks)}
	return p.Percent()
}

// jobList is a page of the list of exports, and what there is beside it.
type jobList struct {
	rows    []jobRow
	matches int             // exports that the filter admits
	pages   int             // for all of them
	clients map[string]bool // of all exports
	// counts and total are the exports that the filter admits in any status.
	counts map[ehi.Status]int64
	total  int64
}

// find lists the exports that a filter admits. Where there is no such page, f gets the last one.
func (h *Queue) find(c *fiber.Ctx, f *jobFilter) jobList {
	at, search := now(), newSearch(f.Search)
	out := jobList{clients: map[string]bool{}, counts: map[ehi.Status]int64{}}
	keep := func(j bus.Summary) bool {
		if !j.Listed(at) {
			return false
		}
		out.clients[j.ClientID] = true
		if !f.admits(j, search) {
			return false
		}
		out.counts[j.Status]++
		out.total++
		if f.Status != "" && j.Status != f.Status {
			return false
		}
		out.matches++
		return true
	}
	limit := 0
	if f.Sort == "newest" { // the index has this order
		limit = min(f.Page, maxPage) * jobsPage
	}
	list := h.Exports.Index.Page(keep, "", limit)
	if f.Sort != "newest" {
		slices.SortStableFunc(list, jobOrders[f.Sort])
	}
	out.pages = max(1, (out.matches+jobsPage-1)/jobsPage)
	f.Page = min(f.Page, out.pages, maxPage)
	first := (f.Page - 1) * jobsPage
	for _, v := range list[first:min(first+jobsPage, len(list))] {
		out.rows = append(out.rows, h.row(c, v, at))
	}
	return out
}

// revision stands for what the page shows: an open page that follows changes is loaded again where
// it is another one.
func (l jobList) revision() uint64 {
	seen := fnv.New64a()
	for _, r := range l.rows {
		fmt.Fprintln(seen, r.ID, r.Revision(), r.Percent, r.Late, r.ToDecide)
	}
	fmt.Fprintln(seen, l.total, l.matches, l.counts)
	return seen.Sum64()
}

// statusTab is a status to choose, with how many exports are in it.
type statusTab struct {
	Status ehi.Status
	Name   string
	Jobs   int64
	Link   string
	Now    bool
}

// tabs are the statuses to choose from, in the order of their interest for a reviewer.
func (l jobList) tabs(f jobFilter) []statusTab {
	out := []statusTab{{"", "All", l.total, f.With("status", ""), f.Status == ""}}
	for _, status := range []ehi.Status{
		ehi.Retrieved, ehi.Requested, ehi.AwaitingInput, ehi.Approved, ehi.Rejected, ehi.Failed,
	} {
		out = append(out, statusTab{
			Status: status,
			Name:   statusWords[status],
			Jobs:   l.counts[status],
			Link:   f.With("status", string(status)),
			Now:    f.Status == status,
		})
	}
	return out
}

// handleList shows the list of exports, the results of a decision about several, or the question
// whether such a decision is meant.
func (h *Queue) handleList(c *fiber.Ctx) error {
	if f := h.Pages.left(c); f.Decided != nil {
		return h.Pages.render(c, "decided", "jobs", f.Title, fiber.Map{})
	}
	if c.Query("do") != "" {
		return h.renderDecision(c)
	}
	f, err := readJobFilter(c)
	if err != nil {
		return err
	}
	l := h.find(c, &f)
	first := (f.Page - 1) * jobsPage
	return h.Pages.render(c, "jobs", "jobs", "Exports", fiber.Map{
		"Filter":    f,
		"Rows":      l.rows,
		"Revision":  l.revision(),
		"Tabs":      l.tabs(f),
		"Matches":   int64(l.matches),
		"First":     first + 1,
		"Last":      first + len(l.rows),
		"Pages":     l.pages,
		"More":      f.Page < min(l.pages, maxPage),
		"Reach":     maxPage * jobsPage,
		"Hidden":    l.matches > maxPage*jobsPage,
		"Levels":    levelWords,
		"Clients":   offered(l.clients, f.Client),
		"Done":      c.Query("done"),
		"ReviewDue": age(h.ReviewDue),
		"Reviewing": h.ReviewDue > 0,
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
