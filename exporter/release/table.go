package release

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"ehi-server/shared/ehi"
)

//go:embed sensitive.csv
var shippedSensitive string

//go:embed documents.csv
var shippedDocuments string

// Table maps codes to names of categories. A row is system, code, category. A code that ends in
// * is a prefix; the system * matches all systems; # begins a comment. The spelling of systems
// and codes does not matter, see canonicalSystem and plainCode.
type Table struct {
	exact  map[string][]string // by "system|code"
	prefix map[string][]prefixRow
	loose  bool // a code without a system counts as a code of every system

	exactCodes  codeSet
	prefixHeads bitmap // of head
	// Exact sets behind exactCodes and prefixHeads: the codes and prefixes of all systems.
	anyCodes, anyPrefixes map[string]struct{}
	products              map[string]struct{} // prefixes of NDCs
	prefixLengths         []int               // sorted
	modified              map[string]struct{} // codes that modifiers may follow
	digest                string              // of the rows, in order
}

type prefixRow struct{ prefix, category string }

// SensitiveTable reads a table that maps codes to authorizations of the form (EHI-9). nil
// selects the built-in table.
func SensitiveTable(r io.Reader) (*Table, error) {
	if r == nil {
		return shippedSensitiveTable(), nil
	}
	return parseSensitive(r)
}

// The built-in tables. Nothing changes a table once it is read, so all rules share them.
var (
	shippedSensitiveTable = sync.OnceValue(func() *Table {
		return mustParse(parseSensitive(strings.NewReader(shippedSensitive)))
	})
	// shippedDocumentTable maps codes to document groups of the form.
	shippedDocumentTable = sync.OnceValue(func() *Table {
		var known []string
		for _, c := range ehi.Categories() {
			if c.OfDocuments() {
				known = append(known, string(c.Key))
			}
		}
		return mustParse(parseTable(strings.NewReader(shippedDocuments), known))
	})
)

// mustParse panics if a table that is part of the build is wrong. A test reads both.
func mustParse(t *Table, err error) *Table {
	if err != nil {
		panic(err)
	}
	return t
}

func parseSensitive(r io.Reader) (*Table, error) {
	var known []string
	for _, a := range ehi.Authorizations() {
		known = append(known, string(a.Key))
	}
	t, err := parseTable(r, known)
	if err != nil {
		return nil, err
	}
	t.loose = true
	return t, nil
}

