package dataset

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/shared/datapackage"
)

// dictionary describes all tables of a store. It does not change; an import of other tables makes
// another one.
type dictionary struct {
	pack   *datapackage.Package
	saved  savedDictionary
	tables map[string]*table
	order  []*table // as pack.Order
	number map[uint16]*table
}

// savedDictionary is the value of the T key.
type savedDictionary struct {
	// Version changes whenever the dictionary does.
	Version int                   `json:"version"`
	Tables  map[string]savedTable `json:"tables"`
	Package json.RawMessage       `json:"package"` // the descriptor
	// ByValue tells that indexes find rows by the canonical forms of values. Those of older stores
	// find them by keys as they are written.
	ByValue bool `json:"byValue,omitempty"`
}

// savedTable is what the store knows of a table beside its description.
type savedTable struct {
	Number uint16 `json:"number"` // in keys
	From   string `json:"from"`   // the descriptor that it came with
	// Indexes are the sets of fields by which rows are found. The first one is the primary key;
	// empty if the table has none.
	Indexes [][]string `json:"indexes"`
}

// table is a table, ready for use.
type table struct {
	savedTable
	of      *datapackage.Resource
	codec   *datapackage.Codec
	byValue bool    // see savedDictionary.ByValue
	indexes [][]int // fields of savedTable.Indexes, by their numbers
	foreign []foreignKey
	// referred are the indexes to which foreign keys lead.
	referred []int
	// unique are the indexes, but for the first one, of fields whose values occur once.
	unique []int
	// way leads from a row to its patient; nil for a look-up table.
	way *way
	// through are the rests of other tables' ways behind the rows of this one.
	through []*way
}

// foreignKey leads from a row to rows of another table.
type foreignKey struct {
	name   string // of its fields, for messages
	fields []int
	target *table
	index  int // of the target
}

// way is a path of fields from a row to its patient.
type way struct {
	field  int
	system string // of the identifier in the last field; "" for a patient's ID
	// key and next are how it goes on; nil if the field holds the patient.
	key  *foreignKey
	next *way
}

// byID reports whether a way consists of one field with a patient's ID: nothing but the row itself
// says then where it leads.
func (w *way) byID() bool { return w.next == nil && w.system == "" }

// dictionaryOf returns the dictionary of a snapshot of the store; nil if it has no tables.
func (s *Store) dictionaryOf(r pebble.Reader) (*dictionary, error) {
	v, err := get(r, key(kTables))
	if err != nil || v == nil {
		return nil, err
	}
	if known := s.dictionary.Load(); known != nil && bytes.Equal(known.text, v) {
		return known.dictionary, nil
	}
	s.learning.Lock()
	defer s.learning.Unlock()
	if known := s.dictionary.Load(); known != nil && bytes.Equal(known.text, v) {
		return known.dictionary, nil
	}
	d, err := parseDictionary(v)
	if err != nil {
		return nil, fmt.Errorf("read record store: the dictionary of its tables: %w", err)
	}
	now, err := get(s.db, key(kTables))
	if err == nil && bytes.Equal(now, v) { // not that of an older population
		s.dictionary.Store(&knownDictionary{v, d})
	}
	return d, err
}

// knownDictionary is the dictionary that was used last.
type knownDictionary struct {
	text []byte
	*dictionary
}

func parseDictionary(text []byte) (*dictionary, error) {
	d := &dictionary{tables: map[string]*table{}, number: map[uint16]*table{}}
	err := json.Unmarshal(text, &d.saved)
	if err == nil {
		d.pack, err = datapackage.Parse(d.saved.Package)
	}
	if err != nil {
		return nil, err
	}
	return d, d.link()
}

// link makes tables of the descriptions.
func (d *dictionary) link() error {
	for i := range d.pack.Resources {
		of := &d.pack.Resources[i]
		codec, err := datapackage.NewCodec(of)
		if err != nil {
			return err
		}
		t := &table{
			savedTable: d.saved.Tables[of.Name], of: of, codec: codec, byValue: d.saved.ByValue,
		}
		for _, fields := range t.Indexes {
			t.indexes = append(t.indexes, numbers(of, fields))
		}
		for _, name := range uniqueFields(of) {
			if i, _ := t.index([]string{name}); i > 0 {
				t.unique = append(t.unique, i)
			}
		}
		d.tables[of.Name], d.number[t.Number] = t, t
	}
	for _, t := range d.tables {
		for i := range t.of.Fields.ForeignKeys {
			k := d.foreign(t, &t.of.Fields.ForeignKeys[i])
			t.foreign = append(t.foreign, k)
			if !slices.Contains(k.target.referred, k.index) {
				k.target.referred = append(k.target.referred, k.index)
			}
		}
	}
	names, err := d.pack.Order()
	if err != nil {
		return err
	}
	for _, name := range names {
		t := d.tables[name]
		if len(t.of.Patient) > 0 {
			t.way = d.way(t, t.of.Patient, t.of.PatientSystem)
		}
		d.order = append(d.order, t)
	}
	return nil
}

