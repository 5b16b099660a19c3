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

// Kind is how a file is damaged.
type Kind string

// The kinds of damage.
const (
	Missing    Kind = "missing"    // a record names it, and it is not there
	Short      Kind = "short"      // there are fewer bytes than were written
	Changed    Kind = "changed"    // the bytes are others than were written
	Unreadable Kind = "unreadable" // the disk does not give the bytes
	Longer     Kind = "longer"     // behind what was written are bytes that nobody reads
)

// Damage is what was found wrong with an output or attachment.
type Damage struct {
	Job    string
	Object string
	Offset int64
	Kind   Kind
}

// Known is damage that is known to every process on the store.
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

// ErrDamaged is what is read of a damaged file instead of its end. The damage is in the log and
// counted, and the file is marked: who opens it next gets the error at once. The mark goes when the
// file is found whole again.
var ErrDamaged = errors.New("the file is damaged")

// A damaged file is read again, to see whether it was mended, by each who opens it; one of more
// than lookFreely bytes at most once in lookAgain.
const (
	lookFreely = 64 << 20
	lookAgain  = 10 * time.Second
)

// looks is when this process last looked at the damaged files, by the names of their marks.
type looks struct {
	mu     sync.Mutex
	looked map[string]time.Time
}

// due reports whether a damaged file may be looked at again.
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

// mark is the mark of a damage, by which every process on the store knows of it.
func (d Damage) mark() Mark {
	return Mark{damageKind, d.Job + "." + d.Object + "." + strconv.FormatInt(d.Offset, 10)}
}

// damageOf is the damage of a mark's name, but for its kind.
func damageOf(name string) (d Damage, ok bool) {
	job, rest, _ := strings.Cut(name, ".")
	end := strings.LastIndexByte(rest, '.')
	if end < 0 {
		return d, false
	}
	offset, err := strconv.ParseInt(rest[end+1:], 10, 64)
	return Damage{Job: job, Object: rest[:end], Offset: offset}, err == nil
}

// err is the error of a damage.
func (d Damage) err() error {
	return fmt.Errorf("%s of job %s at %d: %w (%s)", d.Object, d.Job, d.Offset, ErrDamaged, d.Kind)
}

// report marks a file as damaged, unless it is, and gives the error of it.
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

// markAs makes the mark of a damage; known is whether there was one of the same kind.
func (b *Base) markAs(d Damage) (known bool, err error) {
	was, err := b.backend.MarkText(d.mark())
	if kind, _ := readMark(was); err != nil || kind == d.Kind {
		return err == nil, err
	}
	err = b.replace(d.mark(), markText(d.Kind, time.Now()))
	if errors.Is(err, fs.ErrExist) { // somebody else found it at the same moment
		return true, nil
	}
	return false, err
}

// Lost says that a file is not there which a record names that is. It returns the error of it.
func (b *Base) Lost(job string, e Extent) error {
	return b.report(Damage{job, e.Object, e.Offset, Missing}, fs.ErrNotExist)
}

// known is an error where a file is marked as damaged and has not been mended since.
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

// forgive removes the mark of a damage.
func (b *Base) forgive(d Damage) error {
	b.looks.forget(d.mark().Name)
	return b.backend.RemoveMark(d.mark())
}

// Verify reads an output whole. Errors: fs.ErrNotExist, ErrDamaged, ctx's.
func (b *Base) Verify(ctx context.Context, job string, e Extent, w io.Writer) (err error) {
	r, err := b.Open(job, e)
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
			continue // it was mended meanwhile, or is being marked
		}
		out = append(out, Known{d, since})
	}
	return out, err
}

// Forget removes the marks of a job's damaged files: the job is gone.
func (b *Base) Forget(job string) error {
	damaged, err := b.Damaged(job)
	for _, d := range damaged {
		err = errors.Join(err, b.forgive(d.Damage))
	}
	return err
}

// Grown reports whether an object has more bytes than were written; where it has, the damage is
// counted and in the log. What was written is read as it is all the same.
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

// sizeOf is how many bytes an object has. Errors: fs.ErrNotExist, ErrName.
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