func parseTable(r io.Reader, known []string) (*Table, error) {
	cr := csv.NewReader(r)
	cr.Comment, cr.FieldsPerRecord, cr.TrimLeadingSpace = '#', 3, true
	t := &Table{
		exact: map[string][]string{}, prefix: map[string][]prefixRow{},
		anyCodes:    map[string]struct{}{},
		anyPrefixes: map[string]struct{}{},
		products:    map[string]struct{}{},
		modified:    map[string]struct{}{},
	}
	sum := sha256.New()
	for {
		row, err := cr.Read()
		if errors.Is(err, io.EOF) {
			t.digest = hex.EncodeToString(sum.Sum(nil)[:8])
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
		fmt.Fprintf(sum, "%q\n", row)
		t.add(canonicalSystem(system), code, category)
	}
}

// add adds a row.
func (t *Table) add(system, code, category string) {
	systems := []string{system}
	if system != anySystem {
		systems = append(systems, withoutSystem(system))
	}
	prefix, isPrefix := strings.CutSuffix(code, "*")
	if hasModifiers(system) {
		t.modified[plainCode([]byte(prefix))] = struct{}{}
	}
	for _, s := range systems {
		if hasModifiers(system) && !isPrefix {
			t.addPrefix(s, plainCode([]byte(prefix)), category)
		}
		for i, spelling := range spellings(system, plainCode([]byte(prefix))) {
			if isPrefix && (i == 0 || system == ndc) { // 42, for 042, is not a prefix
				t.addPrefix(s, spelling, category)
			} else {
				t.addCode(s, spelling, category)
			}
		}
	}
}

// mayHold reports whether a code, or a part of it, may be in the table, for any system; see
// candidates.
func (t *Table) mayHold(code []byte) bool {
	var whole, part plainBytes
	wide, hidden := false, false
	for _, c := range code {
		wide, hidden = wide || c >= 0x80, hidden || c == '%' || c == '&'
		switch class := codeBytes[c]; {
		case class == otherByte || c == ' ' || c == '\t':
			if t.mayHoldPlain(&part, false) {
				return true
			}
			part = plainBytes{}
		case class > ignoredByte:
			whole.add(class)
			part.add(class)
		}
	}
	if t.mayHoldPlain(&whole, isLOINC(code)) || part.n < whole.n && t.mayHoldPlain(&part, false) {
		return true
	}
	if wide {
		if plain := folded(code); !bytes.Equal(plain, code) {
			return t.mayHold(plain)
		}
	}
	if hidden {
		if plain, is := undisguised(code); is && t.mayHold(plain) {
			return true
		}
	}
	return t.mayHoldRange(code) || t.mayBeSlip(code)
}

// plainBytes is a plain code, as far as mayHold needs it.
type plainBytes struct {
	bytes   [24]byte
	n       int
	letters bool
}

func (p *plainBytes) add(c byte) {
	if p.n < len(p.bytes) {
		p.bytes[p.n] = c
	}
	p.n++
	p.letters = p.letters || c > '9'
}

func (t *Table) mayHoldPlain(p *plainBytes, loinc bool) bool {
	if p.n > len(p.bytes) {
		return true
	}
	if p.n > 1 && p.bytes[0] == '0' { // a padded code
		var short plainBytes
		for _, c := range bytes.TrimLeft(p.bytes[:p.n], "0") {
			short.add(c)
		}
		if t.mayHoldPlain(&short, loinc) {
			return true
		}
	}
	code := p.bytes[:p.n]
	if p.n > 3 && code[0] == 'D' && !isDigit(code[1]) && isDigit(code[2]) { // see withoutD
		var rest plainBytes
		for _, c := range code[1:] {
			rest.add(c)
		}
		if t.mayHoldPlain(&rest, false) {
			return true
		}
	}
	if t.exactCodes.has(code) && t.hasCode(code) {
		return true
	}
	if !t.prefixHeads.has(head(code)) {
		return false
	}
	if !p.letters && t.hasProduct(code) {
		return true
	}
	// A prefix of digits only covers ICD-9-CM codes and procedures (305.70), CPT codes with
	// two-digit modifiers (86701-59), and NDCs.
	if !p.letters && !loinc && (p.n == 7 || p.n == 9) {
		return t.hasModified(code)
	}
	prefixed := p.letters || p.n <= 5 && !loinc || p.n >= 10
	return prefixed && t.hasPrefix(code)
}

// hasProduct reports whether a plain code may be an NDC without its package, for a product or
// labeler in the table.
func (t *Table) hasProduct(code []byte) bool {
	if len(code) != 8 && len(code) != 9 {
		return false
	}
	for _, n := range []int{5, 8, 9} {
		if n > len(code) {
			break
		}
		if _, is := t.products[string(code[:n])]; is {
			return true
		}
	}
	return false
}

// hasCode reports whether a plain code is in the table, for any system.
func (t *Table) hasCode(code []byte) bool {
	_, is := t.anyCodes[string(code)]
	return is
}

// hasPrefix reports whether a prefix of any system covers a plain code.
func (t *Table) hasPrefix(code []byte) bool {
	for _, n := range t.prefixLengths {
		if n > len(code) {
			break
		}
		if _, is := t.anyPrefixes[string(code[:n])]; is {
			return true
		}
	}
	return false
}

// hasModified reports whether a plain code may be a code of the table with modifiers.
func (t *Table) hasModified(code []byte) bool {
	for n := 3; n <= 5; n++ {
		if _, is := t.modified[string(code[:n])]; is {
			return true
		}
	}
	return false
}

// isLOINC reports whether a code can only be a LOINC code: at least four digits, a hyphen and
// one more.
func isLOINC(code []byte) bool { return len(code) >= 6 && code[len(code)-2] == '-' }

// lookup calls add with each category of a code. If label is true, the code is a security label,
// which counts in every label system, whatever its own system is.
func (t *Table) lookup(system, code []byte, label bool, add func(category string)) {
	if !t.mayHold(code) {
		return
	}
	if plain, is := undisguised(code); is {
		t.lookup(system, plain, label, add)
	}
	code = folded(code)
	in := canonicalSystem(string(system))
	t.lookupRanges(in, code, add)
	systems := []string{in, anySystem}
	if in == "" && t.loose && telling(code) {
		systems = append(systems, codesWithoutSystem)
	}
	if label && t.loose {
		systems = append(systems, labelsWithoutSystem)
	}
	if other := levels[in]; other != "" {
		systems = append(systems, other)
	}
	for _, spelling := range candidates(code) {
		t.lookupSpelling(in, systems, spelling, add)
		if right, is := slipped(in, spelling); is {
			t.lookupSpelling(in, systems, right, add)
		}
		t.lookupD(in, spelling, add)
		if in == anyICD {
			t.lookupRevisions(spelling, add)
		}
		if in != icd10Procedures { // some names cover both systems
			continue
		}
		diagnosis := []string{icd10}
		if mayBeDiagnosis(spelling) {
			t.lookupSpelling(icd10, diagnosis, spelling, add)
		}
		if right, is := slipped(icd10, spelling); is && mayBeDiagnosis(right) {
			t.lookupSpelling(icd10, diagnosis, right, add)
		}
	}
}

// lookupRevisions looks up a plain code in every revision of ICD.
func (t *Table) lookupRevisions(code string, add func(category string)) {
	for _, system := range revisions {
		t.lookupIn(system, code, add)
		if right, is := slipped(system, code); is {
			t.lookupIn(system, right, add)
		}
	}
}

// lookupSpelling looks up a plain code, with and without leading zeros, in several systems. in
// is the code's own system.
func (t *Table) lookupSpelling(
	in string, systems []string, code string, add func(category string),
) {
	short, isPadded := padded(in, code)
	for _, s := range systems {
		t.lookupIn(s, code, add)
		if isPadded {
			t.lookupIn(s, short, add)
		}
	}
}

// lookupLabel calls add with each category of a security label's text: of the whole text, and of
// each word.
func (t *Table) lookupLabel(shown []byte, add func(category string)) {
	if !t.loose || !t.mayHold(shown) {
		return
	}
	if plain, is := undisguised(shown); is {
		t.lookupLabel(plain, add)
	}
	shown = folded(shown)
	for i, spelling := range candidates(shown) {
		if i == 0 || len(spelling) > 1 { // a lone letter in a text is not the code R
			t.lookupIn(labelsWithoutSystem, spelling, add)
		}
	}
}

func (t *Table) lookupIn(system, code string, add func(category string)) {
	for _, c := range t.exact[system+"|"+code] {
		add(c)
	}
	for _, p := range t.prefix[system] {
		if strings.HasPrefix(code, p.prefix) {
			add(p.category)
		}
	}
}

// addCode adds a row whose code is exact.
func (t *Table) addCode(system, code, category string) {
	t.exactCodes.add(code)
	t.anyCodes[code] = struct{}{}
	if key := system + "|" + code; !slices.Contains(t.exact[key], category) {
		t.exact[key] = append(t.exact[key], category)
	}
}

// addPrefix adds a row whose code is a prefix.
func (t *Table) addPrefix(system, prefix, category string) {
	t.prefix[system] = append(t.prefix[system], prefixRow{prefix, category})
	t.anyPrefixes[prefix] = struct{}{}
	if system == ndc {
		t.products[prefix] = struct{}{}
	}
	t.prefixLengths = insert(t.prefixLengths, len(prefix))
	heads := []string{prefix[:min(headBytes, len(prefix))]}
	for len(heads) > 0 {
		h := heads[0]
		heads = heads[1:]
		t.prefixHeads.add(head([]byte(h)))
		for i := 0; i < len(codeAlphabet) && len(h) < headBytes; i++ {
			heads = append(heads, h+codeAlphabet[i:i+1])
		}
	}
}

// bitmap is a set of 16-bit numbers. Most codes of a record are in no table, and one look at a
// bitmap rules them out.
type bitmap [1 << 16 / 64]uint64

func (b *bitmap) add(n uint16)      { b[n/64] |= 1 << (n % 64) }
func (b *bitmap) has(n uint16) bool { return b[n/64]&(1<<(n%64)) != 0 }

// codeSet is a set of codes with false positives for about one code in some hundred.
type codeSet [1 << 19 / 64]uint64

func (s *codeSet) add(code string) {
	h := hashCode([]byte(code))
	s[h/64] |= 1 << (h % 64)
}

func (s *codeSet) has(code []byte) bool {
	h := hashCode(code)
	return s[h/64]&(1<<(h%64)) != 0
}

// hashCode returns a hash of a code's length and last eight bytes.
func hashCode(code []byte) uint32 {
	h := uint64(len(code))
	for _, b := range code[max(0, len(code)-8):] {
		h = h<<7 ^ h>>57 ^ uint64(b)
	}
	return uint32(h * 0x9e3779b97f4a7c15 >> (64 - 19))
}

// headBytes is the number of leading bytes that decide whether a prefix may cover a code.
const headBytes = 3

// head returns a number for the first bytes of a plain code.
func head(code []byte) uint16 {
	n := uint16(0)
	for i := range min(headBytes, len(code)) {
		n = n*37 + 1
		if at := code[i]; at <= '9' {
			n += uint16(at - '0')
		} else {
			n += uint16(at-'A') + 10
		}
	}
	return n
}
