package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"ehi-server/shared/telemetry"
)

// Kind is a kind of damage.
type Kind string

// The kinds of damage.
const (
	Missing    Kind = "missing"    // a record names the file, but it does not exist
	Short      Kind = "short"      // the file has fewer bytes than were written
	Changed    Kind = "changed"    // the bytes differ from those written
	Unreadable Kind = "unreadable" // the disk fails to read the bytes
	Longer     Kind = "longer"     // the file has additional bytes, which nobody reads
)

// Damage describes a damaged output or attachment.
type Damage struct {
	Job    string
	Object string
	Offset int64
	Kind   Kind
}

// Known is damage that every process on the store knows.
type Known struct {
	Damage
	// Since is when the damage was found; zero if an older build found it.
	Since time.Time
}

// markText returns the text of a damage mark: the kind, and when it was found.
func markText(kind Kind, now time.Time) string {
	return string(kind) + " " + now.UTC().Format(time.RFC3339)
}

// readMark parses the text of a damage mark. kind is "" while the mark is being written.
func readMark(text string) (kind Kind, since time.Time) {
	name, at, _ := strings.Cut(text, " ")
	since, err := time.Parse(time.RFC3339, at)
	if err != nil {
		since = time.Time{}
	}
	return Kind(name), since
}

// ErrDamaged is returned instead of the end of a damaged file. The store logs and counts the
// damage and marks the file, so that the next Open fails immediately. It removes the mark when
// the file is intact again.
var ErrDamaged = errors.New("the file is damaged")

// Every Open reads a damaged file again, to see whether it was repaired. A file of more than
// lookFreely bytes is read again once per lookAgain at most.
const (
	lookFreely = 64 << 20
	lookAgain  = 10 * time.Second
)

// looks holds when this process last read the damaged files again, by mark name.
type looks struct {
	mu     sync.Mutex
	looked map[string]time.Time
}

// due reports whether a damaged file may be read again now.
func (d *looks) due(name string, now time.Time) bool {
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

func (d *looks) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.looked, name)
}

// mark returns the mark that tells every process on the store about the damage.
func (d Damage) mark() Mark {
	return Mark{damageKind, d.Job + "." + d.Object + "." + strconv.FormatInt(d.Offset, 10)}
}

// damageOf parses the name of a damage mark. The result has no kind.
func damageOf(name string) (d Damage, ok bool) {
	job, rest, _ := strings.Cut(name, ".")
	end := strings.LastIndexByte(rest, '.')
	if end < 0 {
		return d, false
	}
	offset, err := strconv.ParseInt(rest[end+1:], 10, 64)
	return Damage{Job: job, Object: rest[:end], Offset: offset}, err == nil
}

// err returns the damage as an error.
func (d Damage) err() error {
	return fmt.Errorf("%s of job %s at %d: %w (%s)", d.Object, d.Job, d.Offset, ErrDamaged, d.Kind)
}

// report marks a file as damaged, unless it is marked already, and returns the error.
func (b *Base) report(d Damage, cause error) error {
	err := fmt.Errorf("%w: %w", d.err(), cause)
	known, failed := b.markAs(d)
	if !known {
		telemetry.FilesDamaged.WithLabelValues(string(d.Kind)).Inc()
		b.log.Error("a file of an export is damaged: delete the export and make it again, "+
			"or give the file back from a backup",
			"job", d.Job, "file", d.Object, "at", d.Offset, "kind", d.Kind, "err", cause)
	}
	if failed != nil {
		b.log.Warn("mark a damaged file", "job", d.Job, "file", d.Object, "err", failed)
	}
	return err
}

// markAs writes the damage mark. known reports whether there was one of the same kind.
func (b *Base) markAs(d Damage) (known bool, err error) {
	was, err := b.backend.MarkText(d.mark())
	if kind, _ := readMark(was); err != nil || kind == d.Kind {
		return err == nil, err
	}
	err = b.replace(d.mark(), markText(d.Kind, time.Now()))
	if errors.Is(err, fs.ErrExist) { // another process found it at the same moment
		return true, nil
	}
	return false, err
}

// Lost records that a file named by a record does not exist, and returns the error.
func (b *Base) Lost(job string, e Extent) error {
	return b.report(Damage{job, e.Object, e.Offset, Missing}, fs.ErrNotExist)
}

// known returns an error if a file is marked as damaged and has not been repaired since.
func (b *Base) known(job string, e Extent) error {
	d := Damage{Job: job, Object: e.Object, Offset: e.Offset}
	text, err := b.backend.MarkText(d.mark())
	kind, _ := readMark(text)
	if err != nil || kind == "" {
		return err
	}
	d.Kind = kind
	damaged := d.err()
	if e.Length > lookFreely && !b.looks.due(d.mark().Name, time.Now()) {
		return damaged
	}
	r, err := b.open(job, e)
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
	b.log.Warn("a file of an export that was damaged is whole again",
		"job", job, "file", e.Object, "at", e.Offset)
	return b.forgive(d)
}

// forgive removes a damage mark.
func (b *Base) forgive(d Damage) error {
	b.looks.forget(d.mark().Name)
	return b.backend.RemoveMark(d.mark())
}

// Verify reads a whole output into w and checks it. Errors: fs.ErrNotExist, ErrDamaged, those of
// ctx.
func (b *Base) Verify(ctx context.Context, job string, e Extent, w io.Writer) (err error) {
	r, err := b.Open(job, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	_, err = io.Copy(w, readerOf{ctx, r})
	return err
}

// readerOf is a reader that fails once its context has ended.
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

// Damaged lists the known damaged files of a job, or of all jobs if job is "".
func (b *Base) Damaged(job string) (out []Known, err error) {
	names, err := b.backend.MarksOf(damageKind)
	for _, name := range names {
		d, ok := damageOf(name)
		if !ok || job != "" && d.Job != job {
			continue
		}
		text, e := b.backend.MarkText(d.mark())
		kind, since := readMark(text)
		if d.Kind = kind; e != nil || kind == "" {
			err = errors.Join(err, e)
			continue // repaired meanwhile, or the mark is being written
		}
		out = append(out, Known{d, since})
	}
	return out, err
}

// Forget removes the damage marks of a deleted job.
func (b *Base) Forget(job string) error {
	damaged, err := b.Damaged(job)
	for _, d := range damaged {
		err = errors.Join(err, b.forgive(d.Damage))
	}
	return err
}

// Grown reports whether an object has more bytes than were written. It logs and counts such
// damage. The object stays readable.
func (b *Base) Grown(job, object string, written int64) (bool, error) {
	size, err := b.sizeOf(job, object)
	if err != nil || size <= written {
		return false, ignoreAbsent(err)
	}
	telemetry.FilesDamaged.WithLabelValues(string(Longer)).Inc()
	b.log.Error("a file of an export is longer than it was written; "+
		"what is behind its end is not read",
		"job", job, "file", object, "kind", Longer, "bytes", size, "written", written)
	return true, nil
}

// sizeOf returns the size of an object in bytes. Errors: fs.ErrNotExist, ErrName.
func (b *Base) sizeOf(job, object string) (int64, error) {
	if err := Named(job, object); err != nil {
		return 0, err
	}
	f, err := b.backend.Fetch(job, object)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}
