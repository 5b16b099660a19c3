package patient

import (
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/api/web"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// problem is an error in a line of the form.
type problem struct {
	Field string `json:"field"` // the id of the element to link to
	Text  string `json:"text"`
	Line  string `json:"line"` // p.<category> or a.<authorization>
}

// problemOf returns the problem of a line; the zero value for none.
func problemOf(problems []problem, line string) problem {
	if i := slices.IndexFunc(problems, func(p problem) bool { return p.Line == line }); i >= 0 {
		return problems[i]
	}
	return problem{}
}

// problemsOf finds all problems of a form, line by line. It ignores hidden fields of lines that
// are not selected.
func problemsOf(t *web.Catalogue, v formValues) (out []problem) {
	v = v.shown()
	tomorrow := now().Add(24 * time.Hour) // it may already be tomorrow at the patient's place
	for _, c := range ehi.Categories() {
		k, id, name := "p."+string(c.Key), "p-"+string(c.Key), t.Say(categoryText(c.Key))
		from, to, notes := v[k+".from"], v[k+".to"], v[k+".notes"]
		after, errFrom := optionalDate(from)
		before, errTo := optionalDate(to)
		switch {
		case errFrom != nil:
			out = append(out, problem{id + "-from", t.Say("problem.date", name), k})
		case errTo != nil:
			out = append(out, problem{id + "-to", t.Say("problem.date", name), k})
		case after.After(tomorrow):
			out = append(out, problem{id + "-from", t.Say("problem.future", name), k})
		case before.After(tomorrow):
			out = append(out, problem{id + "-to", t.Say("problem.future", name), k})
		case from != "" && to != "" && after.After(before):
			out = append(out, problem{id + "-from", t.Say("problem.order", name), k})
		case utf8.RuneCountInString(notes) > ehi.MaxNote:
			out = append(out, problem{id + "-notes", t.Say("problem.long", name, ehi.MaxNote), k})
		}
	}
	for _, a := range ehi.Authorizations() {
		if k := "a." + string(a.Key); utf8.RuneCountInString(v[k+".text"]) > ehi.MaxNote {
			name := t.Say(authorizationText(a.Key))
			out = append(out, problem{
				"a-" + string(a.Key) + "-text", t.Say("problem.long", name, ehi.MaxNote), k,
			})
		}
	}
	return out
}

// optionalDate parses what a date field of a browser sends.
func optionalDate(v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.DateOnly, v)
}

// How long the form waits for its counts: when a page opens, and when the patient asks for them.
// After that it says that counting goes on.
const (
	countWait = 300 * time.Millisecond
	askedWait = 800 * time.Millisecond
)

// counts describes what each line of the form would release, by the form's fields, and under
// "sum" the total. If the record is still being counted, or cannot be counted, only the sum has
// a text, which says so; counting is true in the first case.
func (h *Form) counts(
	c *fiber.Ctx, t *web.Catalogue, j *ehi.Job, v formValues, asked bool,
) (out map[string]string, counting bool) {
	v = v.without(problemsOf(t, v)) // lines with problems are not counted
	n, err := h.countsOf(c.UserContext(), j, v, asked)
	if errors.Is(err, jobs.ErrCounting) {
		return map[string]string{"sum": t.Say("form.counting")}, true
	}
	if err != nil {
		h.Log.Info("preview a form", "job", j.ID, "err", err, "request", request.ID(c))
		return map[string]string{"sum": t.Say("form.unknown")}, false
	}
	out = map[string]string{"sum": sumText(t, n)}
	for _, c := range ehi.Categories() {
		k := "p." + string(c.Key)
		out[k] = countText(t, v.ticked(k), n.Categories[c.Key])
	}
	for _, a := range ehi.Authorizations() {
		k := "a." + string(a.Key)
		out[k] = countText(t, v.ticked(k), n.Authorizations[a.Key])
		if n.Authorizations[a.Key].Stored == 0 && n.Unread {
			out[k] = t.Say("form.unread")
		}
	}
	return out, false
}

// sumText describes what all lines of the form would release, and what falls under none of them.
func sumText(t *web.Catalogue, n release.Counts) string {
	key := "form.summary"
	if n.All.AtMost {
		key = "form.summary.upto"
	}
	text := t.Say(key, t.Number(n.All.Released), t.Count("entries", n.All.Stored))
	if n.Waiting > 0 {
		text += " " + t.Say("form.waiting", t.Count("entries", n.Waiting))
	}
	return text
}

// countText describes what a line of the form would release.
func countText(t *web.Catalogue, chosen bool, n release.Tally) string {
	switch {
	case n.Stored == 0:
		return t.Say("form.none")
	case !chosen && n.Released == 0:
		return t.Say("form.stored", t.Count("entries", n.Stored))
	}
	key := "form.goes"
	if n.AtMost {
		key = "form.upto"
	}
	text := t.Say(key, t.Number(n.Released), t.Count("entries", n.Stored))
	if n.Undated > 0 {
		text += ". " + t.Say("form.undated", t.Count("entries", n.Undated))
	}
	return text
}

// countsOf counts what a form would release of the job's record.
func (h *Form) countsOf(
	ctx context.Context, j *ehi.Job, v formValues, asked bool,
) (n release.Counts, err error) {
	form, err := v.form()
	if err != nil {
		return n, err
	}
	wait := countWait
	if asked {
		wait = askedWait
	}
	return h.Jobs.Preview(ctx, j, form, wait)
}
