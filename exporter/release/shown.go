package release

import (
	"bytes"
	"strings"
)

// Source systems without a separate field write a code into the text of a concept, or into the
// display of a Coding: "F10.20 - Alcohol dependence", "ICD-10: F10.20", "HIV disease [B20]".
// Such a code withholds its resource, unless there is a coding of a known system.

// longestShown is the maximum distance of a code from the beginning or end of such a text.
const longestShown = 40

// lookupShown calls add with each category of the codes that a text shows.
func (t *Table) lookupShown(text []byte, add func(category string)) {
	if !t.mayShow(text) {
		return
	}
	text = folded(revealed(text))
	for _, s := range shownCodes(text) {
		t.lookup([]byte(s.system), []byte(s.code), false, add)
	}
}

// mayShow reports whether a text may show a code of the table. It rules out most texts.
func (t *Table) mayShow(text []byte) bool {
	if !t.loose || !mayShowCode(text) && !isDisguised(text) {
		return false
	}
	for _, s := range shownCodes(folded(revealed(text))) {
		if t.mayHold([]byte(s.code)) {
			return true
		}
	}
	return false
}

// mayShow is Table.mayShow for a text with certain marks. It remembers recent texts, because
// most texts that resemble codes recur.
func (x *examiner) mayShow(text []byte, m marks) bool {
	if !mayShowCode(text) && !(m.mayHide() && isDisguised(text)) {
		return false
	}
	if len(text) > len(shownBefore{}.bytes) {
		return x.policy.sensitive.mayShow(text)
	}
	known := &x.harmlessShown[slotOf(text)%uint32(len(x.harmlessShown))]
	if string(known.bytes[:known.n]) == string(text) {
		return false
	}
	if x.policy.sensitive.mayShow(text) {
		return true
	}
	known.n = uint8(copy(known.bytes[:], text))
	return false
}

// shownBefore is a text that shows no code of the table.
type shownBefore struct {
	n     uint8
	bytes [63]byte
}

// mayShowCode reports whether a text begins like a code, or ends in brackets that contain one.
func mayShowCode(text []byte) bool {
	if len(text) < 3 {
		return false
	}
	if startsCode(text) {
		return true
	}
	at := bytes.IndexByte(text[:min(len(text), longestName)], ':')
	if at >= 0 && startsCode(text[at+1:]) {
		return true
	}
	last := bytes.TrimRight(text, " .")
	if len(last) > 0 && (last[len(last)-1] == ']' || last[len(last)-1] == ')') {
		open := bytes.LastIndexAny(last, "[(")
		return open >= 0 && len(last)-open < longestShown && startsCode(last[open:])
	}
	return false
}

// startsCode reports whether a text begins with a letter and a digit (or with D before these),
// with six digits, or with the name of a system, possibly in brackets.
func startsCode(text []byte) bool {
	for len(text) > 0 && !alphanumeric(text[0]) && text[0] < 0x80 {
		text = text[1:]
	}
	if len(text) < 3 {
		return false
	}
	switch {
	case isDigit(text[0]):
		return len(text) > 5 &&
			bytes.IndexFunc(text[:6], func(r rune) bool { return r < '0' || r > '9' }) < 0
	case isDigit(text[1]), text[0]|0x20 == 'd' && isDigit(text[2]):
		return true
	}
	name := [3]byte{text[0] | 0x20, text[1] | 0x20, text[2] | 0x20}
	switch string(name[:]) { // the first letters of systems' names
	case "icd", "sno", "sct", "loi", "rxn", "sks", "hcp", "cpt", "ndc", "atc":
		return true
	}
	return false
}

// longestName is the maximum length of a system's name in such a text.
const longestName = 24

// shown is a code in a text. Its system is named in the text, or follows from the code's shape.
type shown struct{ system, code string }