// uniqueFields returns the fields whose values occur once.
func uniqueFields(of *datapackage.Resource) (names []string) {
	for _, f := range of.Fields.Fields {
		if f.Constraints != nil && f.Constraints.Unique {
			names = append(names, f.Name)
		}
	}
	return names
}

// numbers returns the numbers of fields.
func numbers(of *datapackage.Resource, fields []string) []int {
	out := make([]int, len(fields))
	for i, f := range fields {
		out[i] = of.Fields.Field(f)
	}
	return out
}

func (d *dictionary) foreign(t *table, k *datapackage.ForeignKey) foreignKey {
	target := t
	if k.Reference.Resource != "" {
		target = d.tables[k.Reference.Resource]
	}
	index, order := target.index(k.Reference.Fields)
	fields := make([]string, len(order))
	for i, at := range order {
		fields[i] = k.Fields[at]
	}
	return foreignKey{
		name:   strings.Join(k.Fields, ", "),
		fields: numbers(t.of, fields),
		target: target,
		index:  index,
	}
}

// index returns the index of a set of fields, and where its fields are in the set; -1 for none.
func (t *table) index(fields []string) (index int, order []int) {
	for i, of := range t.Indexes {
		if !sameSet(of, fields) {
			continue
		}
		for _, name := range of {
			order = append(order, slices.Index(fields, name))
		}
		return i, order
	}
	return -1, nil
}

