package native

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"ehi-server/exporter/reading"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Rules decides about facts of native content (release.Native). Each method returns the reason
// why something is withheld, "" if it may leave.
type Rules interface {
	Line(key ehi.Category, happened *fhir.Span) (reason string)
	Code(system string, code []byte) (reason string)
	Text(text []byte) (reason string)
	Label(system string, code []byte) (reason string)
	Authorization(key ehi.Authorization) (reason string)
	Resource(typ string, id []byte) (reason string)
	Named(typ string, text []byte, visit func(typ string, name []byte))
	Called(value []byte) (reason string)
	// Describes finds the resources of the record that a resource, a line, consists of.
	Describes(
		line []byte, find func(typ, id string) ([]byte, error),
	) (reason string, err error)
	Mentions(text []byte) (reason string)
	Group(code fhir.Coding) ehi.Category
}

// Unclassified is the reason under which native content is withheld that falls under no line of
// the form (NAT-4).
const Unclassified = ehi.Unclassified

// Release decides about native content by the patient's form and the application's request. It
// implements Decider.
type Release struct {
	rules Rules
	of    *datapackage.Package
	// Withheld counts documents and rows that stay, by reason.
	Withheld map[string]int64
	// Find returns a resource of the record as a line, or nil. It is nil if nothing of the record
	// is withheld.
	Find func(typ, id string) ([]byte, error)
	// Beside returns the reason why something stays that belongs to a resource that Find does not
	// find; "" if there is none, or none that matters. nil means that there is none.
	Beside func(typ, id string) (reason string, err error)
	// Another reports whether a resource of the store is another patient's. nil means that Beside
	// knows: it is for a population, whose records have the resources of many.
	Another func(patient, typ, id string) (bool, error)

	patient string                       // of the rows; "" for look-up rows
	others  map[string]bool              // whether a name of his is another's
	named   map[string]map[string]string // reasons by type and name
	failed  error                        // of Find or Beside, for a row
	found   string                       // by visit
	visit   func(typ string, name []byte)
	counted map[string]int64 // of Withheld, the rows since the last call of Again
	grown   bool             // a key was added to stays since the last call of Again
	table   *tableFacts
	lookups map[string]*tableFacts
	stays   keptKeys // of rows that stay
	waits   keptKeys // of rows that wait
	// refers are rows that may leave, by the keys that they refer to and that come after them.
	refers map[string]map[string][]referring
	folded []byte
	said   [][]byte // room for what a cell says
	codes  *reading.Codes
}

// keptKeys are keys of rows, by the name of the key (keyName).
type keptKeys map[string]map[string]bool

// referring is a row that refers to another one.
type referring struct {
	of   *tableFacts
	keys []string // of the row, as of.keys has them; "" for none
}

// tableFacts are the columns of a table that decisions depend on, by number.
type tableFacts struct {
	name      string
	category  ehi.Category
	always    bool
	waits     bool // nobody has classified the table: its rows wait, unless they stay
	date      *datapackage.Field
	dateAt    int
	resources []columnOf
	systems   []columnOf
	labels    []columnOf
	texts     []columnOf // each of its system, of ids, or of none if it is free text
	sensitive []sensitiveColumn
	parents   []parentKey  // foreign keys to tables of which rows may stay
	keys      [][]columnOf // columns of the keys by which other tables may refer to a row
	keyNames  []string
}

// parentKey is a foreign key to another table of patients.
type parentKey struct {
	columns []columnOf
	name    string // see keyName
	forward bool   // the row may come later: it is of the same table, or of one in a circle
}

