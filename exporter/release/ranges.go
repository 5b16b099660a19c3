package release

import (
	"bytes"
	"strings"
)

// hyphens are what stands between the ends of a range of codes.
var hyphens = strings.NewReplacer(
	"\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2212", "-",
	" - ", "-", " .. ", "-", "..", "-", "\u2026", "-", " to ", "-", " TO ", "-", " through ", "-",
)

// codeRange is a range of codes of ICD-10 or ICD-9-CM (X85-Y09, F10.0 - F19.9, 290-319), or of
// ICD-11: there the second character is a letter (6A00-6E8Z).
type codeRange struct {
	from, to string // plain codes
	eleven   bool
	short    bool // chapters and blocks are called so, also without a system
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
		if !found || strings.Contains(right, "-") {
			continue
		}
		from, end := zeros(plainCode([]byte(left))), zeros(plainCode([]byte(right)))
		// how WHO calls a block: BlockL1-6C4
		if strings.HasPrefix(from, "BL0CKL") && len(end) >= 3 {
			ranges = append(ranges, codeRange{end, end, true, true})
			continue
		}
		to, isCut := uncut(from, end)
		if len(from) < 3 || len(to) < 3 || from >= to || len(from) > 8 || len(to) > 8 {
			continue
		}
		switch {
		case isStem(from) && isStem(to):
			isBlock := len(from) == 4 && len(to) == 4 && from[:2] == to[:2]
			ranges = append(ranges, codeRange{from, to, true, isBlock})
		case isDigit(from[0]) && max(len(from), len(to)) > 5: // of ICD-9-CM
		case isDigit(from[1]) && isDigit(to[1]) && isDigit(from[0]) == isDigit(to[0]):
			ranges = append(ranges, codeRange{
				from,
				to,
				false,
				len(from) == 3 && len(to) == 3 && !isCut,
			})
		}
	}
	return ranges
}

// uncut is the second end of a range whose first one is a plain code of three characters of ICD-10,
// with what it has in common with that: F19 of F01-19. A hyphen may stand for a dot, too (F10-9):
// the range holds both.
func uncut(from, to string) (whole string, isCut bool) {
	if len(from) != 3 || len(to) == 0 || len(to) > 2 || isDigit(from[0]) ||
		strings.Trim(from[1:]+to, digits) != "" {
		return to, false
	}
	return from[:3-len(to)] + to, true
}

// zeros is a plain code with zeros for each O behind its first character, see slips.
func zeros(code string) string {
	if code == "" {
		return ""
	}
	return code[:1] + strings.ReplaceAll(code[1:], "O", "0")
}

// isStem reports whether a plain code of three characters or more begins as those of ICD-11 do:
// 6C4.
func isStem(code string) bool { return !isDigit(code[1]) && isDigit(code[2]) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// mayBeRange tells most texts apart from those that hold a range.
func mayBeRange(text []byte) bool {
	if len(text) < 5 {
		return false
	}
	at := bytes.IndexByte(text, '-')
	if at < 0 {
		at = bytes.IndexByte(text, 0xe2) // the others
	}
	if at >= 3 && !isDigit(text[0]) { // the second end may be cut short
		return true
	}
	return at >= 3 && len(text)-at > 3 || bytes.Contains(text, []byte("..")) ||
		bytes.IndexByte(text, ' ') >= 3
}

// holds reports whether a row of a table stands for some code of the range.
func (r codeRange) holds(row string) bool {
	if row >= r.from && (row <= r.to || strings.HasPrefix(row, r.to)) {
		return true
	}
	return strings.HasPrefix(r.from, row) || strings.HasPrefix(r.to, row)
}

// lookupRanges calls add with the categories of which some code lies in a range that a text
// holds, of a system of ICD or, as a chapter or a block is called, of none.
func (t *Table) lookupRanges(system string, text []byte, add func(category string)) {
	if !t.loose {
		return
	}
	ranges := rangesOf(text)
	// a block, by its first code
	if code := plainCode(text); system == icd11 && len(code) == 3 && isStem(code) {
		ranges = append(ranges, codeRange{code, code, true, true})
	}
	for _, r := range ranges {
		of := system
		switch {
		case system == icd10Procedures: // whose name is for both parts of ICD-10
			of = icd10
		case system == anyICD && r.eleven:
			of = icd11
		case system == anyICD && isDigit(r.from[0]):
			of = icd9
		case system == anyICD:
			of = icd10
		case system == "" && r.short && r.eleven:
			of = icd11
		case system == "" && r.short && !isDigit(r.from[0]):
			of = icd10
		}
		if r.eleven != (of == icd11) || !r.eleven && of != icd10 && of != icd9 {
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
	for _, system := range []string{icd10, icd9, icd11} {
		t.lookupRanges(system, text, func(string) { may = true })
	}
	return may
}

// codeless looks at a Coding that names a system and has no code: at what it shows, and at the
// end of the name (http://snomed.info/sct/86406008).
func (x *examiner) codeless(f *facts, c *coding) {
	label := x.isLabel(x.walk.depth)
	if len(c.shown) > 0 {
		x.policy.sensitive.lookup(c.system, c.shown, label, f.addSensitive)
	}
	if at := bytes.LastIndexAny(c.system, "/#:|"); at >= 0 {
		x.policy.sensitive.lookup(c.system, c.system[at+1:], label, f.addSensitive)
	}
}
