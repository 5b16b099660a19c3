package release

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// Lengths of ids that are looked for in texts.
const (
	// minSecret is the length from which an id of a withheld resource is looked for in every
	// text of the released ones. Shorter ones ("1", "home") are words of any text; they are
	// masked in references alone.
	minSecret = 12
	// looseSecret is the length from which it counts also inside of a longer word: chance makes
	// no such match.
	looseSecret = 20
)

// secrets finds the ids of withheld resources in texts. The ids themselves are in the index;
// here is what tells most texts apart from all of them: the bytes that ids are made of, their
// lengths, and how long ones end. What it costs to look through a text does not depend on how
// many ids there are.
type secrets struct {
	index verdicts
	idSpellings
	filter  filter // of all ids; nil where there are none
	numbers numbers
}

// idSpellings are how ids are spelled that are, or may turn out to be, those of withheld resources.
type idSpellings struct {
	alphabet alphabet
	words    []int  // lengths below looseSecret, sorted
	loose    []int  // the other lengths, sorted
	tails    *tails // of the loose ones; nil where there are none
	capitals bool   // some have no capitals: they may come in capitals alone, as UUIDs do
	upper    []byte // the last of those, in capitals
}

// merge takes in what another one has.
func (s *idSpellings) merge(o *idSpellings) {
	s.alphabet.merge(&o.alphabet)
	for _, n := range o.words {
		s.words = insert(s.words, n)
	}
	for _, n := range o.loose {
		s.loose = insert(s.loose, n)
	}
	s.capitals = s.capitals || o.capitals
	switch {
	case s.tails == nil:
		s.tails = o.tails
	case o.tails != nil:
		for i, word := range o.tails {
			s.tails[i] |= word
		}
	}
}

// consider takes the id of a resource in that is, or may turn out to be, withheld.
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
	if letters == smallLetters {
		s.capitals = true
		s.upper = appendUpper(s.upper[:0], id)
		s.spelled(s.upper)
	}
}

// hasLetters reports whether a text has capitals, or letters that may be written as such.
func hasLetters(text []byte, capitals bool) bool {
	first, last, changed := byte('a'), byte('z'), bytes.ToUpper
	if capitals {
		first, last, changed = 'A', 'Z', bytes.ToLower
	}
	for _, b := range text {
		switch {
		case b >= first && b <= last:
			return true
		case b >= utf8.RuneSelf: // of no FHIR id
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

// Kinds of letters that an id has.
const (
	smallLetters = 1 << iota
	capitalLetters
	otherLetters // of no FHIR id
)

// letterKinds are those of bytes.
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

// lettersOf tells small letters and capitals of every script apart.
func lettersOf(id []byte) (kinds uint8) {
	if hasLetters(id, false) {
		kinds |= smallLetters
	}
	if hasLetters(id, true) {
		kinds |= capitalLetters
	}
	return kinds
}

// spelled takes in how an id is spelled, and tells of what letters.
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

// conclude begins the search, once everything is decided: the filter has the hashes of all
// withheld ids.
func (s *secrets) conclude(f filter) {
	if len(s.words)+len(s.loose) > 0 {
		s.filter = f
	}
}

// in reports whether an id of a withheld resource, or another number of it, stands in a text.
func (s *secrets) in(text []byte) bool {
	return s.scan(text, false) >= 0 || s.numbers.scan(text, false) >= 0
}

// find is in for a piece of a line of JSON without \u escapes, names and escapes included: where
// the first id stands, or somewhere before that; -1 where there is none. It finds every id that
// stands in some text of the piece; not everything that it finds is in one. Where no id does it
// finds another number.
func (s *secrets) find(line []byte) int {
	if at := s.scan(line, true); at >= 0 {
		return at
	}
	return s.numbers.scan(line, true)
}

// scan goes from one stretch of the ids' alphabet to the next.
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

// alphabet has the bytes that names of something withheld are spelled with: none of them reaches
// over another byte.
type alphabet [1 << 8]bool

func (a *alphabet) merge(o *alphabet) {
	for b, is := range o {
		a[b] = a[b] || is
	}
}

// stretch is where the first run of an alphabet's bytes that is at least so long begins and
// ends, from a place in a text on; -1 where there is none. It looks at one byte in many.
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

// inLoose looks for long ids in a stretch.
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

// inWords looks for ids in a stretch that are bounded by something else than letters and digits.
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

// is reports whether a text is the id of a withheld resource, and of no released one: as it is
// spelled, or, of an id without capitals, in capitals alone.
func (s *secrets) is(text []byte) bool {
	if s.isExactly(text) {
		return true
	}
	if !s.capitals {
		return false
	}
	return hasLetters(text, true) && !hasLetters(text, false) && s.isExactly(bytes.ToLower(text))
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

// tails is a set of the last bytes of ids. It has a fixed size: of some 100,000 different tails
// on it lets most texts of the ids' alphabet pass, and the filter decides.
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
	return binary.LittleEndian.Uint64(text) * 0x9e3779b97f4a7c15 >> (64 - 21)
}

// filter is a Bloom filter of hashes: of those that are not in it, one in a hundred passes. Both
// bits of a hash are in one word, so that a look at it waits for memory once.
type filter []uint64

// newFilter makes one for n hashes, of 16 to 32 bits each.
func newFilter(n int) filter { return make(filter, 1<<max(4, bits.Len(uint(n))-2)) }

func (f filter) add(h uint64) { f[h%uint64(len(f))] |= bitsOf(h) }

func (f filter) has(h uint64) bool {
	b := bitsOf(h)
	return f[h%uint64(len(f))]&b == b
}

// bitsOf is two bits of a word, by the high end of a hash; its low end chooses the word.
func bitsOf(h uint64) uint64 { return 1<<(h>>58) | 1<<(h>>52&63) }