// NewRelease returns the decisions about a record with these tables.
func NewRelease(rules Rules, of *datapackage.Package) *Release {
	r := &Release{
		rules: rules, of: of, Withheld: map[string]int64{}, stays: keptKeys{}, waits: keptKeys{},
		lookups: map[string]*tableFacts{}, counted: map[string]int64{},
		others: map[string]bool{}, named: map[string]map[string]string{},
		refers: map[string]map[string][]referring{}, codes: reading.NewCodes(rules.Code),
	}
	r.visit = func(typ string, name []byte) { // made once: cells are many
		if r.found == "" && r.failed == nil {
			r.found, r.failed = r.outside(typ, name)
		}
	}
	return r
}

// Document implements Decider. A document that belongs to a resource which is not in the record
// cannot be classified.
func (r *Release) Document(d *source.Document, strays bool) (Verdict, error) {
	reason := r.document(d)
	if strays {
		reason = cmp.Or(reason, Unclassified)
	}
	for _, decide := range []func(*source.Document) (string, error){r.described, r.content} {
		if reason != "" && reason != Unclassified {
			break
		}
		withheld, err := decide(d)
		if err != nil {
			return Stays, err
		}
		reason = cmp.Or(withheld, reason)
	}
	switch reason {
	case "":
		return Leaves, nil
	case Unclassified:
		r.Withheld[reason]++
		return Waits, nil
	}
	r.Withheld[reason]++
	return Stays, nil
}

// described decides by the resources that a document belongs to, as a row is decided.
func (r *Release) described(d *source.Document) (reason string, err error) {
	for resource := range d.Resources() {
		typ, id, _ := strings.Cut(resource, "/")
		if r.Find == nil { // a population
			if reason, err = r.beside(typ, []byte(id)); err != nil || reason != "" {
				return reason, err
			}
			continue
		}
		if _, reason, err = r.within(typ, id); err != nil || reason != "" {
			return reason, err
		}
	}
	return "", nil
}

// within decides about what belongs to a resource of the record; known is false if the record does
// not have it.
func (r *Release) within(typ, id string) (known bool, reason string, err error) {
	if r.Find == nil {
		return false, "", nil
	}
	line, err := r.Find(typ, id)
	if err != nil || line == nil {
		return false, "", err
	}
	reason, err = r.rules.Describes(line, r.Find)
	return true, reason, err
}

// document decides by what is known about a document.
func (r *Release) document(d *source.Document) (reason string) {
	for resource := range d.Resources() {
		typ, id, _ := strings.Cut(resource, "/")
		reason = cmp.Or(reason, r.rules.Resource(typ, []byte(id)))
	}
	for _, l := range d.Labels {
		reason = cmp.Or(reason, r.rules.Label(l.System, []byte(l.Code)))
	}
	for c := range codingsOf(d) {
		reason = cmp.Or(reason, r.rules.Code(c.System, []byte(c.Code)))
	}
	for text := range textsOf(d) {
		reason = cmp.Or(reason, r.rules.Text([]byte(text)), r.rules.Mentions([]byte(text)))
	}
	for _, name := range namesOf(d) {
		for word := range codesIn(name) {
			reason = cmp.Or(reason, r.rules.Text([]byte(word)))
		}
	}
	category := cmp.Or(d.Category, r.rules.Group(d.Type))
	for _, c := range d.Codings {
		category = cmp.Or(category, r.rules.Group(c))
	}
	switch {
	case reason != "":
		return reason
	case category == "" || d.Unread:
		return Unclassified
	}
	var happened *fhir.Span
	if !d.Created.IsZero() {
		happened = &fhir.Span{Start: d.Created, End: d.Created.Add(1)}
		if span, err := fhir.ParseSpan(d.Date); err == nil {
			happened = &span
		}
	}
	return r.rules.Line(category, happened)
}

// content decides by the text of a document that is text: it stays if it mentions something
// withheld. It cannot be classified if nobody here can read its character set.
func (r *Release) content(d *source.Document) (reason string, err error) {
	in, err := d.Open()
	if err != nil {
		return "", err
	}
	defer in.Close() // read only
	by := reading.Judge{Text: r.rules.Mentions, Codes: r.codes.In}
	reason, readable, err := reading.Document(in, d.ContentType, by)
	if reason == "" && !readable {
		reason = Unclassified
	}
	return reason, err
}

