package fhir

import (
	"fmt"
)

// DateSearch is the value of a date search parameter: a prefix and a span
// (https://hl7.org/fhir/R4/search.html#date).
type DateSearch struct{ search dateSearch }

// ParseDateSearch parses a value such as 2019-05 or ge2019.
func ParseDateSearch(v string) (DateSearch, error) {
	d, err := parseDateSearch(v)
	return DateSearch{d}, err
}

// Prefix returns eq, ne, gt, lt, ge, le, sa or eb.
func (d DateSearch) Prefix() string { return d.search.prefix }

// Year returns the year in which the span starts, with four digits.
func (d DateSearch) Year() string { return fmt.Sprintf("%04d", d.search.Start.UTC().Year()) }

// Matches reports whether the span of a resource matches the search.
func (d DateSearch) Matches(s Span) bool { return d.search.matches(s) }
