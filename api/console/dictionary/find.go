package dictionary

import (
	"slices"
	"strings"
)

// Find returns the tables for which each word of a search is in a name, title, description, code
// system, resource type or line of the release form, of the table or of a column. Case does not
// matter. Columns that have one of the words are marked. Without a word it returns all tables.
func (b *Book) Find(search string) (out []*Table) {
	words := strings.Fields(strings.ToLower(search))
	if len(words) == 0 {
		return b.Tables
	}
	for _, t := range b.Tables {
		if found := t.find(words); found != nil {
			out = append(out, found)
		}
	}
	return out
}

// find returns the table with the columns that were found marked, or nil.
func (t *Table) find(words []string) *Table {
	found := *t
	found.Columns = slices.Clone(t.Columns)
	for _, word := range words {
		seen := strings.Contains(t.text, word)
		for i := range found.Columns {
			if strings.Contains(t.Columns[i].text, word) {
				found.Columns[i].Found, seen = true, true
			}
		}
		if !seen {
			return nil
		}
	}
	return &found
}

// searched is what a search compares with.
func searched(texts ...string) string { return strings.ToLower(strings.Join(texts, "\n")) }
