package pipeline

import (
	"context"

	"ehi-server/exporter/release"
	"ehi-server/exporter/selection"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// TaskOf is what a job's form and kick-off say about the export of a record; what the writers need is the caller's to fill in.
func TaskOf(job *ehi.Job, policy *release.Policy, record source.Record) Task {
	k := job.KickOff
	return Task{
		Record: record, Query: source.Query{Types: selection.Types(k), Since: k.Since, Until: k.Until}, Policy: policy, Selector: selection.New(k),
		Population: job.Level != ehi.OnePatient, ByPatient: k.ByPatient, Compression: k.Compression,
	}
}

// Tally is how many resources of one kind a record has, and how many of them would go out.
type Tally struct{ Stored, Released int64 }

func (t Tally) with(released bool) Tally {
	t.Stored++
	if released {
		t.Released++
	}
	return t
}

// Preview is what an export would release, by the lines of the release form.
type Preview struct {
	All Tally
	// Categories are the form's first part; under "" is what is always released.
	Categories map[ehi.Category]Tally
	// Authorizations are the form's second part: a resource may count under several of them, and under its category.
	Authorizations map[ehi.Authorization]Tally
}

// Preview decides about one patient's record as Run would, and writes nothing.
func (t *Task) Preview(ctx context.Context) (Preview, error) {
	out := Preview{Categories: map[ehi.Category]Tally{}, Authorizations: map[ehi.Authorization]Tally{}}
	decisions, err := t.decide(ctx)
	if err != nil {
		return out, err
	}
	classes := t.Policy.Classes()
	var selected, released []byte
	err = t.Record.Scan(ctx, t.Query, func(r source.Resource) error {
		if r.Unchecked && !wellFormed(r) {
			return nil
		}
		class, err := classes.Of(r.Line)
		if err != nil {
			return err
		}
		line, goes := r.Line, true
		if t.Selector != nil {
			if selected, goes, err = t.Selector.Apply(selected[:0], r.Type, line); err != nil || !goes {
				return err // what nobody asked for is no matter of the form
			}
			line = selected
		}
		if decisions != nil {
			if released, goes, err = decisions.Release(released[:0], line); err != nil {
				return err
			}
		}
		out.All = out.All.with(goes)
		out.Categories[class.Category] = out.Categories[class.Category].with(goes)
		for _, a := range class.Authorizations {
			out.Authorizations[a] = out.Authorizations[a].with(goes)
		}
		return nil
	})
	return out, err
}
