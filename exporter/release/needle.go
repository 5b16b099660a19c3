package release

import (
	"bytes"
	"slices"
	"strings"
)

// needle is a text of two bytes or more that is searched by its rarest byte. Names begin and end
// with a quote, which is so common that searching for it takes several times as long.
type needle struct {
	text   string
	rare   int // the offset of that byte
	beside int // the offset of its neighbour, which rules out most other places
}

// common are the bytes of names in records, most frequent first. All other bytes are rarer.
const common = `"etrocaidsnulmybpfghvwkzjxq`

func newNeedle(text string) needle {
	n := needle{text: text}
	for at := range len(text) {
		if rarity(text[at]) > rarity(text[n.rare]) {
			n.rare = at
		}
	}
	n.beside = n.rare - 1
	if n.rare == 0 {
		n.beside = 1
	}
	return n
}

func rarity(c byte) int {
	if at := strings.IndexByte(common, c); at >= 0 {
		return at
	}
	return len(common)
}

// index returns the offset of the first occurrence, or -1.
func (n *needle) index(line []byte) int {
	for start := 0; start+len(n.text) <= len(line); start++ {
		next := bytes.IndexByte(line[start+n.rare:], n.text[n.rare])
		if next < 0 {
			return -1
		}
		start += next
		here := line[start:]
		if len(here) < len(n.text) {
			return -1
		}
		if here[n.beside] == n.text[n.beside] && string(here[:len(n.text)]) == n.text {
			return start
		}
	}
	return -1
}

func (n *needle) in(line []byte) bool { return n.index(line) >= 0 }

// oneIn reports whether a line contains one of the needles.
func oneIn(line []byte, needles []needle) bool {
	return slices.ContainsFunc(needles, func(n needle) bool { return n.in(line) })
}
