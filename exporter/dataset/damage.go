package dataset

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/redact"

	"ehi-server/shared/telemetry"
)

// Pebble's errors, events and log lines may hold keys, and keys hold the ids of patients. It marks
// what is safe to be told, so
// everything else of them is left out before it goes anywhere.

// leftOut is what stands in a message for what may name a patient.
const leftOut = "(...)"

// told is the part of a message or an error of Pebble's that names nobody.
func told(format string, a ...any) string {
	return strings.ReplaceAll(string(redact.Sprintf(format, a...).Redact()),
		string(redact.RedactedMarker()), leftOut)
}

// damage is what has been found to be damaged of the files of a store and of its frozen ones.
type damage struct {
	log *slog.Logger
	dir string // of the store
	mu  sync.Mutex
	// files are the paths, with what is wrong.
	files map[string]string
	// last is the latest background error, told at lastAt.
	last   string
	lastAt time.Time
	// stuck is Config.Stuck, or nil; failing is since when no memtable could be written, zero
	// while it can.
	stuck   func(error)
	failing time.Time
}

func newDamage(dir string, log *slog.Logger) *damage {
	return &damage{log: log, dir: filepath.Clean(dir), files: map[string]string{}}
}

// found takes note of a damaged file, and says so the first time. A frozen store's files are
// those of the store that it was taken of, for as long as that has them.
func (d *damage) found(info pebble.DataCorruptionInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := info.Path
	if own := filepath.Join(d.dir, filepath.Base(path)); sameFile(path, own) {
		path = own
	}
	if _, known := d.files[path]; known {
		return
	}
	what := told("%v", info.Details)
	d.files[path] = what
	telemetry.StoreDamagedFiles.Set(float64(len(d.files)))
	d.log.Error("a file of the record store is damaged: what it holds cannot be read or exported; "+
		"restore a backup into another data folder, or import the records again",
		"file", path, "damage", what)
}

// repeated is the time for which a background error that goes on is not told again.
const repeated = time.Minute

// background tells of an error of Pebble's own work, which it tries again for ever.
func (d *damage) background(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what := told("%v", err)
	if what == d.last && time.Since(d.lastAt) < repeated {
		return
	}
	d.last, d.lastAt = what, time.Now()
	d.log.Error("the record store cannot tidy up its files, and tries again", "err", what)
}

// stuckAfter is for how long Pebble may try to write a memtable in vain before a process that
// only writes gives up.
const stuckAfter = 5 * time.Second

// flushed is told how each try to write a memtable ended. Pebble tries again for ever, and
// whoever writes waits.
func (d *damage) flushed(info pebble.FlushInfo) {
	d.mu.Lock()
	if info.Err == nil {
		d.failing = time.Time{}
	} else if d.failing.IsZero() {
		d.failing = time.Now()
	}
	over := d.stuck != nil && !d.failing.IsZero() && time.Since(d.failing) > stuckAfter
	d.mu.Unlock()
	if over {
		d.stuck(fmt.Errorf("the record store in %s cannot be written, and has tried for %v: %w",
			d.dir, stuckAfter, plainError(info.Err)))
	}
}

// err is an error that names a damaged file of the store itself, not only of a frozen one; nil
// where there is none. Errors: ErrDamaged.
func (d *damage) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		if filepath.Dir(path) == d.dir {
			return fmt.Errorf("%w: %s: %s", ErrDamaged, path, d.files[path])
		}
	}
	return nil
}

// sameFile reports whether two names are of one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// listener has Pebble tell d.
func (d *damage) listener() *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption:  d.found,
		BackgroundError: d.background,
		FlushEnd:        d.flushed,
	}
}

// openError is why a store in a folder cannot be opened. Errors: ErrDamaged.
func openError(dir string, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, dir, told("%v", err))
	}
	return fmt.Errorf("open record store: %s: %w", dir, plainError(err))
}

// readError is an error of reading a store, without the keys that Pebble may name; it keeps
// pebble.ErrNotFound. Errors: ErrDamaged.
func readError(err error) error {
	switch {
	case err == nil, errors.Is(err, pebble.ErrNotFound):
		return err
	case !pebble.IsCorruptionError(err):
		return fmt.Errorf("read record store: %w", plainError(err))
	}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, info.Path, told("%v", info.Details))
	}
	return fmt.Errorf("%w: %s", ErrDamaged, told("%v", err))
}

// plainError is an error of Pebble's without keys. One of the operating system stays what it is:
// it names a file.
func plainError(err error) error {
	if path, is := errors.AsType[*os.PathError](err); is {
		return path
	}
	return hidden{err, told("%v", err)}
}

// hidden says of an error what is safe to be told, and is that error.
type hidden struct {
	error
	text string
}

func (h hidden) Error() string { return h.text }
func (h hidden) Unwrap() error { return h.error }

// quiet passes Pebble's errors on to the log and keeps its chatter out.
type quiet struct{ log *slog.Logger }

func (q quiet) Infof(string, ...any) {}

func (q quiet) Errorf(format string, a ...any) {
	q.log.Error("record store", "err", told(format, a...))
}

// Fatalf ends the process: Pebble calls it where it cannot go on without harm to what it holds, and
// expects it not to return.
func (q quiet) Fatalf(format string, a ...any) {
	q.log.Error(
		"the record store cannot go on, and ends the process; look at its disk, and start again",
		"err", told(format, a...))
	telemetry.Exit(1)
}
