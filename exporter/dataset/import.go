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
	// Progress is told how many of the source's bytes are done; it may be nil.
	Progress func(done, total int64)
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
	im := importer{store: s, w: s.NewWriter(o.Now), o: o, report: Report{Counts: map[string]int64{}}}
	defer im.w.Close() // everything that counts was flushed by Settle
	files, err := im.find(paths)
	if err != nil {
		return im.report, err
	}
	for _, f := range files {
		if err := im.file(ctx, f); err != nil {
			return im.report, errors.Join(err, im.w.Settle(context.WithoutCancel(ctx), func(int, int) {}))
		}
	}
	return im.report, im.w.Settle(ctx, func(int, int) {})
}

type importer struct {
	store       *Store
	w           *Writer
	o           ImportOptions
	report      Report
	total, done int64
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
		im.advance(f.info.Size())
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
	return im.w.batch.Set(key(kFile, abs), mark, nil)
}

func (im *importer) advance(n int64) {
	im.done += n
	if im.o.Progress != nil {
		im.o.Progress(im.done, im.total)
	}
}

// counting tells the importer how much was read of the file on the disk.
type counting struct {
	r  io.Reader
	im *importer
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.im.advance(int64(n))
	return n, err
}

func (im *importer) read(ctx context.Context, f inputFile) (err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	var r io.Reader = counting{file, im}
	if strings.HasSuffix(f.path, ".gz") {
		gz, err := gzip.NewReader(r)
		if err != nil {
			return im.bad(f.path, 1, fmt.Sprintf("not gzip: %v", err))
		}
		defer gz.Close() // read only
		r = gz
	}
	if strings.HasSuffix(f.path, ".json") {
		return im.document(ctx, f.path, r)
	}
	return im.lines(ctx, f.path, r)
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

// lines imports NDJSON: a resource or a bundle a line.
func (im *importer) lines(ctx context.Context, path string, r io.Reader) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxLine)
	n := 0
	for sc.Scan() {
		n++
		if err := ctx.Err(); err != nil {
			return err
		}
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := im.one(ctx, path, n, line); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return im.bad(path, n+1, fmt.Sprintf("cannot be read further: %v", err))
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
	typ, _, _ := im.w.cursor.Identify(data) // a syntax error is reported below, with its line
	if typ == "Bundle" {
		return im.bundle(ctx, path, line, data)
	}
	return im.put(path, line, data, nil, "")
}

func (im *importer) put(path string, line int, resource []byte, local names, fallback string) error {
	err := im.w.Put(resource, local, fallback)
	if why, ok := errors.AsType[errResource](err); ok {
		return im.bad(path, line, why.Error())
	}
	if err != nil {
		return err
	}
	typ, _, err := im.w.cursor.Identify(resource)
	im.report.Counts[typ]++
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
		if err := im.put(path, at, e.Resource, local, fallback); err != nil {
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
