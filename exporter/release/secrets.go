package release

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// Lengths of ids that are searched in texts.
const (
	// minSecret is the minimum length of a withheld resource's id that is searched in every text
	// of released resources. Shorter ids ("1", "home") are common words; they are masked only in
	// references.
	minSecret = 12
	// looseSecret is the minimum length of an id that also counts inside a longer word, because
	// such a match cannot be a coincidence.
	looseSecret = 20
)

// secrets finds the ids of withheld resources in texts. The ids are in the index. secrets has
// what rules out most texts: the bytes in the ids, the lengths of ids, and the ends of long ids.
// So the cost of a search does not depend on the number of ids.
type secrets struct {
	index verdicts
	idSpellings
	filter filter // of all ids; nil if there are none
	// anyCase means that an id with only small letters, or only capitals, may be in any case.
	anyCase bool
	numbers numbers
}

// idSpellings describes the ids of resources that are, or may be, withheld.
type idSpellings struct {
	alphabet alphabet
	words    []int  // lengths below looseSecret, sorted
	loose    []int  // the other lengths, sorted
	tails    *tails // of the loose ids; nil if there are none
	// some ids have only small letters; they may also be written in capitals, as UUIDs are
	capitals bool
	other    []byte // the last of these ids in the other case
	smalls   bool   // some ids have only capitals; see secrets.anyCase
}

// merge adds the spellings of o.
func (s *idSpellings) merge(o *idSpellings) {
	s.alphabet.merge(&o.alphabet)
	for _, n := range o.words {
		s.words = insert(s.words, n)
	}
	for _, n := range o.loose {
		s.loose = insert(s.loose, n)
	}
	s.capitals = s.capitals || o.capitals
	s.smalls = s.smalls || o.smalls
	switch {
	case s.tails == nil:
		s.tails = o.tails
	case o.tails != nil:
		for i, word := range o.tails {
			s.tails[i] |= word
		}
	}
}

// consider adds the id of a resource that is, or may be, withheld.
func (s *idSpellings) consider(id []byte) {
	if len(id) < minSecret {
		return
	}
	if len(id) < looseSecret {
		s.words = insert(s.words, len(id))
	} else {
		s.loose = insert(s.loose, len(id))
	}
	letters := s.spelled(id)
	if letters&otherLetters != 0 {
		letters = lettersOf(id)
	}
	switch letters {
	case smallLetters:
		s.capitals = true
		s.other = appendUpper(s.other[:0], id)
		s.spelled(s.other)
	case capitalLetters:
		s.smalls = true
		s.other = append(s.other[:0], id...)
		for i, b := range s.other {
			if b >= 'A' && b <= 'Z' {
				s.other[i] = b | 0x20
			}
		}
		s.spelled(s.other)
	}
}

// hasLetters reports whether a text has capital letters, or small letters.
func hasLetters(text []byte, capitals bool) bool {
	first, last, changed := byte('a'), byte('z'), bytes.ToUpper
	if capitals {
		first, last, changed = 'A', 'Z', bytes.ToLower
	}
	for _, b := range text {
		switch {
		case b >= first && b <= last:
			return true
		case b >= utf8.RuneSelf: // does not occur in FHIR ids
			return !bytes.Equal(changed(text), text)
		}
	}
	return false
}

