package release

import (
	"slices"
	"strings"
)

// Whoever types a code may take a letter for the digit that it looks like. Where the codes of a
// system have no such letter, it is read as that digit: F1O.20 of ICD-10 is F10.20.

// slip says where the codes of a system have no letters that look like digits.
type slip struct {
	zero, one, el int // from which place on an O is a zero, and an I or an L a one; -1 for nowhere
	except        []int
}

// slips are those of the systems. Without a system a code may be one of any, or an abbreviation:
// there an O alone counts, behind a digit (6C4O, but not pCO2).
var slips = map[string]slip{
	icd10:           {zero: 1, one: 1, el: 1},
	icd9:            {zero: 0, one: 1, el: 1},
	icd9Procedures:  {zero: 0, one: 0, el: 0},
	icd10Procedures: {zero: 0, one: 0, el: -1}, // which has neither O nor I
	icd11:           {zero: 0, one: 0, el: -1}, // nor has this
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

// mayBeSlipped tells most plain codes apart from those that slipped may change: it takes no word
// for a code.
func mayBeSlipped(code string) bool {
	return strings.ContainsAny(code, digits) && (strings.ContainsAny(code, "OIL") || code[0] == '0')
}

// slipped is a plain code of a system with the digits for which it has letters, and the other
// way round: of ICD-10 the first is a letter.
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

// suspicious reports whether a code of a text may be mayBeSlipped: most texts have none that is.
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

// mayBeSlip reports whether some code that a text holds is in the table, of whatever system, but
// for slips.
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
