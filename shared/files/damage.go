package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"ehi-server/shared/telemetry"
)

// Kind is how a file is damaged.
type Kind string

// The kinds of damage.
const (
	Missing    Kind = "missing"    // a record names it, and it is not there
	Short      Kind = "short"      // there are fewer bytes than were written
	Changed    Kind = "changed"    // the bytes are others than were written
	Unreadable Kind = "unreadable" // the disk does not give the bytes
	Longer     Kind = "longer"     // there are bytes behind those that were written, which nobody reads
)

// Damage is what was found wrong with an output or attachment.
type Damage struct {
	Job    string
	Object string
	Offset int64
	Kind   Kind
}

// Known is damage that is known to every process on the disk.
type Known struct {
	Damage
	// Since is when it was found; zero where a build found it that did not note that.
	Since time.Time
}

// markText is what the mark of a damage holds: its kind, and when it was found.
func markText(kind Kind, now time.Time) string {
	return string(kind) + " " + now.UTC().Format(time.RFC3339)
}

// readMark reads the mark of a damage; the kind is "" where it is only being made.
func readMark(text string) (kind Kind, since time.Time) {
	name, at, _ := strings.Cut(text, " ")
	since, err := time.Parse(time.RFC3339, at)
	if err != nil {
		since = time.Time{}
	}
	return Kind(name), since
}

// ErrDamaged is what is read of a damaged file instead of its end. The damage is in the log and counted, and the file is marked: who
// opens it next gets the error at once. The mark goes when the file is found whole again.
var ErrDamaged = errors.New("the file is damaged")

// damageFolder holds a small file for each that is known to be damaged, so that every process on this disk knows.
const damageFolder = ".damaged"

// A damaged file is read again, to see whether it was mended, by each who opens it; one of more than
// lookFreely bytes at most once in lookAgain.
const (
	lookFreely = 64 << 20
	lookAgain  = 10 * time.Second
)

// damages is when this process last looked at the damaged files, by the names of their marks.
type damages struct {
	mu     sync.Mutex
	looked map[string]time.Time
}

// due reports whether a damaged file may be looked at again.
func (d *damages) due(name string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.looked[name]) < lookAgain {
		return false
	}
	if d.looked == nil {
		d.looked = map[string]time.Time{}
	}
	d.looked[name] = now
	return true
}

func (d *damages) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.looked, name)
}

// mark is what the mark of a damage is called.
func (d Damage) mark() string { return d.Job + "." + d.Object + "." + strconv.FormatInt(d.Offset, 10) }

func (l *Local) markPath(d Damage) string { return filepath.Join(l.root, damageFolder, d.mark()) }

// report marks a file as damaged, unless it is, and gives the error of it.
func (l *Local) report(d Damage, cause error) error {
	err := fmt.Errorf("%s of job %s at %d: %w (%s): %w", d.Object, d.Job, d.Offset, ErrDamaged, d.Kind, cause)
	known, failed := l.markAs(d)
	if !known {
		telemetry.FilesDamaged.WithLabelValues(string(d.Kind)).Inc()
		l.log.Error("a file of an export is damaged: delete the export and make it again, or give the file back from a backup",
			"job", d.Job, "file", d.Object, "at", d.Offset, "kind", d.Kind, "err", cause)
	}
	if failed != nil {
		l.log.Warn("mark a damaged file", "job", d.Job, "file", d.Object, "err", failed)
	}
	return err
}

// markAs makes the mark of a damage; known is whether there was one of the same kind.
func (l *Local) markAs(d Damage) (known bool, err error) {
	path := l.markPath(d)
	was, err := l.small(path)
	if kind, _ := readMark(was); err != nil || kind == d.Kind {
		return err == nil, err
	}
	if err := errors.Join(l.disk.MkdirAll(filepath.Dir(path)), ignoreAbsent(l.disk.Remove(path))); err != nil {
		return false, err
	}
	f, err := l.disk.Create(path)
	if errors.Is(err, fs.ErrExist) { // somebody else found it at the same moment
		return true, nil
	}
	if err != nil {
		return false, err
	}
	_, err = io.WriteString(f, markText(d.Kind, time.Now()))
	return false, errors.Join(err, f.Close())
}

// Lost says that a file is not there which a record names that is. It returns the error of it.
func (l *Local) Lost(job string, e Extent) error {
	return l.report(Damage{job, e.Object, e.Offset, Missing}, fs.ErrNotExist)
}

