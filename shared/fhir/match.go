package fhir

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// Matcher matches resources against searches. It is not safe for concurrent use.
type Matcher struct {
	searches map[string]*compiled // by type
	cursor   Cursor
	found    [][]bool // by search and criterion: whether it has matched so far
	path     []byte
	open     []parts // by depth: the parts of the open object
}

// compiled holds the searches of a type.
type compiled struct {
	criteria [][]Criterion // by search
	looks    map[string][]look
}

// look is how one criterion matches the values at a path.
type look struct {
	search, criterion int
	how               shape
	field             ParameterField
	match             func(v parts) bool
}

// shape is the JSON shape of the values that a look matches.
type shape uint8

const (
	scalar shape = iota
	object
)

// parts holds a value, or the fields of an object that searches use.
type parts struct{ text, system, code, value, use, start, end string }

// fieldsOf returns where the values of a data type are below its field, and their shape. It is
// nil for a type that searches do not support.
func (f ParameterField) fieldsOf() map[string]shape {
	switch f.Type {
	case "CodeableConcept":
		return map[string]shape{".coding": object}
	case "Coding", "Identifier", "ContactPoint", "Period":
		return map[string]shape{"": object}
	case "Timing":
		return map[string]shape{".event": scalar, ".repeat.boundsPeriod": object}
	case "HumanName":
		return map[string]shape{
			".family": scalar,
			".given":  scalar,
			".prefix": scalar,
			".suffix": scalar,
			".text":   scalar,
		}
	case "Address":
		return map[string]shape{
			".line": scalar, ".city": scalar, ".district": scalar, ".state": scalar,
			".country":    scalar,
			".postalCode": scalar, ".text": scalar,
		}
	case "Reference":
		return map[string]shape{".reference": scalar}
	case "code", "boolean", "id", "string", "markdown", "uri", "url", "canonical", "oid", "uuid",
		"date", "dateTime", "instant":
		return map[string]shape{"": scalar}
	}
	return nil
}

// matchable reports whether a Matcher supports the parameter.
func (p SearchParameter) matchable() bool {
	switch p.Kind {
	case TokenParameter, DateParameter, StringParameter, ReferenceParameter, URIParameter:
		return slices.ContainsFunc(p.Fields, func(f ParameterField) bool {
			return f.fieldsOf() != nil
		})
	}
	return false
}

// NewMatcher returns a matcher for searches of ParseSearches.
func NewMatcher(searches []Search) *Matcher {
	m := &Matcher{searches: map[string]*compiled{}}
	for _, s := range searches {
		c := m.searches[s.Type]
		if c == nil {
			c = &compiled{looks: map[string][]look{}}
			m.searches[s.Type] = c
		}
		c.add(s)
	}
	return m
}

func (c *compiled) add(s Search) {
	for i, criterion := range s.Criteria {
		p, _ := FindSearchParameter(s.Type, criterion.Name)
		for _, f := range p.Fields {
			l := look{
				search:    len(c.criteria),
				criterion: i,
				field:     f,
				match:     p.matcher(f, criterion.Values),
			}
			for below, how := range f.fieldsOf() {
				l.how = how
				c.looks[f.Path+below] = append(c.looks[f.Path+below], l)
			}
		}
	}
	c.criteria = append(c.criteria, s.Criteria)
}

// matcher returns a function that reports whether a value matches one of the criterion's values
// (https://hl7.org/fhir/R4/search.html#ptypes).
func (p SearchParameter) matcher(f ParameterField, values []string) func(v parts) bool {
	var one []func(v parts) bool
	for _, value := range values {
		switch p.Kind {
		case TokenParameter:
			one = append(one, matchToken(f, value))
		case DateParameter:
			if d, err := parseDateSearch(value); err == nil {
				one = append(one, func(v parts) bool {
					s, ok := v.span()
					return ok && d.matches(s)
				})
			}
		case StringParameter:
			want := fold(unescape(value))
			one = append(one, func(v parts) bool { return strings.HasPrefix(fold(v.text), want) })
		case ReferenceParameter:
			one = append(one, matchReference(f, unescape(value)))
		case URIParameter:
			want := unescape(value)
			one = append(one, func(v parts) bool { return v.text == want })
		}
	}
	return func(v parts) bool {
		return slices.ContainsFunc(one, func(m func(parts) bool) bool { return m(v) })
	}
}

