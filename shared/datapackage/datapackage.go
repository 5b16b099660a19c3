// Package datapackage reads and writes Data Package descriptors (datapackage.json, see
// https://datapackage.org and https://specs.frictionlessdata.io) with tables, and the rows of
// such tables. The descriptor says how a table's file is written (dialect and encoding), which
// fields it has (schema), and which tables it refers to (keys). A few properties of our own,
// whose names begin with "ehi:", say how a table belongs to patients and what a release form
// decides about it.
//
// The package knows neither patients' records nor where tables lie.
package datapackage

import "slices"

// Package is a descriptor.
type Package struct {
	Schema      string     `json:"$schema,omitempty"`
	Name        string     `json:"name,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Homepage    string     `json:"homepage,omitempty"`
	Version     string     `json:"version,omitempty"`
	Created     string     `json:"created,omitempty"` // RFC 3339
	Resources   []Resource `json:"resources"`
}

// Resource describes one table.
type Resource struct {
	// Name identifies the table: lower-case letters, digits, '-', '_' and '.'.
	Name string `json:"name"`
	// Path lists the table's files relative to the descriptor, with slashes.
	Path Paths `json:"path,omitempty"`
	// Type and Profile say that the resource is a table, in the words of version 2 and 1 of the
	// standard. JSON writes both.
	Type        string `json:"type,omitempty"`    // TableType
	Profile     string `json:"profile,omitempty"` // TabularProfile
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Format      string `json:"format,omitempty"`    // csv or tsv
	MediaType   string `json:"mediatype,omitempty"` // such as text/csv
	// Encoding is the name of the files' character encoding; "" is UTF-8.
	Encoding string   `json:"encoding,omitempty"`
	Bytes    int64    `json:"bytes,omitempty"` // size of the file
	Hash     string   `json:"hash,omitempty"`  // such as sha1:<hex>
	Dialect  *Dialect `json:"dialect,omitempty"`
	Fields   Schema   `json:"schema"`

	// Patient is the path of fields that leads from a row to its patient. The last one holds the
	// patient. Each one before it is the field of a foreign key, which is followed to the next
	// table. It is empty for a look-up table.
	Patient []string `json:"ehi:patient,omitempty"`
	// PatientSystem is the system of the identifier that the last field of Patient holds; "" if
	// it holds the ID of the Patient resource.
	PatientSystem string `json:"ehi:patientSystem,omitempty"`
	// Lookup means that the rows belong to no patient. They go with the rows that refer to them.
	Lookup bool `json:"ehi:lookup,omitempty"`
	// Replace means that the files have all rows of the table: an import removes all others. It is
	// about the import of this descriptor, and no export has it.
	Replace bool `json:"ehi:replace,omitempty"`
	// Part says which part of a table of an export the files are, if the table goes on in other
	// archives; nil for a whole table.
	Part *Part `json:"ehi:part,omitempty"`
	// Category is the line of the release form (a key of ehi.Categories) under which the rows
	// fall, or Always. "" means that nobody has classified the table.
	Category string `json:"ehi:category,omitempty"`
	// Date is the field with the date that limits of dates apply to; "" if there is none.
	Date string `json:"ehi:date,omitempty"`
	// Sensitive marks rows that need an authorization, by values of fields.
	Sensitive []Sensitive `json:"ehi:sensitive,omitempty"`
}

// Always is the Resource.Category of a table that every release form releases.
const Always = "always"

// Sensitive marks the rows with one of the values in a field. They need an authorization of the
// release form.
type Sensitive struct {
	Field         string   `json:"field"`
	Values        []string `json:"values,omitempty"` // none: every value but the empty one
	Authorization string   `json:"authorization"`    // a key of ehi.Authorizations
}

// Paths is one path or a list of them.
type Paths []string

// Dialect says how the files of a table are written. The zero value is CSV as in RFC 4180, with
// the defaults of the standard.
type Dialect struct {
	Header           *bool   `json:"header,omitempty"` // default true
	Delimiter        string  `json:"delimiter,omitempty"`
	LineTerminator   string  `json:"lineTerminator,omitempty"`
	QuoteChar        *string `json:"quoteChar,omitempty"` // "" for no quoting
	DoubleQuote      *bool   `json:"doubleQuote,omitempty"`
	EscapeChar       string  `json:"escapeChar,omitempty"`
	NullSequence     string  `json:"nullSequence,omitempty"`
	SkipInitialSpace bool    `json:"skipInitialSpace,omitempty"`
	CommentChar      string  `json:"commentChar,omitempty"`
}

// Schema is a Table Schema.
type Schema struct {
	Fields []Field `json:"fields"`
	// MissingValues are the texts that stand for no value. nil means the empty string, and an
	// empty list means that no text does.
	MissingValues []string     `json:"missingValues,omitzero"`
	PrimaryKey    Names        `json:"primaryKey,omitempty"`
	ForeignKeys   []ForeignKey `json:"foreignKeys,omitempty"`
	// Elsewhere are foreign keys to tables that the package does not describe, or of which it has
	// not all rows, because it is a part of another one. The standard has no room for them in
	// ForeignKeys.
	Elsewhere []ForeignKey `json:"ehi:foreignKeys,omitempty"`
}

// Field describes a column.
type Field struct {
	Name        string `json:"name"`
	Type        string `json:"type,omitempty"`   // default string
	Format      string `json:"format,omitempty"` // default "default"
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Example     string `json:"example,omitempty"`
	// MissingValues, unless nil, replaces Schema.MissingValues for the field.
	MissingValues []string     `json:"missingValues,omitzero"`
	Constraints   *Constraints `json:"constraints,omitempty"`

	// DecimalChar is "." by default. GroupChar separates groups of digits and is unset by
	// default. BareNumber false allows text around the digits, as in "95 %".
	DecimalChar string `json:"decimalChar,omitempty"`
	GroupChar   string `json:"groupChar,omitempty"`
	BareNumber  *bool  `json:"bareNumber,omitempty"`
	// TrueValues and FalseValues are how a boolean is written: by default true, True, TRUE or 1,
	// and the like for false.
	TrueValues  []string `json:"trueValues,omitempty"`
	FalseValues []string `json:"falseValues,omitempty"`

	// Resource is the type of the FHIR resource whose ID the column holds; "" for none.
	Resource string `json:"ehi:resource,omitempty"`
	// System is the code system of the codes that the column holds; "" if it holds none. Rows
	// with a sensitive code of the system need its authorization.
	System string `json:"ehi:system,omitempty"`
	// Label means that the column holds a security label of HL7, as FHIR's meta.security.
	Label bool `json:"ehi:label,omitempty"`
}

// Constraints limits the values of a column. Bounds and the values of Enum are texts as in a
// column, or numbers or booleans of JSON.
type Constraints struct {
	Required         bool   `json:"required,omitempty"`
	Unique           bool   `json:"unique,omitempty"`
	MinLength        *int   `json:"minLength,omitempty"`
	MaxLength        *int   `json:"maxLength,omitempty"`
	Minimum          any    `json:"minimum,omitempty"`
	Maximum          any    `json:"maximum,omitempty"`
	ExclusiveMinimum any    `json:"exclusiveMinimum,omitempty"`
	ExclusiveMaximum any    `json:"exclusiveMaximum,omitempty"`
	Pattern          string `json:"pattern,omitempty"`
	Enum             []any  `json:"enum,omitempty"`
}

// Part is a part of a table. A row that occurs in two parts is there twice.
type Part struct {
	Of     string `json:"of"`     // the same for all parts of a table
	Number int    `json:"number"` // another one for each
}

// ForeignKey says that the values of some fields are those of another table's fields.
type ForeignKey struct {
	Fields    Names     `json:"fields"`
	Reference Reference `json:"reference"`
	// Path marks the key that paths to patients follow, where a field alone has several keys.
	// Without a mark it is the first one.
	Path bool `json:"ehi:path,omitempty"`
}

// Reference is the target of a ForeignKey.
type Reference struct {
	Resource string `json:"resource"` // "" is the table itself
	Fields   Names  `json:"fields"`
}

// Names is one name or a list of them.
type Names []string

// The Resource.Type and Resource.Profile of a table.
const (
	TableType      = "table"
	TabularProfile = "tabular-data-resource"
)

// MediaType is the media type of a descriptor, as registered with IANA.
const MediaType = "application/vnd.datapackage+json"

// Profile2 is the Package.Schema of version 2 of the standard.
const Profile2 = "https://datapackage.org/profiles/2.0/datapackage.json"

// Table returns the table with a name, or nil.
func (p *Package) Table(name string) *Resource {
	if p == nil {
		return nil
	}
	for i := range p.Resources {
		if p.Resources[i].Name == name {
			return &p.Resources[i]
		}
	}
	return nil
}

// Field returns the number of the field with a name, or -1.
func (s *Schema) Field(name string) int {
	return slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
}

// Missing returns the texts that stand for no value of a field.
func (s *Schema) Missing(f *Field) []string {
	switch {
	case f.MissingValues != nil:
		return f.MissingValues
	case s.MissingValues != nil:
		return s.MissingValues
	}
	return []string{""}
}

// PathKey returns the foreign key of a field alone that paths to patients follow, and whether it is
// one of Elsewhere; nil if the field has none. See ForeignKey.Path.
func (s *Schema) PathKey(field string) (k *ForeignKey, elsewhere bool) {
	for i := range len(s.ForeignKeys) + len(s.Elsewhere) {
		next, away := (*ForeignKey)(nil), i >= len(s.ForeignKeys)
		if away {
			next = &s.Elsewhere[i-len(s.ForeignKeys)]
		} else {
			next = &s.ForeignKeys[i]
		}
		if len(next.Fields) == 1 && next.Fields[0] == field && (k == nil || next.Path) {
			k, elsewhere = next, away
		}
	}
	return k, elsewhere
}

// MarkPaths marks the keys that paths to patients follow, where a field alone has several keys, and
// no others. So they are the same whatever the order of the keys is. It changes the lists of keys.
func (s *Schema) MarkPaths() {
	alone := map[string]int{}
	for _, k := range slices.Concat(s.ForeignKeys, s.Elsewhere) {
		if len(k.Fields) == 1 {
			alone[k.Fields[0]]++
		}
	}
	for field, n := range alone {
		k, _ := s.PathKey(field)
		k.Path = n > 1
	}
}
