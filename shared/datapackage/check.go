package datapackage

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// maxName is the length of the longest name of a table in bytes.
const maxName = 100

var (
	packageName = regexp.MustCompile(`^[-a-z0-9._/]+$`)
	tableName   = regexp.MustCompile(`^[a-z0-9_-][-a-z0-9._]*$`)
	mediaType   = regexp.MustCompile(`^[^\n]+/[^\n]+$`)
	hash        = regexp.MustCompile(`^([^:]+:[a-fA-F0-9]+|[a-fA-F0-9]{32})$`)
)

// devices are names that Windows takes for devices, with any extension.
var devices = regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

// Check reports every problem of a package that was not made by Parse.
func (p *Package) Check() error {
	var found problems
	if len(p.Resources) == 0 {
		found.add("", "resources", "must list at least one table")
	}
	p.check(&found)
	return found.err()
}

// check adds what is wrong with values, as opposed to the form of the JSON.
func (p *Package) check(found *problems) {
	p.checkSelf(found)
	for _, of := range p.checkTables() {
		found.addAll(&of)
	}
	if len(found.errs) == 0 {
		if _, err := p.Order(); err != nil {
			found.errs = append(found.errs, err)
		}
	}
}

// checkSelf adds what is wrong with values of the package other than its tables.
func (p *Package) checkSelf(found *problems) {
	if p.Name != "" && !p.version2() && !packageName.MatchString(p.Name) {
		found.add("", "name", "%q must have lower-case letters, digits and -._/ only", p.Name)
	}
	if u, err := url.Parse(p.Homepage); p.Homepage != "" &&
		(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		found.add("", "homepage", "must be an http or https URL")
	}
	if _, err := time.Parse(time.RFC3339, p.Created); p.Created != "" && err != nil {
		found.add("", "created", "must be a time of RFC 3339")
	}
}

// checkTables returns what is wrong with values of each table.
func (p *Package) checkTables() []problems {
	found := make([]problems, len(p.Resources))
	names := map[string]bool{}
	for i := range p.Resources {
		t := &p.Resources[i]
		if t.Name != "" && names[t.Name] {
			found[i].add(t.at(), "name", "is the name of another table, too")
		}
		names[t.Name] = true
		c := checker{found: &found[i], p: p, t: t}
		c.table()
		c.schema()
		c.native()
	}
	return found
}

// version2 reports whether the descriptor says that it is of version 2. It is of version 1
// otherwise (datapackage.org/standard/data-package, $schema).
func (p *Package) version2() bool {
	return strings.HasPrefix(p.Schema, "https://datapackage.org/profiles/2.")
}

func (t *Resource) at() string { return fmt.Sprintf("table %q", t.Name) }

// checker checks a table.
type checker struct {
	found *problems
	p     *Package
	t     *Resource
}

func (c *checker) add(property, format string, args ...any) {
	c.found.add(c.t.at(), property, format, args...)
}

// table checks what the standard says about the resource.
func (c *checker) table() {
	t := c.t
	if why := unsafeName(t.Name); t.Name != "" && why != "" {
		c.add("name", "%s", why)
	}
	for _, name := range t.Path {
		if why := unsafePath(name); why != "" {
			c.add("path", "%q %s", name, why)
		}
	}
	if t.Type != "" && t.Type != TableType {
		c.add("type", "must be %s", TableType)
	}
	if t.MediaType != "" && !mediaType.MatchString(t.MediaType) {
		c.add("mediatype", "%q is no media type", t.MediaType)
	}
	if t.Hash != "" && !hash.MatchString(t.Hash) {
		c.add("hash", "must be the hex digits of an MD5, or such as sha1:<hex digits>")
	}
	if _, err := newGrammar(t.written(), t.Encoding); err != nil {
		c.add("dialect", "%v", err)
	}
}

// unsafeName says why a name of a table is no file name on every system; "" if it is one.
func unsafeName(name string) string {
	switch {
	case len(name) > maxName:
		return fmt.Sprintf("must have at most %d bytes", maxName)
	case !tableName.MatchString(name):
		return "must have lower-case letters, digits and -._ only, and begin with no dot"
	case strings.HasSuffix(name, "."):
		return "must not end with a dot"
	case devices.MatchString(name):
		return "is the name of a device on Windows"
	}
	return ""
}

