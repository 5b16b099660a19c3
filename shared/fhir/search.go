package fhir

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Search is one search of a _typeFilter (Bulk Data Access 3.0.0, "_typeFilter"). A resource must
// match all criteria.
type Search struct {
	Type     string      `json:"type"`
	Criteria []Criterion `json:"criteria"`
}

// Criterion is one search parameter. A resource must match one of its values
// (https://hl7.org/fhir/R4/search.html).
type Criterion struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// errUnsupported is the error for a valid search that is not supported.
type errUnsupported struct{ what string }

func (e errUnsupported) Error() string { return e.what }

// IsUnsupported reports whether an error is about a valid search that is not supported.
func IsUnsupported(err error) bool { _, ok := errors.AsType[errUnsupported](err); return ok }

// nextSearch matches the start of the next search in a list. A comma within the values of a
// search does not match.
var nextSearch = regexp.MustCompile(`,([A-Z][A-Za-z]+)\?`)

// ParseSearches parses a _typeFilter: one search such as
// Observation?category=laboratory&date=ge2019, or a comma-separated list. IsUnsupported
// distinguishes unsupported searches from invalid ones.
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

// SplitSearches splits the value of a _typeFilter into its searches.
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

// ParseSearch parses one search of a _typeFilter. Errors are those of ParseSearches. The Search
// has its type even after an error, if the type is known.
func ParseSearch(text string) (Search, error) {
	typ, query, ok := strings.Cut(text, "?")
	switch {
	case !ok:
		return Search{}, fmt.Errorf("%q is no search such as Observation?category=laboratory", text)
	case !KnownType(typ):
		return Search{}, errUnsupported{
			fmt.Sprintf("%q searches for no resource type of FHIR R4", text),
		}
	}
	s := Search{Type: typ}
	for _, part := range strings.Split(query, "&") {
		name, value, ok := strings.Cut(part, "=")
		plain, err := url.QueryUnescape(value)
		if !ok || err != nil || plain == "" {
			return s, fmt.Errorf("%q is no search parameter with a value", part)
		}
		p, known := FindSearchParameter(typ, name)
		if !known || !p.matchable() {
			return s, errUnsupported{
				fmt.Sprintf("the search parameter %q of %s is not supported", name, typ),
			}
		}
		c := Criterion{Name: name, Values: splitEscaped(plain, ',')}
		if p.Kind == DateParameter {
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
	d.Span, err = searchSpan(v)
	return d, err
}

// searchTime matches a time that searches allow and resources do not: without seconds, or
// without a zone (https://hl7.org/fhir/R4/search.html#date).
var searchTime = regexp.MustCompile(`^([^T]+T[0-9]{2}:[0-9]{2})(:[0-9.]+)?(Z|[+-][0-9:]+)?$`)

// searchSpan is ParseAsked that also accepts times without seconds, which cover the whole
// minute, and times without a zone, which are in UTC.
func searchSpan(v string) (Span, error) {
	t := searchTime.FindStringSubmatch(strings.ToUpper(strings.ReplaceAll(v, " ", "+")))
	if t == nil || t[2] != "" && t[3] != "" {
		return ParseAsked(v)
	}
	s, err := ParseAsked(t[1] + cmp.Or(t[2], ":00") + cmp.Or(t[3], "Z"))
	if err != nil {
		return ParseAsked(v) // rejects the value in its original form
	}
	if t[2] == "" {
		s.End = s.Start.Add(time.Minute)
	}
	return s, nil
}

// matches reports whether a resource's span s matches the search.
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