// appendUpper appends a text in capitals.
func appendUpper(dst, text []byte) []byte {
	for i, b := range text {
		if b >= utf8.RuneSelf {
			return append(dst[:len(dst)-i], bytes.ToUpper(text)...)
		}
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}

// The kinds of letters in an id.
const (
	smallLetters = 1 << iota
	capitalLetters
	otherLetters // do not occur in FHIR ids
)

// letterKinds maps bytes to kinds.
var letterKinds = func() (of [1 << 8]uint8) {
	for b := range of {
		switch {
		case b >= 'a' && b <= 'z':
			of[b] = smallLetters
		case b >= 'A' && b <= 'Z':
			of[b] = capitalLetters
		case b >= utf8.RuneSelf:
			of[b] = otherLetters
		}
	}
	return of
}()

// lettersOf returns the kinds of letters in an id, for all scripts.
func lettersOf(id []byte) (kinds uint8) {
	if hasLetters(id, false) {
		kinds |= smallLetters
	}
	if hasLetters(id, true) {
		kinds |= capitalLetters
	}
	return kinds
}

// spelled adds the spelling of an id and returns its kinds of letters.
func (s *idSpellings) spelled(id []byte) (kinds uint8) {
	for _, b := range id {
		s.alphabet[b] = true
		kinds |= letterKinds[b]
	}
	if len(id) < looseSecret {
		return kinds
	}
	if s.tails == nil {
		s.tails = new(tails)
	}
	s.tails.add(id)
	return kinds
}

func insert(sorted []int, n int) []int {
	at, found := slices.BinarySearch(sorted, n)
	if found {
		return sorted
	}
	return slices.Insert(sorted, at, n)
}

// conclude sets the filter, which has the hashes of all withheld ids, once everything is
// decided.
func (s *secrets) conclude(f filter) {
	if len(s.words)+len(s.loose) > 0 {
		s.filter = f
	}
}

// in reports whether a text contains the id of a withheld resource, or another of its numbers.
func (s *secrets) in(text []byte) bool {
	return s.scan(text, false) >= 0 || s.numbers.scan(text, false) >= 0
}

// find is in for a part of a JSON line without \u escapes, including names and escapes. It
// returns the position of the first id, or one before it; -1 if there is none. It finds every id
// inside a text, and may also find some outside. If there is no id, it searches the other
// numbers.
func (s *secrets) find(line []byte) int {
	if at := s.scan(line, true); at >= 0 {
		return at
	}
	return s.numbers.scan(line, true)
}

// scan searches one stretch of the ids' alphabet after the other.
func (s *secrets) scan(text []byte, escaped bool) int {
	if s.filter == nil {
		return -1
	}
	shortest := s.shortest()
	from, to := s.alphabet.stretch(text, 0, shortest)
	for from >= 0 && !s.inLoose(text, from, to) && !s.inWords(text, from, to, escaped) {
		from, to = s.alphabet.stretch(text, to+1, shortest)
	}
	return from
}

// alphabet is the set of bytes in names of withheld resources. A name never contains any other
// byte.
type alphabet [1 << 8]bool

func (a *alphabet) merge(o *alphabet) {
	for b, is := range o {
		a[b] = a[b] || is
	}
}

// stretch returns the first run of at least shortest bytes of the alphabet, starting the search
// at from; -1 if there is none. It skips most bytes.
func (a *alphabet) stretch(text []byte, from, shortest int) (begin, end int) {
	for from+shortest <= len(text) {
		at := from + shortest - 1
		for at >= from && a[text[at]] {
			at--
		}
		if at < from {
			end = from + shortest
			for end < len(text) && a[text[end]] {
				end++
			}
			return from, end
		}
		from = at + 1
	}
	return -1, -1
}

func (s *secrets) shortest() int {
	if len(s.words) > 0 {
		return s.words[0]
	}
	return s.loose[0]
}

// inLoose searches long ids in a stretch.
func (s *secrets) inLoose(text []byte, from, to int) bool {
	if s.tails == nil {
		return false
	}
	for end := from + s.loose[0]; end <= to; end++ {
		if !s.tails.has(text[end-tailBytes:]) {
			continue
		}
		for _, n := range s.loose {
			if end-n < from {
				break
			}
			if s.is(text[end-n : end]) {
				return true
			}
		}
	}
	return false
}

// inWords searches ids in a stretch that are not directly next to letters or digits.
func (s *secrets) inWords(text []byte, from, to int, escaped bool) bool {
	for at := from; at < to && len(s.words) > 0; at++ {
		if at > 0 && alphanumeric(text[at-1]) && !(escaped && at > 1 && text[at-2] == '\\') {
			continue
		}
		for _, n := range s.words {
			if at+n > to {
				break
			}
			if (at+n == len(text) || !alphanumeric(text[at+n])) && s.is(text[at:at+n]) {
				return true
			}
		}
	}
	return false
}

// is reports whether a text is the id of a withheld resource and of no released one. An id with
// only small letters may be in capitals.
func (s *secrets) is(text []byte) bool {
	if s.isExactly(text) {
		return true
	}
	if s.anyCase && s.smalls && hasLetters(text, false) && s.isExactly(bytes.ToUpper(text)) {
		return true
	}
	if !s.capitals {
		return false
	}
	return hasLetters(text, true) && (s.anyCase || !hasLetters(text, false)) &&
		s.isExactly(bytes.ToLower(text))
}

func (s *secrets) isExactly(text []byte) bool {
	high := s.index.high(text)
	if !s.filter.has(high) {
		return false
	}
	released, withheld := s.index.of(s.index.whole(high, text))
	return withheld && !released
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// tails is a set of the last bytes of ids, in whatever case. Its size is fixed: above some 100,000
// different tails it rules out few texts, and the filter decides.
type tails [1 << 21 / 64]uint64

const tailBytes = 8

func (t *tails) add(id []byte) {
	at := tailBit(id[len(id)-tailBytes:])
	t[at/64] |= 1 << (at % 64)
}

func (t *tails) has(text []byte) bool {
	at := tailBit(text)
	return t[at/64]&(1<<(at%64)) != 0
}

func tailBit(text []byte) uint64 {
	const small = 0x2020202020202020 // makes capitals small, and changes no digit, hyphen or dot
	return (binary.LittleEndian.Uint64(text) | small) * 0x9e3779b97f4a7c15 >> (64 - 21)
}

// filter is a Bloom filter of hashes with about 1 % false positives. Both bits of a hash are in
// one word, so a look-up waits for memory once.
type filter []uint64

// newFilter returns a filter for n hashes, with 16 to 32 bits for each.
func newFilter(n int) filter { return make(filter, 1<<max(4, bits.Len(uint(n))-2)) }

func (f filter) add(h uint64) { f[h%uint64(len(f))] |= bitsOf(h) }

func (f filter) has(h uint64) bool {
	b := bitsOf(h)
	return f[h%uint64(len(f))]&b == b
}

// bitsOf returns two bits of a word, chosen by the high end of a hash. The low end chooses the
// word.
func bitsOf(h uint64) uint64 { return 1<<(h>>58) | 1<<(h>>52&63) }
