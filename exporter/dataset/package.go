package dataset

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/datapackage"
)

// loadPackage reads the usable tables of a descriptor, and says what is wrong with the others. Its
// files cannot lead out of its folder.
func loadPackage(
	path string,
) (p *datapackage.Package, refused []datapackage.RefusedTable, err error) {
	folder, name := filepath.Split(path)
	root, err := os.OpenRoot(cmp.Or(folder, "."))
	if err != nil {
		return nil, nil, err
	}
	defer root.Close() // read only
	return datapackage.Load(root.FS(), name)
}

// tablesIn imports the tables of a descriptor.
func (n *native) tablesIn(ctx context.Context, in Input) error {
	folder := filepath.Dir(in.Path)
	of := input{name: in.Path, line: 1}
	n.done.Add(in.Info.Size())
	bad := n.report.Problems
	p, refused, err := loadPackage(in.Path)
	if syntax, ok := errors.AsType[*datapackage.SyntaxError](err); ok {
		return n.bad(in.Path, syntax.Line, "the descriptor "+syntax.Problem)
	}
	if err != nil {
		return n.problem(of, errInput{withoutPath(err)})
	}
	n.refuse(refused)
	for _, why := range refused {
		if err := n.bad(in.Path, 1, withoutPath(why)+"; no row of it is imported"); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return n.problem(of, errInput{reason(err)})
	}
	defer root.Close() // read only
	abs, err := filepath.Abs(in.Path)
	if err != nil {
		return err
	}
	d, taken, err := n.learn(ctx, in.Path, abs, p)
	if err != nil {
		return err
	}
	if d == nil {
		return nil
	}
	n.rows = n.newRows(d)
	var files []tableFile
	for _, name := range d.names(p) {
		if taken[name] {
			files = append(files, n.filesOf(root, folder, d.tables[name], p.Table(name))...)
		}
	}
	for _, f := range files {
		if f.info != nil {
			n.total += f.info.Size()
		}
	}
	if err := n.rows.remember(files); err != nil {
		return err
	}
	troubled := map[*table]bool{}
	for _, f := range files {
		before := n.report.Problems
		if err := n.rows.file(ctx, root, f); err != nil {
			return err
		}
		troubled[f.table] = troubled[f.table] || n.report.Problems > before
	}
	if err := n.rows.leftOver(ctx, files, troubled); err != nil {
		return err
	}
	if n.report.Problems == bad {
		n.report.Files++
	}
	return nil
}

// refuse notes tables whose descriptions are wrong.
func (n *native) refuse(tables []datapackage.RefusedTable) {
	for _, t := range tables {
		n.refused[t.Name] = true
	}
}

