package files

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Marks keeps small texts beside the files, over the end of every process. All that a store keeps
// besides files is a mark: whose they are, what is damaged, what has to be gone.
//
// A process that dies within PutMark may leave a mark with a part of its text, or none of it.
// Whoever reads one must tell.
type Marks interface {
	// PutMark makes a mark, durably. text has up to MaxMark bytes. Errors: fs.ErrExist where there
	// is one.
	PutMark(m Mark, text string) error
	// MarkText is the text of a mark; "" where there is none.
	MarkText(m Mark) (string, error)
	// MarksOf lists the names of the marks of a kind, in any order; those of others may be among
	// them.
	MarksOf(kind string) (names []string, err error)
	// RemoveMark removes a mark; it is no error when there is none.
	RemoveMark(m Mark) error
}

// Mark names a mark.
type Mark struct {
	Kind string
	// Name tells the marks of a kind apart; it is "" for a kind of which there is one.
	Name string
}

// MaxMark bounds the text of a mark, in bytes.
const MaxMark = 96

// The kinds of marks.
const (
	identityKind = "identity" // one: of which state the files are
	reachedKind  = "reached"  // one: how far that state had come
	servedKind   = "served"   // one: when a server ran last that keeps the files
	scrubbedKind = "scrubbed" // one: when all files were last read again
	recallKind   = "recalls"  // by the job, which has to be gone
	orphanKind   = "orphans"  // by the job: since when it has files that no record names
	proofKind    = "pairing"  // by its text
	damageKind   = "damaged"  // by job, object and offset: what is wrong there, and since when
)

// replace puts a mark in the place of one that may be there. Errors: fs.ErrExist where another
// process does so at the same moment.
func (b *Base) replace(m Mark, text string) error {
	if err := b.backend.RemoveMark(m); err != nil {
		return err
	}
	return b.backend.PutMark(m, text)
}

func ignoreExists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// ErrIdentity is returned where the file is damaged that says to which state the exports belong.
var ErrIdentity = errors.New("the file is damaged that says to which state the exports belong")

// minIdentity is the length of the shortest identity, in bytes.
const minIdentity = 26

// identityText is what an identity consists of, see rand.Text.
var identityText = regexp.MustCompile(`^[A-Z2-7]+$`)

// sumOf is written behind what must not be mistaken for another: of a bit that flips in an
// identity, another one would come.
func sumOf(text string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) }

// Identity is that of the state to which the files belong, "" where none was set. Errors:
// ErrIdentity.
func (b *Base) Identity() (string, error) {
	text, err := b.backend.MarkText(Mark{Kind: identityKind})
	if err != nil || len(text) < minIdentity {
		return "", err // a shorter one was being written when the process died
	}
	identity, sum, summed := strings.Cut(text, " ")
	if !identityText.MatchString(identity) || summed && sum != sumOf(identity) {
		return "", fmt.Errorf("%w: %s/.%s", ErrIdentity, b.Root(), identityKind)
	}
	return identity, nil
}

// SetIdentity keeps it, durably, also in place of one that is damaged.
func (b *Base) SetIdentity(identity string) error {
	if was, err := b.Identity(); err != nil && !errors.Is(err, ErrIdentity) || was == identity {
		return err
	}
	return b.replace(Mark{Kind: identityKind}, identity+" "+sumOf(identity))
}

// Reached is what SetReached was told last; nil where nothing is known.
func (b *Base) Reached() ([]uint64, error) {
	text, err := b.backend.MarkText(Mark{Kind: reachedKind})
	if err != nil {
		return nil, err
	}
	numbers, sum, _ := strings.Cut(text, " ")
	if sum != sumOf(numbers) { // it was being written when the process died, or is damaged
		return nil, nil
	}
	var reached []uint64
	for n := range strings.SplitSeq(numbers, ",") {
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return nil, nil
		}
		reached = append(reached, v)
	}
	return reached, nil
}

