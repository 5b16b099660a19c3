package files

import (
	"context"
	"errors"
	"io"
	"time"
)

// Folder is the name of the store's folder within the data folder.
const Folder = "exports"

// Extent is the place of an output in a store: Length bytes at Offset of Object, with the
// checksum Sum.
type Extent struct {
	Object string
	Offset int64
	Length int64
	Sum    Sum
}

// Store is the interface of all kinds of stores. All methods are safe for concurrent use by many
// goroutines, and by many processes on one store. disk.IsFull reports whether an error means
// that the store is full.
type Store interface {
	Data
	Damages
	Notes
	// Root returns the location of the store, for people.
	Root() string
	// SetSpillBytes sets the size from which an output is stored on its own. It applies to later
	// batches.
	SetSpillBytes(n int)
	// Check writes a small file to find out whether the store is writable.
	Check() error
	// Free returns how many bytes the store can still take, or math.MaxInt64 if that is unknown.
	Free() (int64, error)
	// TryLock takes an exclusive lock on the store, until held is closed or the process ends.
	// held is nil if another process has the lock.
	TryLock(name string) (held io.Closer, err error)
	// Hold marks the store as in use, until the result is closed or the process ends. Several
	// processes may hold it. It returns ErrHeld while a process replaces the content of the
	// store.
	Hold() (io.Closer, error)
}

// ErrHeld means that another process uses the store.
var ErrHeld = errors.New("the exports are held by another process (a running server?)")

// Data stores the files of exports. Base implements all of it except NewBatch.
type Data interface {
	// NewBatch starts the outputs of one attempt at a task. Attempts are numbered by
	// compare-and-set, so no two batches have the same. Nothing is stored before the first
	// Write. Errors: ErrName.
	NewBatch(job string, task, attempt int) (Batch, error)
	// PutAttachment stores a document durably. limit is in bytes. It returns the document's
	// object, whose name is never used again, its size and its SHA-1. After an error nothing is
	// stored. Errors: ErrTooLarge, ErrName, those of r.
	PutAttachment(
		job string, r io.Reader, limit int64,
	) (object string, size int64, sha1 []byte, err error)
	// RemoveAttachment deletes a document. It succeeds if the document does not exist. Errors:
	// ErrName.
	RemoveAttachment(job, object string) error
	// Open opens an output or attachment at its start. The caller closes the reader. The reader
	// stays usable if the job is deleted meanwhile. Errors: fs.ErrNotExist if the object is
	// gone, ErrDamaged, ErrName.
	Open(job string, e Extent) (Reader, error)
	// OpenObject opens a whole object, for a backup. parts are the outputs, or the attachment,
	// that it holds according to the records. Errors: fs.ErrNotExist, ErrDamaged if a part
	// without a checksum cannot be read, ErrName.
	OpenObject(job, object string, parts []Extent) (Object, error)
	// Verify reads a whole output into w and checks it. Errors: fs.ErrNotExist, ErrDamaged,
	// ErrName, those of ctx and w.
	Verify(ctx context.Context, job string, e Extent, w io.Writer) error
	// Attempts returns the highest attempt at a task of the job that left an object, or 0.
	// Errors: ErrName.
	Attempts(job string) (highest int, err error)
	// Walk calls f for each job with all its objects, committed or not. The objects of a job are
	// listed before the call of f, so the record of each attempt that f sees was written before.
	Walk(f func(job string, stored []Stored) error) error
	// RemoveObject deletes an object that Walk reported. It succeeds if the object does not
	// exist.
	RemoveObject(job string, s Stored) error
	// Remove deletes all objects of a job and its damage marks. It succeeds if there are none.
	// Errors: ErrName.
	Remove(job string) error
	// Empty reports whether the store holds no object of any job.
	Empty() (bool, error)
}