// withoutPath returns what is wrong with a descriptor, on one line.
func withoutPath(err error) string {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return reason(err)
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// names returns the tables of a package in the order in which they are imported.
func (d *dictionary) names(p *datapackage.Package) (out []string) {
	for _, t := range d.order {
		if p.Table(t.of.Name) != nil {
			out = append(out, t.of.Name)
		}
	}
	return out
}

// learn adds the tables of a package to the dictionary, and reports what is wrong with it. taken
// are those whose rows can be imported. d is nil if there is no dictionary. from is the
// descriptor's name in problems, abs its absolute path.
func (n *native) learn(ctx context.Context, from, abs string, p *datapackage.Package) (
	d *dictionary, taken map[string]bool, err error,
) {
	lost := ownerless(p)
	for _, t := range p.Resources {
		if lost[t.Name] {
			err = errors.Join(err, n.bad(from, 1, fmt.Sprintf("table %q: says neither whose its "+
				"rows are (ehi:patient) nor that patients share them (ehi:lookup)", t.Name)))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	p = p.Narrow(func(name string) bool { return !lost[name] }, nil)
	if len(p.Resources) == 0 { // it was said why
		return nil, nil, nil
	}
	d, conflicts, unusable, err := n.meet(ctx, abs, p)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(conflicts)) {
		if err := n.bad(from, 1, conflicts[name]); err != nil {
			return nil, nil, err
		}
	}
	if unusable != nil && (len(conflicts) == 0 || len(conflicts) < len(p.Resources)) {
		return d, nil, n.bad(from, 1, withoutPath(unusable))
	}
	taken = map[string]bool{}
	for _, t := range p.Resources {
		taken[t.Name] = conflicts[t.Name] == ""
	}
	return d, taken, nil
}

// meet adds the tables of a package that came from a descriptor to the dictionary. conflicts says
// by their names why some are not added; unusable, why none is. The dictionary is nil if there is
// still none.
func (n *native) meet(ctx context.Context, from string, p *datapackage.Package) (
	d *dictionary, conflicts map[string]string, unusable, err error,
) {
	if err := n.flush(); err != nil {
		return nil, nil, nil, err
	}
	before, err := n.store.dictionaryOf(n.store.db)
	if err != nil {
		return nil, nil, nil, err
	}
	replaced, wrong, err := n.replacements(ctx, before, from, p)
	if err != nil {
		return nil, nil, nil, err
	}
	d, conflicts, unusable = before.merged(p, from, n.refused, replaced)
	maps.Copy(conflicts, wrong)
	if unusable != nil {
		return before, conflicts, unusable, nil
	}
	for name := range replaced {
		if conflicts[name] == "" {
			err = errors.Join(err, n.removeTable(ctx, before, name),
				n.set(tableKey(kLost, d.tables[name].Number), nil))
		}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	n.leftBehind(from, before, d, replaced)
	return d, conflicts, nil, n.saveDictionary(before, d)
}

// meetAll adds the tables of all descriptors to the dictionary before the rows of any, because
// tables lead to patients through tables of other descriptors: those of an export's archives. What
// is wrong with a descriptor is reported when its rows are imported.
func (n *native) meetAll(ctx context.Context) error {
	var all []string
	for _, in := range n.native {
		if isDescriptor(filepath.Base(in.Path)) {
			all = append(all, in.Path)
		}
	}
	if len(all) < 2 {
		return nil
	}
	packages := make([]*datapackage.Package, len(all)) // nil for none
	for i, path := range all {
		p, refused, err := loadPackage(path)
		if err == nil {
			packages[i] = p
			n.refuse(refused)
		}
	}
	for i, path := range all {
		p := packages[i]
		if p == nil {
			continue
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		lost := ownerless(p)
		p = p.Narrow(func(name string) bool { return !lost[name] }, nil)
		if len(p.Resources) == 0 {
			continue
		}
		if _, _, _, err := n.meet(ctx, abs, p); err != nil {
			return err
		}
	}
	return nil
}

// saveDictionary stores a dictionary, and fills new indexes.
func (n *native) saveDictionary(before, d *dictionary) error {
	if before != nil && sameJSON(before.saved, d.saved) {
		return nil
	}
	d.saved.Version++
	v, err := json.Marshal(d.saved)
	if err != nil {
		return err
	}
	if before != nil {
		r := n.newRows(d)
		for _, t := range d.order {
			if err := r.fill(t, len(before.saved.Tables[t.of.Name].Indexes)); err != nil {
				return err
			}
		}
	}
	return errors.Join(n.set(key(kTables), v), n.flush())
}

// fill adds the rows of a table to its indexes from a number on.
func (r *rows) fill(t *table, from int) error {
	if from == 0 || from >= len(t.indexes) { // there are no rows, or no new indexes
		return nil
	}
	return t.all(r.store.db, func(at rowPlace, raw []byte) error {
		values, err := t.codec.Fields(raw, r.fields)
		if err != nil {
			return err
		}
		r.fields = values
		for i := from; i < len(t.indexes); i++ {
			if key, ok := t.pick(values, t.indexes[i], nil); ok {
				k := append(t.indexKey(i, t.digest(i, key)), at.sequence[:]...)
				if err := errors.Join(r.batch.Set(k, at.encode(), nil), r.flushFull()); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// tableFile is a file of a table.
type tableFile struct {
	table *table
	path  string            // in the folder
	name  string            // in problems
	info  fs.FileInfo       // nil if it cannot be read
	later bool              // not the first file of the table: it may lack the header
	whole bool              // the files have all rows of the table
	part  *datapackage.Part // nil if they are not a part of a table of an export
}

// mark is what the store remembers of a file that was imported completely.
func (f tableFile) mark() []byte {
	return fmt.Appendf(nil, "%d %d %s", f.info.Size(), f.info.ModTime().UnixNano(),
		f.table.of.Name)
}

// filesOf returns the files of a table.
func (n *native) filesOf(
	root *os.Root, folder string, t *table, of *datapackage.Resource,
) []tableFile {
	var out []tableFile
	for i, path := range of.Path {
		f := tableFile{
			table: t,
			path:  filepath.FromSlash(path),
			name:  filepath.Join(folder, filepath.FromSlash(path)),
			later: i > 0,
			whole: of.Replace,
			part:  of.Part,
		}
		f.info, _ = root.Stat(f.path) // opening it says what is wrong
		out = append(out, f)
	}
	return out
}

// file imports a file of a table, unless it was imported before.
func (r *rows) file(ctx context.Context, root *os.Root, f tableFile) error {
	of := input{name: f.name, line: 1}
	abs, err := filepath.Abs(f.name)
	if err != nil {
		return err
	}
	info, err := root.Stat(f.path)
	switch {
	case err != nil:
		return r.problem(of, errInput{reason(err)})
	case !info.Mode().IsRegular():
		return r.problem(of, errInput{"is no regular file"})
	}
	f.info = info
	mark := f.mark()
	seen, err := r.get(key(kFile, abs))
	if err != nil {
		return err
	}
	if bytes.Equal(seen, mark) && !f.whole {
		r.report.Skipped++
		r.done.Add(info.Size())
		r.advance()
		return nil
	}
	bad := r.report.Problems
	if err := r.read(ctx, root, f, abs); err != nil {
		return err
	}
	now, err := root.Stat(f.path)
	if err != nil || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) {
		return r.bad(f.name, 1, "changed while it was imported: import it again")
	}
	r.report.Files++
	if r.report.Problems > bad {
		return nil
	}
	return r.set(key(kFile, abs), mark)
}

// read imports the rows of a file.
func (r *rows) read(ctx context.Context, root *os.Root, f tableFile, abs string) error {
	lacks := f.lacksHeader(root, int(r.o.MaxResource))
	s, done, err := f.open(root, &r.done, !lacks, int(r.o.MaxResource))
	if err != nil {
		return r.bad(f.name, 1, err.Error())
	}
	defer done()
	if err := checkHeader(s, f.table.codec); err != nil {
		return r.bad(f.name, max(s.Line(), 1), err.Error())
	}
	if lacks {
		r.notes(f.name, "has no header, so its first row is imported as a row of the table")
	}
	from := passFile{Name: f.name, File: abs}
	if f.part != nil {
		from.Part, from.Number = f.part.Of+"/"+f.table.of.Name, f.part.Number
	}
	if err := r.begin(from); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%progressRows == 0 {
			r.advance()
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		raw, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.row(f.table, s, raw, n == 0)
		}
		if why, ok := errors.AsType[errRow](err); ok {
			err = r.bad(f.name, s.Line(), why.Error())
		} else if why, ok := errors.AsType[*datapackage.RowError](err); ok {
			err = r.bad(f.name, why.Line, why.Problem)
		} else if err != nil && raw == nil {
			return r.bad(f.name, s.Line(), errUnreadable(err).Error())
		}
		if err != nil {
			return err
		}
	}
}

// progressRows is after how many rows the progress is reported.
const progressRows = 1024

// row imports a row of a file. Errors: errRow.
func (r *rows) row(t *table, s *datapackage.Scanner, raw []byte, first bool) error {
	values, err := t.checkCells(raw, r.fields, first)
	r.fields = values
	if err != nil {
		return err
	}
	raw = r.terminated(t, raw, s.Unterminated())
	at := sequenceOf(r.pass, s.Line())
	if err := r.put(t, raw, values, at); err != nil {
		return err
	}
	if r.report.Rows == nil {
		r.report.Rows = map[string]int64{}
	}
	r.report.Rows[t.of.Name]++
	return r.check(t, values, at)
}

// checkCells returns the values of a row, and reports what is wrong with them. first means that it
// is the first row of its file. Errors: errRow.
func (t *table) checkCells(raw []byte, room [][]byte, first bool) ([][]byte, error) {
	values, err := t.codec.Fields(raw, room)
	if err == nil && first && t.isHeader(values) {
		return values, errIsHeader
	}
	if err == nil {
		err = t.codec.CheckLineEnds(raw)
	}
	if err == nil {
		err = t.codec.Check(values)
	}
	if err != nil {
		return values, errRow{err.Error()}
	}
	return values, nil
}

var errIsHeader = errRow{"is a header, but dialect.header is false"}

// isHeader reports whether the first row of a file is a header although the dialect says that there
// is none.
func (t *table) isHeader(values [][]byte) bool {
	return t.codec.Header(nil) == nil &&
		slices.EqualFunc(t.of.Fields.Fields, values, func(f datapackage.Field, v []byte) bool {
			return f.Name == string(v)
		})
}

// terminated returns a row with a line terminator, which the last row of a file may lack.
func (r *rows) terminated(t *table, raw []byte, lacks bool) []byte {
	if !lacks && r.ending != nil {
		return raw
	}
	usual := t.codec.Terminator()
	switch {
	case lacks && r.ending != nil:
		return append(slices.Clone(raw), r.ending...)
	case lacks:
		return append(slices.Clone(raw), usual...)
	case bytes.Equal(usual, []byte("\r\n")) && !bytes.HasSuffix(raw, usual):
		r.ending = []byte("\n")
	default:
		r.ending = usual
	}
	return raw
}

// open opens a file for its rows, and skips the header only if the dialect says that there is one.
// read counts its bytes. The caller calls done.
func (f tableFile) open(root *os.Root, read *atomic.Int64, header bool, most int) (
	s *datapackage.Scanner, done func(), err error,
) {
	file, err := root.Open(f.path)
	if err != nil {
		return nil, nil, errors.New(reason(err))
	}
	text, unpack, err := unpacked(counting{file, read})
	if err != nil {
		file.Close() // read only
		return nil, nil, err
	}
	done = func() {
		unpack()
		file.Close() // read only
	}
	d := f.table.of.Dialect
	if !header {
		d = headless(d)
	}
	if s, err = datapackage.NewScanner(text, d, f.table.of.Encoding, most); err != nil {
		done()
		return nil, nil, err
	}
	return s, done, nil
}

// headless is a dialect whose files have no header.
func headless(d *datapackage.Dialect) *datapackage.Dialect {
	var out datapackage.Dialect
	if d != nil {
		out = *d
	}
	out.Header = new(false)
	return &out
}

// lacksHeader reports whether a file that is not the first one of its table has no header although
// the dialect says that there is one. The first version of the standard joins the files of a table
// as they are, so only the first one needs a header. A row with the name of any field counts as a
// header: a file with other columns must not be read as if it had those of the descriptor.
func (f tableFile) lacksHeader(root *os.Root, most int) bool {
	if !f.later || f.table.codec.Header(nil) == nil {
		return false
	}
	s, done, err := f.open(root, new(atomic.Int64), false, most)
	if err != nil {
		return false // whoever reads the file says why
	}
	defer done()
	raw, err := s.Next()
	if err != nil {
		return false
	}
	values, err := f.table.codec.Fields(raw, nil)
	return err == nil && !slices.ContainsFunc(values, f.table.codec.IsName)
}

// checkHeader reads the header of a file, if the dialect says that there is one, and reports how it
// differs from the table's fields.
func checkHeader(s *datapackage.Scanner, c *datapackage.Codec) error {
	header, err := s.ReadHeader()
	switch _, bad := errors.AsType[*datapackage.RowError](err); {
	case err != nil && !bad && !errors.Is(err, datapackage.ErrNoHeader):
		return errUnreadable(err)
	case err != nil || header == nil:
		return err
	}
	return c.CheckHeader(header)
}

// errUnreadable says that a file cannot be read to its end.
func errUnreadable(err error) error { return errRow{"cannot be read further: " + err.Error()} }

// unpacked decompresses gzip and Zstandard, which it recognizes by their first bytes.
func unpacked(r io.Reader) (_ io.Reader, done func(), err error) {
	packed := bufio.NewReaderSize(r, 256<<10)
	start, err := packed.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(packed)
		if err != nil {
			return nil, nil, fmt.Errorf("not gzip: %w", err)
		}
		return z, func() {}, nil
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return packed, func() {}, nil
}
