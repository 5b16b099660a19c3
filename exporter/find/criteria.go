package find

import (
	"slices"
	"strings"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Criterion is one search parameter with its alternatives: a resource is found that meets one of
// them.
type Criterion []Range

// Range is an alternative: the entries e for which From <= e < To and, where there is an Accept,
// Accept(e). Accept is given the entry alone. To every entry a zero byte belongs as its end:
// "e\x00" is what is compared.
type Range struct {
	From, To string
	Accept   func(entry string) bool
}

// admits reports whether an entry is in the range.
func (r Range) admits(entry string) bool {
	return r.From <= entry+sep && entry+sep < r.To && (r.Accept == nil || r.Accept(entry))
}

// Tokens is the values of a token parameter that are searched for; only is false where the
// criterion is another one, or would be met by other values.
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

// NarrowFirst orders criteria by how few resources they are likely to find: tokens, then
// strings, then dates.
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

// Matches reports whether a resource with the given entries meets all criteria.
func Matches(criteria []Criterion, entries []string) bool {
	for _, c := range criteria {
		if !slices.ContainsFunc(c,
			func(r Range) bool { return slices.ContainsFunc(entries, r.admits) }) {
			return false
		}
	}
	return true
}

// Parse reads a search parameter of a type. known is false where it is not supported. Errors:
// ehi.Invalid for a value that is wrong, ehi.Unsupported for a modifier: R4 has servers reject
// those that they do not support, however lenient they are.
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

// token reads value, system|value, |value and system| (https://hl7.org/fhir/R4/search.html#token).
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

// date reads a date with a prefix. What can match begins in a year that the prefix admits.
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
			return true // another year, on the side that the range admits; for ne, on any
		}
		span, err := fhir.ParseSpan(entry[from:])
		return err == nil && search.Matches(span)
	}
	return all, nil
}

// begins is the range of what begins with a text.
func begins(prefix string) Range {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return Range{From: prefix, To: string(end[:i+1])}
		}
	}
	// a text of \xff alone: kinds are letters, so this never happens
	return Range{From: prefix, To: "\xff\xff"}
}

// Alternatives divides a value at its commas; one behind a backslash is part of a value
// (https://hl7.org/fhir/R4/search.html#escaping). Empty ones are left out. They are still
// escaped.
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
