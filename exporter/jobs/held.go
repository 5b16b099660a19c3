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
	list, err := s.openKind(ctx, j, &t, ehi.HeldDocuments)
	if err != nil {
		return err
	}
	defer list.Close() // read only
	index, err := s.openKind(ctx, j, &t, ehi.HeldIndex)
	if err != nil {
		return err
	}
	defer index.Close() // read only
	lines := bufio.NewReader(list)
	err = native.Each(index, func(f ehi.NativeFile) error {
		line, err := lines.ReadBytes('\n')
		if err == nil && !visit(f.Number, line, f) {
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

// ListHeld returns up to limit of the documents and tables of EachHeld. Errors: those of EachHeld.
func (s *Service) ListHeld(ctx context.Context, j *ehi.Job, limit int) (out []Held, err error) {
	err = s.EachHeld(ctx, j, func(n int, line []byte, f ehi.NativeFile) bool {
		out = append(out, Held{
			Name: f.Name, Title: titleOf(line), ContentType: f.ContentType, Size: f.Length,
			Released: j.Freed.Has(n),
		})
		return len(out) < limit
	})
	return out, err
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
// waited. Errors: those of EachHeld.
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
	return out, err
}

// DecideHeld releases documents and tables that wait for a decision, or withdraws the release, by
// their names. It releases all of them or none. Errors: ehi.Conflict if the export is not under
// review, ehi.NotFound for an unknown name, ehi.Forbidden, ehi.Invalid without names, and those
// of EachHeld.
func (s *Service) DecideHeld(
	ctx context.Context, a ehi.Actor, before *ehi.Job, release bool, names ...string,
) (j *ehi.Job, err error) {
	if err = a.May(ehi.DutyReview); err == nil {
		j, err = s.decideHeld(ctx, before, release, names)
	}
	action := ehi.ActionRelease
	if !release {
		action = ehi.ActionWithhold
	}
	s.audit(a, err, ehi.About(action, before))
	return j, err
}

func (s *Service) decideHeld(
	ctx context.Context, before *ehi.Job, release bool, names []string,
) (*ehi.Job, error) {
	if len(names) == 0 {
		return nil, ehi.Errorf(ehi.Invalid, "Name the documents and tables to decide about")
	}
	if err := before.CanDecideHeld(); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	var numbers []int
	err := s.EachHeld(ctx, before, func(n int, _ []byte, f ehi.NativeFile) bool {
		if wanted[f.Name] {
			numbers = append(numbers, n)
			delete(wanted, f.Name)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for name := range wanted {
		return nil, ehi.Errorf(ehi.NotFound,
			"%q is no document or table of this export that waits for a decision", name)
	}
	return s.Bus.Jobs.Update(ctx, before.ID, func(j *ehi.Job) error {
		return j.DecideHeld(release, numbers...)
	})
}
