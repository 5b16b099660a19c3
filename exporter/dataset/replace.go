package dataset

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"path/filepath"
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
	for _, from := range r.current {
		read[from.File] = true
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
	err := each(r.store.db, []byte{kPass}, func(k, v []byte) error {
		var from passFile
		if err := json.Unmarshal(v, &from); err != nil {
			return err
		}
		if pass := binary.BigEndian.Uint32(k[1:]); of[from.File] && !r.stands(pass) {
			former[pass] = true
		}
		return nil
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
