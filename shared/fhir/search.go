package fhir

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Search is one search of a _typeFilter (Bulk Data Access 3.0.0, "_typeFilter"): all of its criteria must match.
type Search struct {
	Type     string      `json:"type"`
	Criteria []Criterion `json:"criteria"`
}

// Criterion is one search parameter; one of its values must match (https://hl7.org/fhir/R4/search.html).
type Criterion struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// searchParameter says how a parameter is matched, and on which elements.
type searchParameter struct {
	date     bool // a date search; else a token search
	elements []string
}

func dateOf(elements ...string) searchParameter  { return searchParameter{true, elements} }
func tokenOf(elements ...string) searchParameter { return searchParameter{false, elements} }

// searchParameters are the supported ones by type, and "" for every type (https://hl7.org/fhir/R4/searchparameter-registry.html).
var searchParameters = map[string]map[string]searchParameter{
	"": {"_lastUpdated": dateOf("meta.lastUpdated"), "_id": tokenOf("id"), "_tag": tokenOf("meta.tag"), "_security": tokenOf("meta.security")},
	"Observation": {"date": dateOf("effectiveDateTime", "effectivePeriod", "effectiveInstant"), "category": tokenOf("category"), "code": tokenOf("code"),
		"status": tokenOf("status")},
	"Condition": {"onset-date": dateOf("onsetDateTime", "onsetPeriod"), "recorded-date": dateOf("recordedDate"),
		"abatement-date": dateOf("abatementDateTime", "abatementPeriod"), "category": tokenOf("category"), "code": tokenOf("code"),
		"clinical-status": tokenOf("clinicalStatus"), "verification-status": tokenOf("verificationStatus"), "severity": tokenOf("severity")},
	"Encounter":            {"date": dateOf("period"), "class": tokenOf("class"), "type": tokenOf("type"), "status": tokenOf("status"), "reason-code": tokenOf("reasonCode")},
	"DiagnosticReport":     {"date": dateOf("effectiveDateTime", "effectivePeriod"), "issued": dateOf("issued"), "category": tokenOf("category"), "code": tokenOf("code"), "status": tokenOf("status")},
	"Procedure":            {"date": dateOf("performedDateTime", "performedPeriod"), "category": tokenOf("category"), "code": tokenOf("code"), "status": tokenOf("status")},
	"MedicationRequest":    {"authoredon": dateOf("authoredOn"), "status": tokenOf("status"), "intent": tokenOf("intent"), "category": tokenOf("category"), "code": tokenOf("medicationCodeableConcept")},
	"Immunization":         {"date": dateOf("occurrenceDateTime"), "status": tokenOf("status"), "vaccine-code": tokenOf("vaccineCode")},
	"DocumentReference":    {"date": dateOf("date"), "category": tokenOf("category"), "type": tokenOf("type"), "status": tokenOf("status")},
	"CarePlan":             {"date": dateOf("period"), "category": tokenOf("category"), "status": tokenOf("status")},
	"Claim":                {"created": dateOf("created"), "status": tokenOf("status"), "use": tokenOf("use")},
	"ExplanationOfBenefit": {"created": dateOf("created"), "status": tokenOf("status")},
	"AllergyIntolerance":   {"date": dateOf("recordedDate"), "category": tokenOf("category"), "code": tokenOf("code"), "clinical-status": tokenOf("clinicalStatus")},
	"Patient":              {"birthdate": dateOf("birthDate"), "gender": tokenOf("gender"), "active": tokenOf("active")},
}

// errUnsupported marks a search that is well formed and not supported.
type errUnsupported struct{ what string }

func (e errUnsupported) Error() string { return e.what }

// IsUnsupported tells a search that is well formed and not supported from one that is wrong.
func IsUnsupported(err error) bool { _, ok := errors.AsType[errUnsupported](err); return ok }

// nextSearch is where a list of searches goes on; a comma within a search's values is none.
var nextSearch = regexp.MustCompile(`,([A-Z][A-Za-z]+)\?`)

