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
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// Limits of what an import reads at once.
const (
	// maxLine is the longest line of NDJSON, in bytes (REAL-3: lines of an export stay under 10 MB).
	maxLine = 10_000_000
	// maxBundle is the largest bundle file, in bytes; a bundle is read whole.
	maxBundle = 1 << 30
)

// ImportOptions tune an import.
type ImportOptions struct {
	// Strict stops at the first bad line or bundle entry. What came before it stays imported.
	Strict bool
	// Progress is told how many of the source's bytes are read; it may be nil.
	Progress func(done, total int64)
	// Settled is told how many patients' records are made ready after that, one by one; it may be nil.
	Settled func(patients int)
	// Now is the time of import that the resources get.
	Now time.Time
}

// Report says what an import did.
type Report struct {
	Files   int              // files read
	Skipped int              // files that were imported before and have not changed
	Counts  map[string]int64 // resources read, by type
	Bad     []Problem        // what could not be imported
}

// Problem is one line or bundle entry that could not be imported.
type Problem struct {
	File string
	Line int // 1 for the first
	Why  string
}

func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Why) }

// ErrBad is returned by Import under Strict for a bad line or entry.
var ErrBad = errors.New("bad input")

// Import reads files and folders of Synthea transaction bundles (.json) and NDJSON (.ndjson, .ndjson.gz), in the order of
// their names. A bad line or entry is reported and the rest imported. Files that were imported whole and have not changed
// since are skipped, so that an interrupted import can be started again.
func (s *Store) Import(ctx context.Context, paths []string, o ImportOptions) (Report, error) {
	return s.load(ctx, o, func(im *importer) error {
		files, err := im.find(paths)
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := im.file(ctx, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// ImportFrom reads a stream of NDJSON, gzipped or not, as Import does files. name is what problems call it.
func (s *Store) ImportFrom(ctx context.Context, name string, r io.Reader, o ImportOptions) (Report, error) {
	return s.load(ctx, o, func(im *importer) error {
		im.report.Files++
		head := bufio.NewReaderSize(counting{r, &im.done}, 64<<10)
		start, err := head.Peek(2)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(start, []byte{0x1f, 0x8b}) {
			return im.lines(ctx, name, head)
		}
		return im.gzipped(ctx, name, head)
	})
}

// load runs an import and settles what it brought, also where it was cut off.
func (s *Store) load(ctx context.Context, o ImportOptions, read func(*importer) error) (Report, error) {
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Settled == nil {
		o.Settled = func(int) {}
	}
	im := importer{store: s, w: s.NewWriter(o.Now), o: o, report: Report{Counts: map[string]int64{}}}
	defer im.w.Close() // everything that counts was flushed by Settle
	err := read(&im)
	if err != nil {
		ctx = context.WithoutCancel(ctx)
	}
	return im.report, errors.Join(err, im.w.Settle(ctx, o.Settled))
}

type importer struct {
	store  *Store
	w      *Writer
	o      ImportOptions
	report Report
	total  int64
	done   atomic.Int64 // bytes read
}

type inputFile struct {
	path string
	info fs.FileInfo
}

// find lists the files to read, each folder's in the order of names.
func (im *importer) find(paths []string) ([]inputFile, error) {
	var files []inputFile
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
				files = append(files, inputFile{path, info})
				im.total += info.Size()
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
func (im *importer) file(ctx context.Context, f inputFile) error {
	abs, err := filepath.Abs(f.path)
	if err != nil {
		return err
	}
	mark := fmt.Appendf(nil, "%d %d", f.info.Size(), f.info.ModTime().UnixNano())
	seen, err := im.store.get(im.store.db, key(kFile, abs))
	if err != nil {
		return err
	}
	if bytes.Equal(seen, mark) {
		im.report.Skipped++
		im.done.Add(f.info.Size())
		im.advance()
		return nil
	}
	bad := len(im.report.Bad)
	if err := im.read(ctx, f); err != nil {
		return err
	}
	im.report.Files++
	if len(im.report.Bad) > bad {
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

func (im *importer) read(ctx context.Context, f inputFile) (err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	defer im.advance()
	r := counting{file, &im.done}
	switch {
	case strings.HasSuffix(f.path, ".gz"):
		return im.gzipped(ctx, f.path, r)
	case strings.HasSuffix(f.path, ".json"):
		return im.document(ctx, f.path, r)
	}
	return im.lines(ctx, f.path, r)
}

// gzipped imports NDJSON.gz.
func (im *importer) gzipped(ctx context.Context, path string, r io.Reader) error {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return im.bad(path, 1, fmt.Sprintf("not gzip: %v", err))
	}
	defer gz.Close() // read only
	return im.lines(ctx, path, gz)
}

// bad records a problem; under Strict it ends the import.
func (im *importer) bad(file string, line int, why string) error {
	p := Problem{file, line, why}
	im.report.Bad = append(im.report.Bad, p)
	if im.o.Strict {
		return fmt.Errorf("%w: %s", ErrBad, p)
	}
	return nil
}

// document imports one JSON document: a bundle or a single resource.
func (im *importer) document(ctx context.Context, path string, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxBundle+1))
	if err != nil {
		return err
	}
	if len(data) > maxBundle {
		return im.bad(path, 1, fmt.Sprintf("larger than %d bytes", maxBundle))
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
