package datapackage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"reflect"
	"slices"
	"strings"
)

// maxDescriptor is the largest descriptor, and the largest file that one refers to, in bytes.
const maxDescriptor = 64 << 20

// Parse reads and checks a descriptor of version 1 or 2 of the standard. Every resource must be
// a table with files beside the descriptor. A schema and a dialect must be in the descriptor,
// not in files of their own; see Load.
//
// Properties that the package does not know are ignored. Those that would change what a row
// means are refused if they are not supported: fieldsMatch, headerRows and commentRows. The
// error lists every problem with its table, field and property.
func Parse(data []byte) (*Package, error) {
	tree, err := decodeObject(data)
	if err != nil {
		return nil, fmt.Errorf("the descriptor %w", err)
	}
	r := reader{loaded: map[string]map[string]any{}}
	p := r.pack(node{problems: &r.problems, properties: tree})
	for i := range r.tables {
		r.problems.addAll(&r.tables[i])
	}
	p.check(&r.problems)
	if err := r.problems.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Load reads and checks the descriptor in a file of fsys, as Parse does, but a table with a problem
// costs only itself: the package has the others, perhaps none, and refused says for each such table
// what is wrong with it. Foreign keys to these tables become Schema.Elsewhere. Errors are those of
// the whole descriptor, also *SyntaxError.
//
// Schemas and dialects may be in JSON files beside the descriptor or below. Names of files that
// lead elsewhere are refused; use an os.Root if symbolic links must not lead elsewhere either.
func Load(fsys fs.FS, name string) (p *Package, refused []RefusedTable, err error) {
	data, err := readFile(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	tree, err := decodeObject(data)
	if err != nil {
		return nil, nil, fmt.Errorf("the descriptor %w", err)
	}
	r := reader{loaded: map[string]map[string]any{}, load: func(ref string) ([]byte, error) {
		return readFile(fsys, path.Join(path.Dir(name), ref))
	}}
	return r.usable(tree)
}

// References returns the files of tables, schemas and dialects that the descriptor in a file of
// fsys names, relative to it, whatever else is wrong with it.
func References(fsys fs.FS, name string) (out []string) {
	data, err := readFile(fsys, name)
	if err != nil {
		return nil
	}
	tree, err := decodeObject(data)
	if err != nil {
		return nil
	}
	for _, x := range (node{problems: &problems{}, properties: tree}).objects("resources") {
		for _, key := range []string{"path", "schema", "dialect"} {
			refs, ok := x.properties[key].([]any)
			if !ok {
				refs = []any{x.properties[key]}
			}
			for _, ref := range refs {
				if ref, ok := ref.(string); ok && unsafePath(ref) == "" {
					out = append(out, ref)
				}
			}
		}
	}
	return out
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	// opening a pipe would wait for its writer
	if info, err := fs.Stat(fsys, name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDescriptor+1))
	if err == nil && len(data) > maxDescriptor {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxDescriptor>>20)
	}
	return data, err
}

// RefusedTable says what is wrong with the description of a table.
type RefusedTable struct {
	Name string
	Err  error
}

func (t RefusedTable) Error() string { return t.Err.Error() }

// Unwrap supports errors.Is.
func (t RefusedTable) Unwrap() error { return t.Err }

// usable reads the tables that have no problems.
func (r *reader) usable(tree map[string]any) (p *Package, refused []RefusedTable, err error) {
	p = r.pack(node{problems: &r.problems, properties: tree})
	p.checkSelf(&r.problems)
	if err := r.problems.err(); err != nil {
		return nil, nil, err
	}
	for found := r.tables; ; found = p.checkTables() {
		bad := map[string]bool{}
		for i := range found {
			if err := found[i].err(); err != nil {
				bad[p.Resources[i].Name] = true
				refused = append(refused, RefusedTable{p.Resources[i].Name, err})
			}
		}
		if len(bad) > 0 {
			p = p.Narrow(func(name string) bool { return !bad[name] }, nil)
		} else if r.tables == nil { // the values have been checked, too
			break
		}
		r.tables = nil
	}
	_, err = p.Order()
	return p, refused, err
}