// Table implements Decider.
func (r *Release) Table(t *datapackage.Resource) (v Verdict, each bool, err error) {
	if t.Lookup { // its rows go with what refers to them
		r.table = nil
		return Leaves, false, nil
	}
	if r.table = r.facts(t); r.table.waits {
		return Waits, true, nil
	}
	return Leaves, true, nil
}

// facts finds the columns that decisions depend on.
func (r *Release) facts(t *datapackage.Resource) *tableFacts {
	f := &tableFacts{
		name: t.Name, always: t.Category == datapackage.Always,
		waits: t.Category == "" && !t.Lookup, dateAt: -1,
	}
	if !f.always {
		f.category = ehi.Category(t.Category)
	}
	for i := range t.Fields.Fields {
		field := &t.Fields.Fields[i]
		column := columnOf{at: i, field: field, missing: missingOf(t, field)}
		if field.Resource != "" {
			column.of = field.Resource
			f.resources = append(f.resources, column)
		}
		if field.System != "" {
			column.of = field.System
			f.systems = append(f.systems, column)
		}
		if field.Label {
			f.labels = append(f.labels, columnOf{at: i, field: field, missing: column.missing})
		}
		if field.Resource != "" || len(t.Patient) == 1 && t.Patient[0] == field.Name {
			column.of = ids
		}
		switch field.Type {
		case "", "string", "any", "array", "object", "geojson":
			f.texts = append(f.texts, column)
		}
	}
	if t.Date != "" {
		c := columnsOf(t, []string{t.Date})[0]
		f.dateAt, f.date = c.at, c.field
	}
	for _, s := range t.Sensitive {
		c := sensitiveColumn{
			columnOf: columnsOf(t, []string{s.Field})[0],
			needs:    ehi.Authorization(s.Authorization),
		}
		for _, v := range s.Values {
			c.values = append(c.values, c.plain(v))
		}
		f.sensitive = append(f.sensitive, c)
	}
	order, _ := r.of.Order() // without one, every row may come later
	for _, k := range t.Fields.ForeignKeys {
		to := r.of.Table(cmp.Or(k.Reference.Resource, t.Name))
		if to != nil && !to.Lookup {
			f.parents = append(f.parents, parentKey{
				columns: keyColumns(t, k, to), name: keyName(to.Name, k.Reference.Fields),
				forward: slices.Index(order, to.Name) >= slices.Index(order, t.Name),
			})
		}
	}
	r.referred(t, func(fields []string) {
		if name := keyName(t.Name, fields); !slices.Contains(f.keyNames, name) {
			f.keys = append(f.keys, columnsOf(t, fields))
			f.keyNames = append(f.keyNames, name)
		}
	})
	return f
}

// columnsOf returns the columns of some fields of a table.
func columnsOf(t *datapackage.Resource, names []string) (out []columnOf) {
	for _, name := range names {
		at := slices.IndexFunc(t.Fields.Fields,
			func(f datapackage.Field) bool { return f.Name == name })
		field := &t.Fields.Fields[at]
		out = append(out, columnOf{at: at, field: field, missing: missingOf(t, field)})
	}
	return out
}

// keyColumns returns the columns of a foreign key, whose values are compared by their types. A
// text is compared as the key that it refers to.
func keyColumns(
	t *datapackage.Resource, k datapackage.ForeignKey, to *datapackage.Resource,
) []columnOf {
	columns := columnsOf(t, k.Fields)
	for i, target := range columnsOf(to, k.Reference.Fields) {
		switch columns[i].field.Type {
		case "", "string", "any":
			columns[i].field = target.field
		}
	}
	return columns
}

