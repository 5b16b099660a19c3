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

// Pebble's errors, events and log lines may contain keys, which contain patients' IDs. Pebble
// marks what is safe to report. Everything else is removed before a message leaves this package.

// leftOut replaces what may identify a patient.
const leftOut = "(...)"

// told returns the part of a Pebble message or error that identifies nobody.
func told(format string, a ...any) string {
	return strings.ReplaceAll(string(redact.Sprintf(format, a...).Redact()),
		string(redact.RedactedMarker()), leftOut)
}

// damage records the damaged files of a store and of its snapshots.
type damage struct {
	log *slog.Logger
	dir string // of the store
	mu  sync.Mutex
	// files maps paths to what is wrong.
	files map[string]string
	// last is the latest background error, reported at lastAt.
	last   string
	lastAt time.Time
	// stuck is Config.Stuck, or nil. failing is since when memtables cannot be flushed; zero if
	// they can.
	stuck   func(error)
	failing time.Time
}

func newDamage(dir string, log *slog.Logger) *damage {
	return &damage{log: log, dir: filepath.Clean(dir), files: map[string]string{}}
}

// found records a damaged file and logs it once. A file of a snapshot counts as a file of the
// store as long as the store has it.
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

// repeated is how long a persistent background error is not logged again.
const repeated = time.Minute

// background reports an error of Pebble's background work, which Pebble retries forever.
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

// stuckAfter is how long Pebble may fail to flush a memtable before a process that only writes
// gives up.
const stuckAfter = 5 * time.Second

// flushed receives the result of each flush of a memtable. Pebble retries forever, and writers
// wait.
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

// err returns an error that names a damaged file of the store itself, not of a snapshot only, or
// nil. Errors: ErrDamaged.
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

// sameFile reports whether two names denote the same file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// listener returns an event listener that reports to d.
func (d *damage) listener() *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption:  d.found,
		BackgroundError: d.background,
		FlushEnd:        d.flushed,
	}
}

// openError returns why a store cannot be opened. Errors: ErrDamaged.
func openError(dir string, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, dir, told("%v", err))
	}
	return fmt.Errorf("open record store: %s: %w", dir, plainError(err))
}

// readError removes keys from an error of reading a store. It preserves pebble.ErrNotFound.
// Errors: ErrDamaged.
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

// plainError removes keys from a Pebble error. It keeps errors of the operating system, which
// name a file.
func plainError(err error) error {
	if path, is := errors.AsType[*os.PathError](err); is {
		return path
	}
	return hidden{err, told("%v", err)}
}

// hidden is an error with a message that is safe to report.
type hidden struct {
	error
	text string
}

func (h hidden) Error() string { return h.text }
func (h hidden) Unwrap() error { return h.error }

// quiet logs Pebble's errors and drops its other messages.
type quiet struct{ log *slog.Logger }

func (q quiet) Infof(string, ...any) {}

func (q quiet) Errorf(format string, a ...any) {
	q.log.Error("record store", "err", told(format, a...))
}

// Fatalf ends the process. Pebble calls it if it cannot continue without damaging data, and
// expects it not to return.
func (q quiet) Fatalf(format string, a ...any) {
	q.log.Error(
		"the record store cannot go on, and ends the process; look at its disk, and start again",
		"err", told(format, a...))
	telemetry.Exit(1)
}