// ParseSearches reads a _typeFilter: one search such as Observation?category=laboratory&date=ge2019, or several with commas between
// them. Errors say what is wrong; IsUnsupported is true for what is only not supported.
func ParseSearches(value string) ([]Search, error) {
	var out []Search
	for _, one := range SplitSearches(value) {
		s, err := ParseSearch(one)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// SplitSearches divides the value of a _typeFilter into its searches.
func SplitSearches(value string) (out []string) {
	for value != "" {
		at := nextSearch.FindStringIndex(value)
		if at == nil {
			return append(out, value)
		}
		out, value = append(out, value[:at[0]]), value[at[0]+1:]
	}
	return out
}

// ParseSearch reads one search of a _typeFilter. Errors are those of ParseSearches; the Search says its type where that is known.
func ParseSearch(text string) (Search, error) {
	typ, query, ok := strings.Cut(text, "?")
	switch {
	case !ok:
		return Search{}, fmt.Errorf("%q is no search such as Observation?category=laboratory", text)
	case !KnownType(typ):
		return Search{}, errUnsupported{fmt.Sprintf("%q searches for no resource type of FHIR R4", text)}
	}
	s := Search{Type: typ}
	for _, part := range strings.Split(query, "&") {
		name, value, ok := strings.Cut(part, "=")
		plain, err := url.QueryUnescape(value)
		if !ok || err != nil || plain == "" {
			return s, fmt.Errorf("%q is no search parameter with a value", part)
		}
		p, known := searchOf(typ, name)
		if !known {
			return s, errUnsupported{fmt.Sprintf("the search parameter %q of %s is not supported", name, typ)}
		}
		c := Criterion{Name: name, Values: strings.Split(plain, ",")}
		if p.date {
			for _, v := range c.Values {
				if _, err := parseDateSearch(v); err != nil {
					return s, err
				}
			}
		}
		s.Criteria = append(s.Criteria, c)
	}
	return s, nil
}

func searchOf(typ, name string) (searchParameter, bool) {
	if p, ok := searchParameters[""][name]; ok {
		return p, true
	}
	p, ok := searchParameters[typ][name]
	return p, ok
}

// dateSearch is a prefix and a span (https://hl7.org/fhir/R4/search.html#date).
type dateSearch struct {
	prefix string
	Span
}

func parseDateSearch(v string) (d dateSearch, err error) {
	d.prefix = "eq"
	if len(v) > 2 && v[0] >= 'a' && v[0] <= 'z' {
		d.prefix, v = v[:2], v[2:]
	}
	if !slices.Contains([]string{"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"}, d.prefix) {
		return d, errUnsupported{fmt.Sprintf("the prefix %q of a date is not supported", d.prefix)}
	}
	d.Span, err = ParseSpan(strings.ReplaceAll(v, " ", "+")) // an unescaped + arrives as a space
	return d, err
}

// matches reports whether a resource's span s meets the search.
func (d dateSearch) matches(s Span) bool {
	within := !s.Start.Before(d.Start) && !s.End.After(d.End)
	switch d.prefix {
	case "ne":
		return !within
	case "gt":
		return s.End.After(d.End)
	case "lt":
		return s.Start.Before(d.Start)
	case "ge":
		return s.End.After(d.End) || within
	case "le":
		return s.Start.Before(d.Start) || within
	case "sa":
		return !s.Start.Before(d.End)
	case "eb":
		return !s.End.After(d.Start)
	}
	return within
}

// Matcher matches resources against searches. It is for one goroutine.
type Matcher struct {
	searches map[string][]compiledSearch
	cursor   Cursor
	found    [][]bool // by search and criterion: matched by what was seen so far
	path     []byte
	coding   []coding // by depth: the coding or period that is open there
}

type coding struct{ system, code, start, end string }

type compiledSearch struct{ criteria []compiledCriterion }

type compiledCriterion struct {
	elements []string
	date     bool
	tokens   []string
	dates    []dateSearch
}

// NewMatcher makes a matcher of searches that ParseSearches has read.
func NewMatcher(searches []Search) *Matcher {
	m := &Matcher{searches: map[string][]compiledSearch{}}
	for _, s := range searches {
		var c compiledSearch
		for _, criterion := range s.Criteria {
			p, _ := searchOf(s.Type, criterion.Name)
			cc := compiledCriterion{elements: p.elements, date: p.date, tokens: criterion.Values}
			for _, v := range criterion.Values {
				if d, err := parseDateSearch(v); p.date && err == nil {
					cc.dates = append(cc.dates, d)
				}
			}
			c.criteria = append(c.criteria, cc)
		}
		m.searches[s.Type] = append(m.searches[s.Type], c)
	}
	return m
}

// Match reports whether a resource of type typ is found by one of its type's searches; a type without any is found.
func (m *Matcher) Match(typ string, line []byte) (bool, error) {
	searches := m.searches[typ]
	if len(searches) == 0 {
		return true, nil
	}
	m.found = m.found[:0]
	for _, s := range searches {
		m.found = append(m.found, make([]bool, len(s.criteria)))
	}
	c := &m.cursor
	for c.Reset(line); c.Next(); {
		switch c.Kind {
		case Open:
			m.open(c.Depth)
		case Close:
			m.closed(searches)
		case Scalar:
			m.scalar(searches)
		}
	}
	if err := c.Err(); err != nil {
		return false, err
	}
	return slices.ContainsFunc(m.found, func(all []bool) bool { return !slices.Contains(all, false) }), nil
}

func (m *Matcher) open(depth int) {
	for len(m.coding) <= depth {
		m.coding = append(m.coding, coding{})
	}
	m.coding[depth] = coding{}
}

// scalar takes in a part of a coding or period, or a value of its own.
func (m *Matcher) scalar(searches []compiledSearch) {
	c := &m.cursor
	text := string(c.Raw())
	if c.IsString() {
		text = string(c.Text())
	}
	if c.Depth > 0 && !c.InArray() {
		open := &m.coding[c.Depth-1]
		switch string(c.Key()) {
		case "system":
			open.system = text
		case "code":
			open.code = text
		case "start":
			open.start = text
		case "end":
			open.end = text
		}
	}
	m.path = c.AppendPath(m.path[:0])
	m.visit(searches, string(m.path), coding{code: text, start: text, end: text})
}

// closed looks at the object that ends: a coding, or a period.
func (m *Matcher) closed(searches []compiledSearch) {
	c := &m.cursor
	o := m.coding[c.Depth]
	if o.code == "" && o.start == "" && o.end == "" {
		return
	}
	m.path = c.AppendPath(m.path[:0])
	m.visit(searches, strings.TrimSuffix(string(m.path), ".coding"), o)
}

func (m *Matcher) visit(searches []compiledSearch, path string, v coding) {
	for i, s := range searches {
		for j, c := range s.criteria {
			if !m.found[i][j] && slices.Contains(c.elements, path) {
				m.found[i][j] = c.matches(v)
			}
		}
	}
}

func (c compiledCriterion) matches(v coding) bool {
	if !c.date {
		return slices.ContainsFunc(c.tokens, func(t string) bool { return tokenMatches(t, v) })
	}
	span, ok := v.span()
	return ok && slices.ContainsFunc(c.dates, func(d dateSearch) bool { return d.matches(span) })
}

// tokenMatches is https://hl7.org/fhir/R4/search.html#token: code, system|code, |code (no system), system| (any code).
func tokenMatches(token string, v coding) bool {
	system, code, both := strings.Cut(token, "|")
	if !both {
		return v.code == token
	}
	return v.system == system && (code == "" && v.code != "" || v.code == code)
}

// beginningOfTime and endOfTime stand for the open ends of a period.
var (
	beginningOfTime = time.Time{}
	endOfTime       = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// span is the time of a date or of a period.
func (v coding) span() (Span, bool) {
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