// known is an error where a file is marked as damaged and has not been mended since.
func (l *Local) known(job, path string, e Extent) error {
	d := Damage{Job: job, Object: e.Object, Offset: e.Offset}
	text, err := l.small(l.markPath(d))
	kind, _ := readMark(text)
	if err != nil || kind == "" {
		return err
	}
	d.Kind = kind
	damaged := fmt.Errorf("%s of job %s at %d: %w (%s)", d.Object, d.Job, d.Offset, ErrDamaged, kind)
	if e.Length > lookFreely && !l.damages.due(d.mark(), time.Now()) {
		return damaged
	}
	r, err := l.openAt(job, path, e)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", damaged, err)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	l.log.Warn("a file of an export that was damaged is whole again", "job", job, "file", e.Object, "at", e.Offset)
	return l.forgive(d)
}

// forgive removes the mark of a damage.
func (l *Local) forgive(d Damage) error {
	l.damages.forget(d.mark())
	return ignoreAbsent(l.disk.Remove(l.markPath(d)))
}

// Verify reads an output whole. Errors: fs.ErrNotExist, ErrDamaged, ctx's.
func (l *Local) Verify(ctx context.Context, job string, e Extent, w io.Writer) (err error) {
	r, err := l.Open(job, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	_, err = io.Copy(w, readerOf{ctx, r})
	return err
}

// readerOf ends with its context.
type readerOf struct {
	ctx context.Context
	io.Reader
}

// Read implements io.Reader.
func (r readerOf) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// Damaged lists the files that are known to be damaged: of one job, or where job is "" of all.
func (l *Local) Damaged(job string) (out []Known, err error) {
	names, err := l.disk.ReadDir(filepath.Join(l.root, damageFolder))
	for _, name := range names {
		of, rest, _ := strings.Cut(name, ".")
		end := strings.LastIndexByte(rest, '.')
		if end < 0 || job != "" && of != job {
			continue
		}
		offset, e := strconv.ParseInt(rest[end+1:], 10, 64)
		if e != nil {
			continue // nothing else is written here
		}
		d := Damage{Job: of, Object: rest[:end], Offset: offset}
		text, e := l.small(l.markPath(d))
		kind, since := readMark(text)
		if d.Kind = kind; e != nil || kind == "" {
			err = errors.Join(err, e)
			continue // it was mended meanwhile, or is being marked
		}
		out = append(out, Known{d, since})
	}
	return out, ignoreAbsent(err)
}

// Forget removes the marks of a job's damaged files: the job is gone.
func (l *Local) Forget(job string) error {
	damaged, err := l.Damaged(job)
	for _, d := range damaged {
		err = errors.Join(err, l.forgive(d.Damage))
	}
	return err
}

// Grown reports whether an object has more bytes than were written; where it has, the damage is counted
// and in the log. What was written is read as it is all the same.
func (l *Local) Grown(job, object string, written int64) (bool, error) {
	size, err := l.sizeOf(job, object)
	if err != nil || size <= written {
		return false, ignoreAbsent(err)
	}
	telemetry.FilesDamaged.WithLabelValues(string(Longer)).Inc()
	l.log.Error("a file of an export is longer than it was written; what is behind its end is not read",
		"job", job, "file", object, "kind", Longer, "bytes", size, "written", written)
	return true, nil
}

// sizeOf is how many bytes an object has. Errors: fs.ErrNotExist, ErrName.
func (l *Local) sizeOf(job, object string) (int64, error) {
	path, err := l.object(job, object)
	if err != nil {
		return 0, err
	}
	f, err := l.disk.Open(path)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

// scrubbedFile holds when all files were last read again.
const scrubbedFile = ".scrubbed"

// Scrubbed is when a process last got through all files of finished exports; the zero time where none has
// said so.
func (l *Local) Scrubbed() (time.Time, error) {
	text, err := l.small(filepath.Join(l.root, scrubbedFile))
	at, e := time.Parse(time.RFC3339, text)
	if err != nil || e != nil { // it is not there, or was being written when the process died
		return time.Time{}, err
	}
	return at, nil
}

// SetScrubbed notes that a process has got through all files.
func (l *Local) SetScrubbed(now time.Time) error {
	name := filepath.Join(l.root, scrubbedFile)
	if err := ignoreAbsent(l.disk.Remove(name)); err != nil {
		return err
	}
	f, err := l.disk.Create(name)
	if errors.Is(err, fs.ErrExist) { // another process has begun at the same moment
		return nil
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, now.UTC().Format(time.RFC3339))
	return errors.Join(err, f.Close())
}