// SyntaxError is a file that is no JSON, or has an object that a descriptor cannot have.
type SyntaxError struct {
	Line    int
	Problem string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s (line %d)", e.Problem, e.Line) }

// syntaxError returns a *SyntaxError before an offset.
func syntaxError(data []byte, offset int64, format string, args ...any) error {
	before := data[:min(max(offset, 0), int64(len(data)))]
	return &SyntaxError{
		Line:    1 + bytes.Count(before, []byte{'\n'}),
		Problem: fmt.Sprintf(format, args...),
	}
}

// decodeObject decodes a file with one JSON object. Names of properties are case-sensitive. Errors:
// *SyntaxError.
func decodeObject(data []byte) (map[string]any, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if err := repeated(data); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, notJSON(data, err)
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, syntaxError(data, 0,
			`must be a JSON object, such as {"resources": [...]}, and not %s`, kindOf(tree))
	}
	end := d.InputOffset()
	if _, err := d.Token(); err != io.EOF {
		rest := bytes.TrimLeft(data[end:], " \t\r\n")
		return nil, syntaxError(data, int64(len(data)-len(rest)), "has text after its JSON object")
	}
	return object, nil
}

// notJSON returns a *SyntaxError for an error of decoding.
func notJSON(data []byte, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return syntaxError(data, syntax.Offset-1, "is not valid JSON: %v", syntax)
	}
	text := bytes.TrimRight(data, " \t\r\n")
	if len(text) == 0 {
		return syntaxError(data, 0, "is empty")
	}
	return syntaxError(data, int64(len(text)), "is not valid JSON: it ends too early")
}

// kindOf says what a value of JSON is that is no object.
func kindOf(v any) string {
	switch v.(type) {
	case []any:
		return "a list"
	case string:
		return "a text"
	case nil:
		return "null"
	case bool:
		return "true or false"
	}
	return "a number"
}

// repeated returns an error if an object has a property twice, or one of our own that does not
// exist. Which of two properties counts is left open by RFC 8259, and a release must not depend on
// it. What is not JSON is left to the decoder.
func repeated(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		names map[string]bool // nil in a list
		value bool            // a value is next, not a name
	}
	var open []level
	for {
		token, err := d.Token()
		if err != nil {
			return nil //nolint:nilerr // the decoder reports it
		}
		var top *level
		if len(open) > 0 {
			top = &open[len(open)-1]
		}
		name, isText := token.(string)
		if top != nil && top.names != nil && !top.value && isText {
			if top.names[name] {
				return syntaxError(data, d.InputOffset(), "has the property %q twice in one object",
					name)
			}
			if ours, ok := strings.CutPrefix(name, "ehi:"); ok && !slices.Contains(own, ours) {
				return syntaxError(data, d.InputOffset(),
					"has the property %q, which does not exist; there are ehi:%s", name,
					strings.Join(own, ", ehi:"))
			}
			top.names[name], top.value = true, true
			continue
		}
		if top != nil {
			top.value = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			if len(open) > 0 {
				open[len(open)-1].value = false
			}
		}
	}
}

// own are the properties of our own, without their prefix.
var own = func() (names []string) {
	for _, of := range []any{
		Package{}, Resource{}, Schema{}, Field{}, ForeignKey{},
	} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if ours, ok := strings.CutPrefix(name, "ehi:"); ok {
				names = append(names, ours)
			}
		}
	}
	return names
}()

// reader makes the types of a package from JSON.
type reader struct {
	load     func(ref string) ([]byte, error) // nil for Parse
	loaded   map[string]map[string]any        // files by name
	problems problems                         // of the package
	tables   []problems                       // of each table
}

func (r *reader) pack(n node) *Package {
	p := &Package{
		Schema:      n.text("$schema"),
		Name:        n.filled("name"),
		Title:       n.text("title"),
		Description: n.text("description"),
		Homepage:    n.text("homepage"),
		Version:     n.text("version"),
		Created:     n.text("created"),
	}
	resources := n.objects("resources")
	if len(resources) == 0 {
		n.problem("resources", "must list at least one table")
	}
	r.tables = make([]problems, len(resources))
	for i, x := range resources {
		x.problems = &r.tables[i]
		x.at, x.prefix = fmt.Sprintf("table %d", i+1), ""
		if name, ok := x.properties["name"].(string); ok {
			x.at = fmt.Sprintf("table %q", name)
		}
		p.Resources = append(p.Resources, r.resource(x))
	}
	return p
}

