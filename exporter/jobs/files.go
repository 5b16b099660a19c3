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

// ErrFileNotFound is returned for a file that the export does not have.
var ErrFileNotFound = ehi.Errorf(ehi.NotFound, "There is no such file in this export")

// ErrDamaged is returned for a file that cannot be sent because it is damaged on disk.
var ErrDamaged = ehi.Errorf(ehi.Internal,
	"This file is damaged on the server's disk and cannot be sent. "+
		"Delete the export (DELETE its status URL) and request it again")

// Released returns a client's own job whose files are released (EHI-12). Errors: ehi.NotFound.
func (s *Service) Released(ctx context.Context, a ehi.Actor, id string) (*ehi.Job, error) {
	j, err := s.FindOwn(ctx, a, id)
	if err != nil || j.Status == ehi.Approved {
		return j, err
	}
	// This process's copy of the job may be older than what another process has told the client. So
	// read the record before refusing.
	if j, err = s.Bus.Jobs.Get(ctx, j.ID); err != nil {
		return nil, err
	}
	if err := s.CheckFiles(a, j); err != nil {
		return nil, err
	}
	return j, nil
}

// CheckFiles returns an error unless an actor who may see a job may read its files, too: everyone
// once the export is approved, and administrators from the time when it waits for review. Errors:
// ehi.NotFound.
func (s *Service) CheckFiles(a ehi.Actor, j *ehi.Job) error {
	switch {
	case j.Status == ehi.Approved, a.Kind == ehi.ActorStaff && j.Status == ehi.Retrieved:
		return nil
	case a.Kind == ehi.ActorPatient:
		return ErrFileNotFound
	}
	return ehi.Errorf(ehi.NotFound, "The files of an export in %q state are not available",
		j.Status)
}

// Task returns a task of a job whose files are released. Errors: ehi.Transient if the task's
// record is lost; the keeper then repeats the export.
func (s *Service) Task(ctx context.Context, j *ehi.Job, n int) (ehi.Task, error) {
	t, ok, err := s.Bus.Tasks.Get(ctx, j.ID, n)
	if err != nil || ok && t.Committed {
		return t, err
	}
	// On an error another process has deleted the job meanwhile.
	if _, err = s.Bus.Jobs.Get(ctx, j.ID); err == nil {
		s.Doubt(j.ID)
		err = errors.Join(
			ehi.Errorf(ehi.Transient,
				"The server has lost a part of this export and is exporting it again; try again "+
					"later"),
			fmt.Errorf("job %s is %s, its task %d is not committed", j.ID, j.Status, n))
	}
	return t, err
}

// EachFile calls visit with the name of each file of an export, task by task, until visit
// returns false.
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

// FileName returns the name of file i of a task for clients: Patient.ndjson if it is the only
// file of its type in the export, otherwise Patient.<task>.<i>.ndjson.
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

// alone reports whether a file is the only one of its type. Files of one type are adjacent.
func alone(all []ehi.File, i int) bool {
	return (i == 0 || all[i-1].Type != all[i].Type) &&
		(i+1 == len(all) || all[i+1].Type != all[i].Type)
}

// FindFile returns the file with a name. It looks the name up in the job's own tasks and never
// uses it as a path. The bare type name works too (EHI-12). Errors: ErrFileNotFound; those of
// Task.
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

// Stored identifies a file or document of a job in the store.
type Stored struct {
	Job string
	files.Extent
}

// StoredFile returns where a file of an export is stored.
func StoredFile(j *ehi.Job, f ehi.File) Stored {
	return Stored{
		j.ID,
		files.Extent{Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum)},
	}
}

// StoredDocument returns where a document of an export is stored.
func StoredDocument(j *ehi.Job, a ehi.Attachment) Stored {
	return Stored{j.ID, files.Extent{Object: a.Object, Length: a.Size, Sum: files.SHA1Sum(a.SHA1)}}
}

// OpenFile opens a file or a document. If it does not exist, OpenFile checks whether it was
// deleted or lost. Errors: ErrNotFound or ErrFileNotFound if it was deleted after its record was
// read; ErrDamaged if it is damaged or lost.
func (s *Service) OpenFile(ctx context.Context, f Stored) (files.Reader, error) {
	r, err := s.Files.Open(f.Job, f.Extent)
	if errors.Is(err, fs.ErrNotExist) {
		j, gone := s.Bus.Jobs.Get(ctx, f.Job)
		if gone != nil {
			return nil, gone
		}
		lists := func(a ehi.Attachment) bool { return a.Object == f.Object }
		if files.IsAttachment(f.Object) && !slices.ContainsFunc(j.Attachments, lists) {
			return nil, ErrFileNotFound
		}
		err = s.Files.Lost(f.Job, f.Extent)
	}
	return r, Damage(err)
}

// Damage returns ErrDamaged for the store's error about a damaged file, and other errors
// unchanged.
func Damage(err error) error {
	if errors.Is(err, files.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Damaged lists the known damaged files of a job, or of all jobs if job is "", the latest first.
func (s *Service) Damaged(job string) ([]files.Known, error) {
	known, err := s.Files.Damaged(job)
	slices.SortStableFunc(known, func(a, b files.Known) int { return b.Since.Compare(a.Since) })
	return known, err
}

// DamagedName returns the name of a damaged file in its export, or in the store if its record
// cannot be read. Only reviewers may see the name of a document, so for one it returns
// "a document".
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