// matchToken implements https://hl7.org/fhir/R4/search.html#token: code, system|code, |code (no
// system), system| (any code). A value whose system follows from its definition (code, boolean)
// matches by code alone.
func matchToken(f ParameterField, token string) func(v parts) bool {
	system, code, both := cutEscaped(token, '|')
	if !both {
		system, code = "", system
	}
	matches := func(s, c string) bool {
		return (!both || s == system) && (c == code || both && code == "" && c != "")
	}
	switch f.Type {
	case "Identifier":
		return func(v parts) bool { return matches(v.system, v.value) }
	case "ContactPoint":
		return func(v parts) bool {
			return (f.System == "" || v.system == f.System) && matches(v.use, v.value)
		}
	case "Coding", "CodeableConcept":
		return func(v parts) bool { return matches(v.system, v.code) }
	}
	return func(v parts) bool { return v.text == code }
}

// matchReference implements https://hl7.org/fhir/R4/search.html#reference: type/id, an id, or a
// URL.
func matchReference(f ParameterField, want string) func(v parts) bool {
	typ, id, local := Local([]byte(want))
	return func(v parts) bool {
		vTyp, vID, vLocal := Local([]byte(v.text))
		switch {
		case f.Target != "" && vLocal && string(vTyp) != f.Target:
			return false
		case !vLocal:
			return v.text == want
		case local:
			return string(vTyp) == string(typ) && string(vID) == string(id)
		}
		return string(vID) == want
	}
}

// Match reports whether a resource of type typ matches one of its type's searches. A type
// without searches always matches.
func (m *Matcher) Match(typ string, line []byte) (bool, error) {
	searches := m.searches[typ]
	if searches == nil {
		return true, nil
	}
	m.found = m.found[:0]
	for _, criteria := range searches.criteria {
		m.found = append(m.found, make([]bool, len(criteria)))
	}
	c := &m.cursor
	for c.Reset(line); c.Next(); {
		switch {
		case c.Kind == Open:
			m.opened(c.Depth)
		case c.Kind == Scalar:
			m.scalar(searches)
		case !c.IsArray():
			m.visit(searches, object, m.open[c.Depth])
		}
	}
	if err := c.Err(); err != nil {
		return false, err
	}
	return slices.ContainsFunc(m.found, func(all []bool) bool {
		return !slices.Contains(all, false)
	}), nil
}

func (m *Matcher) opened(depth int) {
	for len(m.open) <= depth {
		m.open = append(m.open, parts{})
	}
	m.open[depth] = parts{}
}

// scalar processes a field of the open object, and a value of its own.
func (m *Matcher) scalar(searches *compiled) {
	c := &m.cursor
	text := string(c.Raw())
	if c.IsString() {
		text = string(c.Text())
	}
	if c.Depth > 0 && !c.InArray() {
		open := &m.open[c.Depth-1]
		switch string(c.Key()) {
		case "system":
			open.system = text
		case "code":
			open.code = text
		case "value":
			open.value = text
		case "use":
			open.use = text
		case "start":
			open.start = text
		case "end":
			open.end = text
		}
	}
	m.visit(searches, scalar, parts{text: text, start: text, end: text})
}

func (m *Matcher) visit(searches *compiled, how shape, v parts) {
	m.path = m.cursor.AppendPath(m.path[:0])
	for _, l := range searches.looks[string(m.path)] {
		if l.how == how && !m.found[l.search][l.criterion] {
			m.found[l.search][l.criterion] = l.match(v)
		}
	}
}

// beginningOfTime and endOfTime are the bounds of a period without start or end.
var (
	beginningOfTime = time.Time{}
	endOfTime       = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// span returns the span of a date or period.
func (v parts) span() (Span, bool) {
	s := Span{beginningOfTime, endOfTime}
	if v.start != "" {
		from, err := ParseSpan(v.start)
		if err != nil {
			return s, false
		}
		s.Start = from.Start
	}
	if v.end != "" {
		to, err := ParseSpan(v.end)
		if err != nil {
			return s, false
		}
		s.End = to.End
	}
	return s, v.start != "" || v.end != ""
}

// fold removes differences in case and accents.
func fold(s string) string {
	plain, _, err := transform.String(
		transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), norm.NFC), s)
	if err != nil {
		plain = s
	}
	return strings.ToLower(plain)
}

// splitEscaped splits at each occurrence of a character that is not escaped by a backslash
// (https://hl7.org/fhir/R4/search.html#escaping). The parts keep their escapes.
func splitEscaped(s string, at byte) (out []string) {
	for {
		head, rest, found := cutAt(s, at)
		out = append(out, head)
		if !found {
			return out
		}
		s = rest
	}
}

// cutEscaped cuts at the first such character and removes the escapes.
func cutEscaped(s string, at byte) (head, rest string, found bool) {
	head, rest, found = cutAt(s, at)
	return unescape(head), unescape(rest), found
}

func cutAt(s string, at byte) (head, rest string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case at:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