func (r *reader) resource(n node) Resource {
	t := Resource{
		Name:          n.required("name"),
		Path:          Paths(n.oneOrMore("path")),
		Type:          n.filled("type"),
		Profile:       n.text("profile"),
		Title:         n.text("title"),
		Description:   n.text("description"),
		Format:        n.text("format"),
		MediaType:     n.filled("mediatype"),
		Encoding:      n.text("encoding"),
		Bytes:         n.integer("bytes"),
		Hash:          n.text("hash"),
		Patient:       n.texts("ehi:patient"),
		PatientSystem: n.text("ehi:patientSystem"),
		Lookup:        n.is("ehi:lookup"),
		Replace:       n.is("ehi:replace"),
		Part:          part(n),
		Category:      n.text("ehi:category"),
		Date:          n.text("ehi:date"),
	}
	if n.has("data") {
		n.problem("data", "is not supported: put the rows into a file")
	} else if !n.has("path") {
		n.problem("path", "is missing")
	}
	for _, x := range n.objects("ehi:sensitive") {
		t.Sensitive = append(t.Sensitive, Sensitive{
			Field:         x.required("field"),
			Values:        x.texts("values"),
			Authorization: x.required("authorization"),
		})
	}
	if x, ok := r.object(n, "dialect"); ok {
		t.Dialect = dialect(x)
	}
	if x, ok := r.object(n, "schema"); ok {
		t.Fields = schema(x)
	} else if !n.has("schema") {
		n.problem("schema", "is missing: every resource must be a table with fields")
	}
	t.Dialect = t.written()
	return t
}

func dialect(n node) *Dialect {
	d := &Dialect{
		Header:           n.flag("header"),
		Delimiter:        n.filled("delimiter"),
		LineTerminator:   n.filled("lineTerminator"),
		DoubleQuote:      n.flag("doubleQuote"),
		EscapeChar:       n.text("escapeChar"),
		NullSequence:     n.text("nullSequence"),
		SkipInitialSpace: n.is("skipInitialSpace"),
		CommentChar:      n.text("commentChar"),
	}
	if n.has("quoteChar") {
		d.QuoteChar = new(n.text("quoteChar"))
	}
	if rows, ok := n.properties["headerRows"]; ok && fmt.Sprint(rows) != "[1]" {
		n.problem("headerRows", "other than [1] are not supported")
	}
	if rows, ok := n.properties["commentRows"]; ok && fmt.Sprint(rows) != "[]" {
		n.problem("commentRows", "are not supported: use commentChar")
	}
	return d
}

func schema(n node) Schema {
	s := Schema{
		MissingValues: n.missing("missingValues"),
		PrimaryKey:    n.names("primaryKey"),
	}
	match, ok := n.properties["fieldsMatch"]
	if text := fmt.Sprint(match); ok && text != "exact" && text != "[exact]" {
		n.problem("fieldsMatch",
			"other than exact is not supported: list all columns in their order")
	}
	fields := n.objects("fields")
	if len(fields) == 0 {
		n.problem("fields", "must list at least one field")
	}
	for i, x := range fields {
		x.at, x.prefix = fmt.Sprintf("%s, field %d", n.at, i+1), ""
		if name, ok := x.properties["name"].(string); ok {
			x.at = fmt.Sprintf("%s, field %q", n.at, name)
		}
		s.Fields = append(s.Fields, field(x))
	}
	keys := n.objects("foreignKeys")
	if n.has("foreignKeys") && len(keys) == 0 {
		n.problem("foreignKeys", "must list at least one key, or be left out")
	}
	for _, x := range keys {
		s.ForeignKeys = append(s.ForeignKeys, foreignKey(x))
	}
	for _, x := range n.objects("ehi:foreignKeys") {
		s.Elsewhere = append(s.Elsewhere, foreignKey(x))
	}
	return s
}

