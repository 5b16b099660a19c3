package release

import (
	"bytes"
	"encoding/binary"
)

// Lengths of ids that are looked for in texts.
const (
	// minSecret is the length from which an id of a withheld resource is looked for in every text of the released ones. Shorter
	// ones ("1", "home") are words of any text; they are masked in references alone.
	minSecret = 12
	// looseSecret is the length from which it counts also inside of a longer word: chance makes no such match.
	looseSecret = 20
)

// secrets is a set of ids that must not appear in a text. Most positions of a text are told apart from all ids by one look at
// a bit table over four bytes.
type secrets struct {
	bits   [1 << 16 / 64]uint64
	byHead map[string][]string // first minSecret bytes -> ids
}

func newSecrets(ids map[string]bool) *secrets {
	s := &secrets{byHead: map[string][]string{}}
	for id := range ids {
		if len(id) < minSecret {
			continue
		}
		b := bit([]byte(id))
		s.bits[b/64] |= 1 << (b % 64)
		s.byHead[id[:minSecret]] = append(s.byHead[id[:minSecret]], id)
	}
	return s
}

// bit is a 16-bit hash of the first four bytes.
func bit(b []byte) uint32 { return binary.LittleEndian.Uint32(b) * 2654435761 >> 16 }

// in reports whether some id stands in text.
func (s *secrets) in(text []byte) bool {
	if len(s.byHead) == 0 {
		return false
	}
	for i := 0; i+minSecret <= len(text); i++ {
		b := bit(text[i:])
		if s.bits[b/64]&(1<<(b%64)) == 0 {
			continue
		}
		for _, id := range s.byHead[string(text[i:i+minSecret])] {
			if bytes.HasPrefix(text[i:], []byte(id)) && (len(id) >= looseSecret || isWord(text, i, i+len(id))) {
				return true
			}
		}
	}
	return false
}

// isWord reports whether text[from:to] is bounded by something else than letters and digits.
func isWord(text []byte, from, to int) bool {
	return (from == 0 || !alphanumeric(text[from-1])) && (to == len(text) || !alphanumeric(text[to]))
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