// referred calls visit with the fields of each key by which a table refers to t.
func (r *Release) referred(t *datapackage.Resource, visit func(fields []string)) {
	for i := range r.of.Resources {
		from := &r.of.Resources[i]
		for _, k := range from.Fields.ForeignKeys {
			if cmp.Or(k.Reference.Resource, from.Name) == t.Name {
				visit(k.Reference.Fields)
			}
		}
	}
}

func keyName(table string, fields []string) string {
	return table + "\x00" + strings.Join(fields, "\x00")
}

// Of implements Decider.
func (r *Release) Of(patient string) {
	if patient != r.patient {
		r.patient = patient
		clear(r.others)
	}
}

// Row implements Decider.
func (r *Release) Row(values [][]byte, raw []byte, telling bool) (bool, error) {
	t := r.table
	if t == nil {
		return true, nil
	}
	reason := r.row(t, values, raw)
	if r.failed != nil {
		return false, r.failed
	}
	if reason == "" && telling {
		reason = referenceOnly
	}
	if reason == "" {
		if t.waits {
			r.count(Unclassified)
			r.keep(r.waits, t, values)
		}
		r.refer(t, values)
		return true, nil
	}
	r.count(reason)
	r.keep(r.stays, t, values)
	return false, nil
}

// count counts a row that stays.
func (r *Release) count(reason string) {
	r.Withheld[reason]++
	r.counted[reason]++
}

// keep notes the keys of a row that stays or waits: what refers to it does so too.
func (r *Release) keep(in keptKeys, t *tableFacts, values [][]byte) {
	for i, columns := range t.keys {
		if key, ok := r.key(columns, values); ok && in.add(t.keyNames[i], key) {
			r.grown = true
			r.spread(t.keyNames[i], key)
		}
	}
}

// add adds a key, and reports whether it is new.
func (k keptKeys) add(name, key string) bool {
	if k[name] == nil {
		k[name] = map[string]bool{}
	}
	if k[name][key] {
		return false
	}
	k[name][key] = true
	return true
}

// spread makes the rows stay that came before a row and refer to it, directly or through others. So
// a chain of any length is decided in the next pass.
func (r *Release) spread(name, key string) {
	for keys := [][2]string{{name, key}}; len(keys) > 0; {
		name, key := keys[len(keys)-1][0], keys[len(keys)-1][1]
		keys = keys[:len(keys)-1]
		for _, from := range r.refers[name][key] {
			if from.of.waits && !r.stays[name][key] {
				continue // it waits with what it refers to
			}
			for i, own := range from.keys {
				if own != "" && r.stays.add(from.of.keyNames[i], own) {
					keys = append(keys, [2]string{from.of.keyNames[i], own})
				}
			}
		}
	}
}

// refer notes to which rows after it a row refers that may leave.
func (r *Release) refer(t *tableFacts, values [][]byte) {
	var own []string
	for _, p := range t.parents {
		if !p.forward || len(t.keys) == 0 {
			continue
		}
		to, ok := r.key(p.columns, values)
		if !ok {
			continue
		}
		for _, columns := range t.keys[len(own):] {
			key, _ := r.key(columns, values)
			own = append(own, key)
		}
		if r.refers[p.name] == nil {
			r.refers[p.name] = map[string][]referring{}
		}
		r.refers[p.name][to] = append(r.refers[p.name][to], referring{t, own})
	}
}

// Again implements Decider. It counts anew what stays.
func (r *Release) Again() bool {
	again := r.grown
	r.grown = false
	clear(r.refers) // each pass notes them
	for reason, n := range r.Withheld {
		r.Withheld[reason] = n - r.counted[reason]
		if r.Withheld[reason] == 0 {
			delete(r.Withheld, reason)
		}
	}
	r.counted = map[string]int64{}
	return again
}

// referenceOnly is the reason of what stays because of what it refers to.
const referenceOnly = "reference-only"

