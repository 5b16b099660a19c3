package jobs

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/native"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Held is a document or table that falls under no line of the form. An administrator decides
// whether it leaves (NAT-4).
type Held struct {
	Name        string `json:"name"` // documents/ or tables/, and a file name
	Title       string `json:"title"`
	ContentType string `json:"contentType"`
	Size        int64  `json:"size"` // bytes
	Released    bool   `json:"released"`
	// With are the names of the files that are released with a table.
	With []string `json:"with,omitempty"`
}

// EachHeld calls visit for each document and table that waits for a decision, or was released by
// one, until visit returns false. Errors: those of Task and OpenFile.
func (s *Service) EachHeld(
	ctx context.Context, j *ehi.Job, visit func(n int, line []byte, f ehi.NativeFile) (more bool),
) error {
	if j.Held == 0 || j.Tasks != 1 {
		return nil
	}
	t, err := s.Task(ctx, j, 0)
	if err != nil {
		return err
	}
	return s.eachLine(ctx, j, &t, ehi.HeldDocuments, ehi.HeldIndex,
		func(line []byte, f ehi.NativeFile) bool { return visit(f.Number, line, f) })
}

// eachBeside calls visit for each file that is released together with a table, whether that is
// released or not. Errors: those of EachHeld.
func (s *Service) eachBeside(
	ctx context.Context, j *ehi.Job, visit func(line []byte, f ehi.NativeFile),
) error {
	t, err := s.Task(ctx, j, 0)
	if err != nil {
		return err
	}
	if _, has := native.IndexOf(&t, ehi.HeldBesideIndex); !has {
		return nil
	}
	return s.eachLine(ctx, j, &t, ehi.HeldBeside, ehi.HeldBesideIndex,
		func(line []byte, f ehi.NativeFile) bool {
			visit(line, f)
			return true
		})
}

