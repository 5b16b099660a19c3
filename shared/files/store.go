package files

import (
	"context"
	"errors"
	"io"
	"time"
)

// Folder is what a store on a disk is called in a data folder.
const Folder = "exports"

// Extent says where a store keeps one output: Length bytes at Offset of Object, which have the Sum.
type Extent struct {
	Object string
	Offset int64
	Length int64
	Sum    Sum
}

// Store is everything that a kind of store does. All methods may be called from many goroutines,
// and by many processes on one store. Errors for which disk.IsFull holds say that it has no room.
type Store interface {
	Data
	Damages
	Notes
	// Root tells people where the store is.
	Root() string
	// SetSpillBytes says how large an output may grow before it lies by itself, from the next batch
	// on.
	SetSpillBytes(n int)
	// Check reports whether the store takes files at this moment, by keeping one.
	Check() error
	// Free is how many bytes more it can take; math.MaxInt64 where that is not known.
	Free() (int64, error)
	// TryLock takes a lock that one process at a time has on the store, until it is closed or the
	// process ends. held is nil where another one has it.
	TryLock(name string) (held io.Closer, err error)
	// Hold tells others that a process works on the store, until it is closed or the process ends.
	// Several processes may. Errors: ErrHeld, where somebody replaces what is stored.
	Hold() (io.Closer, error)
}

// ErrHeld says that a process works on a store.
var ErrHeld = errors.New("the exports are held by another process (a running server?)")

// Data is the files of exports. Base implements all of it but NewBatch.
type Data interface {
	// NewBatch starts the outputs of one attempt of one task. No two batches are of the same
	// attempt: they are numbered by compare-and-set. Nothing is stored before the first Write.
	// Errors: ErrName.
	NewBatch(job string, task, attempt int) (Batch, error)
	// PutAttachment keeps a document durably. limit is in bytes. It returns the object under which
	// the document is kept, which nothing else is ever called, its size and its SHA-1. After an
	// error nothing is kept. Errors: ErrTooLarge, ErrName, those of r.
	PutAttachment(
		job string, r io.Reader, limit int64,
	) (object string, size int64, sha1 []byte, err error)
	// RemoveAttachment deletes a document; it is no error when it is gone already. Errors: ErrName.
	RemoveAttachment(job, object string) error
	// Open returns a reader over one output or attachment, at its start. The caller closes it. A
	// reader stays good while the job is deleted. Errors: fs.ErrNotExist where the object is gone,
	// ErrDamaged, ErrName.
	Open(job string, e Extent) (Reader, error)
	// OpenObject opens an object whole, for a backup. parts are the outputs, or the attachment,
	// that records say lie in it. Errors: fs.ErrNotExist, ErrDamaged where a part without a sum
	// cannot be read, ErrName.
	OpenObject(job, object string, parts []Extent) (Object, error)
	// Verify reads an output whole, into w. Errors: fs.ErrNotExist, ErrDamaged, ErrName, those of
	// ctx and w.
	Verify(ctx context.Context, job string, e Extent, w io.Writer) error
	// Attempts is the highest attempt at a task of the job that has left an object; 0 where none
	// has. Errors: ErrName.
	Attempts(job string) (highest int, err error)
	// Walk calls f for each job that has objects, with all of them, committed or not. The objects
	// of a job are listed before f is called for it: whatever is seen was preceded by its attempt's
	// record.
	Walk(f func(job string, stored []Stored) error) error
	// RemoveObject deletes one object that Walk showed; it is no error when it is gone already.
	RemoveObject(job string, s Stored) error
	// Remove deletes everything of a job, and the marks of its damage. It is no error when there is
	// nothing. Errors: ErrName.
	Remove(job string) error
	// Empty reports whether the store holds no object of any job.
	Empty() (bool, error)
}

// Batch collects the outputs of one attempt of one task and makes them durable in one go. One
// goroutine writes each output; Commit or Discard is called by the batch's owner when all of them
// have ended.
type Batch interface {
	// Create adds an output. It may be called while other outputs are written.
	Create() Output
	// Commit makes every output durable, and returns where each lies, in the order of Create. An
	// empty output needs no object: its extent is never opened. After an error nothing may be
	// relied on: call Discard.
	Commit() ([]Extent, error)
	// Discard removes what the batch has stored. It is safe after a Commit that failed, and after
	// one whose task's record could not be written; not once that may have been written.
	Discard() error
}

