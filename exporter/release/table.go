package release

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ehi-server/shared/ehi"
)

//go:embed sensitive.csv
var shippedSensitive string

//go:embed documents.csv
var shippedDocuments string

// Table maps codes to names of categories. A row is system, code, category; a code that ends in * stands for all that begin
// so; a system of * stands for all systems; # begins a comment.
type Table struct {
	exact  map[string][]string // "system|code"
	prefix map[string][]prefixRow
}

type prefixRow struct{ prefix, category string }

// SensitiveTable reads a table of codes to authorizations of the form (EHI-9); nil reads the shipped one.
func SensitiveTable(r io.Reader) (*Table, error) {
	if r == nil {
		r = strings.NewReader(shippedSensitive)
	}
	known := []string{}
	for _, a := range ehi.Authorizations() {
		known = append(known, string(a.Key))
	}
	return parseTable(r, known)
}

// documentTable is the shipped table of codes to document groups of the form.
func documentTable() *Table {
	known := []string{}
	for _, c := range ehi.Categories() {
		known = append(known, string(c.Key))
	}
	t, err := parseTable(strings.NewReader(shippedDocuments), known)
	if err != nil {
		panic(err) // the table is part of the build; a test reads it
	}
	return t
}

func parseTable(r io.Reader, known []string) (*Table, error) {
	cr := csv.NewReader(r)
	cr.Comment, cr.FieldsPerRecord, cr.TrimLeadingSpace = '#', 3, true
	t := &Table{exact: map[string][]string{}, prefix: map[string][]prefixRow{}}
	for {
		row, err := cr.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("code table: %w", err)
		}
		system, code, category := row[0], row[1], row[2]
		if !slices.Contains(known, category) {
			line, _ := cr.FieldPos(2)
			return nil, fmt.Errorf("code table: line %d: unknown category %q", line, category)
		}
		if p, ok := strings.CutSuffix(code, "*"); ok {
			t.prefix[system] = append(t.prefix[system], prefixRow{p, category})
			continue
		}
		t.exact[system+"|"+code] = append(t.exact[system+"|"+code], category)
	}
}

// lookup calls add with each category of a code.
func (t *Table) lookup(system, code string, add func(category string)) {
	for _, s := range [2]string{system, "*"} {
		for _, c := range t.exact[s+"|"+code] {
			add(c)
		}
		for _, p := range t.prefix[s] {
			if strings.HasPrefix(code, p.prefix) {
				add(p.category)
			}
		}
	}
}
