package dataset

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// Limits of what an import reads at once.
const (
	// maxLine is the longest line of NDJSON, in bytes (REAL-3: lines of an export stay under 10 MB).
	maxLine = 10_000_000
	// maxBundle is the largest bundle file, in bytes; a bundle is read whole.
	maxBundle = 1 << 30
)

// Import reads files and folders of Synthea transaction bundles (.json) and NDJSON (.ndjson, .ndjson.gz), in the order of
// their names. A bad line or entry is reported and the rest imported. Files that were imported whole and have not changed
// since are skipped, so that an interrupted import can be started again.
func (s *Store) Import(ctx context.Context, paths []string, o source.ImportOptions) (source.Report, error) {
	return s.load(ctx, o, func(im *importer) error {
		files, err := Inputs(paths)
		if err != nil {
			return err
		}
		for _, f := range files {
			im.total += f.Info.Size()
		}
		for _, f := range files {
			if err := im.file(ctx, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// ImportFrom implements source.Importer.
func (s *Store) ImportFrom(ctx context.Context, name string, r io.Reader, o source.ImportOptions) (source.Report, error) {
	return s.load(ctx, o, func(im *importer) error {
		im.report.Files++
		head := bufio.NewReaderSize(counting{r, &im.done}, 64<<10)
		start, err := head.Peek(2)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		read := im.lines
		if o.Document > 0 {
			read = func(ctx context.Context, name string, r io.Reader) error {
				return im.document(ctx, name, r, o.Document)
			}
		}
		if !bytes.Equal(start, []byte{0x1f, 0x8b}) {
			return read(ctx, name, head)
		}
		return im.gzipped(ctx, name, head, read)
	})
}

// load runs an import and settles what it brought, also where it was cut off.
func (s *Store) load(ctx context.Context, o source.ImportOptions, read func(*importer) error) (source.Report, error) {
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Settled == nil {
		o.Settled = func(int) {}
	}
	if !s.writing.TryLock() {
		if o.NoWait {
			return source.Report{}, source.ErrBusy
		}
		s.writing.Lock()
	}
	defer s.writing.Unlock()
	im := importer{store: s, w: s.newWriter(o.Now), o: o, report: source.Report{Counts: map[string]int64{}}}
	defer im.w.close() // everything that counts was flushed by settle
	err := read(&im)
	if err != nil {
		ctx = context.WithoutCancel(ctx)
	}
	return im.report, errors.Join(err, im.w.settle(ctx, o.Settled))
}

type importer struct {
	store  *Store
	w      *writer
	o      source.ImportOptions
	report source.Report
	total  int64
	done   atomic.Int64 // bytes read
}

// Input is a file to import.
type Input struct {
	Path string
	Info fs.FileInfo
}

// Inputs lists the files to read, each folder's in the order of names.
func Inputs(paths []string) (files []Input, err error) {
	for _, root := range paths {
		n := len(files)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if path != root && !importable(path) {
				return nil
			}
			info, err := os.Stat(path)
			if err == nil && info.Mode().IsRegular() {
				files = append(files, Input{path, info})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(files) == n {
			return nil, fmt.Errorf("%s holds no .json, .ndjson or .ndjson.gz file", root)
		}
	}
	return files, nil
}

func importable(path string) bool {
	return slices.ContainsFunc([]string{".json", ".ndjson", ".ndjson.gz"}, func(ext string) bool { return strings.HasSuffix(path, ext) })
}

// file imports one file and remembers it where all of it went in.
func (im *importer) file(ctx context.Context, f Input) error {
	abs, err := filepath.Abs(f.Path)
	if err != nil {
		return err
	}
	mark := fmt.Appendf(nil, "%d %d", f.Info.Size(), f.Info.ModTime().UnixNano())
	seen, err := im.store.get(im.store.db, key(kFile, abs))
	if err != nil {
		return err
	}
	if bytes.Equal(seen, mark) {
		im.report.Skipped++
		im.done.Add(f.Info.Size())
		im.advance()
		return nil
	}
	bad := im.report.Problems
	if err := im.read(ctx, f); err != nil {
		return err
	}
	im.report.Files++
	if im.report.Problems > bad {
		return nil
	}
	return im.w.set(key(kFile, abs), string(mark))
}

func (im *importer) advance() { im.o.Progress(im.done.Load(), im.total) }

// counting counts what is read.
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
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	defer im.advance()
	r := counting{file, &im.done}
	switch {
	case strings.HasSuffix(f.Path, ".gz"):
		return im.gzipped(ctx, f.Path, r, im.lines)
	case strings.HasSuffix(f.Path, ".json"):
		return im.document(ctx, f.Path, r, maxBundle)
	}
	return im.lines(ctx, f.Path, r)
}

// gzipped unpacks what read imports.
func (im *importer) gzipped(ctx context.Context, path string, r io.Reader, read func(context.Context, string, io.Reader) error) error {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return im.bad(path, 1, fmt.Sprintf("not gzip: %v", err))
	}
	defer gz.Close() // read only
	return read(ctx, path, gz)
}

// bad records a problem; under Strict it ends the import.
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

// document imports one JSON document: a bundle or a single resource.
func (im *importer) document(ctx context.Context, path string, r io.Reader, limit int64) error {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(data)) > limit {
		return im.bad(path, 1, fmt.Sprintf("larger than %d bytes", limit))
	}
	return im.one(ctx, path, 1, data)
}

// one imports a resource or a bundle that begins at the given line of its file.
func (im *importer) one(ctx context.Context, path string, line int, data []byte) error {
	if im.w.isBundle(data) {
		return im.bundle(ctx, path, line, data)
	}
	return im.put(path, line, im.w.prepare(data), nil, "")
}

func (im *importer) put(path string, line int, p prepared, local names, fallback string) error {
	err := im.w.put(p, local, fallback)
	if why, ok := errors.AsType[errResource](err); ok {
		return im.bad(path, line, why.Error())
	}
	im.report.Counts[p.facts.typ]++
	return err
}

// bundle imports a transaction, batch or collection bundle. The entries' fullUrls and identifiers name them for each
// other's references.
func (im *importer) bundle(ctx context.Context, path string, line int, data []byte) error {
	var b struct {
		Entry []struct {
			FullURL  string          `json:"fullUrl"`
			Resource json.RawMessage `json:"resource"`
		} `json:"entry"`
	}
	if err := fhir.CheckDepth(data); err != nil {
		return im.bad(path, line, fmt.Sprintf("not a valid bundle: %v", err))
	}
	// The entries stay slices of data, so that their lines can be told.
	if _, err := json.Parse(data, &b, json.DontCopyRawMessage); err != nil {
		return im.bad(path, line+lineOfError(data), fmt.Sprintf("not a valid bundle: %v", err))
	}
	local, patients := names{}, []string{}
	for i, e := range b.Entry {
		typ, id, err := im.w.cursor.Identify(e.Resource)
		if err != nil || typ == "" {
			continue // reported when it is put
		}
		if id == "" {
			if id = strings.TrimPrefix(e.FullURL, "urn:uuid:"); fhir.ValidID(id) && id != e.FullURL {
				b.Entry[i].Resource = withID(e.Resource, id)
			}
		}
		if typ == "Patient" {
			patients = append(patients, id)
		}
		if err := im.name(local, e.FullURL, typ, id); err != nil {
			return err
		}
		im.nameByIdentifier(local, typ, id, b.Entry[i].Resource)
	}
	fallback := ""
	if len(patients) == 1 {
		fallback = patients[0]
	}
	for _, e := range b.Entry {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := line + bytes.Count(data[:offset(data, e.Resource)], []byte{'\n'})
		if err := im.put(path, at, im.w.prepare(e.Resource), local, fallback); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) name(local names, fullURL, typ, id string) error {
	if !strings.HasPrefix(fullURL, "urn:") || !fhir.ValidID(id) {
		return nil
	}
	local[fullURL] = typ + "/" + id
	if typ == "Patient" || fhir.CompartmentPaths(typ) == nil {
		return im.w.name(fullURL, typ+"/"+id)
	}
	return nil
}

// nameByIdentifier lets conditional references of the bundle find its own entries.
func (im *importer) nameByIdentifier(local names, typ, id string, resource []byte) {
	if fhir.CompartmentPaths(typ) != nil {
		return
	}
	f, err := im.w.examine(resource)
	if err != nil {
		return // reported when it is put
	}
	for _, ident := range f.identifiers {
		local[typ+"?identifier="+ident] = typ + "/" + id
	}
}

// withID adds an id to a resource that has none.
func withID(resource []byte, id string) []byte {
	open := bytes.IndexByte(resource, '{')
	out := append([]byte{}, resource[:open+1]...)
	out = append(out, `"id":"`+id+`",`...)
	return append(out, resource[open+1:]...)
}

// offset is where part, a slice of data, begins in it; 0 where it is not one.
func offset(data, part []byte) int {
	if at := cap(data) - cap(part); len(part) > 0 && at >= 0 && at < len(data) && data[at] == part[0] {
		return at
	}
	return 0
}

// lineOfError finds how many lines lie before the first syntax error.
func lineOfError(data []byte) int {
	var c fhir.Cursor
	last := 0
	for c.Reset(data); c.Next(); {
		_, last = c.Span()
	}
	return bytes.Count(data[:last], []byte{'\n'})
}
