package release

// Lengths of business identifiers that are searched in texts.
const (
	// minNumber is the minimum length of an identifier with letters and digits. Most numbers of
	// orders, samples and prescriptions are at least that long (RX-4711-A). An identifier with
	// digits only must have minSecret of them, because shorter ones are often dates or
	// quantities.
	minNumber     = 8
	longestNumber = 64
	fewDigits     = 4 // the minimum number of digits
)

// distinctive reports whether an identifier, in any case, identifies a single thing wherever it
// occurs, so that a text containing it mentions that thing. Dates, words, and values with spaces
// or unusual punctuation are not distinctive.
func distinctive(value []byte) bool {
	if len(value) < minNumber || len(value) > longestNumber {
		return false
	}
	digits, letters := 0, 0
	for _, c := range value {
		switch class := numberBytes[c]; class {
		case 0:
			return false
		case '0':
			digits++
		case 'a':
			letters++
		}
	}
	switch {
	case digits < fewDigits, letters == 0 && digits < minSecret:
		return false
	}
	return !isDate(value)
}

// numberBytes classifies the bytes of distinctive identifiers: 0 for a byte that cannot occur,
// '0' for a digit, 'a' for a letter.
var numberBytes = func() (class [256]byte) {
	for _, c := range []byte("-._/:#+") {
		class[c] = c
	}
	for _, c := range []byte(codeAlphabet) {
		if isDigit(c) {
			class[c] = '0'
		} else {
			class[c], class[c|0x20] = 'a', 'a'
		}
	}
	return class
}()

// isDate reports whether a value is a date or begins like a date with a time:
// 2026-11-28T03:05:00Z.
func isDate(value []byte) bool {
	const date = "0000-00-00"
	if len(value) < len(date) {
		return false
	}
	for i := range len(date) {
		if isDigit(date[i]) != isDigit(value[i]) || date[i] == '-' && value[i] != '-' {
			return false
		}
	}
	return len(value) == len(date) || value[len(date)]|0x20 == 't'
}

// numbers finds the distinctive identifiers of withheld resources in texts, in any case. It
// stores the first half of each hash.
type numbers struct {
	numberSpellings
	index  verdicts
	filter filter // of values
	values map[uint64]struct{}
}

// numberSpellings describes the characters and lengths of the identifiers of resources that are,
// or may be, withheld.
type numberSpellings struct {
	alphabet, first alphabet
	lengths         []int // sorted
}

func (s *numberSpellings) merge(o *numberSpellings) {
	s.alphabet.merge(&o.alphabet)
	s.first.merge(&o.first)
	for _, n := range o.lengths {
		s.lengths = insert(s.lengths, n)
	}
}

// consider adds the spelling of a normal identifier, if it is distinctive.
func (s *numberSpellings) consider(value []byte) {
	if !distinctive(value) {
		return
	}
	s.lengths = insert(s.lengths, len(value))
	for i, b := range value {
		upper := b
		if numberBytes[b] == 'a' {
			upper = b &^ 0x20
		}
		s.alphabet[b], s.alphabet[upper] = true, true
		if i == 0 {
			s.first[b], s.first[upper] = true, true
		}
	}
}

// considerNumbers adds the spellings of the identifiers of a resource that is, or may be,
// withheld.
func (o *Observer) considerNumbers(f *facts) {
	for _, v := range f.identifiers {
		o.numbers.consider(v)
	}
	for _, v := range f.shared {
		o.numbers.consider(v)
	}
}

// publish records the identifiers of a released resource. They are not secrets of another one.
func (o *Observer) publish(f *facts) {
	for _, v := range f.identifiers {
		if distinctive(v) {
			o.published = append(o.published, o.review.index.high(v))
		}
	}
	for _, v := range f.shared {
		if distinctive(v) {
			o.published = append(o.published, o.review.index.high(v))
		}
	}
}

// concludeNumbers prepares the search for identifiers that only withheld resources have.
func (r *Review) concludeNumbers() {
	s := &r.secrets.numbers
	values := map[uint64]struct{}{}
	if len(s.lengths) > 0 {
		for _, o := range r.identified.owned {
			if v, _ := r.index.at(o.of); v.kept() {
				values[o.value.high] = struct{}{}
			}
		}
	}
	if len(values) > 0 {
		for _, o := range r.identified.owned {
			if v, _ := r.index.at(o.of); !v.withheld() {
				delete(values, o.value.high)
			}
		}
		for _, o := range r.observers {
			for _, high := range o.published {
				delete(values, high)
			}
		}
	}
	if len(values) == 0 {
		return
	}
	s.filter, s.values, s.index = newFilter(len(values)), values, r.index
	for high := range values {
		s.filter.add(high)
	}
}

// scan has the contract of secrets.scan: it finds an identifier that is not part of a longer
// one.
func (s *numbers) scan(text []byte, escaped bool) int {
	if s.filter == nil {
		return -1
	}
	from, to := s.alphabet.stretch(text, 0, s.lengths[0])
	for from >= 0 && !s.within(text, from, to, escaped) {
		from, to = s.alphabet.stretch(text, to+1, s.lengths[0])
	}
	return from
}

// within searches identifiers in a stretch of characters of their alphabet.
func (s *numbers) within(text []byte, from, to int, escaped bool) bool {
	for at := from; at+s.lengths[0] <= to; at++ {
		if !s.first[text[at]] || !begins(text, at, escaped) {
			continue
		}
		for _, n := range s.lengths {
			if at+n > to {
				break
			}
			if ends(text, at+n) && s.is(text[at:at+n]) {
				return true
			}
		}
	}
	return false
}

// begins reports whether an identifier may begin at a position: no letter, digit or object
// identifier arc precedes it.
func begins(text []byte, at int, escaped bool) bool {
	switch {
	case at == 0:
		return true
	case alphanumeric(text[at-1]):
		return escaped && at > 1 && text[at-2] == '\\'
	}
	return !(text[at-1] == '.' && at > 1 && isDigit(text[at-2]) && isDigit(text[at]))
}

// ends reports, likewise, whether an identifier may end before a position.
func ends(text []byte, at int) bool {
	switch {
	case at == len(text):
		return true
	case alphanumeric(text[at]):
		return false
	}
	return !(text[at] == '.' && at+1 < len(text) && isDigit(text[at+1]) && isDigit(text[at-1]))
}

// is reports whether a text is such an identifier.
func (s *numbers) is(text []byte) bool {
	var lower [longestNumber]byte
	for i, b := range text {
		if b >= 'A' && b <= 'Z' {
			b |= 0x20
		}
		lower[i] = b
	}
	high := s.index.high(lower[:len(text)])
	if !s.filter.has(high) {
		return false
	}
	_, is := s.values[high]
	return is && distinctive(text)
}
