package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"

	"ehi-server/exporter/source"
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
		case f.whole && troubled[t] && r.cleared[t.of.Name]:
			r.notes(f.name, "the former rows of the table %q, which had another description, are "+
				"removed, although there are problems with its files: they changed meanwhile. "+
				"Solve the problems, and import again", t.of.Name)
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
		why, err := n.problemOf(ctx, filepath.Dir(from), t, d.saved.ByValue)
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

// problemOf returns a problem with the files of a table that is not in the store; "" for none.
// Where rows lead is not checked. byValue is as in the dictionary.
func (n *native) problemOf(
	ctx context.Context, folder string, of *datapackage.Resource, byValue bool,
) (why string, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return reason(err), nil
	}
	defer root.Close() // read only
	codec, err := datapackage.NewCodec(of)
	if err != nil {
		return err.Error(), nil
	}
	keys, err := n.store.newKeyset()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	r := rehearsal{native: n, table: tableOf(of, codec, byValue), keys: keys}
	r.files = n.filesOf(root, folder, r.table, of)
	for i, f := range r.files {
		line, why := 1, "is no regular file"
		if f.info == nil || f.info.Mode().IsRegular() {
			line, why, err = r.problem(ctx, root, i)
		}
		if err = errors.Join(ctx.Err(), err); err != nil {
			return "", err
		}
		if why != "" {
			return fmt.Sprintf("%s:%d: %s", f.path, line, why), nil
		}
	}
	return "", nil
}

// tableOf returns a table that is in no dictionary: its indexes are its primary key and its unique
// fields.
func tableOf(of *datapackage.Resource, codec *datapackage.Codec, byValue bool) *table {
	t := &table{of: of, codec: codec, byValue: byValue}
	t.Indexes = [][]string{of.Fields.PrimaryKey}
	for _, name := range uniqueFields(of) {
		if i, _ := t.index([]string{name}); i < 0 {
			t.unique = append(t.unique, len(t.Indexes))
			t.Indexes = append(t.Indexes, []string{name})
		}
	}
	for _, fields := range t.Indexes {
		t.indexes = append(t.indexes, numbers(of, fields))
	}
	if len(of.Patient) == 1 {
		t.way = &way{field: of.Fields.Field(of.Patient[0]), system: of.PatientSystem}
	}
	return t
}

// rehearsal reads the files of a table as an import does, and stores nothing of them.
type rehearsal struct {
	*native
	table *table
	files []tableFile
	keys  *keyset
	room  [][]byte // for the values of a key
}

// problem returns a problem with the header or a row of a file, and its line; "" for none. Errors
// are those of the store.
func (r *rehearsal) problem(
	ctx context.Context, root *os.Root, file int,
) (line int, why string, err error) {
	f, most := r.files[file], int(r.o.MaxResource)
	s, done, err := f.open(root, new(atomic.Int64), !f.lacksHeader(root, most), most)
	if err != nil {
		return 1, err.Error(), nil
	}
	defer done()
	if err := checkHeader(s, f.table.codec); err != nil {
		return max(s.Line(), 1), err.Error(), nil
	}
	var values [][]byte
	for first := true; ctx.Err() == nil; first = false {
		raw, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			values, err = f.table.checkRow(raw, values, first)
		} else if _, row := errors.AsType[*datapackage.RowError](err); !row {
			err = errUnreadable(err)
		}
		if why, ok := errors.AsType[*datapackage.RowError](err); ok {
			return why.Line, why.Problem, nil
		}
		if err != nil {
			return s.Line(), err.Error(), nil
		}
		why, err := r.repeats(values, rowAt{file, s.Line()})
		if err != nil || why != "" {
			return s.Line(), why, err
		}
	}
	return 0, "", nil
}

