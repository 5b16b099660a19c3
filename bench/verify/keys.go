package verify

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"ehi-server/shared/datapackage"
)

// keys are the keys of the rows of an export, as hashes of 64 bits. Two of 60 million keys have
// the same hash in one of ten thousand exports, where a key then seems to be there twice, or one
// that leads nowhere is missed.
type keys struct {
	// alone means that nothing but one archive counts: keys that lead out of it do not.
	alone   bool
	mu      sync.Mutex
	files   map[string]int // how many files each table has
	targets map[columns]*target
	foreign map[foreignKey]map[uint64]place
}

// columns are fields of a table that rows are known by: a primary key, or what foreign keys refer
// to.
type columns struct {
	table  string
	fields string // joined by commas
}

// target is the values of columns.
type target struct {
	unique bool // as a primary key is
	files  int  // of the table that were read
	values map[uint64]struct{}
}

// foreignKey is a foreign key of a table.
type foreignKey struct{ from, to columns }

// place is a row.
type place struct {
	at  string // the file
	row int64
}

func columnsOf(table string, fields []string) columns {
	return columns{table, strings.Join(fields, ",")}
}

// targetOf returns the table and the fields that a foreign key of a table refers to.
func targetOf(t *datapackage.Resource, k datapackage.ForeignKey) columns {
	if k.Reference.Resource == "" {
		return columnsOf(t.Name, k.Reference.Fields)
	}
	return columnsOf(k.Reference.Resource, k.Reference.Fields)
}

// expect notes what a descriptor says, before its tables are read.
func (k *keys) expect(p *datapackage.Package) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == nil {
		k.files, k.targets = map[string]int{}, map[columns]*target{}
		k.foreign = map[foreignKey]map[uint64]place{}
	}
	for i := range p.Resources {
		t := &p.Resources[i]
		k.files[t.Name]++
		if len(t.Fields.PrimaryKey) > 0 {
			k.target(columnsOf(t.Name, t.Fields.PrimaryKey)).unique = true
		}
		for _, key := range k.foreignOf(t) {
			k.target(targetOf(t, key))
		}
	}
}

// foreignOf returns the foreign keys of a table that must lead to rows.
func (k *keys) foreignOf(t *datapackage.Resource) []datapackage.ForeignKey {
	if k.alone {
		return t.Fields.ForeignKeys
	}
	return slices.Concat(t.Fields.ForeignKeys, t.Fields.Elsewhere)
}

func (k *keys) target(c columns) *target {
	if k.targets[c] == nil {
		k.targets[c] = &target{values: map[uint64]struct{}{}}
	}
	return k.targets[c]
}

// tableKeys collects the keys of one file of a table.
type tableKeys struct {
	codec   *datapackage.Codec
	targets []collected
	foreign []collected
	hash    maphash.Hash
}

// collected is the values of columns of one file.
type collected struct {
	columns columns
	to      columns // what a foreign key refers to
	numbers []int
	unique  bool
	rows    map[uint64]int64 // the first row with each value
}

// of prepares for the rows of a file.
func (k *keys) of(t *datapackage.Resource, codec *datapackage.Codec) *tableKeys {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := &tableKeys{codec: codec}
	out.hash.SetSeed(seed)
	for c, target := range k.targets {
		if c.table == t.Name {
			fields := strings.Split(c.fields, ",")
			out.targets = append(out.targets, collect(t, fields, target.unique))
		}
	}
	for _, key := range k.foreignOf(t) {
		c := collect(t, key.Fields, false)
		c.to = targetOf(t, key)
		out.foreign = append(out.foreign, c)
	}
	return out
}

// seed makes hashes of all exports comparable.
var seed = maphash.MakeSeed()

func collect(t *datapackage.Resource, fields []string, unique bool) collected {
	c := collected{
		columns: columnsOf(t.Name, fields), unique: unique, rows: map[uint64]int64{},
	}
	for _, name := range fields {
		c.numbers = append(c.numbers, t.Fields.Field(name))
	}
	return c
}

// row takes the keys of a row.
func (t *tableKeys) row(values [][]byte, row int64) error {
	for _, c := range t.targets {
		sum, ok := t.sum(c.numbers, values)
		if _, known := c.rows[sum]; c.unique && (!ok || known) {
			return fmt.Errorf("the primary key %s is missing, or is that of another row",
				c.columns.fields)
		} else if ok && !known {
			c.rows[sum] = row
		}
	}
	for _, c := range t.foreign {
		sum, ok := t.sum(c.numbers, values)
		if _, known := c.rows[sum]; ok && !known {
			c.rows[sum] = row
		}
	}
	return nil
}

// sum returns the hash of some values. ok is false if one is missing.
func (t *tableKeys) sum(numbers []int, values [][]byte) (sum uint64, ok bool) {
	t.hash.Reset()
	var size [8]byte
	for _, i := range numbers {
		if i < 0 || t.codec.Missing(i, values[i]) {
			return 0, false
		}
		binary.LittleEndian.PutUint64(size[:], uint64(len(values[i])))
		_, _ = t.hash.Write(size[:]) // hashes never fail
		_, _ = t.hash.Write(values[i])
	}
	return t.hash.Sum64(), true
}

// add adds the keys of a file.
func (k *keys) add(t *tableKeys, at string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range t.targets {
		to := k.targets[c.columns]
		to.files++
		for sum, row := range c.rows {
			if _, known := to.values[sum]; known && to.unique {
				return Wrongf("%s, row %d: the primary key %s is that of a row in another file", at,
					row, c.columns.fields)
			}
			to.values[sum] = struct{}{}
		}
	}
	for _, c := range t.foreign {
		key := foreignKey{c.columns, c.to}
		if k.foreign[key] == nil {
			k.foreign[key] = map[uint64]place{}
		}
		for sum, row := range c.rows {
			k.foreign[key][sum] = place{at, row}
		}
	}
	return nil
}

// closed checks that foreign keys lead to rows. Columns that not all files of the table were read
// for, as a descriptor of another archive is the first to name them, may lack values.
func (k *keys) closed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, sums := range k.foreign {
		to := k.targets[key.to]
		if to.files < k.files[key.to.table] {
			continue
		}
		for sum, where := range sums {
			if _, ok := to.values[sum]; !ok {
				return Wrongf("%s, row %d: the foreign key %s leads to no row of %s", where.at,
					where.row, key.from.fields, key.to.table)
			}
		}
	}
	return nil
}