func field(n node) Field {
	f := Field{
		Name:          n.required("name"),
		Type:          n.filled("type"),
		Format:        n.filled("format"),
		Title:         n.text("title"),
		Description:   n.text("description"),
		Example:       n.text("example"),
		MissingValues: n.missing("missingValues"),
		DecimalChar:   n.text("decimalChar"),
		GroupChar:     n.text("groupChar"),
		BareNumber:    n.flag("bareNumber"),
		TrueValues:    n.texts("trueValues"),
		FalseValues:   n.texts("falseValues"),
		Resource:      n.text("ehi:resource"),
		System:        n.text("ehi:system"),
		Label:         n.is("ehi:label"),
	}
	if x, ok := n.object("constraints"); ok {
		f.Constraints = constraints(x)
	}
	return f
}

func constraints(n node) *Constraints {
	c := &Constraints{
		Required:         n.is("required"),
		Unique:           n.is("unique"),
		MinLength:        n.length("minLength"),
		MaxLength:        n.length("maxLength"),
		Minimum:          n.value("minimum"),
		Maximum:          n.value("maximum"),
		ExclusiveMinimum: n.value("exclusiveMinimum"),
		ExclusiveMaximum: n.value("exclusiveMaximum"),
		Pattern:          n.text("pattern"),
	}
	if n.has("enum") {
		c.Enum = n.list("enum")
		if len(c.Enum) == 0 {
			n.problem("enum", "must list at least one value")
		}
	}
	return c
}

func part(n node) *Part {
	x, ok := n.object("ehi:part")
	if !ok {
		return nil
	}
	return &Part{Of: x.required("of"), Number: int(x.integer("number"))}
}

func foreignKey(n node) ForeignKey {
	k := ForeignKey{Fields: n.names("fields"), Path: n.is("ehi:path")}
	if len(k.Fields) == 0 {
		n.problem("fields", "is missing")
	}
	x, ok := n.object("reference")
	if !ok {
		n.problem("reference", "is missing")
		return k
	}
	k.Reference = Reference{Resource: x.text("resource"), Fields: x.names("fields")}
	if len(k.Reference.Fields) == 0 {
		x.problem("fields", "is missing")
	}
	_, one := n.properties["fields"].(string)
	if _, other := x.properties["fields"].(string); one != other {
		n.problem("fields", "must be a list if reference.fields is one, and one name otherwise")
	}
	return k
}

// object returns the object of a property, or that of the file that the property names.
func (r *reader) object(n node, key string) (node, bool) {
	ref, ok := n.properties[key].(string)
	if !ok {
		return n.object(key)
	}
	x := n.child(key)
	if why := unsafePath(ref); why != "" {
		n.problem(key, "names the file %q, which %s", ref, why)
		return x, false
	}
	if r.load == nil {
		n.problem(key, "names the file %q: put its content into the descriptor", ref)
		return x, false
	}
	if x.properties, ok = r.loaded[ref]; ok {
		return x, true
	}
	data, err := r.load(ref)
	if err == nil {
		x.properties, err = decodeObject(data)
	}
	if err != nil {
		n.problem(key, "names the file %q: %v", ref, err)
		return x, false
	}
	r.loaded[ref] = x.properties
	return x, true
}

// node is an object of a descriptor and what errors call it.
type node struct {
	problems   *problems
	at         string // such as: table "visits", field "id"
	prefix     string // of properties' names, such as constraints.
	properties map[string]any
}

func (n node) problem(key, format string, args ...any) {
	n.problems.add(n.at, n.prefix+key, format, args...)
}

// has reports whether the object has a property. Every other method takes a property that is
// missing for its zero value, and reports one of another type.
func (n node) has(key string) bool { _, ok := n.properties[key]; return ok }

func (n node) child(key string) node {
	return node{problems: n.problems, at: n.at, prefix: n.prefix + key + "."}
}

func (n node) text(key string) string {
	s, ok := n.properties[key].(string)
	if !ok && n.has(key) {
		n.problem(key, "must be a string")
	}
	return s
}

// required returns a string that must be there and not be empty.
func (n node) required(key string) string {
	if !n.has(key) {
		n.problem(key, "is missing")
	}
	return n.filled(key)
}

// filled returns a string that must not be empty if it is there.
func (n node) filled(key string) string {
	s := n.text(key)
	if v, ok := n.properties[key].(string); ok && v == "" {
		n.problem(key, "must not be empty")
	}
	return s
}

func (n node) flag(key string) *bool {
	b, ok := n.properties[key].(bool)
	if ok {
		return &b
	}
	if n.has(key) {
		n.problem(key, "must be true or false")
	}
	return nil
}

