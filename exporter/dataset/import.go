package dataset

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync/atomic"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/fhir"
)

// Import imports files and folders of bundles and single resources (.json) and of NDJSON
// (.ndjson, .jsonl), optionally gzipped (.gz), sorted by name. Then it imports the documents that
// an index (documents.csv) lists and the tables that a descriptor (datapackage.json) describes.
// It ignores other files and lists them in the report. An invalid line, entry or row is reported
// and the rest imported. It skips unchanged files that were imported completely, so that an
// interrupted import can be repeated.
func (s *Store) Import(
	ctx context.Context, paths []string, o source.ImportOptions,
) (source.Report, error) {
	return s.load(ctx, o, func(im *importer) error {
		files, ignored, err := Inputs(paths)
		im.report.Ignored = ignored
		if err != nil {
			return err
		}
		var data []string
		for _, f := range files {
			if !f.Data {
				im.total += f.Info.Size()
			}
		}
		for _, f := range files {
			switch {
			case f.Native:
				im.native = append(im.native, f)
			case f.Data:
				data = append(data, f.Path)
			default:
				if err := im.file(ctx, f); err != nil {
					return err
				}
			}
		}
		im.leaveDataFiles(data)
		return nil
	})
}

// ImportFrom implements source.Importer.
func (s *Store) ImportFrom(
	ctx context.Context, name string, r io.Reader, o source.ImportOptions,
) (source.Report, error) {
	return s.load(ctx, o, func(im *importer) error {
		im.report.Files++
		if !o.Document {
			text, err := im.plain(counting{r, &im.done})
			if err != nil {
				return im.problem(input{name: name, line: 1}, err)
			}
			return im.lines(ctx, name, 1, text)
		}
		in, done, err := im.spool(name, r)
		if err != nil {
			return err
		}
		defer done()
		return im.document(ctx, in)
	})
}

// load runs an import and settles its result, even if it was interrupted.
func (s *Store) load(
	ctx context.Context, o source.ImportOptions, read func(*importer) error,
) (source.Report, error) {
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Settled == nil {
		o.Settled = func(int) {}
	}
	if o.MaxResource <= 0 {
		o.MaxResource = source.MaxResource
	}
	cs, err := charsetOf(o.Charset)
	if err != nil {
		return source.Report{}, err
	}
	if !s.writing.TryLock() {
		if o.NoWait {
			return source.Report{}, source.ErrBusy
		}
		s.writing.Lock()
	}
	defer s.writing.Unlock()
	w, err := s.newWriter(o.Now)
	if err != nil {
		return source.Report{}, err
	}
	if o.LeastFree > 0 {
		w.floor = o.LeastFree + toFlush
	}
	w.examiner.moveFrom = moveFrom(o)
	im := importer{
		store:   s,
		w:       w,
		o:       o,
		charset: cs,
		report:  source.Report{Counts: map[string]int64{}},
		named:   map[string]bool{},
		skipped: map[string]bool{},
	}
	defer im.w.close() // settle has flushed everything that counts
	err = read(&im)
	if err != nil {
		ctx = context.WithoutCancel(ctx)
		// Settle what was imported even if there is no space for more.
		im.w.floor = min(im.w.floor, toFlush)
	}
	settled := im.w.settle(ctx, o.Settled)
	if settled == nil {
		if err != nil {
			im.native = nil
		}
		settled = im.importNative(ctx)
	}
	err = errors.Join(err, settled, s.ends())
	im.w.sweepMoved()
	if err == nil {
		err = im.unplaced()
	}
	return im.report, err
}

// unplaced reports what belongs to no known patient.
func (im *importer) unplaced() (err error) {
	r := &im.report
	if r.Unplaced, err = im.store.unplaced(); err != nil {
		return err
	}
	if err := im.unplacedNative(); err != nil || !im.o.Strict {
		return err
	}
	if len(r.Unplaced) > 0 {
		return fmt.Errorf("%w: %s", source.ErrUnplaced, r.Unplaced)
	}
	if len(r.UnplacedRows) > 0 {
		return fmt.Errorf("%w: rows: %s", source.ErrUnplaced, r.UnplacedRows)
	}
	if u := r.UnplacedDocuments; u != nil {
		return fmt.Errorf("%w: %d documents (%s)", source.ErrUnplaced, u.Count, u.Example)
	}
	return nil
}

