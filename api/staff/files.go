package staff

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

const (
	// maxFiles is about how many files of an export a page lists. It lists whole parts.
	maxFiles = 200
	// maxParts is how many parts of an export are searched for one page, however few of their files
	// match.
	maxParts = 500
)

// fileLine is a line of the list of an export's files.
type fileLine struct {
	Name, URL, Type string
	Count           int64 // resources
	Bytes           int64
}

// filesPage lists the files of some parts of an export: its tasks from From up to, but not
// including, To.
type filesPage struct {
	Files    []fileLine
	From, To int
	job      *ehi.Job
	query    string
}

// filesOf lists files of an export until a page is full: part by part from at on or, if back is
// true, backwards from the part before it. query is a part of the names of the files to list.
func (h *Review) filesOf(
	c *fiber.Ctx, j *ehi.Job, query string, at int, back bool,
) (p filesPage, err error) {
	p = filesPage{From: at, To: at, job: j, query: query}
	for seen := 0; len(p.Files) < maxFiles && seen < maxParts; seen++ {
		n := p.To
		if back {
			n = p.From - 1
		}
		if n < 0 || n >= j.Tasks {
			break
		}
		part, err := h.filesOfPart(c, j, query, n)
		if err != nil {
			return p, err
		}
		if back {
			p.From, p.Files = n, append(part, p.Files...)
		} else {
			p.To, p.Files = n+1, append(p.Files, part...)
		}
	}
	return p, nil
}

func (h *Review) filesOfPart(
	c *fiber.Ctx, j *ehi.Job, query string, n int,
) (out []fileLine, err error) {
	t, err := h.Contents.Task(c.UserContext(), j, n)
	if err != nil {
		return nil, err
	}
	for i, f := range t.Files {
		if f.Kind.Hidden() {
			continue
		}
		name := jobs.FileName(j, t, i)
		if strings.Contains(strings.ToLower(name), query) {
			line := fileLine{Name: name, Type: f.Type, Count: f.Count, Bytes: f.Bytes}
			if f.Kind != ehi.Archive { // which has no resources to show
				line.URL = filePath(j.ID, name)
			}
			out = append(out, line)
		}
	}
	return out, nil
}

func filePath(job, name string) string { return jobPath(job) + "/files/" + name }

// Parts is how many parts the export has.
func (p filesPage) Parts() int { return p.job.Tasks }

// First is the first part that the page shows, from 1.
func (p filesPage) First() int { return p.From + 1 }

// Last is the last part that the page shows, from 1.
func (p filesPage) Last() int { return p.To }

// Whole reports whether the page shows all files there are.
func (p filesPage) Whole() bool { return p.From == 0 && p.To == p.job.Tasks && p.query == "" }

func (p filesPage) at(name string, part int) string {
	q := url.Values{name: {strconv.Itoa(part)}}
	if p.query != "" {
		q.Set("q", p.query)
	}
	return jobPath(p.job.ID) + "/files?" + q.Encode()
}

// Previous is the address of the page before this one, "" if there is none.
func (p filesPage) Previous() string {
	if p.From == 0 {
		return ""
	}
	return p.at("before", p.From+1)
}

// Next is the address of the page after this one, "" if there is none.
func (p filesPage) Next() string {
	if p.To == p.job.Tasks {
		return ""
	}
	return p.at("part", p.To+1)
}

// checkFiles refuses an export whose files administrators may not see yet, or no longer.
func (h *Review) checkFiles(c *fiber.Ctx, j *ehi.Job) error {
	return h.Exports.Jobs.CheckFiles(h.Exports.Origins.Actor(c), j)
}

// handleFiles lists the files of an export. ?q= narrows the list, ?part= begins it at a part,
// counted from 1, and ?before= ends it before one.
func (h *Review) handleFiles(c *fiber.Ctx) error {
	j, err := h.Exports.requested(c)
	if err != nil {
		return err
	}
	query := strings.ToLower(strings.TrimSpace(c.Query("q")))
	at, back := c.QueryInt("part", 1), c.Query("before") != ""
	if back {
		at = c.QueryInt("before", 1)
	}
	if at < 1 || at > j.Tasks+1 {
		return ehi.Errorf(ehi.Invalid,
			"Invalid part %q of %d", c.Query("part")+c.Query("before"), j.Tasks)
	}
	if err := h.checkFiles(c, j); err != nil {
		return err
	}
	p, err := h.filesOf(c, j, query, at-1, back)
	if err != nil {
		return err
	}
	types := make([]string, 0, len(j.Counts))
	for t := range j.Counts {
		types = append(types, t)
	}
	slices.Sort(types)
	return h.Pages.render(c, "files", "jobs", "Files of an export",
		fiber.Map{"Job": j, "Page": p, "Query": query, "Types": types})
}
