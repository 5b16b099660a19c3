package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/web"
	"ehi-server/exporter/pipeline"
	"ehi-server/shared/ehi"
)

// problem is what is wrong with a line of the form.
type problem struct {
	Field string `json:"field"` // the id of the element to go to
	Text  string `json:"text"`
	Line  string `json:"line"` // p.<category> or a.<authorization>
}

// problemOf is what is wrong with a line; its zero value is nothing.
func problemOf(problems []problem, line string) problem {
	if i := slices.IndexFunc(problems, func(p problem) bool { return p.Line == line }); i >= 0 {
		return problems[i]
	}
	return problem{}
}

// maxNote is the longest free text of a form, in bytes (see ehi.ParseReleaseForm).
const maxNote = 200

// problemsOf finds everything that is wrong with a form, line by line. What a line that is not ticked
// holds is of no interest: nobody sees it.
func problemsOf(t *web.Catalogue, v formValues) (out []problem) {
	v = v.shown()
	tomorrow := now().Add(24 * time.Hour) // it may be tomorrow already where the patient is
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
		case len(notes) > maxNote:
			out = append(out, problem{id + "-notes", t.Say("problem.long", name, maxNote), k})
		}
	}
	for _, a := range ehi.Authorizations() {
		if k := "a." + string(a.Key); len(v[k]) > maxNote {
			out = append(out, problem{"a-" + string(a.Key), t.Say("problem.long", t.Say(authorizationText(a.Key)), maxNote), k})
		}
	}
	return out
}

// optionalDate reads what a date field of a browser sends.
func optionalDate(v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.DateOnly, v)
}

// maxPreviews is how many records are counted through at a time; previewWait is how long a patient who asks for it waits for a turn.
const (
	maxPreviews = 2
	previewWait = 5 * time.Second
)

// counts says in words what each line of the form would release of the record, by the form's fields, and "sum" of all. Where the record cannot be
// counted through at the moment, the lines say nothing and the sum says so.
func (s *Server) counts(c *fiber.Ctx, t *web.Catalogue, j *ehi.Job, v formValues, asked bool) map[string]string {
	v = v.without(problemsOf(t, v)) // a line that is wrong is not counted, the others are
	p, err := s.previewOf(c.UserContext(), j, v, asked)
	if err != nil {
		s.Log.Info("no preview of a form", "job", j.ID, "err", err, "request", requestID(c))
		return map[string]string{"sum": t.Say("form.unknown")}
	}
	out := map[string]string{"sum": t.Say("form.summary", t.Number(p.All.Released), t.Count("entries", p.All.Stored))}
	line := func(key string, n pipeline.Tally) {
		switch {
		case n.Stored == 0:
			out[key] = t.Say("form.none")
		case v[key] == "" && n.Released == 0:
			out[key] = t.Say("form.stored", t.Count("entries", n.Stored))
		default:
			out[key] = t.Say("form.goes", t.Number(n.Released), t.Count("entries", n.Stored))
		}
	}
	for _, c := range ehi.Categories() {
		line("p."+string(c.Key), p.Categories[c.Key])
	}
	for _, a := range ehi.Authorizations() {
		line("a."+string(a.Key), p.Authorizations[a.Key])
	}
	return out
}

// previewOf counts the job's record through.
func (s *Server) previewOf(ctx context.Context, j *ehi.Job, v formValues, asked bool) (p pipeline.Preview, err error) {
	if asked {
		waits, stop := context.WithTimeout(ctx, previewWait)
		defer stop()
		if err := s.previews.Acquire(waits, 1); err != nil {
			return p, err
		}
	} else if !s.previews.TryAcquire(1) {
		return p, errors.New("too many at once")
	}
	defer s.previews.Release(1)
	form, err := v.form()
	if err != nil {
		return p, err
	}
	policy, err := s.Rules.Policy(&form, j.KickOff)
	if err != nil {
		return p, err
	}
	record, err := s.Source.Open(ctx, j.Patient.ID)
	if err != nil {
		return p, err
	}
	task := pipeline.TaskOf(j, policy, record)
	p, err = task.Preview(ctx)
	return p, errors.Join(err, record.Close())
}
