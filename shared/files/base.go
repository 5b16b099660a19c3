package files

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
)

// Backend is what differs from one kind of store to the next. Base makes of it all of a store but
// its batches, its lock and its room. Jobs and objects have names that Named admits, except for
// what Walk and List have shown. All methods may be called from many goroutines, and by many
// processes on one store.
type Backend interface {
	// Root tells people where the store is, and programs apart that have another one.
	Root() string
	// Put keeps all that r gives as a new object, durably. After an error of its own, or of r,
	// nothing is kept of it.
	Put(job, object string, r io.Reader) error
	// Fetch opens an object. What it gives stays good while the object is removed. Errors:
	// fs.ErrNotExist.
	Fetch(job, object string) (Source, error)
	// List is all that is stored of a job, also what no batch has committed.
	List(job string) ([]Stored, error)
	// Walk calls f for each job that has objects, with all that List would show. No object is left
	// out that was there when Walk was called and is there when it ends.
	Walk(f func(job string, stored []Stored) error) error
	// RemoveObject deletes an object; it is no error when it is gone already.
	RemoveObject(job, object string) error
	Marks
}

// Source gives the bytes of an object.
type Source interface {
	io.ReaderAt
	// Size is how many bytes the object has.
	Size() (int64, error)
	Close() error
}

// Base is what all kinds of stores do in the same way: they hold what is read to its sum, remember
// what is damaged, and keep notes. A kind embeds it. It is safe for use by many goroutines.
type Base struct {
	backend Backend
	log     *slog.Logger
	looks   looks
}

// NewBase makes the base of a store. log tells of files that are found damaged; nil: nobody is
// told.
func NewBase(backend Backend, log *slog.Logger) *Base {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Base{backend: backend, log: log}
}

// Root tells where the store is, for people.
func (b *Base) Root() string { return b.backend.Root() }

// Open returns a reader over one output or attachment, positioned at its start. The caller closes
// it. A reader stays good while the job is deleted under it. Errors: fs.ErrNotExist where the
// object is gone, ErrDamaged, ErrName.
func (b *Base) Open(job string, e Extent) (Reader, error) {
	if err := Named(job, e.Object); err != nil {
		return nil, err
	}
	if err := b.known(job, e); err != nil {
		return nil, err
	}
	return b.open(job, e)
}

// Attempts is the highest attempt at a task of the job that has left a file; 0 where none has.
func (b *Base) Attempts(job string) (highest int, err error) {
	if err := NamedJob(job); err != nil {
		return 0, err
	}
	all, err := b.backend.List(job)
	for _, s := range all {
		highest = max(highest, s.Attempt)
	}
	return highest, err
}

// Remove deletes everything of a job. It is no error when there is nothing. Errors: ErrName.
func (b *Base) Remove(job string) error {
	if err := NamedJob(job); err != nil {
		return err
	}
	all, err := b.backend.List(job)
	for _, s := range all {
		err = errors.Join(err, b.backend.RemoveObject(job, s.Name))
	}
	return errors.Join(err, b.Forget(job))
}

// Walk calls f for each job that has files, with all of them: the janitor's view, and nobody
// else's. The files of a job are listed before f is called for it.
func (b *Base) Walk(f func(job string, stored []Stored) error) error { return b.backend.Walk(f) }

// RemoveObject deletes one object that Walk showed. It is no error when it is gone already.
func (b *Base) RemoveObject(job string, s Stored) error {
	return b.backend.RemoveObject(job, s.Name)
}

// errFound ends a walk.
var errFound = errors.New("there is one")

// Empty reports whether the store holds no file of any job.
func (b *Base) Empty() (bool, error) {
	err := b.backend.Walk(func(string, []Stored) error { return errFound })
	if errors.Is(err, errFound) {
		return false, nil
	}
	return err == nil, err
}

// ErrTooLarge is returned by PutAttachment for content over its limit; nothing is kept of it.
var ErrTooLarge = errors.New("the file is larger than its limit")

// PutAttachment keeps a document durably. limit is in bytes. It returns the object under which the
// document is kept, which nothing else is ever called, its size and its SHA-1. Errors: ErrTooLarge,
// ErrName, those of r.
func (b *Base) PutAttachment(
	job string, r io.Reader, limit int64,
) (object string, size int64, sum []byte, err error) {
	if err := NamedJob(job); err != nil {
		return "", 0, nil, err
	}
	object = newAttachment()
	doc := &document{r: io.LimitReader(r, limit+1), limit: limit, hash: sha1.New()}
	if err := b.backend.Put(job, object, doc); err != nil {
		return "", 0, nil, err
	}
	return object, doc.size, doc.hash.Sum(nil), nil
}

// document is an attachment on its way into a store.
type document struct {
	r     io.Reader
	size  int64
	limit int64
	hash  hash.Hash // the one that FHIR R4 prescribes for Attachment.hash; it protects nothing
}

// Read implements io.Reader. Errors: ErrTooLarge.
func (d *document) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	_, _ = d.hash.Write(p[:n]) // never fails
	if d.size += int64(n); d.size > d.limit {
		return n, ErrTooLarge
	}
	return n, err
}

// RemoveAttachment deletes a document; it is no error when it is gone already. Errors: ErrName.
func (b *Base) RemoveAttachment(job, object string) error {
	if !IsAttachment(object) {
		return fmt.Errorf("attachment %q: %w", object, ErrName)
	}
	if err := NamedJob(job); err != nil {
		return err
	}
	err := b.backend.RemoveObject(job, object)
	return errors.Join(err, b.forgive(Damage{Job: job, Object: object}))
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