// eachLine calls visit for each line of a list and of its index, until visit returns false.
func (s *Service) eachLine(
	ctx context.Context, j *ehi.Job, t *ehi.Task, listed, indexed ehi.FileKind,
	visit func(line []byte, f ehi.NativeFile) (more bool),
) error {
	list, err := s.openKind(ctx, j, t, listed)
	if err != nil {
		return err
	}
	defer list.Close() // read only
	index, err := s.openKind(ctx, j, t, indexed)
	if err != nil {
		return err
	}
	defer index.Close() // read only
	lines := bufio.NewReader(list)
	err = native.Each(index, func(f ehi.NativeFile) error {
		line, err := lines.ReadBytes('\n')
		if err == nil && !visit(line, f) {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return Damage(err)
}

var errEnough = errors.New("enough")

func (s *Service) openKind(
	ctx context.Context, j *ehi.Job, t *ehi.Task, kind ehi.FileKind,
) (io.ReadCloser, error) {
	f, ok := native.IndexOf(t, kind)
	if !ok {
		return nil, ErrFileNotFound
	}
	return s.OpenFile(ctx, StoredFile(j, f))
}

// ListHeld returns up to limit of the documents and tables of EachHeld, in the order of their names
// behind the name after ("": from the first). Errors: those of EachHeld.
func (s *Service) ListHeld(
	ctx context.Context, j *ehi.Job, after string, limit int,
) (out []Held, err error) {
	at := map[int]int{} // by number
	err = s.EachHeld(ctx, j, func(n int, line []byte, f ehi.NativeFile) bool {
		if f.Name > after {
			at[n] = len(out)
			out = append(out, Held{
				Name: f.Name, Title: titleOf(line), ContentType: f.ContentType, Size: f.Length,
				Released: j.Freed.Has(n),
			})
		}
		return len(out) < limit
	})
	if err != nil || len(out) == 0 {
		return out, err
	}
	return out, s.eachBeside(ctx, j, func(_ []byte, f ehi.NativeFile) {
		if i, listed := at[f.With]; listed {
			out[i].With = append(out[i].With, f.Name)
		}
	})
}

// titleOf returns the title of the file that a line of a list describes.
func titleOf(line []byte) string {
	var d fhir.DocumentReference
	if err := json.Unmarshal(line, &d); err != nil || len(d.Content) == 0 {
		return ""
	}
	return d.Content[0].Attachment.Title
}

// ReleasedLines returns the EHIDocumentReferences of what administrators have released of what
// waited, with what belongs to it: j.Freed.Count() + j.Beside lines. Errors: those of EachHeld.
func (s *Service) ReleasedLines(ctx context.Context, j *ehi.Job) (out []byte, err error) {
	if j.Freed.Count() == 0 {
		return nil, nil
	}
	err = s.EachHeld(ctx, j, func(n int, line []byte, _ ehi.NativeFile) bool {
		if j.Freed.Has(n) {
			out = append(out, line...)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	err = s.eachBeside(ctx, j, func(line []byte, f ehi.NativeFile) {
		if leaves(j, ehi.HeldBesideIndex, f) {
			out = append(out, line...)
		}
	})
	return out, err
}

// HeldDecision is a decision about documents and tables that fall under no line of the form.
type HeldDecision struct {
	Release  []string // the names of those to release
	Withhold []string // the names of those whose release is withdrawn
	// All means every one that waits instead of Release, or every one that is released instead of
	// Withhold; "" for neither.
	All ehi.Action
	// Contents is the digest of the export that the administrator saw (see ehi.Job.Contents); ""
	// skips the check.
	Contents string
}

// actions returns what the decision does, for the audit trail.
func (d HeldDecision) actions() (out []ehi.Action) {
	if len(d.Withhold) == 0 && d.All != ehi.ActionWithhold {
		return []ehi.Action{ehi.ActionRelease}
	}
	if len(d.Release) > 0 {
		out = append(out, ehi.ActionRelease)
	}
	return append(out, ehi.ActionWithhold)
}

// DecideHeld releases documents and tables that wait for a decision, and withdraws the release of
// others. It does all of that or nothing. Errors: ehi.Conflict if the export is not under review
// or not the one that was seen, ehi.NotFound for an unknown name, ehi.Forbidden, ehi.Invalid
// without names or for a name on both sides, and those of EachHeld.
func (s *Service) DecideHeld(
	ctx context.Context, a ehi.Actor, before *ehi.Job, d HeldDecision,
) (j *ehi.Job, err error) {
	if err = a.May(ehi.DutyReview); err == nil {
		j, err = s.decideHeld(ctx, before, d)
	}
	for _, action := range d.actions() {
		s.audit(a, err, ehi.About(action, before))
	}
	return j, err
}

func (s *Service) decideHeld(
	ctx context.Context, before *ehi.Job, d HeldDecision,
) (*ehi.Job, error) {
	if err := before.CanDecideHeld(); err != nil {
		return nil, err
	}
	if err := before.Unchanged(d.Contents); err != nil {
		return nil, err
	}
	release, withhold, err := s.heldNumbers(ctx, before, d)
	if err != nil {
		return nil, err
	}
	var beside []ehi.NativeFile
	err = s.eachBeside(ctx, before, func(_ []byte, f ehi.NativeFile) { beside = append(beside, f) })
	if err != nil {
		return nil, err
	}
	return s.Bus.Jobs.Update(ctx, before.ID, func(j *ehi.Job) error {
		if err := j.Unchanged(d.Contents); err != nil {
			return err
		}
		if j.Starts != before.Starts { // the numbers are those of another attempt's list
			return ehi.Errorf(ehi.Conflict,
				"The export was made again meanwhile. Look at it again, then decide")
		}
		if err := j.DecideHeld(true, release...); err != nil {
			return err
		}
		if err := j.DecideHeld(false, withhold...); err != nil {
			return err
		}
		j.Beside = 0
		for _, f := range beside {
			if leaves(j, ehi.HeldBesideIndex, f) {
				j.Beside++
			}
		}
		return nil
	})
}

// heldNumbers looks up the numbers of what a decision names.
func (s *Service) heldNumbers(
	ctx context.Context, j *ehi.Job, d HeldDecision,
) (release, withhold []int, err error) {
	sides, err := d.sides()
	if err != nil {
		return nil, nil, err
	}
	err = s.EachHeld(ctx, j, func(n int, _ []byte, f ehi.NativeFile) bool {
		side, named := sides[f.Name]
		switch {
		case side == ehi.ActionRelease, d.All == ehi.ActionRelease && !j.Freed.Has(n):
			release = append(release, n)
		case side == ehi.ActionWithhold, d.All == ehi.ActionWithhold && j.Freed.Has(n):
			withhold = append(withhold, n)
		}
		if named {
			delete(sides, f.Name)
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	for name := range sides {
		return nil, nil, ehi.Errorf(ehi.NotFound,
			"%q is no document or table of this export that needs a decision", name)
	}
	return release, withhold, nil
}

// sides returns what the decision does with each name. Errors: ehi.Invalid.
func (d HeldDecision) sides() (map[string]ehi.Action, error) {
	sides := map[string]ehi.Action{}
	for _, name := range d.Release {
		sides[name] = ehi.ActionRelease
	}
	for _, name := range d.Withhold {
		if sides[name] == ehi.ActionRelease {
			return nil, ehi.Errorf(ehi.Invalid, "%q is to be released and withheld", name)
		}
		sides[name] = ehi.ActionWithhold
	}
	if len(sides) == 0 && d.All == "" {
		return nil, ehi.Errorf(ehi.Invalid, "Name the documents and tables to decide about")
	}
	return sides, nil
}
