package release

import (
	"bytes"
	"strings"
)

// hyphens replaces the separators in a range of codes.
var hyphens = strings.NewReplacer(
	"\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2212", "-",
	" - ", "-", " .. ", "-", "..", "-", "\u2026", "-", " to ", "-", " TO ", "-", " through ", "-",
)

// codeRange is a range of codes of ICD-10 or ICD-9-CM (X85-Y09, F10.0 - F19.9, 290-319), or of
// ICD-11, where the second character is a letter (6A00-6E8Z).
type codeRange struct {
	from, to string // plain codes
	eleven   bool
	short    bool // it has the form of a chapter or block, which counts without a system too
}

// rangesOf returns the ranges in a text.
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
		// WHO's name for a block: BlockL1-6C4
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

// uncut completes the abbreviated second end of a range of ICD-10: F19 in F01-19. The hyphen may
// also stand for a dot (F10-9); then the range includes both meanings.
func uncut(from, to string) (whole string, isCut bool) {
	if len(from) != 3 || len(to) == 0 || len(to) > 2 || isDigit(from[0]) ||
		strings.Trim(from[1:]+to, digits) != "" {
		return to, false
	}
	return from[:3-len(to)] + to, true
}

// zeros replaces each O behind the first character of a plain code with a zero, see slips.
func zeros(code string) string {
	if code == "" {
		return ""
	}
	return code[:1] + strings.ReplaceAll(code[1:], "O", "0")
}

// isStem reports whether a plain code of three or more characters begins like a code of ICD-11:
// 6C4.
func isStem(code string) bool { return !isDigit(code[1]) && isDigit(code[2]) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// mayBeRange rules out most texts that contain no range.
func mayBeRange(text []byte) bool {
	if len(text) < 5 {
		return false
	}
	at := bytes.IndexByte(text, '-')
	if at < 0 {
		at = bytes.IndexByte(text, 0xe2) // other hyphens and dashes
	}
	if at >= 3 && !isDigit(text[0]) { // the second end may be abbreviated
		return true
	}
	return at >= 3 && len(text)-at > 3 || bytes.Contains(text, []byte("..")) ||
		bytes.IndexByte(text, ' ') >= 3
}

// holds reports whether a row of a table covers some code of the range.
func (r codeRange) holds(row string) bool {
	if row >= r.from && (row <= r.to || strings.HasPrefix(row, r.to)) {
		return true
	}
	return strings.HasPrefix(r.from, row) || strings.HasPrefix(r.to, row)
}

// lookupRanges calls add with the categories that have a code in a range in the text. The range
// is of an ICD system, or has the form of a chapter or block without a system.
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
		case system == icd10Procedures: // its names are also used for ICD-10
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

// mayHoldRange reports whether a text contains a range that covers a code of the table.
func (t *Table) mayHoldRange(text []byte) (may bool) {
	for _, system := range []string{icd10, icd9, icd11} {
		t.lookupRanges(system, text, func(string) { may = true })
	}
	return may
}

// codeless classifies a Coding with a system but no code, by its display and by the end of the
// system (http://snomed.info/sct/86406008).
func (x *examiner) codeless(f *facts, c *coding) {
	label := x.isLabel(x.walk.depth)
	if len(c.shown) > 0 {
		x.policy.sensitive.lookup(c.system, c.shown, label, f.addSensitive)
	}
	if at := bytes.LastIndexAny(c.system, "/#:|"); at >= 0 {
		x.policy.sensitive.lookup(c.system, c.system[at+1:], label, f.addSensitive)
	}
}
