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

// Marks stores short texts beside the files, durably. Everything that a store keeps apart from
// files is a mark: the identity of the state, damage, jobs to delete.
//
// A process that dies within PutMark may leave a mark with part of its text, or with none.
// Readers must detect that.
type Marks interface {
	// PutMark creates a mark, durably. text has at most MaxMark bytes. It returns fs.ErrExist if
	// the mark exists.
	PutMark(m Mark, text string) error
	// MarkText returns the text of a mark, or "" if there is none.
	MarkText(m Mark) (string, error)
	// MarksOf lists the names of the marks of a kind, in any order. It may include names of
	// other kinds.
	MarksOf(kind string) (names []string, err error)
	// RemoveMark removes a mark. It succeeds if there is none.
	RemoveMark(m Mark) error
}

// Mark identifies a mark.
type Mark struct {
	Kind string
	// Name distinguishes the marks of a kind; "" for a kind with a single mark.
	Name string
}

// MaxMark is the longest text of a mark, in bytes.
const MaxMark = 96

// The kinds of marks.
const (
	identityKind = "identity" // single: the state that the files belong to
	reachedKind  = "reached"  // single: how far that state had progressed
	servedKind   = "served"   // single: when a server last served the files
	scrubbedKind = "scrubbed" // single: when all files were last verified
	recallKind   = "recalls"  // one per job: the job must be deleted
	orphanKind   = "orphans"  // one per job: since when it has files but no record
	proofKind    = "pairing"  // one per text of a proof
	damageKind   = "damaged"  // one per job, object and offset: the kind of damage, and since when
)

// replace replaces a mark if it exists. It returns fs.ErrExist if another process replaces it at
// the same moment.
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

// ErrIdentity is returned if the file with the identity of the state is damaged.
var ErrIdentity = errors.New("the file is damaged that says to which state the exports belong")

// minIdentity is the length of the shortest valid identity, in bytes.
const minIdentity = 26

// identityText matches an identity, see rand.Text.
var identityText = regexp.MustCompile(`^[A-Z2-7]+$`)

// sumOf is appended to texts that must not be misread: a flipped bit in an identity would give
// another valid identity.
func sumOf(text string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) }

// Identity returns the identity of the state that the files belong to, or "" if none was set.
// Errors: ErrIdentity.
func (b *Base) Identity() (string, error) {
	text, err := b.backend.MarkText(Mark{Kind: identityKind})
	if err != nil || len(text) < minIdentity {
		return "", err // shorter: the process died while writing it
	}
	identity, sum, summed := strings.Cut(text, " ")
	if !identityText.MatchString(identity) || summed && sum != sumOf(identity) {
		return "", fmt.Errorf("%w: %s/.%s", ErrIdentity, b.Root(), identityKind)
	}
	return identity, nil
}

// SetIdentity stores the identity durably. It replaces a damaged one.
func (b *Base) SetIdentity(identity string) error {
	if was, err := b.Identity(); err != nil && !errors.Is(err, ErrIdentity) || was == identity {
		return err
	}
	return b.replace(Mark{Kind: identityKind}, identity+" "+sumOf(identity))
}

// Reached returns the numbers of the last SetReached, or nil if there are none.
func (b *Base) Reached() ([]uint64, error) {
	text, err := b.backend.MarkText(Mark{Kind: reachedKind})
	if err != nil {
		return nil, err
	}
	numbers, sum, _ := strings.Cut(text, " ")
	if sum != sumOf(numbers) { // damaged, or the process died while writing it
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

// SetReached stores how far the state has progressed: up to three numbers that decrease only if
// the state has lost something.
func (b *Base) SetReached(reached []uint64) error {
	numbers := make([]string, len(reached))
	for i, v := range reached {
		numbers[i] = strconv.FormatUint(v, 10)
	}
	return b.note(reachedKind, strings.Join(numbers, ","))
}

// Served returns the time of the last SetServed, or the zero time.
func (b *Base) Served() (time.Time, error) {
	text, err := b.backend.MarkText(Mark{Kind: servedKind})
	if err != nil {
		return time.Time{}, err
	}
	at, sum, _ := strings.Cut(text, " ")
	served, err := time.Parse(time.RFC3339, at)
	if err != nil || sum != sumOf(at) { // damaged, or the process died while writing it
		return time.Time{}, nil
	}
	return served, nil
}

// SetServed stores when a server last served these files, in seconds.
func (b *Base) SetServed(at time.Time) error {
	return b.note(servedKind, at.UTC().Format(time.RFC3339))
}

// note replaces the single mark of a kind, with a checksum of its text. If two processes do so
// at once, one of them wins.
func (b *Base) note(kind, text string) error {
	return ignoreExists(b.replace(Mark{Kind: kind}, text+" "+sumOf(text)))
}

// Scrubbed returns when a process last verified the files of all finished exports, or the zero
// time.
func (b *Base) Scrubbed() (time.Time, error) {
	text, err := b.backend.MarkText(Mark{Kind: scrubbedKind})
	at, e := time.Parse(time.RFC3339, text)
	if err != nil || e != nil { // absent, or the process died while writing it
		return time.Time{}, err
	}
	return at, nil
}

// SetScrubbed stores that a process has verified all files.
func (b *Base) SetScrubbed(now time.Time) error {
	// If another process writes it at the same moment, its time is as good.
	return ignoreExists(b.replace(Mark{Kind: scrubbedKind}, now.UTC().Format(time.RFC3339)))
}

// NoteRecall stores, durably, that a job must be deleted. Errors: ErrName.
func (b *Base) NoteRecall(job string) error {
	if err := NamedJob(job); err != nil {
		return err
	}
	return ignoreExists(b.backend.PutMark(Mark{recallKind, job}, ""))
}

// Recalls lists the jobs of NoteRecall.
func (b *Base) Recalls() ([]string, error) { return b.noted(recallKind) }

// ForgetRecall removes the note about a job that has been deleted. Errors: ErrName.
func (b *Base) ForgetRecall(job string) error { return b.unmark(recallKind, job) }

// OrphanSince returns since when a job is known to have files but no record. The first call
// stores now. Errors: ErrName.
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

// Orphans lists the jobs of OrphanSince.
func (b *Base) Orphans() ([]string, error) { return b.noted(orphanKind) }

// Adopted removes the note that a job has no record. Errors: ErrName.
func (b *Base) Adopted(job string) error { return b.unmark(orphanKind, job) }

// noted lists the jobs that have a mark of a kind.
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
