// Package dictionary describes the tables of a source for the pages that document the format of
// exports (NAT-3): what each column holds, how tables refer to each other and lead to the patient,
// and diagrams of that. It is made from the tables' descriptor alone, and knows no records.
package dictionary

import (
	"cmp"
	"slices"
	"strings"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// Book describes all tables of a source. It does not change.
type Book struct {
	Title, Description, Version string
	Tables                      []*Table // in the order of the descriptor

	pack   *datapackage.Package
	byName map[string]*Table
}

// Table describes a table.
type Table struct {
	*datapackage.Resource
	// Line says by which line of the release form the rows leave.
	Line    string
	Columns []Column
	// Way leads from a row to its patient; empty for a look-up table.
	Way []Step
	// To are the foreign keys, and From those of other tables that refer to this one.
	To, From []Key
	// Written says how the file is written, in words.
	Written []Fact
	// Needs are the rows that need an authorization.
	Needs []Need

	text string // for searches
}

// Step is a step of a table's way to the patient: a column of a table.
type Step struct {
	Table  *Table
	Column string
}

// Key is a foreign key from one table to another.
type Key struct {
	From, To     *Table
	Fields       []string // of From
	TargetFields []string // of To
}

// Fact is something that is said about a table.
type Fact struct{ Name, Value string }

// Need says which rows need an authorization of the release form.
type Need struct {
	Field         string
	Values        []string // none: every value but the empty one
	Authorization string   // its name
}

// New returns the description of tables; nil if there are none.
func New(p *datapackage.Package) *Book {
	if p == nil || len(p.Resources) == 0 {
		return nil
	}
	b := &Book{
		Title: p.Title, Description: p.Description, Version: p.Version, pack: p,
		byName: map[string]*Table{},
	}
	for i := range p.Resources {
		t := &Table{
			Resource: &p.Resources[i],
			Line:     line(&p.Resources[i]),
			Written:  written(&p.Resources[i]),
			Needs:    needs(&p.Resources[i]),
		}
		t.text = searched(t.Name, t.Title, t.Description, t.Line)
		b.Tables, b.byName[t.Name] = append(b.Tables, t), t
	}
	for _, t := range b.Tables {
		b.link(t)
	}
	for _, t := range b.Tables {
		t.Way = b.way(t)
		t.Columns = t.columns()
	}
	return b
}

// Table returns the table with a name, or nil.
func (b *Book) Table(name string) *Table {
	if b == nil {
		return nil
	}
	return b.byName[name]
}

// Descriptor returns the machine-readable dictionary: the descriptor without what depends on
// files, which are different in each export.
func (b *Book) Descriptor(homepage string) []byte {
	p := *b.pack
	p.Homepage = homepage
	p.Resources = slices.Clone(p.Resources)
	for i := range p.Resources {
		r := &p.Resources[i]
		r.Path, r.Bytes, r.Hash = nil, 0, ""
	}
	return p.JSON()
}

// link finds the tables that t refers to.
func (b *Book) link(t *Table) {
	for _, k := range t.Fields.ForeignKeys {
		to := b.byName[cmp.Or(k.Reference.Resource, t.Name)]
		if to == nil {
			continue
		}
		key := Key{From: t, To: to, Fields: k.Fields, TargetFields: k.Reference.Fields}
		t.To = append(t.To, key)
		to.From = append(to.From, key)
	}
}

// way returns the steps from a table to the patient.
func (b *Book) way(t *Table) (out []Step) {
	for _, field := range t.Patient {
		if t == nil {
			break
		}
		out = append(out, Step{t, field})
		if k, _ := t.Fields.PathKey(field); k != nil {
			t = b.byName[cmp.Or(k.Reference.Resource, t.Name)]
		}
	}
	return out
}

// line says by which line of the release form the rows of a table leave.
func line(r *datapackage.Resource) string {
	if r.Lookup {
		return "Goes with the rows that refer to it"
	}
	switch r.Category {
	case datapackage.Always:
		return "Always released"
	case "":
		return "An administrator decides"
	}
	for _, c := range ehi.Categories() {
		if string(c.Key) == r.Category {
			return c.Name
		}
	}
	return r.Category
}

func needs(r *datapackage.Resource) (out []Need) {
	for _, s := range r.Sensitive {
		n := Need{Field: s.Field, Values: s.Values, Authorization: s.Authorization}
		for _, a := range ehi.Authorizations() {
			if string(a.Key) == s.Authorization {
				n.Authorization = a.Name
			}
		}
		out = append(out, n)
	}
	return out
}

// names of characters in a dialect.
var characters = map[string]string{
	"\t": "tab", ",": "comma", ";": "semicolon", "|": "vertical bar", " ": "space",
	"\n": "LF", "\r\n": "CR LF", "\r": "CR", `"`: "double quote", "'": "single quote",
	`\`: "backslash",
}

func character(text string) string { return cmp.Or(characters[text], text) }

// written says how the file of a table is written.
func written(r *datapackage.Resource) []Fact {
	d := datapackage.Dialect{}
	if r.Dialect != nil {
		d = *r.Dialect
	}
	quote := "double quote"
	if d.QuoteChar != nil {
		quote = cmp.Or(character(*d.QuoteChar), "none: no value has a delimiter or a line end")
	}
	delimiter := ","
	if r.Extension() == "tsv" {
		delimiter = "\t"
	}
	out := []Fact{
		{"Encoding", cmp.Or(r.Encoding, "utf-8")},
		{"Delimiter", character(cmp.Or(d.Delimiter, delimiter))},
		{"End of line", character(cmp.Or(d.LineTerminator, "\r\n"))},
		{"Quotes", quote},
	}
	if d.EscapeChar != "" {
		out = append(out, Fact{"Escape", character(d.EscapeChar)})
	}
	if d.NullSequence != "" {
		out = append(out, Fact{"No value is written as", d.NullSequence})
	}
	if d.Header != nil && !*d.Header {
		out = append(out, Fact{"Header", "none: the first line is a row"})
	}
	if m := r.Fields.MissingValues; len(m) > 1 || len(m) == 1 && m[0] != "" {
		out = append(out, Fact{"Texts for no value", strings.Join(quoted(m), ", ")})
	}
	return out
}

func quoted(list []string) (out []string) {
	for _, text := range list {
		out = append(out, `"`+text+`"`)
	}
	return out
}
