package native

import (
	"errors"
	"slices"
	"strings"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// beside is what is released together with the tables that wait, each of which is decided alone:
// the look-up rows that its rows refer to, and a description of it and of these. So what an
// administrator releases can be read, and its keys lead somewhere.
type beside struct {
	of          *loose
	files       []companion
	numbers     map[string]int // of the tables, by name
	list, index *lines
}

// companion is a file that is released with a table.
type companion struct {
	looseEntry
	with string // the name of the table's file
}

// besideName returns the name of a file that is released with a table. The names of tables have
// no tilde, so it is no table's.
func besideName(table *datapackage.Resource, name string) string {
	return tablesFolder + table.Name + "~" + name
}

// complete adds what is released with a table that was written.
func (l *loose) complete(t *tableWriting) error {
	if l.beside == nil {
		l.beside = &beside{of: l, numbers: map[string]int{}}
	}
	b, with := l.beside, tablesFolder+tableName(t.of)
	described := l.described[len(l.described)-1:]
	if t.needs != nil {
		err := t.needs.each(l.Record.Tables(), func(r *datapackage.Resource, rows *found) error {
			d, err := b.lookup(t, r, rows)
			described = append(slices.Clip(described), d)
			return err
		})
		if err != nil {
			return err
		}
	}
	at := ehi.NativeFile{
		Name: besideName(t.of, descriptorName), ContentType: datapackage.MediaType,
	}
	m, err := l.store(&at, l.Export.descriptor(described, nil, t.claims))
	if err != nil {
		return err
	}
	b.files = append(b.files, companion{looseEntry{l.descriptorFile(at.Name, m), at}, with})
	return nil
}

// lookup adds look-up rows, and returns their description.
func (b *beside) lookup(
	t *tableWriting, r *datapackage.Resource, rows *found,
) (d datapackage.Resource, err error) {
	codec, err := datapackage.NewCodec(r)
	if err != nil {
		return d, err
	}
	t.claims.watch(r, codec)
	if err := t.claims.see(r, rows.rows); err != nil {
		return d, err
	}
	at := ehi.NativeFile{Name: besideName(t.of, tableName(r)), ContentType: tableType(r)}
	m, err := b.of.store(&at, codec.Header(rows.rows), rows.rows)
	if err != nil {
		return d, err
	}
	digest := m.digest()
	b.files = append(b.files, companion{
		looseEntry{b.of.tableFile(r, at.Name, m.size, digest), at}, tablesFolder + tableName(t.of),
	})
	return described(r, strings.TrimPrefix(at.Name, tablesFolder), m.size, digest), nil
}

// number notes the number of a file that waits.
func (b *beside) number(name string, n int) {
	if b != nil {
		b.numbers[name] = n
	}
}

// end writes the list and the index.
func (b *beside) end() error {
	if b == nil {
		return nil
	}
	slices.SortFunc(b.files, func(x, y companion) int {
		return strings.Compare(x.at.Name, y.at.Name)
	})
	b.list, b.index = newLines(b.of.Batch), newLines(b.of.Batch)
	for _, f := range b.files {
		f.at.With = b.numbers[f.with]
		if err := b.of.enter(b.list, b.index, f.file, f.at); err != nil {
			return err
		}
	}
	return errors.Join(b.list.w.Flush(), b.index.w.Flush())
}

// outputs returns what was written.
func (b *beside) outputs() []Output {
	if b == nil {
		return nil
	}
	return []Output{
		{
			Number: b.list.output.Number(), Type: "DocumentReference", Kind: ehi.HeldBeside,
			Count: b.list.n, Bytes: b.list.bytes,
		},
		{
			Number: b.index.output.Number(), Kind: ehi.HeldBesideIndex, Count: b.index.n,
			Bytes: b.index.bytes,
		},
	}
}
