package release

import (
	"bytes"
	"strings"
)

// hyphens are what stands between the ends of a range of codes.
var hyphens = strings.NewReplacer("\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2212", "-", " - ", "-")

// codeRange is a range of codes of ICD-10 or ICD-9-CM: X85-Y09, F10.0 - F19.9, 290-319.
type codeRange struct {
	from, to string // plain codes
	short    bool   // both are three characters: so the chapters and blocks of ICD-10 are called
}

// rangesOf are the ranges that a text holds.
func rangesOf(text []byte) (ranges []codeRange) {
	if !mayBeRange(text) {
		return nil
	}
	words := strings.FieldsFunc(hyphens.Replace(string(text)), func(r rune) bool {
		return r >= 0x80 || r != '-' && r != '.' && codeBytes[byte(r)] <= ignoredByte
	})
	for _, w := range words {
		left, right, found := strings.Cut(w, "-")
		from, to := plainCode([]byte(left)), plainCode([]byte(right))
		if !found || strings.Contains(right, "-") || len(from) < 3 || len(to) < 3 || from >= to || len(from) > 8 || len(to) > 8 {
			continue
		}
		if isDigit(from[0]) && max(len(from), len(to)) > 5 { // of ICD-9-CM
			continue
		}
		if isDigit(from[1]) && isDigit(to[1]) && isDigit(from[0]) == isDigit(to[0]) {
			ranges = append(ranges, codeRange{from, to, len(from) == 3 && len(to) == 3})
		}
	}
	return ranges
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// mayBeRange tells most texts apart from those that hold a range.
func mayBeRange(text []byte) bool {
	at := bytes.IndexByte(text, '-')
	if at < 0 {
		at = bytes.IndexByte(text, 0xe2) // the others
	}
	return at >= 3 && len(text)-at > 3
}

// holds reports whether a row of a table stands for some code of the range.
func (r codeRange) holds(row string) bool {
	if row >= r.from && (row <= r.to || strings.HasPrefix(row, r.to)) {
		return true
	}
	return strings.HasPrefix(r.from, row) || strings.HasPrefix(r.to, row)
}

// lookupRanges calls add with the categories of which some code lies in a range that a text holds, of a
// system of ICD or, as a chapter is called, of none.
func (t *Table) lookupRanges(system string, text []byte, add func(category string)) {
	if !t.loose {
		return
	}
	for _, r := range rangesOf(text) {
		of := system
		if system == "" && r.short && !isDigit(r.from[0]) {
			of = icd10
		}
		if of != icd10 && of != icd9 {
			continue
		}
		for _, row := range t.prefix[of] {
			if r.holds(row.prefix) {
				add(row.category)
			}
		}
		for key, categories := range t.exact {
			code, is := strings.CutPrefix(key, of+"|")
			if !is || !r.holds(code) {
				continue
			}
			for _, c := range categories {
				add(c)
			}
		}
	}
}

// mayHoldRange reports whether a text holds a range of some system of which a code is in the table.
func (t *Table) mayHoldRange(text []byte) (may bool) {
	for _, system := range []string{icd10, icd9} {
		t.lookupRanges(system, text, func(string) { may = true })
	}
	return may
}

// codeless looks at a Coding that names a system and has no code: at what it shows, and at the end of
// the name (http://snomed.info/sct/86406008).
func (x *examiner) codeless(f *facts, c *coding) {
	label := x.isLabel(x.walk.depth)
	if len(c.shown) > 0 {
		x.policy.sensitive.lookup(c.system, c.shown, label, f.addSensitive)
	}
	if at := bytes.LastIndexAny(c.system, "/#:|"); at >= 0 {
		x.policy.sensitive.lookup(c.system, c.system[at+1:], label, f.addSensitive)
	}
}