type importer struct {
	store   *Store
	w       *writer
	o       source.ImportOptions
	charset charset
	around  fhir.Cursor // for the parts of a bundle around its resources
	report  source.Report
	native  []Input // what is imported after the resources
	// generated, if not nil, is a source whose native content is copied after that.
	generated *synthetic.Source
	named     map[string]bool // files of data that attachments name
	skipped   map[string]bool // folders of files that were imported before
	// lost tells that data of attachments was lost before the import, which unchanged files may
	// have; nil if that is not known yet.
	lost  *bool
	left  bool // the current file was ignored
	total int64
	done  atomic.Int64 // bytes read
}

// file imports one file and records it if everything was imported.
func (im *importer) file(ctx context.Context, f Input) error {
	abs, err := filepath.Abs(f.Path)
	if err != nil {
		return err
	}
	// The meaning of references depends on the base URLs too.
	mark := fmt.Appendf(nil, "%d %d %x", f.Info.Size(), f.Info.ModTime().UnixNano(),
		digestOf(im.store.own...))
	seen, err := get(im.store.db, key(kFile, abs))
	if err != nil {
		return err
	}
	unchanged := bytes.Equal(seen, mark)
	if unchanged && im.lost == nil {
		lost, err := im.store.hasLost()
		if err != nil {
			return err
		}
		im.lost = &lost
	}
	if unchanged && !*im.lost {
		im.report.Skipped++
		im.skipped[filepath.Dir(f.Path)] = true
		im.done.Add(f.Info.Size())
		im.advance()
		return nil
	}
	bad := im.report.Problems
	im.left = false
	if err := im.read(ctx, f); err != nil {
		return err
	}
	if im.left {
		return nil
	}
	if im.report.Files++; im.report.Problems > bad {
		return nil
	}
	return im.w.imported(key(kFile, abs), mark)
}

func (im *importer) advance() { im.o.Progress(im.done.Load(), im.total) }

// counting counts the bytes read.
type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (im *importer) read(ctx context.Context, f Input) (err error) {
	defer im.advance()
	data := im.openDataFiles(ctx, f.Path)
	im.w.files, im.w.maxResource = data, im.o.MaxResource
	defer func() {
		im.w.files = nil
		err = errors.Join(err, data.close())
	}()
	in := fileInput(f.Path)
	if f.Document {
		return im.document(ctx, in)
	}
	s, r, err := im.scanner(in, true)
	if err != nil {
		return im.problem(in, err)
	}
	defer r.Close()                                   // read only
	if _, err := s.begin(); err == nil && s.opens() { // a document with another name
		return im.document(ctx, in)
	}
	return im.lines(ctx, in.name, s.line, s.rest()) // reports what is unreadable
}

// bad records a problem. With Strict it ends the import.
func (im *importer) bad(file string, line int, why string) error {
	p := source.Problem{File: file, Line: line, Why: why}
	if im.report.Problems++; len(im.report.Bad) < source.MaxBad {
		im.report.Bad = append(im.report.Bad, p)
	}
	if im.o.Strict {
		return fmt.Errorf("%w: %s", source.ErrBad, p)
	}
	return nil
}

// leaves records what of an input is ignored, each reason once.
func (im *importer) leaves(name string, why errIgnored) {
	left := source.Ignored{File: name, Why: why.why}
	for _, before := range slices.Backward(im.report.Ignored) {
		if before == left {
			return
		}
		if before.File != name {
			break
		}
	}
	im.report.Ignored = append(im.report.Ignored, left)
}

// notes records what to know about a file that is imported.
func (im *importer) notes(name, format string, args ...any) {
	im.report.Notes = append(im.report.Notes, source.Note{
		File: name, Text: fmt.Sprintf(format, args...),
	})
}

func (im *importer) put(path string, line int, p prepared) error {
	return im.keep(path, line, p, im.w.put)
}

// keep stores a resource by put and counts it, or records its problem.
func (im *importer) keep(path string, line int, p prepared, put func(prepared) error) error {
	err := put(p)
	if why, ok := errors.AsType[errResource](err); ok {
		return im.bad(path, line, why.Error())
	}
	if left, ok := errors.AsType[errIgnored](err); ok {
		im.leaves(path, left)
		return nil
	}
	im.report.Counts[p.facts.typ]++
	for _, why := range p.lost {
		err = cmp.Or(err, im.bad(path, line, why))
	}
	return err
}
