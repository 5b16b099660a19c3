package source

import "ehi-server/exporter/find"

// Search is a search for Patient resources, by page.
type Search struct {
	Criteria []find.Criterion // a patient must match all of them; none: every patient
	IDs      []string         // only these patients; nil: no restriction
	After    string           // only IDs after this one, for the next page; "" for the first
	Limit    int              // the size of the page; 0 only counts
}

// Found is a page of a search.
type Found struct {
	Matches []Match // in the order of their IDs
	// Total is the number of matches on all pages; -1 if the source does not know it.
	Total int
	// Next is the Search.After of the next page; "" on the last one.
	Next string
}

// Match is a matching resource as a line of JSON.
type Match struct {
	ID   string
	Line []byte
}
