package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"ehi-server/exporter/native"
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
	// This process's copy of the job, and that of the NATS server it is connected to, may be older
	// than what another process has told the client. So read the current record before refusing.
	if j, err = s.Bus.Jobs.Newest(ctx, j.ID); err != nil {
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
	if _, err = s.Bus.Jobs.Newest(ctx, j.ID); err == nil {
		s.Doubt(j.ID)
		err = errors.Join(
			ehi.Errorf(ehi.Transient,
				"The server has lost a part of this export and is exporting it again; try again "+
					"later"),
			fmt.Errorf("job %s is %s, its task %d is not committed", j.ID, j.Status, n))
	}
	return t, err
}

// EachFile calls visit with the name of each file of an export that clients get, task by task,
// until visit returns false. Native files that clients download one by one are not among them,
// see EachNative.
func (s *Service) EachFile(
	ctx context.Context, j *ehi.Job, visit func(name string, f ehi.File) (more bool),
) error {
	for n := range j.Tasks {
		t, err := s.Task(ctx, j, n)
		if err != nil {
			return err
		}
		for i, f := range t.Files {
			if !f.Kind.Hidden() && !visit(FileName(j, t, i), f) {
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
	case f.Kind == ehi.Documents && j.Tasks == 1:
		return "documents." + f.Type + ".ndjson"
	case f.Kind == ehi.Documents:
		name = "documents"
	case f.Kind.Hidden():
		return fmt.Sprintf("%s.%d.%d", f.Kind, t.Number, i)
	case f.Kind == ehi.Archive:
		n := 0
		for _, before := range t.Files[:i] {
			if before.Kind == ehi.Archive {
				n++
			}
		}
		return native.ArchiveName(j.Level == ehi.OnePatient, t.Number, n)
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
	same := func(k int) bool {
		return k >= 0 && k < len(all) && all[k].Type == all[i].Type && all[k].Kind == all[i].Kind
	}
	return !same(i-1) && !same(i+1)
}

// FindFile returns the file with a name. It looks the name up in the job's own tasks and never
// uses it as a path. The bare type name works too (EHI-12). Errors: ErrFileNotFound; those of
// Task.
func (s *Service) FindFile(ctx context.Context, j *ehi.Job, name string) (f ehi.File, err error) {
	if !strings.HasSuffix(name, ".ndjson") && !strings.HasSuffix(name, ".zip") {
		name += ".ndjson"
	}
	task, ok := taskOf(name)
	if !ok || task >= j.Tasks {
		return f, ErrFileNotFound
	}
	t, err := s.Task(ctx, j, task)
	if err != nil {
		return f, err
	}
	for i := range t.Files {
		if !t.Files[i].Kind.Hidden() && FileName(j, t, i) == name {
			return t.Files[i], nil
		}
	}
	return f, ErrFileNotFound
}

// taskOf returns the number of the task in the name of a file: 0 if it has none.
func taskOf(name string) (n int, ok bool) {
	number := "0"
	if stem, is := strings.CutSuffix(name, ".zip"); is {
		if parts := strings.Split(stem, "-"); len(parts) == 3 {
			number = parts[1]
		}
	} else if parts := strings.Split(name, "."); len(parts) == 4 {
		number = parts[1]
	}
	n, err := strconv.Atoi(number)
	return n, err == nil && n >= 0
}

// FindNative returns a document, a table or the data of an attachment that clients download by
// itself, by its name, which begins with its folder. Errors: ErrFileNotFound; ErrDamaged; those of
// Task.
func (s *Service) FindNative(
	ctx context.Context, j *ehi.Job, name string,
) (f ehi.NativeFile, at Stored, err error) {
	if file, is := strings.CutPrefix(name, "data/"); is {
		return s.findData(ctx, j, file)
	}
	if j.Level != ehi.OnePatient || j.Tasks != 1 {
		return f, at, ErrFileNotFound
	}
	t, err := s.Task(ctx, j, 0)
	if err != nil {
		return f, at, err
	}
	for _, kind := range nativeIndexes(j) {
		f, at, err = s.findIn(ctx, j, &t, kind, name)
		if err == nil && !leaves(j, kind, f) {
			err = ErrFileNotFound
		}
		if !errors.Is(err, ErrFileNotFound) {
			break
		}
	}
	return f, at, err
}

// nativeIndexes returns the indexes of the documents and tables of an export that leave.
func nativeIndexes(j *ehi.Job) []ehi.FileKind {
	all := []ehi.FileKind{ehi.Index, ehi.HeldIndex, ehi.HeldBesideIndex}
	if j.Freed.Count() == 0 {
		return all[:1]
	}
	return all
}

// leaves reports whether a file of an index leaves: by itself, or because an administrator has
// released it, or the table that it belongs to.
func leaves(j *ehi.Job, index ehi.FileKind, f ehi.NativeFile) bool {
	switch index {
	case ehi.HeldIndex:
		return j.Freed.Has(f.Number)
	case ehi.HeldBesideIndex:
		return j.Freed.Has(f.With)
	}
	return true
}

// findData finds the data of an attachment by its name within the folder.
func (s *Service) findData(
	ctx context.Context, j *ehi.Job, name string,
) (f ehi.NativeFile, at Stored, err error) {
	n, ok := native.TaskOfData(name)
	if !ok || n >= j.Tasks {
		return f, at, ErrFileNotFound
	}
	t, err := s.Task(ctx, j, n)
	if err != nil {
		return f, at, err
	}
	return s.findIn(ctx, j, &t, ehi.DataIndex, "data/"+name)
}

// FindHeld returns a document or table that waits for the decision of an administrator, or what is
// released together with a table. Errors: as FindNative.
func (s *Service) FindHeld(
	ctx context.Context, j *ehi.Job, name string,
) (f ehi.NativeFile, at Stored, err error) {
	if j.Held == 0 || j.Tasks != 1 {
		return f, at, ErrFileNotFound
	}
	t, err := s.Task(ctx, j, 0)
	if err != nil {
		return f, at, err
	}
	f, at, err = s.findIn(ctx, j, &t, ehi.HeldIndex, name)
	if errors.Is(err, ErrFileNotFound) {
		f, at, err = s.findIn(ctx, j, &t, ehi.HeldBesideIndex, name)
	}
	return f, at, err
}

// findIn looks a native file up in an index of a task.
func (s *Service) findIn(
	ctx context.Context, j *ehi.Job, t *ehi.Task, kind ehi.FileKind, name string,
) (f ehi.NativeFile, at Stored, err error) {
	index, ok := native.IndexOf(t, kind)
	if !ok {
		return f, at, ErrFileNotFound
	}
	r, err := s.OpenFile(ctx, StoredFile(j, index))
	if err != nil {
		return f, at, err
	}
	f, ok, err = native.Find(r, r.Size(), name)
	if err = errors.Join(err, r.Close()); err != nil {
		return f, at, Damage(err)
	}
	if !ok {
		return f, at, ErrFileNotFound
	}
	at, err = s.placeOf(j, t, kind, f)
	return f, at, err
}

// placeOf returns where a native file lies.
func (s *Service) placeOf(
	j *ehi.Job, t *ehi.Task, index ehi.FileKind, f ehi.NativeFile,
) (Stored, error) {
	e, ok := native.Extent(t, index, f)
	if !ok {
		return Stored{}, fmt.Errorf("job %s: the index of native files names %+v", j.ID, f)
	}
	return Stored{j.ID, e}, nil
}

// EachNative calls visit for each document, each table and the data of each attachment that
// clients download by itself, with the place where it is stored, until it returns an error. Errors:
// as FindNative.
func (s *Service) EachNative(
	ctx context.Context, j *ehi.Job, visit func(ehi.NativeFile, Stored) error,
) error {
	for n := range j.Tasks {
		t, err := s.Task(ctx, j, n)
		if err != nil {
			return err
		}
		for _, kind := range append(nativeIndexes(j), ehi.DataIndex) {
			if err := s.eachIn(ctx, j, &t, kind, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) eachIn(
	ctx context.Context, j *ehi.Job, t *ehi.Task, kind ehi.FileKind,
	visit func(ehi.NativeFile, Stored) error,
) error {
	index, ok := native.IndexOf(t, kind)
	if !ok {
		return nil
	}
	r, err := s.OpenFile(ctx, StoredFile(j, index))
	if err != nil {
		return err
	}
	err = native.Each(r, func(f ehi.NativeFile) error {
		if !leaves(j, kind, f) {
			return nil
		}
		at, err := s.placeOf(j, t, kind, f)
		if err != nil {
			return err
		}
		return visit(f, at)
	})
	return Damage(errors.Join(err, r.Close()))
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
		j, gone := s.Bus.Jobs.Newest(ctx, f.Job)
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
	if n, ok := files.StoredAs(d.Object).Link(); ok && n < t.Links {
		return "a document"
	}
	if err != nil || i < 0 {
		return d.Object
	}
	return FileName(j, t, i)
}