func (n node) is(key string) bool { b := n.flag(key); return b != nil && *b }

func (n node) integer(key string) int64 {
	v, ok := n.properties[key].(json.Number)
	if !ok {
		if n.has(key) {
			n.problem(key, "must be a whole number")
		}
		return 0
	}
	i, err := v.Int64()
	if f, e := v.Float64(); err != nil && e == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		i, err = int64(f), nil // 1.0 and 1e3 are whole numbers of JSON Schema
	}
	if err != nil || i < 0 {
		n.problem(key, "must be a whole number that is not negative")
	}
	return i
}

func (n node) length(key string) *int {
	if !n.has(key) {
		return nil
	}
	return new(int(n.integer(key)))
}

// value returns a string, number or boolean.
func (n node) value(key string) any {
	switch v := n.properties[key].(type) {
	case string, json.Number, bool:
		return v
	}
	if n.has(key) {
		n.problem(key, "must be a string or a number")
	}
	return nil
}

func (n node) list(key string) []any {
	l, ok := n.properties[key].([]any)
	if !ok && n.has(key) {
		n.problem(key, "must be a list")
	}
	return l
}

func (n node) texts(key string) []string {
	var texts []string
	for _, v := range n.list(key) {
		s, ok := v.(string)
		if !ok {
			n.problem(key, "must be a list of strings")
			return nil
		}
		texts = append(texts, s)
	}
	if l, ok := n.properties[key].([]any); ok && len(l) == 0 {
		n.problem(key, "must not be empty")
	}
	return texts
}

// oneOrMore returns the strings of a property that is one or a list of them.
func (n node) oneOrMore(key string) []string {
	if s, ok := n.properties[key].(string); ok {
		return []string{s}
	}
	return n.texts(key)
}

func (n node) names(key string) Names { return Names(n.oneOrMore(key)) }

// missing returns strings that may be objects with a value and a label. An empty list means
// something else than none.
func (n node) missing(key string) []string {
	if !n.has(key) {
		return nil
	}
	texts := []string{}
	labels := 0
	for _, v := range n.list(key) {
		if labelled, ok := v.(map[string]any); ok {
			v = n.labelled(key, labelled)
			labels++
		}
		s, ok := v.(string)
		if !ok || labels > 0 && labels != len(texts)+1 {
			n.problem(key, "must be a list of strings, or one of objects with value and label")
			return nil
		}
		if slices.Contains(texts, s) {
			n.problem(key, "must differ")
		}
		texts = append(texts, s)
	}
	return texts
}

// labelled returns the value of an object with a value and a label.
func (n node) labelled(key string, object map[string]any) any {
	if label, ok := object["label"]; ok {
		if _, ok = label.(string); !ok {
			n.problem(key, "must have strings as labels")
		}
	}
	return object["value"]
}

func (n node) object(key string) (node, bool) {
	x := n.child(key)
	var ok bool
	if x.properties, ok = n.properties[key].(map[string]any); !ok && n.has(key) {
		n.problem(key, "must be an object")
	}
	return x, ok
}

func (n node) objects(key string) []node {
	var nodes []node
	for i, v := range n.list(key) {
		x := n.child(fmt.Sprintf("%s[%d]", key, i))
		var ok bool
		if x.properties, ok = v.(map[string]any); !ok {
			n.problem(key, "must be a list of objects")
			return nil
		}
		nodes = append(nodes, x)
	}
	return nodes
}

// problems collects what is wrong with a descriptor.
type problems struct {
	errs []error
	more int
}

// maxProblems is how many problems an error lists.
const maxProblems = 20

func (p *problems) add(at, property, format string, args ...any) {
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	text := property + " " + fmt.Sprintf(format, args...)
	if at != "" {
		text = at + ": " + text
	}
	p.errs = append(p.errs, errors.New(text))
}

// addAll adds the problems of another one.
func (p *problems) addAll(of *problems) {
	n := min(len(of.errs), maxProblems-len(p.errs))
	p.errs = append(p.errs, of.errs[:n]...)
	p.more += len(of.errs) - n + of.more
}

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.errs, fmt.Errorf("and %d more problems", p.more))...)
	}
	return errors.Join(p.errs...)
}