// shownCodes returns the codes that a text shows: at its beginning, or in brackets at its
// beginning or end.
func shownCodes(text []byte) (all []shown) {
	s := strings.TrimSpace(string(text))
	if s == "" {
		return nil
	}
	if inner, rest, is := bracketed(s); is {
		all = append(all, namedCode(inner)...)
		if rest == "" {
			return all
		}
	} else {
		all = append(all, namedCode(s)...)
	}
	if open := strings.LastIndexAny(s, "[("); open > 0 && len(s)-open < longestShown {
		if inner, rest, is := bracketed(s[open:]); is && rest == "" {
			for _, c := range namedCode(inner) {
				if len(c.code) > 3 || len(inner) > 3 || s[open] == '[' { // (F18) is an isotope
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// bracketed returns the content of the brackets that begin a text.
func bracketed(s string) (inner, rest string, is bool) {
	closing := map[byte]string{'[': "]", '(': ")", '{': "}"}[s[0]]
	if closing == "" {
		return "", "", false
	}
	inner, rest, is = strings.Cut(s[1:], closing)
	return strings.TrimSpace(inner), strings.TrimSpace(rest), is && len(inner) < longestShown &&
		inner != ""
}

// namedCode returns the codes that begin a text, possibly after the name of their system.
func namedCode(s string) (all []shown) {
	if name, rest, is := strings.Cut(s, ":"); is && len(name) <= longestName {
		rest = strings.TrimSpace(rest)
		if system := systemCalled(strings.TrimSpace(name)); system != "" {
			return codesOf(system, rest)
		}
		if rest != "" {
			all = namedCode(rest) // "Diagnosis: F10.20"
		}
	}
	words := strings.Fields(s[:min(len(s), 2*longestShown)])
	for n := 1; n <= 3 && n < len(words); n++ {
		if system := systemCalled(strings.Join(words[:n], " ")); system != "" {
			all = append(all, codesOf(system, strings.Join(words[n:], " "))...)
		}
	}
	code, rest := cutCode(s, false)
	switch plain := plainCode([]byte(code)); {
	case code == "":
	case strings.Trim(code, digits) == "":
		if len(code) > 5 {
			all = append(all, shown{snomed, code})
		}
	case looksLikeICD10(plain) && (strings.Contains(code, ".") || standsApart(rest)):
		all = append(all, shown{icd10, code})
	}
	return all
}

// standsApart reports whether the text after a word shows that the word is a code, not part of a
// sentence.
func standsApart(rest string) bool {
	if rest == "" || strings.IndexByte(":|;/])=", rest[0]) >= 0 {
		return true
	}
	rest = strings.TrimSpace(rest)
	return rest == "" || rest[0] == '-' && strings.HasPrefix(rest, "- ") ||
		strings.IndexByte(":|;/=([", rest[0]) >= 0
}

// looksLikeICD10 reports whether a plain code has the shape of an ICD-10 or SKS code.
func looksLikeICD10(plain string) bool {
	if of, is := withoutD(plain); is {
		plain = of
	}
	return len(plain) >= 3 && len(plain) <= 7 && !isDigit(plain[0]) && isDigit(plain[1])
}

// systemCalled returns the code system for a name before a code; "" if there is none.
func systemCalled(name string) string {
	if len(name) < 3 || len(name) > longestName || !startsCode([]byte(name)) {
		return ""
	}
	if system := canonicalSystem(name); codeSystems[system] {
		return system
	}
	return ""
}

// codesOf returns the possible spellings of the code that begins a text, for a known system.
func codesOf(system, s string) (all []shown) {
	if s == "" {
		return nil
	}
	if inner, _, is := bracketed(s); is {
		s = inner
	}
	for _, hyphens := range []bool{false, true} {
		if code, _ := cutCode(s, hyphens); code != "" {
			all = append(all, shown{system, code})
		}
	}
	return all
}

// dashes replaces the dashes between a code and its meaning with hyphens.
var dashes = strings.NewReplacer(
	"\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2212", "-",
)

// cutCode splits a text after its first word, which may contain hyphens if hyphens is true, as
// LOINC codes do.
func cutCode(s string, hyphens bool) (code, rest string) {
	s = dashes.Replace(s)
	end := strings.IndexFunc(s, func(r rune) bool {
		return r >= 0x80 || !alphanumeric(byte(r)) && r != '.' && !(hyphens && r == '-')
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// withoutD removes the D that SKS and other Nordic editions put before ICD-10 codes (DF102). No
// code of ICD-10 begins with two letters.
func withoutD(plain string) (code string, is bool) {
	if len(plain) < 4 || plain[0] != 'D' || isDigit(plain[1]) || !isDigit(plain[2]) {
		return "", false
	}
	return plain[1:], true
}

// lookupD looks up an ICD-10 code with a leading D, unless its system is known to be a different
// one.
func (t *Table) lookupD(in, code string, add func(category string)) {
	if !t.loose || codeSystems[in] && in != icd10 && in != icd10Procedures && in != anyICD {
		return
	}
	if code, is := withoutD(code); is {
		t.lookupIn(icd10, code, add)
		if right, is := slipped(icd10, code); is {
			t.lookupIn(icd10, right, add)
		}
	}
}

// codeSystems are the known code systems, without labels.
var codeSystems = map[string]bool{
	icd10: true, icd10Procedures: true, icd11: true, anyICD: true, icd9: true, icd9Procedures: true,
	snomed: true,
	loinc:  true, rxNorm: true, cpt: true, hcpcs: true, ndc: true, atc: true,
}

// shows classifies the texts of an object that ends here: the display of a Coding of an unknown
// system, and the text of a concept without a Coding of a known system.
func (x *examiner) shows(f *facts, c *coding) {
	if len(c.shown) > 0 && c.ref == nil && !c.refers &&
		(c.codes || c.system != nil || c.code != nil) &&
		!(len(c.code) > 0 && codeSystems[canonicalSystem(string(c.system))]) {
		x.policy.sensitive.lookupShown(c.shown, f.addSensitive)
	}
	if len(c.told) > 0 && !c.sure && !saysText(x.walk.key()) {
		x.policy.sensitive.lookupShown(c.told, f.addSensitive)
	}
	if len(c.code) > 0 && x.walk.depth > 1 && codeSystems[canonicalSystem(string(c.system))] {
		x.codings[x.walk.depth-2].sure = true
	}
}

// saysText reports whether the text of an object in a field of that name is free text or a name:
// of an Annotation, an Address, a Dosage.
func saysText(field []byte) bool {
	switch string(field) {
	case "name", "address", "dosage", "dosageInstruction", "comment", "contact":
		return true
	}
	return bytes.HasSuffix(field, []byte("ote")) || bytes.HasSuffix(field, []byte("Annotation")) ||
		bytes.HasSuffix(field, []byte("HumanName")) || bytes.HasSuffix(field, []byte("Address")) ||
		bytes.HasSuffix(field, []byte("Dosage"))
}

// showsCode reports whether a text or display of a line may show a code.
func (x *examiner) showsCode(line []byte) bool {
	for _, n := range []*needle{&displayName, &textName} {
		for rest := line; ; {
			at := n.index(rest)
			if at < 0 {
				break
			}
			rest = afterSpace(rest[at+len(n.text):])
			if len(rest) == 0 || rest[0] != ':' {
				continue
			}
			rest = afterSpace(rest[1:])
			if len(rest) > 0 && isLiteral(rest[0]) { // a number may be a code
				return true
			}
			if len(rest) == 0 || rest[0] != '"' {
				continue
			}
			end, escaped := textEnd(rest, 0)
			if end < 0 {
				return true
			}
			text := rest[1 : end-1]
			if escaped && mayShowCode(text) || x.mayShow(text, disguiseMark) {
				return true
			}
			rest = rest[end:]
		}
	}
	return false
}

// showing reports whether a field of that name is displayed text, which may show a code.
func showing(name []byte) bool { return string(name) == "text" || string(name) == "display" }