func sameSet(a, b []string) bool {
	return len(a) == len(b) && len(a) > 0 &&
		!slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

func (d *dictionary) way(t *table, path []string, system string) *way {
	w := &way{field: t.of.Fields.Field(path[0]), system: system}
	if len(path) == 1 {
		return w
	}
	k, _ := t.of.Fields.PathKey(path[0])
	foreign := d.foreign(t, k)
	w.key = &foreign
	w.next = d.way(foreign.target, path[1:], system)
	foreign.target.through = append(foreign.target.through, w.next)
	return w
}

// mostTables is how many tables a store can have, and mostIndexes how many indexes a table.
const mostTables, mostIndexes = 1 << 16, 1 << 8

// merged returns the dictionary with the tables of a package that came from a descriptor. A table
// that is there with another schema stays as it is: conflicts says why by its name. But those of
// replaced get their new description, and a new number, which has no rows. d may be nil.
func (d *dictionary) merged(
	p *datapackage.Package, from string, refused map[string]bool, replaced map[string]bool,
) (
	_ *dictionary, conflicts map[string]string, err error,
) {
	out := &dictionary{tables: map[string]*table{}, number: map[uint16]*table{}}
	pack := datapackage.Package{}
	out.saved = savedDictionary{Tables: map[string]savedTable{}, ByValue: true}
	if d != nil {
		pack = *d.pack
		pack.Resources = slices.Clone(d.pack.Resources)
		out.saved = d.saved
		out.saved.Tables = maps.Clone(d.saved.Tables)
	}
	p, conflicts = d.connected(p, refused, replaced)
	for _, t := range p.Resources {
		t.Path, t.Bytes, t.Hash, t.Replace, t.Part = nil, 0, "", false, nil
		at := slices.IndexFunc(pack.Resources, func(o datapackage.Resource) bool {
			return o.Name == t.Name
		})
		if at < 0 || replaced[t.Name] {
			number, err := out.saved.nextNumber()
			if err != nil {
				return nil, conflicts, err
			}
			out.saved.Tables[t.Name] = savedTable{
				Number:  number,
				From:    from,
				Indexes: [][]string{slices.Clone(t.Fields.PrimaryKey)},
			}
			if at < 0 {
				pack.Resources = append(pack.Resources, t)
			} else {
				pack.Resources[at] = t
			}
			continue
		}
		if why := difference(&pack.Resources[at], &t); why != "" {
			conflicts[t.Name] = fmt.Sprintf("table %q: %s differs from the table that came with "+
				"%s; no row of it is imported. With \"ehi:replace\": true, it replaces that table",
				t.Name, why, out.saved.Tables[t.Name].From)
			continue
		}
		s := &pack.Resources[at].Fields // has the same keys, perhaps in another order
		t.Fields.ForeignKeys, t.Fields.Elsewhere = s.ForeignKeys, s.Elsewhere
		pack.Resources[at] = t // its texts and its category may be new
	}
	if d == nil {
		pack.Schema, pack.Name, pack.Title = p.Schema, p.Name, p.Title
		pack.Description, pack.Homepage, pack.Version = p.Description, p.Homepage, p.Version
		pack.Created = p.Created
	}
	pack.Connect()
	out.addIndexes(&pack)
	for name, t := range out.saved.Tables {
		if len(t.Indexes) > mostIndexes {
			return nil, conflicts, fmt.Errorf("table %q: has more than %d keys and unique fields",
				name, mostIndexes)
		}
	}
	out.pack = &pack
	if err := pack.Check(); err != nil {
		return nil, conflicts, err
	}
	out.saved.Package = pack.JSON()
	// as it will be read
	if out.pack, err = datapackage.Parse(out.saved.Package); err != nil {
		return nil, conflicts, err
	}
	return out, conflicts, out.link()
}

// nextNumber returns a number that no table has, nor had before it was replaced by the one with the
// highest number.
func (d *savedDictionary) nextNumber() (uint16, error) {
	next := 0
	for _, t := range d.Tables {
		next = max(next, int(t.Number)+1)
	}
	if next == mostTables {
		return 0, fmt.Errorf("the store can have %d tables", mostTables)
	}
	return uint16(next), nil
}

// connected returns the tables of a package that lead to patients with those that d has, and that
// refer to no table of which a descriptor has a wrong description (refused): nobody would know what
// is sensitive about its rows. conflicts says by their names why others do not. d may be nil.
func (d *dictionary) connected(
	p *datapackage.Package, refused map[string]bool, replaced map[string]bool,
) (
	_ *datapackage.Package, conflicts map[string]string,
) {
	conflicts = map[string]string{}
	for {
		all := datapackage.Package{Resources: slices.Clone(p.Resources)}
		if d != nil {
			all.Resources = nil
			for _, t := range d.pack.Resources {
				if !replaced[t.Name] || p.Table(t.Name) == nil {
					all.Resources = append(all.Resources, t)
				}
			}
			for _, t := range p.Resources {
				if all.Table(t.Name) == nil {
					all.Resources = append(all.Resources, t)
				}
			}
		}
		all.Connect()
		before := len(conflicts)
		for _, t := range p.Resources {
			if through := all.LeadsElsewhere(t.Name); through != "" {
				conflicts[t.Name] = fmt.Sprintf("table %q: leads to its patients through the "+
					"table %q, which nothing describes; no row of it is imported", t.Name, through)
				continue
			}
			for _, k := range all.Table(t.Name).Fields.Elsewhere {
				if to := k.Reference.Resource; refused[to] || conflicts[to] != "" {
					conflicts[t.Name] = fmt.Sprintf("table %q: refers to the table %q, which is "+
						"not imported; no row of it is imported", t.Name, to)
				}
			}
		}
		if len(conflicts) == before {
			return p, conflicts
		}
		p = p.Narrow(func(name string) bool { return conflicts[name] == "" }, nil)
	}
}

// addIndexes adds an index for each set of fields that a foreign key refers to, and for each field
// whose values occur once.
func (d *dictionary) addIndexes(p *datapackage.Package) {
	for i := range p.Resources {
		for _, k := range p.Resources[i].Fields.ForeignKeys {
			d.addIndex(cmp.Or(k.Reference.Resource, p.Resources[i].Name), k.Reference.Fields)
		}
		for _, name := range uniqueFields(&p.Resources[i]) {
			d.addIndex(p.Resources[i].Name, []string{name})
		}
	}
}

// addIndex adds an index of a table, unless it has one of these fields.
func (d *dictionary) addIndex(table string, fields []string) {
	t, there := d.saved.Tables[table]
	if !there || slices.ContainsFunc(t.Indexes, func(of []string) bool {
		return sameSet(of, fields)
	}) {
		return
	}
	t.Indexes = append(slices.Clone(t.Indexes), slices.Clone(fields))
	d.saved.Tables[table] = t
}

// difference says in what the rows of two descriptions of a table differ; "" for nothing. Texts for
// people, and what a release form decides, may differ.
func difference(a, b *datapackage.Resource) string {
	for i := range max(len(a.Fields.Fields), len(b.Fields.Fields)) {
		if i >= len(a.Fields.Fields) || i >= len(b.Fields.Fields) {
			return fmt.Sprintf("the number of its fields (%d)", len(b.Fields.Fields))
		}
		f, g := plainField(a.Fields.Fields[i]), plainField(b.Fields.Fields[i])
		if !sameJSON(f, g) {
			return fmt.Sprintf("its field %q", g.Name)
		}
	}
	for _, part := range []struct {
		name string
		a, b any
	}{
		{"its schema.missingValues", a.Fields.MissingValues, b.Fields.MissingValues},
		{"its schema.primaryKey", a.Fields.PrimaryKey, b.Fields.PrimaryKey},
		{"its schema.foreignKeys", plainKeys(a), plainKeys(b)},
		{"its dialect", plainDialect(a), plainDialect(b)},
		{"its encoding", true, datapackage.SameEncoding(a.Encoding, b.Encoding)},
		{"its ehi:patient", a.Patient, b.Patient},
		{"its ehi:patientSystem", a.PatientSystem, b.PatientSystem},
		{"its ehi:lookup", a.Lookup, b.Lookup},
	} {
		if !sameJSON(part.a, part.b) {
			return part.name
		}
	}
	return ""
}

// plainField returns what of a field decides about its values.
func plainField(f datapackage.Field) datapackage.Field {
	f.Title, f.Description, f.Example = "", "", ""
	f.Resource, f.System, f.Label = "", "", false
	if f.Type == "string" {
		f.Type = ""
	}
	if f.Format == "default" {
		f.Format = ""
	}
	return f
}

// plainKeys returns the foreign keys of a table, whatever their order is, and wherever the tables
// are described.
func plainKeys(t *datapackage.Resource) (out []string) {
	s := datapackage.Schema{
		ForeignKeys: slices.Concat(t.Fields.ForeignKeys, t.Fields.Elsewhere),
	}
	s.MarkPaths()
	for _, k := range s.ForeignKeys {
		k.Reference.Resource = cmp.Or(k.Reference.Resource, t.Name)
		text, err := json.Marshal(k)
		if err != nil { // strings only: cannot fail
			panic(err)
		}
		out = append(out, string(text))
	}
	slices.Sort(out)
	return out
}

// plainDialect returns the dialect as it is written, with its defaults.
func plainDialect(t *datapackage.Resource) any {
	p := datapackage.Package{Resources: []datapackage.Resource{{
		Name: t.Name, Format: t.Format, Dialect: t.Dialect, Encoding: t.Encoding,
	}}}
	var out struct{ Resources []struct{ Dialect any } }
	if err := json.Unmarshal(p.JSON(), &out); err != nil { // it was just written
		panic(err)
	}
	return out.Resources[0].Dialect
}

// sameJSON reports whether two values are written in the same way; nothing is the same as an empty
// list.
func sameJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	empty := func(s string) bool { return s == "null" || s == "[]" }
	return err == nil && err2 == nil &&
		(bytes.Equal(x, y) || empty(string(x)) && empty(string(y)))
}