// Lookup implements Decider: a row that refers to a sensitive code, by whatever key, tells it. That
// is the same for the rows of all patients.
func (r *Release) Lookup(of *datapackage.Resource, values [][]byte, raw []byte) (bool, error) {
	defer func(patient string) { r.patient = patient }(r.patient)
	r.patient = ""
	if r.lookups[of.Name] == nil {
		r.lookups[of.Name] = r.facts(of)
	}
	t := r.lookups[of.Name]
	return r.told(t, values, raw) == "" && !r.parentStays(t, values), r.failed
}

// parentStays reports whether a row refers to one that stays, or to one that waits, unless the row
// waits too: an administrator decides about each table.
func (r *Release) parentStays(t *tableFacts, values [][]byte) bool {
	for _, p := range t.parents {
		stays, waits := r.stays[p.name], r.waits[p.name]
		if len(stays) == 0 && len(waits) == 0 {
			continue // as of most tables
		}
		key, ok := r.key(p.columns, values)
		if ok && (stays[key] || !t.waits && waits[key]) {
			return true
		}
	}
	return false
}

// row returns why a row stays.
func (r *Release) row(t *tableFacts, values [][]byte, raw []byte) (reason string) {
	reason = r.told(t, values, raw)
	if r.parentStays(t, values) {
		reason = cmp.Or(reason, referenceOnly)
	}
	switch {
	case reason != "":
		return reason
	case t.always:
		return ""
	case t.waits: // the decision about the table holds
		return ""
	}
	return r.rules.Line(t.category, t.happened(valueAt(values, t.dateAt)))
}

func valueAt(values [][]byte, i int) []byte {
	if i < 0 || i >= len(values) {
		return nil
	}
	return values[i]
}

// told returns why a row stays for what its values tell.
func (r *Release) told(t *tableFacts, values [][]byte, raw []byte) (reason string) {
	judge := func(columns []columnOf, rule func(of string, text []byte) string) {
		for i := range columns {
			r.said = columns[i].said(columns[i].value(values), r.said)
			for _, text := range r.said {
				reason = cmp.Or(reason, rule(columns[i].of, text))
			}
		}
	}
	judge(t.resources, r.belongs)
	judge(t.systems, r.rules.Code)
	judge(t.labels, r.rules.Label)
	for i := range t.sensitive {
		if s := &t.sensitive[i]; s.needed(values, r.said) {
			reason = cmp.Or(reason, r.rules.Authorization(s.needs))
		}
	}
	if reason != "" {
		return reason
	}
	objects := false
	judge(t.texts, func(of string, text []byte) string {
		objects = objects || reading.BeginsJSON(text)
		return r.text(of, text)
	})
	reason = cmp.Or(reason, r.rules.Mentions(raw))
	if reason != "" || !objects && !reading.MayHide(raw) {
		return reason
	}
	judge(t.texts, r.read)
	if reason != "" || bytes.IndexByte(raw, '\\') < 0 {
		return reason
	}
	return reading.Value(raw, reading.Judge{Text: r.rules.Mentions}) // a note of rich text
}

// belongs decides about what belongs to the resources that a text names.
func (r *Release) belongs(typ string, text []byte) (reason string) {
	if reason = r.rules.Resource(typ, text); reason != "" {
		return reason
	}
	r.found = ""
	r.rules.Named(typ, text, r.visit)
	return r.found
}

// mostNamed is the number of names of a type whose reasons are kept.
const mostNamed = 1 << 14

// outside decides about a name that is not the ID of a resource of the record.
func (r *Release) outside(typ string, name []byte) (reason string, err error) {
	if reason, err = r.beside(typ, name); reason != "" || err != nil {
		return reason, err
	}
	if another, err := r.another(typ, name); !another {
		return "", err
	}
	return referenceOnly, nil
}

// another reports whether a name is the ID of a resource that is another patient's.
func (r *Release) another(typ string, name []byte) (another bool, err error) {
	if typ == "" || r.patient == "" || r.Another == nil {
		return false, nil
	}
	id := typ + "/" + string(name)
	another, known := r.others[id]
	if !known {
		if another, err = r.Another(r.patient, typ, string(name)); err != nil {
			return false, err
		}
		if len(r.others) < mostNamed {
			r.others[id] = another
		}
	}
	return another, nil
}

