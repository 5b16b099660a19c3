package native

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"

	"ehi-server/shared/datapackage"
)

// mostClaimed is how many values of keys are held to verify foreign keys. With more, keys are not
// claimed. Each value takes some 20 bytes.
const mostClaimed = 1 << 18

// claims finds out which foreign keys a description may have: those whose rows are all beside it.
// A row can refer to one that is missing or another patient's, and who checks the tables would
// find a broken key then. A key on the path to the patient needs no proof: without its row, a row
// would have no patient. Others are verified with the rows that are written, or not claimed.
type claims struct {
	of     *datapackage.Package
	seed   maphash.Seed
	shared bool                     // only look-up tables are compared
	tables map[string]*claimedTable // whose rows are all seen; nil with too many values
	keys   map[string]hashes        // that foreign keys refer to, by keyName
	held   int                      // values
	row    [][]byte
	key    []byte
}

// hashes are the hashes of a key's values.
type hashes map[uint64]struct{}

// claimedTable is a table whose rows are compared with others.
type claimedTable struct {
	codec  *datapackage.Codec
	own    []ownKey
	refers []claimed
}

// ownKey is a key of a table to which others refer.
type ownKey struct {
	columns []columnOf
	values  hashes
}

// claimed is a foreign key that is verified.
type claimed struct {
	columns []columnOf
	to      hashes
	wanted  hashes // that were not in to when they came
	broken  bool
}

// newClaims begins to verify the keys of a package. shared means those of look-up tables only: the
// rows of a large population pass unread.
func newClaims(p *datapackage.Package, shared bool) *claims {
	return &claims{
		of: p, shared: shared, seed: maphash.MakeSeed(),
		tables: map[string]*claimedTable{}, keys: map[string]hashes{},
	}
}

// watch prepares for the rows of a table, all of which are seen.
func (c *claims) watch(r *datapackage.Resource, codec *datapackage.Codec) {
	if c.tables == nil || c.shared && !r.Lookup {
		return
	}
	t := &claimedTable{codec: codec}
	seen := map[string]bool{}
	for i := range c.of.Resources {
		from := &c.of.Resources[i]
		if c.shared && !from.Lookup {
			continue
		}
		for _, k := range from.Fields.ForeignKeys {
			name := keyName(r.Name, k.Reference.Fields)
			if to := c.target(from, k); to == r && !c.follows(from, k) && !seen[name] {
				seen[name] = true
				t.own = append(t.own, ownKey{columnsOf(r, k.Reference.Fields), c.hashes(name)})
			}
		}
	}
	for _, k := range r.Fields.ForeignKeys {
		ref := claimed{columns: columnsOf(r, k.Fields), wanted: hashes{}, broken: true}
		if to := c.target(r, k); to != nil && sameTypes(r, k, to) {
			ref.to, ref.broken = c.hashes(keyName(to.Name, k.Reference.Fields)), false
		}
		t.refers = append(t.refers, ref)
	}
	c.tables[r.Name] = t
}

func (c *claims) hashes(name string) hashes {
	if c.keys[name] == nil {
		c.keys[name] = hashes{}
	}
	return c.keys[name]
}

func (c *claims) target(
	from *datapackage.Resource, k datapackage.ForeignKey,
) *datapackage.Resource {
	return c.of.Table(cmp.Or(k.Reference.Resource, from.Name))
}

// follows reports whether a foreign key is a step of the path to the patient.
func (c *claims) follows(from *datapackage.Resource, k datapackage.ForeignKey) bool {
	if len(from.Patient) < 2 || len(k.Fields) != 1 || from.Patient[0] != k.Fields[0] {
		return false
	}
	step, _ := from.Fields.PathKey(from.Patient[0])
	return step.Reference.Resource == k.Reference.Resource &&
		slices.Equal(step.Reference.Fields, k.Reference.Fields) &&
		sameTypes(from, k, c.target(from, k))
}

