package release

import (
	"slices"
	"strings"
)

// A person who types a code may use a letter that looks like a digit. If codes of the system
// have no such letter, it is read as the digit: F1O.20 in ICD-10 is F10.20.

// slip describes where codes of a system have no letters that look like digits.
type slip struct {
	zero, one, el int // from this index on, an O is a zero, and an I or L a one; -1 for never
	except        []int
}

// slips are the rules by system. A code without a system may be of any system, or an
// abbreviation: there only an O behind a digit counts (6C4O, but not pCO2).
var slips = map[string]slip{
	icd10:           {zero: 1, one: 1, el: 1},
	icd9:            {zero: 0, one: 1, el: 1},
	icd9Procedures:  {zero: 0, one: 0, el: 0},
	icd10Procedures: {zero: 0, one: 0, el: -1}, // has neither O nor I
	icd11:           {zero: 0, one: 0, el: -1}, // has neither O nor I
	atc:             {zero: 1, one: 1, el: 1, except: []int{3, 4}},
	snomed:          {zero: 0, one: -1, el: -1},
	loinc:           {zero: 0, one: -1, el: -1},
	rxNorm:          {zero: 0, one: -1, el: -1},
	ndc:             {zero: 0, one: -1, el: -1},
	cpt:             {zero: 0, one: -1, el: -1},
	hcpcs:           {zero: 1, one: -1, el: -1},
	"":              {one: -1, el: -1},
}

const digits = "0123456789"

// mayBeSlipped rules out most plain codes that slipped would not change. It does not accept
// words.
func mayBeSlipped(code string) bool {
	return strings.ContainsAny(code, digits) && (strings.ContainsAny(code, "OIL") || code[0] == '0')
}

// slipped replaces letters with the digits they look like, and the other way round: the first
// character of an ICD-10 code is a letter.
func slipped(system, code string) (right string, is bool) {
	s, known := slips[system]
	if !known || !mayBeSlipped(code) {
		return "", false
	}
	if system == "" {
		s.zero = strings.IndexAny(code, digits)
	}
	out := []byte(code)
	for i, c := range out {
		from, digit := -1, byte(0)
		switch c {
		case 'O':
			from, digit = s.zero, '0'
		case 'I':
			from, digit = s.one, '1'
		case 'L':
			from, digit = s.el, '1'
		}
		if from >= 0 && i >= from && !slices.Contains(s.except, i) {
			out[i] = digit
		}
	}
	if system == icd10 && out[0] == '0' {
		out[0] = 'O'
	}
	return string(out), string(out) != code
}

// suspicious reports whether a text may contain a code for which mayBeSlipped holds. Most texts
// do not.
func suspicious(text []byte) bool {
	begins := true
	for _, c := range text {
		switch class := codeBytes[c]; {
		case class == otherByte, c == ' ', c == '\t':
			begins = true
		case class == 'O', class == 'I', class == 'L', class == '0' && begins:
			return true
		case class != ignoredByte:
			begins = false
		}
	}
	return false
}

// mayBeSlip reports whether a text contains a code that is in the table of any system once its
// slips are corrected.
func (t *Table) mayBeSlip(text []byte) bool {
	if !suspicious(text) {
		return false
	}
	for _, code := range candidates(text) {
		if code == "" || !mayBeSlipped(code) {
			continue
		}
		for system := range slips {
			right, is := slipped(system, code)
			if !is {
				continue
			}
			if t.hasCode([]byte(right)) || t.hasPrefix([]byte(right)) {
				return true
			}
			if short, is := padded(system, right); is &&
				(t.hasCode([]byte(short)) || t.hasPrefix([]byte(short))) {
				return true
			}
		}
	}
	return false
}
