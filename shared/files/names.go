package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Objects have the same names in every kind of store, so that records and archives outlive a change
// of it:
//
//	<task>.<attempt>.seg           the small outputs of an attempt of a task, one behind the other
//	<task>.<attempt>.<n>.ndjson    one large output
//	<task>.<attempt>.<n>.doc       a document, often shared with the record store by a hard link
//	a.<random>                     an attachment
const attachmentPrefix = "a."

var (
	jobName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	objectName = regexp.MustCompile(`^(\d+)\.(\d+)\.(seg|\d+\.(?:ndjson|doc))$`)
	// attachmentName also matches the objects of older builds, which used the document's name in
	// hex.
	attachmentName = regexp.MustCompile(`^a\.[0-9a-z]+$`)
)

// ErrName is returned for a name of a job or object that no store generates.
var ErrName = errors.New("not a name of this file store")

// Named checks the names of a job and of one of its objects. Errors: ErrName.
func Named(job, object string) error {
	if err := NamedJob(job); err != nil {
		return err
	}
	if !objectName.MatchString(object) && !attachmentName.MatchString(object) {
		return fmt.Errorf("object %q: %w", object, ErrName)
	}
	return nil
}

// NamedJob checks the name of a job. Errors: ErrName.
func NamedJob(job string) error {
	if !jobName.MatchString(job) {
		return fmt.Errorf("job %q: %w", job, ErrName)
	}
	return nil
}

// SegmentName returns the object that holds the small outputs of an attempt.
func SegmentName(task, attempt int) string { return fmt.Sprintf("%d.%d.seg", task, attempt) }

// LargeName returns the object of the n-th large output of an attempt, counted from 0.
func LargeName(task, attempt, n int) string {
	return fmt.Sprintf("%d.%d.%d.ndjson", task, attempt, n)
}

// LinkName returns the object of the n-th Batch.Link of an attempt, counted from 0.
func LinkName(task, attempt, n int) string {
	return fmt.Sprintf("%d.%d.%d.doc", task, attempt, n)
}

// linkName is the part of objectName that LinkName makes.
var linkName = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)\.doc$`)

// Link returns the number of a document that is an object of its own, among those of its attempt;
// ok is false for any other object.
func (s Stored) Link() (number int, ok bool) {
	m := linkName.FindStringSubmatch(s.Name)
	if m == nil {
		return 0, false
	}
	number, err := strconv.Atoi(m[3])
	return number, err == nil
}

// newAttachment returns a new random name for the object of an attachment.
func newAttachment() string { return attachmentPrefix + strings.ToLower(rand.Text()) }

// IsAttachment reports whether an object is an attachment rather than an output.
func IsAttachment(object string) bool { return attachmentName.MatchString(object) }

// Stored is one object of a job.
type Stored struct {
	Name string
	// Task and Attempt are those that wrote it; both are -1 for an attachment.
	Task, Attempt int
}

// StoredAs parses the name of an object.
func StoredAs(name string) Stored {
	s := Stored{Name: name, Task: -1, Attempt: -1}
	if m := objectName.FindStringSubmatch(name); m != nil {
		s.Task, _ = strconv.Atoi(m[1]) // the pattern matches digits only
		s.Attempt, _ = strconv.Atoi(m[2])
	}
	return s
}
