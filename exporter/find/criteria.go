package find

import (
	"slices"
	"strings"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Criterion is one search parameter with alternatives. A resource must match one of them.
type Criterion []Range

// Range is an alternative: the entries e with From <= e < To for which Accept, if not nil,
// returns true. Accept receives the bare entry. The comparison uses the entry with a zero byte
// at its end, "e\x00".
type Range struct {
	From, To string
	Accept   func(entry string) bool
}

// admits reports whether an entry is in the range.
func (r Range) admits(entry string) bool {
	return r.From <= entry+sep && entry+sep < r.To && (r.Accept == nil || r.Accept(entry))
}

// Tokens returns the values of a token parameter. only is false if the criterion is for another
// parameter, or if other values would match too.
func (c Criterion) Tokens(parameter string) (values []string, only bool) {
	for _, r := range c {
		rest, ok := strings.CutPrefix(r.From, entry(ofToken, parameter, ""))
		if !ok {
			return nil, false
		}
		value, _, _ := strings.Cut(rest, sep)
		values = append(values, value)
	}
	return values, true
}

// NarrowFirst orders criteria by the number of expected matches: tokens, then strings, then
// dates.
func NarrowFirst(criteria []Criterion) []Criterion {
	out := slices.Clone(criteria)
	slices.SortStableFunc(out, func(a, b Criterion) int { return a.width() - b.width() })
	return out
}

func (c Criterion) width() int {
	if len(c) == 0 {
		return 0
	}
	return strings.Index(ofToken+ofSystem+ofString+ofDate, c[0].From[:1])
}

// Matches reports whether a resource with the given entries matches all criteria.
func Matches(criteria []Criterion, entries []string) bool {
	for _, c := range criteria {
		if !slices.ContainsFunc(c,
			func(r Range) bool { return slices.ContainsFunc(entries, r.admits) }) {
			return false
		}
	}
	return true
}

// Parse parses a search parameter of a type. known is false if the parameter is not supported.
// Errors: ehi.Invalid for an invalid value, ehi.Unsupported for a modifier: R4 requires servers
// to reject unsupported modifiers, even with lenient handling.
func Parse(typ, name, value string) (c Criterion, known bool, err error) {
	name, modifier, modified := strings.Cut(name, ":")
	if !slices.Contains(parameters[typ], name) {
		return nil, false, nil
	}
	if modified {
		return nil, true,
			ehi.Errorf(ehi.Unsupported, "The modifier :%.40s of %s is not supported", modifier,
				name)
	}
	p, _ := fhir.FindSearchParameter(typ, name)
	for _, v := range Alternatives(value) {
		r, err := parseValue(p, v)
		if err != nil {
			return nil, true, err
		}
		c = append(c, r)
	}
	return c, true, nil
}

func parseValue(p fhir.SearchParameter, v string) (Range, error) {
	switch p.Kind {
	case fhir.TokenParameter:
		return token(p.Name, v)
	case fhir.DateParameter:
		return date(p.Name, v)
	}
	text := fhir.Fold(unescape(v))
	if text == "" {
		return Range{},
			ehi.Errorf(ehi.Invalid, "The parameter %s has no letter or digit to search for", p.Name)
	}
	return begins(entry(ofString, p.Name, text)), nil
}

// token parses value, system|value, |value and system|
// (https://hl7.org/fhir/R4/search.html#token).
func token(name, v string) (Range, error) {
	system, value, both := cut(v, '|')
	switch {
	case !both:
		return begins(entry(ofToken, name, unescape(v)) + sep), nil
	case system == "" && value == "":
		return Range{},
			ehi.Errorf(ehi.Invalid, "The parameter %s has neither a system nor a value", name)
	case value == "":
		return begins(entry(ofSystem, name, unescape(system)) + sep), nil
	}
	return begins(entry(ofToken, name, unescape(value), unescape(system)) + sep), nil
}

// date parses a date with a prefix. Matches start in a year that the prefix admits.
func date(name, v string) (Range, error) {
	search, err := fhir.ParseDateSearch(v)
	if err != nil {
		return Range{},
			ehi.Errorf(ehi.Invalid, "The parameter %s has the value %.40q: %v", name, v, err)
	}
	all := begins(entry(ofDate, name, ""))
	year := all.From + search.Year()
	switch search.Prefix() {
	case "eq":
		all.From, all.To = year, begins(year).To
	case "gt", "ge", "sa":
		all.From = year
	case "lt", "le", "eb":
		all.To = begins(year).To
	}
	from := len(entry(ofDate, name, ""))
	all.Accept = func(entry string) bool {
		if len(entry) >= from+4 && entry[from:from+4] != search.Year() && search.Prefix() != "eq" {
			return true // another year, on the admitted side; for ne, on either
		}
		span, err := fhir.ParseSpan(entry[from:])
		return err == nil && search.Matches(span)
	}
	return all, nil
}

// begins returns the range of the texts with a prefix.
func begins(prefix string) Range {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return Range{From: prefix, To: string(end[:i+1])}
		}
	}
	// Only for a text of \xff alone, which never happens: kinds are letters.
	return Range{From: prefix, To: "\xff\xff"}
}

// Alternatives splits a value at its commas. A comma after a backslash is part of the value
// (https://hl7.org/fhir/R4/search.html#escaping). It drops empty parts and keeps the escapes.
func Alternatives(value string) (out []string) {
	for more := true; more; {
		var one string
		if one, value, more = cut(value, ','); one != "" {
			out = append(out, one)
		}
	}
	return out
}

// cut is strings.Cut at the first sep that is not escaped.
func cut(s string, sep byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

var escapes = strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\|`, `|`, `\$`, `$`)

func unescape(s string) string { return escapes.Replace(s) }
