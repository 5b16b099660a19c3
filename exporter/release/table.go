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

	exactCodes  bitmap // of hashCode
	prefixHeads bitmap // of head
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
			t.addPrefix(system, p, category)
			continue
		}
		t.addCode(system, code, category)
	}
}

// mayHold reports whether a code may be in the table, of whatever system.
func (t *Table) mayHold(code []byte) bool {
	return t.exactCodes.has(hashCode(code)) || t.prefixHeads.has(head(code))
}

// lookup calls add with each category of a code.
func (t *Table) lookup(system, code []byte, add func(category string)) {
	if !t.mayHold(code) {
		return
	}
	for _, s := range [2]string{string(system), "*"} {
		for _, c := range t.exact[s+"|"+string(code)] {
			add(c)
		}
		for _, p := range t.prefix[s] {
			if strings.HasPrefix(string(code), p.prefix) {
				add(p.category)
			}
		}
	}
}

// addCode takes a row in whose code stands for itself.
func (t *Table) addCode(system, code, category string) {
	t.exactCodes.add(hashCode([]byte(code)))
	t.exact[system+"|"+code] = append(t.exact[system+"|"+code], category)
}

// addPrefix takes a row in whose code stands for all that begin so.
func (t *Table) addPrefix(system, prefix, category string) {
	t.prefix[system] = append(t.prefix[system], prefixRow{prefix, category})
	for second := range 1 << 8 {
		for first := range 1 << 8 {
			if h := []byte{byte(first), byte(second)}; strings.HasPrefix(string(h), prefix[:min(2, len(prefix))]) {
				t.prefixHeads.add(head(h))
			}
		}
	}
}

// bitmap is a set of 16-bit numbers. Most codes of a record are in no table: one look at a bitmap tells.
type bitmap [1 << 16 / 64]uint64

func (b *bitmap) add(n uint16)      { b[n/64] |= 1 << (n % 64) }
func (b *bitmap) has(n uint16) bool { return b[n/64]&(1<<(n%64)) != 0 }

// hashCode is a hash of a code's length and last eight bytes.
func hashCode(code []byte) uint16 {
	h := uint64(len(code))
	for _, b := range code[max(0, len(code)-8):] {
		h = h<<7 ^ h>>57 ^ uint64(b)
	}
	return uint16(h * 0x9e3779b97f4a7c15 >> 48)
}

// head is the first two bytes of a code.
func head(code []byte) uint16 {
	switch len(code) {
	case 0:
		return 0
	case 1:
		return uint16(code[0])
	}
	return uint16(code[0]) | uint16(code[1])<<8
}