// errNoDictionary means that rows are there, and no table.
var errNoDictionary = errors.New("read record store: it has rows of a table that it does not know")

// Sequences number rows in the order in which they came: the pass, which is the reading of one
// file, and the line in it.

const (
	passSize     = 4
	sequenceSize = passSize + 5
)

// sequence is where a row came from.
type sequence [sequenceSize]byte

func sequenceOf(pass uint32, line int) (s sequence) {
	binary.BigEndian.PutUint32(s[:], pass)
	for i, shift := passSize, 32; i < sequenceSize; i, shift = i+1, shift-8 {
		s[i] = byte(line >> shift)
	}
	return s
}

func (s sequence) pass() uint32 { return binary.BigEndian.Uint32(s[:]) }

func (s sequence) line() (line int) {
	for _, b := range s[passSize:] {
		line = line<<8 | int(b)
	}
	return line
}

// all visits the rows of a table.
func (t *table) all(r pebble.Reader, visit func(at rowPlace, raw []byte) error) error {
	prefix := tableKey(kRow, t.Number)
	err := each(r, prefix, func(k, raw []byte) error {
		patient, s, _ := bytes.Cut(k[len(prefix):], []byte{0})
		return visit(rowPlace{kind: kRow, sequence: sequence(s), patient: string(patient)}, raw)
	})
	if err != nil {
		return err
	}
	prefix = tableKey(kWaitRow, t.Number)
	return each(r, prefix, func(k, raw []byte) error {
		return visit(rowPlace{kind: kWaitRow, sequence: sequence(k[len(prefix):])}, raw)
	})
}

// tableKey returns a kind and a table's number.
func tableKey(kind byte, number uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{kind}, number)
}

// rowsKey is the prefix of a patient's rows; "" for a look-up table.
func rowsKey(number uint16, patient string) []byte {
	return append(append(tableKey(kRow, number), patient...), 0)
}
