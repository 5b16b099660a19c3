package source

import "ehi-server/exporter/find"

// Search asks for Patient resources, a page at a time.
type Search struct {
	Criteria []find.Criterion // all of them; none: every patient
	IDs      []string         // only these patients; nil: any
	After    string           // only ids behind this one, for the next page; "" for the first
	Limit    int              // at most so many; 0 only counts
}

// Found is a page of a search.
type Found struct {
	Matches []Match // in the order of their ids
	// Total is how many there are on all pages; -1 where a source does not know it.
	Total int
	// Next is Search.After of the next page; "" where this is the last.
	Next string
}

// Match is a resource that was found, as a line of JSON.
type Match struct {
	ID   string
	Line []byte
}