// sameTypes reports whether the values of a foreign key can be equal to those that it refers to
// for any reader: a text is not equal to a number, and a date depends on its format.
func sameTypes(
	from *datapackage.Resource, k datapackage.ForeignKey, to *datapackage.Resource,
) bool {
	if to == nil {
		return false
	}
	kind := func(c columnOf) string {
		if f := c.field; f.Type != "integer" && f.Type != "number" {
			return cmp.Or(f.Type, "string") + " " + cmp.Or(f.Format, "default")
		}
		return "number"
	}
	return slices.EqualFunc(columnsOf(from, k.Fields), columnsOf(to, k.Reference.Fields),
		func(a, b columnOf) bool { return kind(a) == kind(b) })
}

// see takes rows of a table that are written.
func (c *claims) see(r *datapackage.Resource, rows []byte) (err error) {
	t := c.tables[r.Name]
	if t == nil || len(t.own)+len(t.refers) == 0 {
		return nil
	}
	for raw := range t.codec.Rows(rows) {
		if c.row, err = t.codec.Fields(raw, c.row[:0]); err != nil {
			return err
		}
		for _, key := range t.own {
			nan := func(of columnOf) bool { return isNaN(of.field, valueAt(c.row, of.at)) }
			hash, n := c.hash(t.codec, key.columns)
			if n == len(key.columns) && !slices.ContainsFunc(key.columns, nan) {
				c.add(key.values, hash)
			}
		}
		for i := range t.refers {
			ref := &t.refers[i]
			hash, n := c.hash(t.codec, ref.columns)
			switch _, there := ref.to[hash]; {
			case n == 0 || ref.broken:
			case n < len(ref.columns):
				ref.broken = true
			case !there:
				c.add(ref.wanted, hash)
			}
		}
		if c.held > mostClaimed {
			c.tables, c.keys = nil, nil
			return nil
		}
	}
	return nil
}

func (c *claims) add(to hashes, hash uint64) {
	if _, there := to[hash]; !there {
		to[hash] = struct{}{}
		c.held++
	}
}

// hash returns the hash of the current row's values in some columns, and how many are not missing.
func (c *claims) hash(codec *datapackage.Codec, columns []columnOf) (hash uint64, n int) {
	c.key = c.key[:0]
	for _, column := range columns {
		v := valueAt(c.row, column.at)
		if codec.Missing(column.at, v) {
			continue
		}
		n++
		c.key = append(appendExact(c.key, column.field, v), 0)
	}
	return maphash.Bytes(c.seed, c.key), n
}

// appendExact appends a value so that equal ones are equal for any reader: unlike in appendKey,
// values that are no numbers are equal only if they are written in the same way.
func appendExact(to []byte, field *datapackage.Field, v []byte) []byte {
	switch field.Type {
	case "integer", "number":
		return field.AppendCanonical(to, v)
	}
	return append(to, v...)
}

// isNaN reports whether a value is equal to no other one, itself included.
func isNaN(field *datapackage.Field, v []byte) bool {
	return field.Type == "number" && bytes.EqualFold(bytes.TrimSpace(v), []byte("NaN"))
}

// hold reports whether each row of a table that has a foreign key has what it refers to.
func (c *claims) hold(from *datapackage.Resource, k datapackage.ForeignKey) bool {
	if c.follows(from, k) {
		return true
	}
	t := c.tables[from.Name]
	if t == nil {
		return false
	}
	at := slices.IndexFunc(c.of.Table(from.Name).Fields.ForeignKeys,
		func(other datapackage.ForeignKey) bool { return sameKey(k, other) })
	if at < 0 || t.refers[at].broken {
		return false
	}
	for hash := range t.refers[at].wanted {
		if _, there := t.refers[at].to[hash]; !there {
			return false
		}
	}
	return true
}

func sameKey(a, b datapackage.ForeignKey) bool {
	return slices.Equal(a.Fields, b.Fields) && a.Reference.Resource == b.Reference.Resource &&
		slices.Equal(a.Reference.Fields, b.Reference.Fields)
}