// unsafePath says why a path leads out of the folder of the descriptor, or to a hidden file
// (datapackage.org/standard/glossary, URL or Path); "" if it does not.
func unsafePath(name string) string {
	switch {
	case strings.Contains(name, ":"):
		return "is a URL, or has a colon: only files beside the descriptor are read"
	case strings.Contains(name, `\`):
		return "has a backslash: use /"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has a control character"
	case !fs.ValidPath(name) || name == "." || strings.Contains(name, ".."):
		return "is no relative path to a file beside the descriptor or below"
	case strings.HasPrefix(name, "~"):
		return "begins with ~"
	case strings.HasPrefix(name, ".") || strings.Contains(name, "/."):
		return "is hidden, as its name begins with a dot"
	}
	return ""
}

// schema checks fields and keys.
func (c *checker) schema() {
	s := &c.t.Fields
	seen := map[string]bool{}
	for i := range s.Fields {
		f := &s.Fields[i]
		at := fmt.Sprintf("%s, field %q", c.t.at(), f.Name)
		if f.Name != "" && seen[f.Name] {
			c.found.add(at, "name", "is the name of another field, too")
		}
		seen[f.Name] = true
		c.values(at, f)
		if f.Resource != "" && !fhir.KnownType(f.Resource) {
			c.found.add(at, "ehi:resource", "%q is no type of FHIR resources", f.Resource)
		}
	}
	c.fields("schema.primaryKey", s, s.PrimaryKey)
	c.marks(s)
	for i, k := range s.ForeignKeys {
		c.foreignKey(fmt.Sprintf("schema.foreignKeys[%d]", i), k)
	}
	for i, k := range s.Elsewhere {
		property := fmt.Sprintf("schema.ehi:foreignKeys[%d]", i)
		if k.Reference.Resource == "" {
			c.add(property+".reference.resource", "must name another table")
			continue
		}
		if c.p.Table(k.Reference.Resource) != nil {
			c.foreignKey(property, k)
			continue
		}
		c.fields(property+".fields", s, k.Fields)
		c.sameNumber(property, k)
	}
}

// marks checks that one key of each field is marked at most.
func (c *checker) marks(s *Schema) {
	marked := map[string]bool{}
	for _, k := range slices.Concat(s.ForeignKeys, s.Elsewhere) {
		switch {
		case !k.Path:
		case len(k.Fields) != 1:
			c.add("schema.foreignKeys", "ehi:path can only mark a key of one field")
		case marked[k.Fields[0]]:
			c.add("schema.foreignKeys", "ehi:path marks two keys of the field %q", k.Fields[0])
		default:
			marked[k.Fields[0]] = true
		}
	}
}

// values checks the type of a field and its constraints.
func (c *checker) values(at string, f *Field) {
	formats, known := formatsOf[f.kind()]
	if !known {
		c.found.add(at, "type", "%q is no type of Table Schema", f.Type)
		return
	}
	if f.Format != "" && formats != nil && !slices.Contains(formats, f.Format) {
		c.found.add(at, "format", "%q is no format of the type %s", f.Format, f.kind())
		return
	}
	if f.Constraints != nil {
		c.enum(at, f)
		c.bounds(at, f)
	}
	if _, err := f.compile(c.t.Fields.Missing(f)); err != nil {
		c.found.add(at, "constraints", "%v", err)
	}
}

// enum checks that the values are of one JSON type, which fits, and differ.
func (c *checker) enum(at string, f *Field) {
	seen := map[string]bool{}
	var first string
	for _, v := range f.Constraints.Enum {
		text, err := json.Marshal(v)
		kind := jsonKind(v)
		if first == "" {
			first = kind
		}
		fits := f.kind() == "any" || kind == first && slices.Contains(enumKinds(f.kind()), kind) ||
			kind == "integer" && first == "number" || first == "integer" && kind == "number"
		if err != nil || !fits || seen[string(text)] {
			c.found.add(at, "constraints.enum",
				"must list different values of one type that fits the field")
			return
		}
		seen[string(text)] = true
	}
}

// bounds checks the JSON types of bounds.
func (c *checker) bounds(at string, f *Field) {
	for _, b := range f.Constraints.bounds() {
		if b.value == nil {
			continue
		}
		switch kind := jsonKind(b.value); {
		case !slices.Contains(ordered, f.kind()):
			c.found.add(at, "constraints."+b.name, "cannot be had for the type %s", f.kind())
		case !slices.Contains(enumKinds(f.kind()), kind):
			c.found.add(at, "constraints."+b.name, "does not fit the type %s", f.kind())
		}
	}
}

// enumKinds lists the JSON types of values that constraints of a field's type can have.
func enumKinds(kind string) []string {
	switch kind {
	case "boolean":
		return []string{"boolean"}
	case "number":
		return []string{"string", "number", "integer"}
	case "integer", "year":
		return []string{"string", "integer"}
	case "object", "geojson":
		return []string{"string", "object"}
	case "array":
		return []string{"string", "array"}
	case "geopoint":
		return []string{"string", "array", "object"}
	}
	return []string{"string"}
}

// jsonKind returns the JSON type of a value.
func jsonKind(v any) string {
	text, _ := json.Marshal(v)
	switch {
	case len(text) == 0 || string(text) == "null":
		return "null"
	case text[0] == '"':
		return "string"
	case text[0] == '{':
		return "object"
	case text[0] == '[':
		return "array"
	case text[0] == 't' || text[0] == 'f':
		return "boolean"
	case strings.ContainsAny(string(text), ".eE"):
		return "number"
	}
	return "integer"
}

// fields checks that fields exist in a schema and differ.
func (c *checker) fields(property string, s *Schema, names Names) {
	for i, name := range names {
		if s.Field(name) < 0 {
			c.add(property, "names the field %q, which is not there", name)
		}
		if slices.Contains(names[:i], name) {
			c.add(property, "names the field %q twice", name)
		}
	}
}

func (c *checker) foreignKey(property string, k ForeignKey) {
	c.fields(property+".fields", &c.t.Fields, k.Fields)
	target := c.p.target(c.t, k)
	if target == nil {
		c.add(property+".reference.resource", "names the table %q, which is not there",
			k.Reference.Resource)
		return
	}
	c.fields(property+".reference.fields", &target.Fields, k.Reference.Fields)
	c.sameNumber(property, k)
}

func (c *checker) sameNumber(property string, k ForeignKey) {
	if len(k.Fields) != len(k.Reference.Fields) {
		c.add(property, "has %d fields and refers to %d", len(k.Fields), len(k.Reference.Fields))
	}
}

// target returns the table that a foreign key of t refers to, or nil.
func (p *Package) target(t *Resource, k ForeignKey) *Resource {
	if k.Reference.Resource == "" {
		return t
	}
	return p.Table(k.Reference.Resource)
}

// native checks our own properties.
func (c *checker) native() {
	t := c.t
	if _, err := c.p.patientPath(t, func(*Resource) {}); err != nil {
		c.add("ehi:patient", "%v", err)
	}
	if t.Lookup && len(t.Patient) > 0 {
		c.add("ehi:lookup", "must not be true for a table with ehi:patient")
	}
	if t.PatientSystem != "" && len(t.Patient) == 0 {
		c.add("ehi:patientSystem", "needs ehi:patient")
	}
	if t.Category != "" && t.Category != Always && !slices.ContainsFunc(ehi.Categories(),
		func(k ehi.CategoryInfo) bool { return string(k.Key) == t.Category }) {
		c.add("ehi:category", "%q is no line of the release form", t.Category)
	}
	if i := t.Fields.Field(t.Date); t.Date != "" && i < 0 {
		c.add("ehi:date", "names the field %q, which is not there", t.Date)
	} else if t.Date != "" && !slices.Contains(dates, t.Fields.Fields[i].kind()) {
		c.add("ehi:date", "names the field %q, which has no dates", t.Date)
	}
	for _, s := range t.Sensitive {
		if s.Field != "" && t.Fields.Field(s.Field) < 0 {
			c.add("ehi:sensitive", "names the field %q, which is not there", s.Field)
		}
		if !slices.ContainsFunc(ehi.Authorizations(),
			func(a ehi.AuthorizationInfo) bool { return string(a.Key) == s.Authorization }) {
			c.add("ehi:sensitive", "%q is no authorization of the release form", s.Authorization)
		}
	}
}

// dates are the types of fields that limits of dates can apply to.
var dates = []string{"date", "datetime", "year", "yearmonth", "string", "any"}

// patientPath follows the path of a table to its patient, and calls visit for each further
// table on the way. It ends at a table that is elsewhere (Schema.Elsewhere), and returns its name.
func (p *Package) patientPath(t *Resource, visit func(*Resource)) (elsewhere string, err error) {
	path := t.Patient
	for i, name := range path {
		if t.Fields.Field(name) < 0 {
			return "", fmt.Errorf("names the field %q, which the table %q does not have", name,
				t.Name)
		}
		if i == len(path)-1 {
			break
		}
		k, elsewhere := t.Fields.PathKey(name)
		if elsewhere {
			return k.Reference.Resource, nil
		}
		if k == nil {
			return "", fmt.Errorf("follows the field %q, which is not the only field of a foreign "+
				"key of the table %q", name, t.Name)
		}
		next := p.target(t, *k)
		if next == nil {
			return "", fmt.Errorf("leads to the table %q, which is not there", k.Reference.Resource)
		}
		t = next
		visit(t)
	}
	return "", nil
}
