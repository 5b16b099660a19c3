package staff

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/shared/ehi"
)

// decided is how a decision about one of several exports went.
type decided struct{ ID, Title, Problem string }

// postedJobs are the exports that a form names, each once.
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

// unseen stands for the digest of an export that could not be shown. As no export has it,
// nothing is decided about that one.
const unseen = "unseen"

// decisionPage is the page that asks whether a decision about several exports is meant.
func decisionPage(ids []string, action ehi.Action) string {
	return jobsPath + "?" + url.Values{"do": {string(action)}, "job": ids}.Encode()
}

// verbs are the decisions about several exports.
var verbs = map[ehi.Action]string{ehi.ActionApprove: "Approve", ehi.ActionReject: "Reject"}

// handleDecisions is sent twice. The form of the list says what to decide about which exports, and
// leads to the question whether that is meant; the form of the question decides.
func (h *Queue) handleDecisions(c *fiber.Ctx) error {
	action, ids := ehi.Action(page.Field(c, "do")), postedJobs(c)
	back := h.Pages.Site.Local(c, page.Field(c, "back"))
	if at, _, _ := strings.Cut(back, "?"); at != jobsPath {
		back = jobsPath
	}
	switch {
	case verbs[action] == "":
		return h.Pages.again(c, back, errNoDecision)
	case len(ids) == 0:
		return h.Pages.again(c, back, ehi.Errorf(ehi.Invalid,
			"Nothing was decided, because no export is ticked. Tick the exports that you mean; "+
				"only those that wait for review can be ticked"))
	case len(ids) > maxBulk:
		return h.Pages.again(c, back, ehi.Errorf(ehi.Invalid,
			"Nothing was decided: %d exports are ticked, and %d is the most at once",
			len(ids), maxBulk))
	}
	seen := posted(c, "contents") // in the order of the exports
	if len(seen) != len(ids) {    // the page that asks for the decision was not shown
		return c.Redirect(decisionPage(ids, action), http.StatusSeeOther)
	}
	out := flash{Flash: page.Flash{Title: verbs[action] + ": done"}}
	for i, id := range ids {
		v, known := h.Exports.Index.Summary(id)
		d := decided{ID: id, Title: h.row(c, v, now()).Title}
		if !known {
			d.Title = id
		}
		given := decision{
			Reason: page.Field(c, "reason"), Contents: cmp.Or(seen[i], unseen),
		}
		if _, err := h.Exports.decide(c, id, action, given); err != nil {
			_, _, d.Problem = h.Pages.Explain.Describe(c, err)
		}
		out.Decided = append(out.Decided, d)
	}
	return h.Pages.leave(c, back, out)
}

// Failed is how many decisions could not be made.
func (f *flash) Failed() (n int) {
	for _, d := range f.Decided {
		if d.Problem != "" {
			n++
		}
	}
	return n
}

// Made is how many decisions were made.
func (f *flash) Made() int { return len(f.Decided) - f.Failed() }

// renderDecision asks whether a decision about several exports is meant.
func (h *Queue) renderDecision(c *fiber.Ctx) error {
	action := ehi.Action(c.Query("do"))
	var list []jobRow
	for _, id := range c.Context().QueryArgs().PeekMulti("job") {
		if v, known := h.Exports.Index.Summary(string(id)); known && len(list) < maxBulk {
			r := h.row(c, v, now())
			if j, err := h.Exports.Index.Get(c.UserContext(), v.ID); err == nil {
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
	return h.Pages.render(c, "confirm", "jobs", title, fiber.Map{
		"List": list, "Action": action, "Verb": verbs[action],
		"FourEyes": h.FourEyes && action == ehi.ActionApprove,
	})
}
