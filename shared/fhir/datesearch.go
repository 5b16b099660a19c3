package fhir

import (
	"fmt"
)

// DateSearch is the value of a date search parameter: a prefix and a span of time
// (https://hl7.org/fhir/R4/search.html#date).
type DateSearch struct{ search dateSearch }

// ParseDateSearch reads a value such as 2019-05 or ge2019.
func ParseDateSearch(v string) (DateSearch, error) {
	d, err := parseDateSearch(v)
	return DateSearch{d}, err
}

// Prefix is eq, ne, gt, lt, ge, le, sa or eb.
func (d DateSearch) Prefix() string { return d.search.prefix }

// Year is the year in which the span begins, of four digits.
func (d DateSearch) Year() string { return fmt.Sprintf("%04d", d.search.Start.UTC().Year()) }

// Matches reports whether the span of a resource meets the search.
func (d DateSearch) Matches(s Span) bool { return d.search.matches(s) }
