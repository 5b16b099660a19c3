package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// ErrFileNotFound is the answer to who asks for a file that an export does not have.
var ErrFileNotFound = ehi.Errorf(ehi.NotFound, "There is no such file in this export")

// ErrDamaged is the answer where a file cannot be sent because of what the disk has done to it.
var ErrDamaged = ehi.Errorf(ehi.Internal,
	"This file is damaged on the server's disk and cannot be sent. "+
		"Delete the export (DELETE its status URL) and ask for it again")

// Released finds a client's own job, where its files may be had (EHI-12). Errors: ehi.NotFound.
func (s *Service) Released(ctx context.Context, a ehi.Actor, id string) (*ehi.Job, error) {
	j, err := s.FindOwn(ctx, a, id)
	if err != nil || j.Status == ehi.Approved {
		return j, err
	}
	// Another process may have told the client already what this one's copy does not show yet: a
	// refusal is by the record itself.
	if j, err = s.Bus.Jobs.Get(ctx, j.ID); err != nil {
		return nil, err
	}
	if j.Status != ehi.Approved {
		return nil,
			ehi.Errorf(ehi.NotFound, "There are no files of an export in %q state", j.Status)
	}
	return j, nil
}

// Task reads a task of a job whose files may be had. Errors: ehi.Transient where its record is
// lost: the janitor has the job made anew.
func (s *Service) Task(ctx context.Context, j *ehi.Job, n int) (ehi.Task, error) {
	t, ok, err := s.Bus.Tasks.Get(ctx, j.ID, n)
	if err != nil || ok && t.Committed {
		return t, err
	}
	if _, err = s.Bus.Jobs.Get(ctx,
		j.ID); err == nil { // else another process has deleted it since its record was read
		s.Doubt(j.ID)
		err = errors.Join(
			ehi.Errorf(ehi.Transient,
				"The server has lost a part of this export and makes it anew; try again"),
			fmt.Errorf("job %s is %s, its task %d is not committed", j.ID, j.Status, n))
	}
	return t, err
}

// EachFile calls visit with each file of an export and its name, task by task, until it has seen
// enough.
func (s *Service) EachFile(
	ctx context.Context, j *ehi.Job, visit func(name string, f ehi.File) (more bool),
) error {
	for n := range j.Tasks {
		t, err := s.Task(ctx, j, n)
		if err != nil {
			return err
		}
		for i, f := range t.Files {
			if !visit(FileName(j, t, i), f) {
				return nil
			}
		}
	}
	return nil
}

// FileName is what file i of a task is called outside: Patient.ndjson where the type has no
// other file in the export, else Patient.<task>.<i>.ndjson.
func FileName(j *ehi.Job, t ehi.Task, i int) string {
	f := t.Files[i]
	name := f.Type
	switch {
	case f.Error:
		name = "errors"
	case f.Type == "":
		name = "patients"
	case j.Tasks == 1 && alone(t.Files, i):
		return name + ".ndjson"
	}
	return fmt.Sprintf("%s.%d.%d.ndjson", name, t.Number, i)
}

// alone reports whether a file is the only one of its type; those of a type are beside each other.
func alone(all []ehi.File, i int) bool {
	return (i == 0 || all[i-1].Type != all[i].Type) &&
		(i+1 == len(all) || all[i+1].Type != all[i].Type)
}

// FindFile looks a name up in the job's own tables: nothing of it becomes a path. The bare type
// name works too (EHI-12). Errors: ErrFileNotFound; those of Task.
func (s *Service) FindFile(ctx context.Context, j *ehi.Job, name string) (f ehi.File, err error) {
	if !strings.HasSuffix(name, ".ndjson") {
		name += ".ndjson"
	}
	task := 0
	if parts := strings.Split(name, "."); len(parts) == 4 {
		if task, err = strconv.Atoi(parts[1]); err != nil {
			return f, ErrFileNotFound
		}
	}
	if task < 0 || task >= j.Tasks {
		return f, ErrFileNotFound
	}
	t, err := s.Task(ctx, j, task)
	if err != nil {
		return f, err
	}
	for i := range t.Files {
		if FileName(j, t, i) == name {
			return t.Files[i], nil
		}
	}
	return f, ErrFileNotFound
}

// Stored is a file or document of a job, as the store keeps it.
type Stored struct {
	Job string
	files.Extent
}

// StoredFile is where a file of an export is kept.
func StoredFile(j *ehi.Job, f ehi.File) Stored {
	return Stored{
		j.ID,
		files.Extent{Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum)},
	}
}

// StoredDocument is where a document of an export is kept.
func StoredDocument(j *ehi.Job, a ehi.Attachment) Stored {
	return Stored{j.ID, files.Extent{Object: a.Object, Length: a.Size, Sum: files.SHA1Sum(a.SHA1)}}
}

// OpenFile opens a file or a document. It tells a file that the store lost from one whose job
// was deleted. Errors: ErrNotFound or ErrFileNotFound if the file was deleted after its record
// was read, ErrDamaged if the store lost it.
func (s *Service) OpenFile(ctx context.Context, of Stored) (files.Reader, error) {
	r, err := s.Files.Open(of.Job, of.Extent)
	if errors.Is(err, fs.ErrNotExist) {
		j, gone := s.Bus.Jobs.Get(ctx, of.Job)
		if gone != nil {
			return nil, gone
		}
		lists := func(a ehi.Attachment) bool { return a.Object == of.Object }
		if files.IsAttachment(of.Object) && !slices.ContainsFunc(j.Attachments, lists) {
			return nil, ErrFileNotFound
		}
		err = s.Files.Lost(of.Job, of.Extent)
	}
	return r, Damage(err)
}

// Damage turns what the store says of a damaged file into the answer.
func Damage(err error) error {
	if errors.Is(err, files.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Damaged lists the files that are known to be damaged, the latest first: of one job, or where
// job is "" of all.
func (s *Service) Damaged(job string) ([]files.Known, error) {
	known, err := s.Files.Damaged(job)
	slices.SortStableFunc(known, func(a, b files.Known) int { return b.Since.Compare(a.Since) })
	return known, err
}

// DamagedName is what a damaged file is called in its export; where its record cannot be read,
// in the file store. A document is not called by its name, which is its reviewers' alone.
func (s *Service) DamagedName(ctx context.Context, d files.Damage) string {
	number, _, _ := strings.Cut(d.Object, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return "a document"
	}
	j, err := s.Bus.Jobs.Get(ctx, d.Job)
	if err != nil {
		return d.Object
	}
	t, _, err := s.Bus.Tasks.Get(ctx, d.Job, n)
	i := slices.IndexFunc(t.Files, func(f ehi.File) bool {
		return f.Object == d.Object && f.Offset == d.Offset
	})
	if err != nil || i < 0 {
		return d.Object
	}
	return FileName(j, t, i)
}