// Output is one file of an export while it grows.
type Output interface {
	// Write appends p to the output; p is not kept. After an error the batch is lost.
	io.Writer
	// Number is the index at which Commit gives the output's extent.
	Number() int
}

// Reader reads one output or attachment: the bytes of an extent and no others. Who reads it from
// its start to its end gets the last bytes only once its sum has been found right, so that what is
// damaged never looks whole. Errors of Read: ErrDamaged.
type Reader interface {
	io.ReadSeekCloser
	// Size is how many bytes there are to read.
	Size() int64
}

// Object reads an object whole, from its start to its end, for a backup. It holds the outputs that
// lie in it to their sums meanwhile, so that what Damaged says is of the very bytes that were read.
// Damage does not end it: what was changed comes as it is, and zeros come for what the store does
// not give, so that the outputs beside it are kept. Who reads such an output by its record finds it
// damaged.
//
// Errors of Read: io.ErrUnexpectedEOF where the object has become shorter; the store's, where it
// gives no more of what has no sum.
type Object interface {
	io.ReadCloser
	// Size is how many bytes there are to read.
	Size() int64
	// Damaged are the parts that were found to be damaged, when the object has been read to its
	// end.
	Damaged() []Damage
}

// Damages is what is known to be damaged, to every process on the store. Open and Verify find
// damage, and find it mended; the others are told of it. Base implements it.
type Damages interface {
	// Lost says that a file is not there which a record names. It returns the error of it:
	// ErrDamaged.
	Lost(job string, e Extent) error
	// Grown reports whether an object has more bytes than were written. That is counted and in the
	// log, and no mark is made: what was written is read as it is all the same. Errors: ErrName.
	Grown(job, object string, written int64) (bool, error)
	// Damaged lists the files that are known to be damaged: of one job, or where job is "" of all.
	Damaged(job string) ([]Known, error)
	// Forget removes the marks of a job's damaged files: the job is gone.
	Forget(job string) error
}

// Notes is what is kept beside the files of the state that they belong to. Base implements it.
type Notes interface {
	// Identity is that of the state, "" where none was set. Errors: ErrIdentity.
	Identity() (string, error)
	// SetIdentity keeps it, also in place of one that is damaged.
	SetIdentity(identity string) error
	// Reached is how far the state had come, as SetReached was told last; nil where nothing is
	// known.
	Reached() ([]uint64, error)
	// SetReached keeps up to three numbers.
	SetReached(reached []uint64) error
	// Served is when a server ran last that keeps the files, as SetServed was told, to the
	// second; the zero time where nothing is known.
	Served() (time.Time, error)
	SetServed(at time.Time) error
	// Scrubbed is when a process last got through all files; the zero time where none has said so.
	Scrubbed() (time.Time, error)
	// SetScrubbed keeps that, in seconds.
	SetScrubbed(now time.Time) error
	// OrphanSince is since when it is known that a job has files and no record: now, where it was
	// not known before. Errors: ErrName.
	OrphanSince(job string, now time.Time) (time.Time, error)
	// Orphans are the jobs that OrphanSince knows.
	Orphans() ([]string, error)
	// Adopted forgets that a job had no record. Errors: ErrName.
	Adopted(job string) error
	// NoteRecall keeps that a job has to be gone. Errors: ErrName.
	NoteRecall(job string) error
	// Recalls are the jobs that NoteRecall knows.
	Recalls() ([]string, error)
	// ForgetRecall forgets a job that is gone. Errors: ErrName.
	ForgetRecall(job string) error
	// DrawProof keeps a new text, and removes all but that and last, the one before it ("": none).
	DrawProof(last string) (text string, err error)
	// HasProof reports whether a text is there.
	HasProof(text string) (bool, error)
	// Proofs are the texts that are there, for people.
	Proofs() []string
}