// beside is outside for what is the same for all patients.
func (r *Release) beside(typ string, name []byte) (reason string, err error) {
	if reason, known := r.named[typ][string(name)]; known {
		return reason, nil
	}
	if len(r.named[typ]) >= mostNamed || r.named[typ] == nil {
		r.named[typ] = map[string]string{}
	}
	defer func() { r.named[typ][string(name)] = reason }()
	if typ != "" {
		if known, reason, err := r.within(typ, string(name)); err != nil || known {
			return reason, err
		}
	}
	reason = r.rules.Called(name)
	if reason == "" && typ != "" && r.Beside != nil {
		return r.Beside(typ, string(name))
	}
	return reason, nil
}

// ids is the system of the columns that have IDs of resources.
const ids = "urn:id"

// text decides about a text of a row. A code of a system, and an ID, is no text that may show a
// code of another system.
func (r *Release) text(of string, text []byte) (reason string) {
	if of == "" {
		reason = r.rules.Text(text)
	}
	return cmp.Or(reason, r.rules.Mentions(text))
}

// read decides about a text of a row in every form in which it can be read.
func (r *Release) read(of string, text []byte) (reason string) {
	by := reading.Judge{Codes: r.codes.In}
	by.Text = func(plain []byte) (reason string) {
		if of != "" {
			reason = r.rules.Code(of, plain)
		}
		return cmp.Or(reason, r.text(of, plain))
	}
	return reading.Value(text, by)
}

// key returns the values of some columns as one text, which is the same for values that mean the
// same; ok is false if one of them is missing.
func (r *Release) key(columns []columnOf, values [][]byte) (key string, ok bool) {
	out := r.folded[:0]
	for _, c := range columns {
		v := c.value(values)
		if v == nil {
			return "", false
		}
		out = append(appendKey(out, c.field, v), 0)
	}
	r.folded = out
	return string(out), true
}

// happened returns the span of a row's date; nil if it has none that can be read. Limits of dates
// then withhold the row.
func (t *tableFacts) happened(value []byte) *fhir.Span {
	if t.date == nil || len(value) == 0 {
		return nil
	}
	text := string(bytes.TrimSpace(value))
	if f := t.date.Format; f != "" && f != "default" && f != "any" {
		start, end, err := t.date.Span(text)
		if err != nil {
			return nil
		}
		return &fhir.Span{Start: start, End: end}
	}
	if span, err := fhir.ParseSpan(text); err == nil {
		return &span
	}
	for _, layout := range isoTimes {
		start, err := time.Parse(layout.form, strings.Replace(text, " ", "T", 1))
		if err != nil {
			continue
		}
		if start.Nanosecond() != 0 {
			layout.width = time.Millisecond
		}
		return &fhir.Span{Start: start, End: start.Add(layout.width)}
	}
	return nil
}

// isoTimes are the forms of ISO 8601 that dates with a time have beside that of FHIR. Each may have
// a T or a space in its middle, and a fraction. It is in UTC if it has no zone.
var isoTimes = []struct {
	form  string
	width time.Duration
}{
	{"2006-01-02T15:04:05", time.Second},
	{"2006-01-02T15:04", time.Minute},
	{"2006-01-02T15:04:05Z07:00", time.Second},
	{"2006-01-02T15:04Z07:00", time.Minute},
	{"2006-01-02T15:04:05Z0700", time.Second},
	{"2006-01-02T15:04Z0700", time.Minute},
	{"2006-01-02T15:04:05 Z07:00", time.Second},
	{"2006-01-02T15:04:05 Z0700", time.Second},
	{"2006-01-02T15:04:05Z07", time.Second}, // as databases write them
}
