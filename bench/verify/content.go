package verify

import (
	"fmt"
	"maps"
	"slices"
)

// Content summarizes the native content of an export, whatever its packaging. Two exports of the
// same records have the same Documents and Tables.
type Content struct {
	// Files counts all files that were verified: archives, those in them, and loose ones.
	Files int64
	// Archives are those of Files that are archives, and Resumed those of them that were
	// downloaded in two parts.
	Archives, Resumed int64
	// Bytes is what was downloaded.
	Bytes int64
	// Documents sums documents with their titles and media types. Lines is their number.
	Documents Tally
	// Tables sums the values of rows by table. Lines is the number of rows.
	Tables map[string]Tally
}

// Rows returns the number of rows of all tables.
func (c Content) Rows() (n int64) {
	for _, t := range c.Tables {
		n += t.Lines
	}
	return n
}

// Difference says how the documents and rows differ from those of another export of the same
// records; "" if they do not.
func (c Content) Difference(o Content) string {
	if c.Documents != o.Documents {
		return "the documents differ: " + difference(c.Documents, o.Documents)
	}
	names := map[string]bool{}
	for _, tables := range []map[string]Tally{c.Tables, o.Tables} {
		for name := range tables {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if c.Tables[name] != o.Tables[name] {
			return "the table " + name + " differs: " + difference(c.Tables[name], o.Tables[name])
		}
	}
	return ""
}

func difference(a, b Tally) string {
	if a.Lines == b.Lines && a.Bytes == b.Bytes {
		return "the same number, with other values"
	}
	return fmt.Sprintf("%d with %d bytes, and %d with %d", a.Lines, a.Bytes, b.Lines, b.Bytes)
}
