package native

import (
	"hash/fnv"
	"strings"

	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// subject says what the rows of a table are about.
type subject int

const (
	ofPatient subject = iota
	ofVisit
	ofProblem  // the chronic conditions, and then the sensitive ones
	ofDocument // one of each of outline.Documents
)

// grain says how many rows a patient has: `times` rows for each subject. Of visits, only those
// whose number has the remainder `rest` when it is divided by `every`.
type grain struct {
	of          subject
	every, rest int
	times       int
}

// table defines a table of patients. The first column is the primary key if key is empty.
type table struct {
	name, title string
	category    string
	date        string
	patient     []string
	grain       grain
	key         []string
	columns     []column
	foreign     []datapackage.ForeignKey // those of several fields
	sensitive   []datapackage.Sensitive

	// Compiled.
	cells []put
	salt  uint64
}

// lookup defines a look-up table. The first field is its key if key is empty.
type lookup struct {
	name, title string
	fields      []column // without make
	rows        [][]string
	key         []string
	foreign     []datapackage.ForeignKey

	// Compiled.
	lines [][]byte // the rows as in the file
	all   []byte   // all of them
}

// schema is the tables of a shape.
type schema struct {
	name, title, about string
	delimiter          byte
	terminator         string
	// patientSystem is the system of the identifier that tables name patients by; "" for IDs.
	patientSystem     string
	json              bool // rows are objects of JSON
	format, mediaType string

	tables  []table
	lookups []lookup
}

// lookup returns a look-up table.
func (s *schema) lookup(name string) *lookup {
	for i := range s.lookups {
		if s.lookups[i].name == name {
			return &s.lookups[i]
		}
	}
	panic("native: no look-up table " + name)
}

// quote returns a cell as it is written: as in RFC 4180.
func (s *schema) quote(text string) string {
	if s.json {
		return jsonText(text)
	}
	if strings.ContainsAny(text, "\r\n\""+string(s.delimiter)) {
		return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	}
	return text
}

// compile makes the cells of all tables, and the rows of the look-up tables.
func (s *schema) compile() {
	for i := range s.lookups {
		l := &s.lookups[i]
		for _, row := range l.rows {
			var line []byte
			for i, cell := range row {
				if i > 0 {
					line = append(line, s.delimiter)
				}
				line = append(line, s.quote(cell)...)
			}
			line = append(line, s.terminator...)
			l.lines = append(l.lines, line)
			l.all = append(l.all, line...)
		}
	}
	for i := range s.tables {
		t := &s.tables[i]
		name := fnv.New64a()
		name.Write([]byte(t.name))
		t.salt = outline.Mix(name.Sum64())
		for j := range t.columns {
			salt := outline.Mix(t.salt + uint64(j))
			t.cells = append(t.cells, t.columns[j].make(&compiler{schema: s, salt: salt}))
		}
	}
}

// descriptor describes the tables. The look-up tables come last.
func (s *schema) descriptor() *datapackage.Package {
	p := &datapackage.Package{
		Name:        s.name,
		Title:       s.title,
		Description: s.about,
		Version:     "1.0.0",
	}
	for i := range s.tables {
		t := &s.tables[i]
		r := s.resource(t.name, t.title, t.columns, t.key)
		r.Patient, r.Category, r.Date, r.Sensitive = t.patient, t.category, t.date, t.sensitive
		r.PatientSystem = s.patientSystem
		r.Fields.ForeignKeys = append(r.Fields.ForeignKeys, t.foreign...)
		p.Resources = append(p.Resources, r)
	}
	for i := range s.lookups {
		l := &s.lookups[i]
		r := s.resource(l.name, l.title, l.fields, l.key)
		r.Lookup, r.Category = true, datapackage.Always
		r.Fields.ForeignKeys = append(r.Fields.ForeignKeys, l.foreign...)
		p.Resources = append(p.Resources, r)
	}
	return p
}

func (s *schema) resource(
	name, title string, columns []column, key []string,
) datapackage.Resource {
	head, about, _ := strings.Cut(title, ": ")
	if len(key) == 0 {
		key = []string{columns[0].name}
	}
	r := datapackage.Resource{
		Name:        name,
		Path:        datapackage.Paths{name + "." + s.format},
		Type:        datapackage.TableType,
		Profile:     datapackage.TabularProfile,
		Title:       head,
		Description: about,
		Format:      s.format,
		MediaType:   s.mediaType,
		Encoding:    "utf-8",
		Dialect:     s.dialect(),
		Fields:      datapackage.Schema{PrimaryKey: key},
	}
	for _, c := range columns {
		r.Fields.Fields = append(r.Fields.Fields, c.field())
		if c.refers != "" {
			r.Fields.ForeignKeys = append(r.Fields.ForeignKeys, s.foreignKey(&c))
		}
	}
	return r
}

func (s *schema) dialect() *datapackage.Dialect {
	return &datapackage.Dialect{Delimiter: string(s.delimiter), LineTerminator: s.terminator}
}

func (c *column) field() datapackage.Field {
	f := datapackage.Field{
		Name:     c.name,
		Type:     c.typ,
		Title:    c.title,
		Resource: c.fhir,
		System:   c.system,
		Label:    c.label,
	}
	if f.Type == "" {
		f.Type = "string"
	}
	if c.required {
		f.Constraints = &datapackage.Constraints{Required: true}
	}
	return f
}

// foreignKey returns the key of a column. One that names a table only means its first field.
func (s *schema) foreignKey(c *column) datapackage.ForeignKey {
	name, field, _ := strings.Cut(c.refers, ".")
	if field == "" {
		field = s.lookup(name).fields[0].name
	}
	return foreign(name, []string{c.name}, []string{field})
}

// foreign is a foreign key to a table.
func foreign(table string, fields, of []string) datapackage.ForeignKey {
	return datapackage.ForeignKey{
		Fields:    fields,
		Reference: datapackage.Reference{Resource: table, Fields: of},
	}
}

// category is the Resource.Category of a line of the form.
func category(c ehi.Category) string { return string(c) }
