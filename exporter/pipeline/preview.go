package pipeline

import (
	"context"
	"fmt"

	"ehi-server/exporter/native"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// Summarize walks the record once and summarizes what any form could release of what the job
// requests, native content included. It writes nothing. pause, if not nil, is called after each
// slab. Errors: release.ErrTooVaried and those of pause.
func Summarize(
	ctx context.Context, rules *release.Rules, job *ehi.Job, record source.Record,
	pause func(context.Context) error,
) (*release.Summary, error) {
	s, err := rules.Summarize(job.KickOff)
	if err != nil {
		return nil, err
	}
	if !record.Complete() {
		s.Loose()
	}
	read := 0
	pass := func(bytes int) error {
		if read += bytes; read < SlabBytes || pause == nil {
			return nil
		}
		read = 0
		return pause(ctx)
	}
	paced := func(visit func(source.Resource) error) func(source.Resource) error {
		return func(r source.Resource) error {
			if err := pass(len(r.Line)); err != nil {
				return err
			}
			if r.Unchecked && !wellFormed(r) {
				return nil
			}
			return visit(r)
		}
	}
	all := func(r source.Resource) error {
		if err := s.Observe(r.Line); err != nil {
			return err
		}
		return seek(ctx, record, s.Early())
	}
	if err := record.Scan(ctx, source.Query{}, paced(all)); err != nil {
		return nil, err
	}
	if err := seek(ctx, record, s); err != nil {
		return nil, err
	}
	if err := s.Conclude(); err != nil {
		return nil, err
	}
	task := NewTask(job, nil, record)
	if job.Native() {
		facts := s.Native(func(typ, id string, visit func(line []byte) error) error {
			return record.Beside(ctx, []source.Name{{Type: typ, ID: id}}, visit)
		})
		if err := native.Survey(ctx, record, task.Query, facts, pass); err != nil {
			return nil, fmt.Errorf("native content: %w", err)
		}
	}
	if task.Selector == nil && len(task.Query.Types) == 0 && !task.Query.Timed() {
		return s.Summary(), nil
	}
	s.Narrow()
	var selected []byte
	some := func(r source.Resource) (err error) {
		goes := true
		if task.Selector != nil {
			selected, goes, err = task.Selector.Apply(selected[:0], r.Type, r.Line)
		}
		if err != nil || !goes {
			return err // the form does not concern what was not requested
		}
		return s.Select(r.Line)
	}
	return s.Summary(), record.Scan(ctx, task.Query, paced(some))
}
