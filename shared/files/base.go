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

// Backend holds what differs between kinds of stores. Base builds a store on it, except for its
// batches, its lock and its free space. Names of jobs and objects pass Named, or come from Walk
// or List. All methods are safe for concurrent use by many goroutines, and by many processes on
// one store.
type Backend interface {
	// Root is the location of the store. People read it, and programs compare it to detect
	// another store.
	Root() string
	// Put stores the bytes of r as a new object, durably. If Put or r fails, nothing is stored.
	Put(job, object string, r io.Reader) error
	// Fetch opens an object. The source stays readable if the object is removed meanwhile. It
	// returns fs.ErrNotExist if there is no such object.
	Fetch(job, object string) (Source, error)
	// List lists all objects of a job, including those that no batch has committed.
	List(job string) ([]Stored, error)
	// Walk calls f for each job with all its objects. It includes every object that exists from
	// the call of Walk to its end.
	Walk(f func(job string, stored []Stored) error) error
	// RemoveObject deletes an object. It succeeds if the object does not exist.
	RemoveObject(job, object string) error
	Marks
}

// Source reads the bytes of an object.
type Source interface {
	io.ReaderAt
	// Size returns the size of the object in bytes.
	Size() (int64, error)
	Close() error
}

// Base implements what all kinds of stores share: it checks what is read against its checksum,
// remembers damage, and keeps notes. A kind of store embeds it. It is safe for concurrent use.
type Base struct {
	backend Backend
	log     *slog.Logger
	looks   looks
}

// NewBase returns the base of a store. It logs damaged files to log, which may be nil.
func NewBase(backend Backend, log *slog.Logger) *Base {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Base{backend: backend, log: log}
}

// Root returns the location of the store, for people.
func (b *Base) Root() string { return b.backend.Root() }

// Open opens an output or attachment at its start. The caller closes the reader. The reader
// stays usable if the job is deleted meanwhile. Errors: fs.ErrNotExist if the object is gone,
// ErrDamaged, ErrName.
func (b *Base) Open(job string, e Extent) (Reader, error) {
	if err := Named(job, e.Object); err != nil {
		return nil, err
	}
	if err := b.known(job, e); err != nil {
		return nil, err
	}
	return b.open(job, e)
}

// Attempts returns the highest attempt at a task of the job that left a file, or 0.
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

// Remove deletes all objects of a job. It succeeds if there are none. Errors: ErrName.
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

// Walk calls f for each job that has files, with all its files. Only the keeper uses it. The
// files of a job are listed before the call of f.
func (b *Base) Walk(f func(job string, stored []Stored) error) error { return b.backend.Walk(f) }

// RemoveObject deletes an object that Walk reported. It succeeds if the object does not exist.
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

// ErrTooLarge is returned by PutAttachment if the content exceeds its limit. Nothing is stored
// then.
var ErrTooLarge = errors.New("the file is larger than its limit")

// PutAttachment stores a document durably. limit is in bytes. It returns the document's object,
// whose name is never used again, its size and its SHA-1. Errors: ErrTooLarge, ErrName, those of
// r.
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

// document is the content of an attachment that is being stored.
type document struct {
	r     io.Reader
	size  int64
	limit int64
	// FHIR R4 prescribes SHA-1 for Attachment.hash; it is no protection against tampering
	hash hash.Hash
}

// Read implements io.Reader. Errors: ErrTooLarge.
func (d *document) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	_, _ = d.hash.Write(p[:n]) // hashes never fail
	if d.size += int64(n); d.size > d.limit {
		return n, ErrTooLarge
	}
	return n, err
}

// RemoveAttachment deletes a document. It succeeds if the document does not exist. Errors:
// ErrName.
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
