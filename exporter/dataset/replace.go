package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"ehi-server/shared/datapackage"
)

// errLostRow means that a key names a row that is not there.
var errLostRow = errors.New("read record store: a row is missing that a key names")

// leftOver deals with the rows that were in earlier states of the files of a descriptor, or in
// other files, and are not in these files as they are now. Of a table that is replaced as a whole,
// they are removed, unless one of the files has a problem. In a table without a primary key, where
// nothing tells which row a changed one stands for, they are reported.
func (r *rows) leftOver(ctx context.Context, files []tableFile, troubled map[*table]bool) error {
	for len(files) > 0 {
		t, n := files[0].table, 1
		for n < len(files) && files[n].table == t {
			n++
		}
		var err error
		switch f := files[0]; {
		case f.whole && troubled[t]:
			r.notes(f.name, "no row of the table %q is removed, because of the problems with its "+
				"files", t.of.Name)
		case f.whole:
			err = r.removeOthers(ctx, t)
		case !t.hasKey():
			err = r.reportFormer(ctx, t, files[:n])
		}
		if err != nil {
			return err
		}
		files = files[n:]
	}
	return nil
}

// replacements returns the tables of a package that replace ones with another description, and says
// by their names why others cannot: their files, in the folder of the descriptor from, are not
// free of problems. d may be nil.
func (n *native) replacements(
	ctx context.Context, d *dictionary, from string, p *datapackage.Package,
) (replaced map[string]bool, wrong map[string]string, err error) {
	replaced, wrong = map[string]bool{}, map[string]string{}
	for i := range p.Resources {
		t := &p.Resources[i]
		before := d.packageOf().Table(t.Name)
		if !t.Replace || before == nil || difference(before, t) == "" {
			continue
		}
		why, err := n.problemOf(ctx, filepath.Dir(from), t)
		if err != nil {
			return nil, nil, err
		}
		if why == "" {
			replaced[t.Name] = true
			continue
		}
		wrong[t.Name] = fmt.Sprintf("table %q: does not replace the one that came with %s, because "+
			"of a problem with its files: %s", t.Name, d.saved.Tables[t.Name].From, why)
	}
	return replaced, wrong, nil
}

// problemOf returns a problem with the files of a table that is not in the store; "" for none. Keys
// that occur twice, and where rows lead, are not checked.
func (n *native) problemOf(
	ctx context.Context, folder string, of *datapackage.Resource,
) (string, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return reason(err), nil
	}
	defer root.Close() // read only
	codec, err := datapackage.NewCodec(of)
	if err != nil {
		return err.Error(), nil
	}
	t := &table{of: of, codec: codec, indexes: [][]int{numbers(of, of.Fields.PrimaryKey)}}
	if len(of.Patient) == 1 {
		t.way = &way{field: of.Fields.Field(of.Patient[0]), system: of.PatientSystem}
	}
	for _, f := range n.filesOf(root, folder, t, of) {
		line, why := 1, "is no regular file"
		if f.info == nil || f.info.Mode().IsRegular() {
			line, why = f.problem(ctx, root, int(n.o.MaxResource))
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if why != "" {
			return fmt.Sprintf("%s:%d: %s", f.path, line, why), nil
		}
	}
	return "", nil
}

// problem returns a problem with the header or a row of a file, and its line; "" for none.
func (f tableFile) problem(ctx context.Context, root *os.Root, most int) (line int, why string) {
	s, done, err := f.open(root, new(atomic.Int64), !f.lacksHeader(root, most), most)
	if err != nil {
		return 1, err.Error()
	}
	defer done()
	if err := checkHeader(s, f.table.codec); err != nil {
		return max(s.Line(), 1), err.Error()
	}
	var room [][]byte
	for ctx.Err() == nil {
		raw, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			room, err = f.table.codec.Fields(raw, room)
		}
		if err == nil {
			err = f.table.checkRow(raw, room)
		}
		if why, ok := errors.AsType[*datapackage.RowError](err); ok {
			return why.Line, why.Problem
		}
		if err != nil {
			return s.Line(), err.Error()
		}
	}
	return 0, ""
}

// checkRow reports what is wrong with a row by itself.
func (t *table) checkRow(raw []byte, values [][]byte) error {
	if err := t.codec.Check(values); err != nil {
		return err
	}
	if _, ok := t.identity(raw, values, nil); !ok {
		return errNoKey
	}
	return t.checkPatient(values)
}

// removeTable removes all rows of a table, and what is noted of its foreign keys. The dictionary
// still has the table.
func (n *native) removeTable(ctx context.Context, d *dictionary, name string) error {
	t := d.tables[name]
	if err := n.newRows(d).removeOthers(ctx, t); err != nil {
		return err
	}
	return each(n.store.db, tableKey(kUnchecked, t.Number), func(k, _ []byte) error {
		return errors.Join(ctx.Err(), n.delete(k), n.flushFull())
	})
}

// removeOthers removes the rows of a table that are not in its files as they are now.
func (r *rows) removeOthers(ctx context.Context, t *table) error {
	if r.report.RowsRemoved == nil {
		r.report.RowsRemoved = map[string]int64{}
	}
	return r.eachPlace(ctx, t, func(k []byte, at rowPlace) error {
		if r.stands(at.pass) {
			return nil
		}
		raw, err := get(r.store.db, at.key(t))
		if err == nil && raw == nil {
			err = errLostRow
		}
		if err != nil {
			return err
		}
		r.report.RowsRemoved[t.of.Name]++
		return errors.Join(r.take(t, at, raw), r.delete(k), r.flushFull())
	})
}

// reportFormer reports how many rows are only in earlier states of a table's files.
func (r *rows) reportFormer(ctx context.Context, t *table, files []tableFile) error {
	former, err := r.formerPasses(files)
	if err != nil || len(former) == 0 {
		return err
	}
	count := 0
	err = r.eachPlace(ctx, t, func(_ []byte, at rowPlace) error {
		if former[at.pass] {
			count++
		}
		return nil
	})
	if err == nil && count > 0 {
		r.notes(files[0].name, "%d rows of former states of the files of the table %q stay with "+
			"their patients, also if they were corrected: the table has no primary key. To remove "+
			`them, import all its files with "ehi:replace": true in the descriptor`,
			count, t.of.Name)
	}
	return err
}

// formerPasses returns the passes in which files were read before they were read by this import;
// none if it read none of them.
func (r *rows) formerPasses(files []tableFile) (map[uint32]bool, error) {
	read := map[string]bool{}
	for pass, from := range r.current {
		if pass >= r.since {
			read[from.File] = true
		}
	}
	of := map[string]bool{}
	for _, f := range files {
		abs, err := filepath.Abs(f.name)
		if err != nil {
			return nil, err
		}
		of[abs] = read[abs]
	}
	former := map[uint32]bool{}
	err := r.eachPass(func(pass uint32, from passFile) {
		if of[from.File] && !r.stands(pass) {
			former[pass] = true
		}
	})
	return former, err
}

// eachPlace visits the keys of a table's first index, and the places of its rows.
func (r *rows) eachPlace(
	ctx context.Context, t *table, visit func(k []byte, at rowPlace) error,
) error {
	if err := r.flush(); err != nil {
		return err
	}
	return each(r.store.db, append(tableKey(kRowIndex, t.Number), 0), func(k, v []byte) error {
		at, err := decodePlace(v)
		if err = errors.Join(ctx.Err(), err); err != nil {
			return err
		}
		return visit(k, at)
	})
}