// SetReached keeps how far the state has come, in up to three numbers that never get less unless it
// has lost something.
func (b *Base) SetReached(reached []uint64) error {
	numbers := make([]string, len(reached))
	for i, v := range reached {
		numbers[i] = strconv.FormatUint(v, 10)
	}
	return b.note(reachedKind, strings.Join(numbers, ","))
}

// Served is what SetServed was told last; the zero time where nothing is known.
func (b *Base) Served() (time.Time, error) {
	text, err := b.backend.MarkText(Mark{Kind: servedKind})
	if err != nil {
		return time.Time{}, err
	}
	at, sum, _ := strings.Cut(text, " ")
	served, err := time.Parse(time.RFC3339, at)
	if err != nil || sum != sumOf(at) { // it was being written when the process died, or is damaged
		return time.Time{}, nil
	}
	return served, nil
}

// SetServed keeps, to the second, that a server runs that keeps these files.
func (b *Base) SetServed(at time.Time) error {
	return b.note(servedKind, at.UTC().Format(time.RFC3339))
}

// note makes the one mark of a kind anew, with the sum of its text. Where two processes do that at
// once, one of them has.
func (b *Base) note(kind, text string) error {
	return ignoreExists(b.replace(Mark{Kind: kind}, text+" "+sumOf(text)))
}

// Scrubbed is when a process last got through all files of finished exports; the zero time where
// none has said so.
func (b *Base) Scrubbed() (time.Time, error) {
	text, err := b.backend.MarkText(Mark{Kind: scrubbedKind})
	at, e := time.Parse(time.RFC3339, text)
	if err != nil || e != nil { // it is not there, or was being written when the process died
		return time.Time{}, err
	}
	return at, nil
}

// SetScrubbed notes that a process has got through all files.
func (b *Base) SetScrubbed(now time.Time) error {
	// Another process that does so at the same moment says as much.
	return ignoreExists(b.replace(Mark{Kind: scrubbedKind}, now.UTC().Format(time.RFC3339)))
}

// NoteRecall keeps, over the end of the process, that a job has to be gone. Errors: ErrName.
func (b *Base) NoteRecall(job string) error {
	if err := NamedJob(job); err != nil {
		return err
	}
	return ignoreExists(b.backend.PutMark(Mark{recallKind, job}, ""))
}

// Recalls are the jobs that NoteRecall knows.
func (b *Base) Recalls() ([]string, error) { return b.noted(recallKind) }

// ForgetRecall forgets a job that is gone. Errors: ErrName.
func (b *Base) ForgetRecall(job string) error { return b.unmark(recallKind, job) }

// OrphanSince is since when it is known that a job has files and no record: now, where it was not
// known before. Errors: ErrName.
func (b *Base) OrphanSince(job string, now time.Time) (time.Time, error) {
	if err := NamedJob(job); err != nil {
		return now, err
	}
	mark := Mark{orphanKind, job}
	text, err := b.backend.MarkText(mark)
	if err != nil {
		return now, err
	}
	if since, err := time.Parse(time.RFC3339, text); err == nil {
		return since, nil
	}
	return now, b.replace(mark, now.UTC().Format(time.RFC3339))
}

// Orphans are the jobs that OrphanSince knows.
func (b *Base) Orphans() ([]string, error) { return b.noted(orphanKind) }

// Adopted forgets that a job had no record. Errors: ErrName.
func (b *Base) Adopted(job string) error { return b.unmark(orphanKind, job) }

// noted are the jobs that have a mark of a kind.
func (b *Base) noted(kind string) ([]string, error) {
	names, err := b.backend.MarksOf(kind)
	return slices.DeleteFunc(names, func(name string) bool { return NamedJob(name) != nil }), err
}

// unmark removes a job's mark of a kind. Errors: ErrName.
func (b *Base) unmark(kind, job string) error {
	if err := NamedJob(job); err != nil {
		return err
	}
	return b.backend.RemoveMark(Mark{kind, job})
}
