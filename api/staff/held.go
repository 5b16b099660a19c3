package staff

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// maxHeld is how many documents and tables that need a decision an answer of the JSON API lists.
const maxHeld = 1000

// heldJSON counts the documents and tables of an export that fall under no line of the form
// (NAT-4).
type heldJSON struct {
	Waiting  int64 `json:"waiting"`
	Released int64 `json:"released"`
}

// heldCounts is nil for an export without such documents and tables.
func heldCounts(j *ehi.Job) *heldJSON {
	if j.Held == 0 {
		return nil
	}
	return &heldJSON{Waiting: j.Waiting(), Released: int64(j.Freed.Count())}
}

// handleHeld lists the documents and tables of an export that need a decision, by their names
// (NAT-4). ?limit= bounds the list, and ?after= continues behind a name.
func (h *Exports) handleHeld(c *fiber.Ctx) error {
	limit, err := strconv.Atoi(c.Query("limit", strconv.Itoa(maxHeld)))
	if err != nil || limit < 1 {
		return ehi.Errorf(ehi.Invalid, "Invalid limit %q", c.Query("limit"))
	}
	j, err := h.reviewable(c)
	if err != nil {
		return err
	}
	list, err := h.Jobs.ListHeld(c.UserContext(), j, c.Query("after"), min(limit, maxHeld))
	if err != nil {
		return err
	}
	return c.JSON(append([]jobs.Held{}, list...))
}

// reviewable finds the request's job if administrators may read its files.
func (h *Exports) reviewable(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := h.requested(c)
	if err != nil {
		return nil, err
	}
	return j, h.Jobs.CheckFiles(h.Origins.Actor(c), j)
}

// handleDecideHeld releases and withholds documents and tables by their names (NAT-4).
func (h *Exports) handleDecideHeld(c *fiber.Ctx) error {
	var in struct {
		Release  []string `json:"release"`
		Withhold []string `json:"withhold"`
		Contents string   `json:"contents"`
	}
	if err := content.Unambiguous(c); err != nil {
		return err
	}
	if err := c.BodyParser(&in); err != nil || len(in.Release)+len(in.Withhold) == 0 {
		return ehi.Errorf(ehi.Invalid,
			`The body must be JSON with names of documents and tables in "release" or "withhold"`)
	}
	if len(in.Release) > 0 && in.Contents == "" {
		return ehi.Errorf(ehi.Invalid,
			`"contents" is missing: that of the job (GET /admin/jobs/{id}) when you looked at `+
				`what it holds, so that nothing else is released`)
	}
	j, err := h.decideHeld(c, jobs.HeldDecision{
		Release: in.Release, Withhold: in.Withhold, Contents: in.Contents,
	})
	return h.sendJob(c, j, err)
}

func (h *Exports) decideHeld(c *fiber.Ctx, d jobs.HeldDecision) (*ehi.Job, error) {
	j, err := h.requested(c)
	if err != nil {
		return nil, err
	}
	return h.Jobs.DecideHeld(c.UserContext(), h.Origins.Acting(c), j, d)
}

// heldShown is how many documents and tables that need a decision a page lists.
const heldShown = 100

// heldPage is a part of the list of documents and tables that need a decision.
type heldPage struct {
	Files []heldFile
	After string // the name before the first of them; "" if they begin with the first one
	Next  string // the address of the next part; "" if there is none
	heldJSON
}

// heldFile is one of them, and where reviewers open it.
type heldFile struct {
	jobs.Held
	URL    string
	Beside []heldFile // what is released with it
}

// heldOf returns the part of the list that the request asks for by ?held=, the name before it; nil
// if nothing needs a decision.
func (h *Review) heldOf(c *fiber.Ctx, j *ehi.Job) (*heldPage, error) {
	counts := heldCounts(j)
	if counts == nil || h.checkFiles(c, j) != nil {
		return nil, nil
	}
	p := &heldPage{After: c.Query("held"), heldJSON: *counts}
	if !request.Role(c).May(auth.Reviewer) {
		return p, nil // the names are for reviewers
	}
	list, err := h.Exports.Jobs.ListHeld(c.UserContext(), j, p.After, heldShown+1)
	if err != nil {
		return nil, err
	}
	if len(list) > heldShown {
		list = list[:heldShown]
		p.Next = jobPath(j.ID) + "?held=" + url.QueryEscape(list[heldShown-1].Name) + "#held"
	}
	for _, f := range list {
		file := heldFile{Held: f, URL: heldURL(j, f.Name)}
		for _, name := range f.With {
			file.Beside = append(file.Beside,
				heldFile{Held: jobs.Held{Name: name}, URL: heldURL(j, name)})
		}
		p.Files = append(p.Files, file)
	}
	return p, nil
}

// heldURL returns where reviewers open a file.
func heldURL(j *ehi.Job, file string) string {
	folder, name, _ := strings.Cut(file, "/")
	return jobPath(j.ID) + "/held/" + folder + "/" + url.PathEscape(name)
}

// handleDecideHeld releases or withholds one document or table, or all of them.
func (h *Review) handleDecideHeld(c *fiber.Ctx) error {
	to, name := jobPath(c.Params("id")), page.Field(c, "name")
	d := jobs.HeldDecision{Contents: cmp.Or(page.Field(c, "contents"), unseen)}
	switch action := ehi.Action(page.Field(c, "do")); {
	case action != ehi.ActionRelease && action != ehi.ActionWithhold:
		return h.Pages.again(c, to, ehi.Errorf(ehi.Invalid,
			"Choose whether to release or to withhold"))
	case name == "":
		d.All = action
	case action == ehi.ActionRelease:
		d.Release = []string{name}
	default:
		d.Withhold = []string{name}
	}
	if _, err := h.Exports.decideHeld(c, d); err != nil {
		return h.Pages.again(c, to, err)
	}
	if from := page.Field(c, "held"); from != "" {
		to += "?held=" + url.QueryEscape(from)
	}
	return c.Redirect(to+"#held", http.StatusSeeOther)
}

// handleHeldFile sends a document or table that needs a decision, for its review.
func (h *Review) handleHeldFile(folder string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		j, err := h.Exports.reviewable(c)
		if err != nil {
			return err
		}
		err = h.Sender.SendHeld(c, j, folder, c.Params("file"))
		request.NoStore(c) // a session opened it
		h.Trail.Record(c, err, ehi.About(ehi.ActionRead, j))
		return err
	}
}
