package datapackage

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// MarshalJSON writes one path as a string, as the first version of the standard did.
func (p Paths) MarshalJSON() ([]byte, error) {
	if len(p) == 1 {
		return json.Marshal(p[0])
	}
	return json.Marshal([]string(p))
}

// UnmarshalJSON reads a path or a list of them.
func (p *Paths) UnmarshalJSON(data []byte) error {
	list, err := oneOrMore(data)
	*p = list
	return err
}

// UnmarshalJSON reads a name or a list of them.
func (n *Names) UnmarshalJSON(data []byte) error {
	list, err := oneOrMore(data)
	*n = list
	return err
}

func oneOrMore(data []byte) ([]string, error) {
	var one string
	if json.Unmarshal(data, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	err := json.Unmarshal(data, &list)
	return list, err
}

// JSON writes the descriptor, indented, so that it is valid by version 1 and 2 of the standard:
// it says that each resource is a table, and what the defaults of a dialect are that version 1
// demands. A table without a path gets its name with the format as extension. The same package
// gives the same bytes. JSON panics if a bound or a value of a constraint is no value of JSON.
func (p *Package) JSON() []byte {
	out := *p
	if out.Schema == "" {
		out.Schema = Profile2
	}
	out.Resources = slices.Clone(p.Resources)
	for i := range out.Resources {
		out.Resources[i].complete()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(&out); err != nil {
		panic(fmt.Sprintf("a descriptor cannot be written: %v", err))
	}
	return b.Bytes()
}

// complete sets what the standard demands.
func (t *Resource) complete() {
	t.Type, t.Profile = TableType, TabularProfile
	if len(t.Path) == 0 {
		t.Path = Paths{t.Name + "." + t.Extension()}
	}
	if t.Dialect = t.written(); t.Dialect == nil {
		return
	}
	d := *t.Dialect
	if d.Delimiter == "" {
		d.Delimiter = ","
	}
	if d.DoubleQuote == nil {
		d.DoubleQuote = new(true)
	}
	t.Dialect = &d
}

// Extension returns the extension of the table's files without a dot: tsv or csv.
func (t *Resource) Extension() string {
	if d := t.written(); t.Format == "tsv" || t.Format == "" && d != nil && d.Delimiter == "\t" {
		return "tsv"
	}
	return "csv"
}

// Narrow returns a copy of the package with the tables that the function picks. Foreign keys to
// other tables become Schema.Elsewhere, and so do those for which holds returns false: rows that
// they refer to are not in the package. A nil holds means that all are.
func (p *Package) Narrow(
	tables func(name string) bool, holds func(from *Resource, k ForeignKey) bool,
) *Package {
	out := *p
	out.Resources = nil
	for _, t := range p.Resources {
		if tables(t.Name) {
			out.Resources = append(out.Resources, t)
		}
	}
	for i := range out.Resources {
		t := &out.Resources[i]
		s := &t.Fields
		s.ForeignKeys, s.Elsewhere = slices.Clone(s.ForeignKeys), slices.Clone(s.Elsewhere)
		s.MarkPaths()
		var here []ForeignKey
		elsewhere := s.Elsewhere
		for _, k := range s.ForeignKeys {
			to := cmp.Or(k.Reference.Resource, t.Name)
			if tables(to) && (holds == nil || holds(t, k)) {
				here = append(here, k)
				continue
			}
			k.Reference.Resource = to
			elsewhere = append(elsewhere, k)
		}
		s.ForeignKeys, s.Elsewhere = here, elsewhere
	}
	return &out
}

// Connect makes foreign keys of those Schema.Elsewhere whose tables are in the package. It is the
// reverse of Narrow, but for the order of a table's keys.
func (p *Package) Connect() {
	for i := range p.Resources {
		t := &p.Resources[i]
		s := &t.Fields
		here, elsewhere := slices.Clone(s.ForeignKeys), []ForeignKey(nil)
		for _, k := range s.Elsewhere {
			switch to := k.Reference.Resource; {
			case to == t.Name:
				k.Reference.Resource = ""
				here = append(here, k)
			case p.Table(to) != nil:
				here = append(here, k)
			default:
				elsewhere = append(elsewhere, k)
			}
		}
		s.ForeignKeys, s.Elsewhere = here, elsewhere
	}
}

// LeadsElsewhere returns the name of the table, which the package does not describe, through which
// the named one leads to its patients; "" if there is none.
func (p *Package) LeadsElsewhere(table string) string {
	t := p.Table(table)
	if t == nil {
		return ""
	}
	elsewhere, _ := p.patientPath(t, func(*Resource) {}) // Check reports errors
	return elsewhere
}

// Order returns the names of the tables, each after those that its path to the patient leads
// through, and after those that its foreign keys refer to unless these lead in a circle.
// Otherwise the order is that of the descriptor. Paths to patients that lead in a circle are an
// error.
func (p *Package) Order() ([]string, error) {
	nodes := make([]dependencies, len(p.Resources))
	for i := range p.Resources {
		nodes[i] = p.dependencies(&p.Resources[i])
	}
	placed := map[string]bool{}
	var order []string
	for len(order) < len(p.Resources) {
		next := first(nodes, func(d dependencies) bool { return d.all(placed) })
		if next < 0 {
			next = first(nodes, func(d dependencies) bool { return d.paths(placed) })
		}
		if next < 0 {
			return nil, fmt.Errorf(
				"table %q: ehi:patient leads in a circle of tables that lead to each other",
				nodes[0].table)
		}
		order = append(order, nodes[next].table)
		placed[nodes[next].table] = true
		nodes = slices.Delete(nodes, next, next+1)
	}
	return order, nil
}

// dependencies are the tables that one should come after.
type dependencies struct {
	table string
	path  []string // by its path to the patient
	keys  []string // by its foreign keys
}

func (p *Package) dependencies(t *Resource) dependencies {
	d := dependencies{table: t.Name}
	p.patientPath(t, func(next *Resource) { d.path = append(d.path, next.Name) })
	for _, k := range t.Fields.ForeignKeys {
		if target := p.target(t, k); target != nil && target != t {
			d.keys = append(d.keys, target.Name)
		}
	}
	return d
}

func (d dependencies) paths(placed map[string]bool) bool {
	return !slices.ContainsFunc(d.path, func(name string) bool { return !placed[name] })
}

func (d dependencies) all(placed map[string]bool) bool {
	return d.paths(placed) &&
		!slices.ContainsFunc(d.keys, func(name string) bool { return !placed[name] })
}

func first(nodes []dependencies, fits func(dependencies) bool) int {
	return slices.IndexFunc(nodes, fits)
}