// checkRow returns the values of a row, and reports what is wrong with it by itself.
func (t *table) checkRow(raw []byte, room [][]byte, first bool) ([][]byte, error) {
	values, err := t.checkCells(raw, room, first)
	if err != nil {
		return values, err
	}
	if _, ok := t.identity(raw, values, nil); !ok {
		return values, errNoKey
	}
	return values, t.checkPatient(values)
}

// repeats says which row before has the primary key of a row, or its value of a unique field; ""
// for none. Errors are those of the store.
func (r *rehearsal) repeats(values [][]byte, at rowAt) (why string, err error) {
	t := r.table
	if t.hasKey() {
		first, twice, err := r.repeated(0, values, at)
		if err != nil || twice {
			return r.where(first, at) + " has the same primary key", err
		}
	}
	for _, index := range t.unique {
		first, twice, err := r.repeated(index, values, at)
		if err != nil || twice {
			return sameValue(t.Indexes[index][0], r.where(first, at)), err
		}
	}
	return "", nil
}

// repeated returns a row before that has the key of a row in an index.
func (r *rehearsal) repeated(
	index int, values [][]byte, at rowAt,
) (first rowAt, twice bool, err error) {
	key, ok := r.table.pick(values, r.table.indexes[index], r.room)
	if r.room = key; !ok {
		return first, false, nil
	}
	return r.keys.add(index, r.table.digest(index, key), at)
}

// where names a row.
func (r *rehearsal) where(first, at rowAt) string {
	if first.file == at.file {
		return "the row in line " + strconv.Itoa(first.line)
	}
	return fmt.Sprintf("the row in %s:%d", r.files[first.file].name, first.line)
}

// removeTable removes all rows of a table, and what is noted of its foreign keys. The dictionary
// still has the table.
func (n *native) removeTable(ctx context.Context, d *dictionary, name string) error {
	t := d.tables[name]
	n.cleared[name] = true
	r := n.newRows(d)
	r.whole = true
	err := r.removeOthers(ctx, t)
	for _, kind := range []byte{kUnchecked, kLost} { // by keys as they were
		err = errors.Join(err, n.forget(ctx, tableKey(kind, t.Number)))
	}
	return err
}

// forget deletes the keys with a prefix.
func (n *native) forget(ctx context.Context, prefix []byte) error {
	return each(n.store.db, prefix, func(k, _ []byte) error {
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
		return errors.Join(r.take(t, at, raw, nil), r.delete(k), r.flushFull())
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

// leftBehind says of which tables the rows follow a replaced table to their patients as it led
// before, although its description leads in another way now: nothing but a description of their
// own changes that. before and d are the dictionaries.
func (n *native) leftBehind(from string, before, d *dictionary, replaced map[string]bool) {
	for _, t := range d.order {
		at, path := t, t.of.Patient
		for w := t.way; w != nil && w.key != nil; w = w.next {
			at, path = w.key.target, path[1:]
			if !replaced[at.of.Name] || at == t {
				continue
			}
			follows := fmt.Sprint(path, t.of.PatientSystem)
			if was := before.tables[at.of.Name].of; follows == leads(was) &&
				follows != leads(at.of) {
				n.behind[t.of.Name] = source.Problem{File: from, Line: 1, Why: fmt.Sprintf("table "+
					"%q: its rows follow the table %q to their patients as before, but that leads "+
					"to them in another way now. If the rows are of other patients, too, replace "+
					"the table with another ehi:patient or ehi:patientSystem", t.of.Name,
					at.of.Name)}
			}
		}
	}
}

// leads is how a table leads to its patients.
func leads(of *datapackage.Resource) string { return fmt.Sprint(of.Patient, of.PatientSystem) }

// tellBehind reports the tables that were left behind, unless they were replaced, too.
func (n *native) tellBehind(context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(n.behind)) {
		if n.cleared[name] {
			continue
		}
		p := n.behind[name]
		if err := n.bad(p.File, p.Line, p.Why); err != nil {
			return err
		}
	}
	return nil
}