// Batch collects the outputs of one attempt at a task and makes them durable together. Each
// output is written by one goroutine. The owner of the batch calls Commit or Discard when all of
// them have finished.
type Batch interface {
	// Create adds an output. It may be called while other outputs are being written.
	Create() Output
	// Link adds a file that never changes, by its path, as an object of its own, and returns its
	// number, counted from 0: LinkName names the object. The store shares the file with its
	// owner where it can (a hard link), and copies it otherwise: linked says which. The file
	// must be durable. The owner may remove it afterwards.
	Link(path string) (number int, linked bool, err error)
	// Commit makes every output durable and returns their extents in the order of Create. An
	// empty output needs no object: its extent is never opened. After an error, call Discard.
	Commit() ([]Extent, error)
	// Discard removes what the batch has stored. It is safe after a failed Commit, and after a
	// Commit whose task record was not written. Do not call it if that record may have been
	// written.
	Discard() error
}

// Output is a file of an export that is being written.
type Output interface {
	// Write appends p to the output and does not retain p. After an error the batch is unusable.
	io.Writer
	// Number is the index of the output's extent in the result of Commit.
	Number() int
}

// Reader reads one output or attachment: exactly the bytes of its extent. A reader that starts
// at the beginning returns the last bytes only after checking the checksum, so that a damaged
// file never looks complete. Errors of Read: ErrDamaged.
type Reader interface {
	io.ReadSeekCloser
	// Size returns the number of bytes of the extent.
	Size() int64
}

// Object reads a whole object, from start to end, for a backup. It checks the outputs that the
// object holds against their checksums, so that Damaged describes exactly the bytes that were
// read. Damage does not stop the reading: changed bytes are returned as they are, and unreadable
// ones as zeros, so that the backup keeps the other outputs. Reading a damaged output by its
// record reports the damage.
//
// Errors of Read: io.ErrUnexpectedEOF if the object has become shorter, and the store's error if
// it fails to read bytes that no checksum covers.
type Object interface {
	io.ReadCloser
	// Size returns the size of the object in bytes.
	Size() int64
	// Damaged returns the damaged parts, once the object has been read to its end.
	Damaged() []Damage
}

// Damages holds the known damage, shared by every process on the store. Open and Verify detect
// damage and repairs. Base implements it.
type Damages interface {
	// Lost records that a file named by a record does not exist. It returns ErrDamaged.
	Lost(job string, e Extent) error
	// Grown reports whether an object has more bytes than were written. It logs and counts such
	// damage without a mark, because the object stays readable. Errors: ErrName.
	Grown(job, object string, written int64) (bool, error)
	// Damaged lists the known damaged files of a job, or of all jobs if job is "".
	Damaged(job string) ([]Known, error)
	// Forget removes the damage marks of a deleted job.
	Forget(job string) error
}

// Notes stores facts about the state that the files belong to. Base implements it.
type Notes interface {
	// Identity returns the identity of the state, or "" if none was set. Errors: ErrIdentity.
	Identity() (string, error)
	// SetIdentity stores the identity. It replaces a damaged one.
	SetIdentity(identity string) error
	// Reached returns how far the state had progressed: the numbers of the last SetReached, or
	// nil.
	Reached() ([]uint64, error)
	// SetReached stores up to three numbers.
	SetReached(reached []uint64) error
	// Served returns when a server last served the files, according to SetServed, in seconds;
	// the zero time if unknown.
	Served() (time.Time, error)
	SetServed(at time.Time) error
	// Scrubbed returns when a process last verified all files, or the zero time.
	Scrubbed() (time.Time, error)
	// SetScrubbed stores that time, in seconds.
	SetScrubbed(now time.Time) error
	// OrphanSince returns since when a job is known to have files but no record. The first call
	// stores now. Errors: ErrName.
	OrphanSince(job string, now time.Time) (time.Time, error)
	// Orphans lists the jobs of OrphanSince.
	Orphans() ([]string, error)
	// Adopted removes the note that a job has no record. Errors: ErrName.
	Adopted(job string) error
	// NoteRecall stores that a job must be deleted. Errors: ErrName.
	NoteRecall(job string) error
	// Recalls lists the jobs of NoteRecall.
	Recalls() ([]string, error)
	// ForgetRecall removes the note about a job that has been deleted. Errors: ErrName.
	ForgetRecall(job string) error
	// DrawProof stores a new text and removes all others but last, the previous one ("" for
	// none).
	DrawProof(last string) (text string, err error)
	// HasProof reports whether the store has a text.
	HasProof(text string) (bool, error)
	// Proofs lists the texts, for people.
	Proofs() []string
}
