package native

import (
	"bytes"

	text "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// wide are the character sets of which ASCII is no part, with their byte order marks. Longer marks
// come first, because one begins with another.
var wide = []struct {
	mark     string
	encoding text.Encoding
}{
	{"\xff\xfe\x00\x00", utf32.UTF32(utf32.LittleEndian, utf32.ExpectBOM)},
	{"\x00\x00\xfe\xff", utf32.UTF32(utf32.BigEndian, utf32.ExpectBOM)},
	{"\xff\xfe", unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM)},
	{"\xfe\xff", unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM)},
}

// charsetOf returns the step that resolves the character set of a text that begins with head. Of
// UTF-16 and UTF-32 without a mark it leaves the bytes of ASCII, of which IDs and codes consist.
func charsetOf(head []byte) step {
	for _, w := range wide {
		if bytes.HasPrefix(head, []byte(w.mark)) {
			return &charset{decoder: w.encoding.NewDecoder()}
		}
	}
	return &noZeros{}
}

// charset is a step that makes UTF-8 of another character set.
type charset struct {
	decoder transform.Transformer
	begun   []byte // a character that a piece does not end
	plain   []byte
}

// read implements step.
func (c *charset) read(piece []byte, last bool) (plain []byte, changed bool) {
	raw := append(c.begun, piece...)
	if need := 3*len(raw)/2 + 16; cap(c.plain) < need {
		c.plain = make([]byte, need)
	}
	c.plain = c.plain[:cap(c.plain)]
	// invalid characters become U+FFFD, and the room suffices: what is left is a character's begin
	n, used, _ := c.decoder.Transform(c.plain, raw, last)
	c.begun = append([]byte(nil), raw[used:]...)
	return c.plain[:n], true
}

// noZeros is a step that leaves out zero bytes.
type noZeros struct{ plain []byte }

// read implements step.
func (z *noZeros) read(piece []byte, _ bool) (plain []byte, changed bool) {
	if bytes.IndexByte(piece, 0) < 0 {
		return piece, false
	}
	z.plain = z.plain[:0]
	for len(piece) > 0 {
		before, after, _ := bytes.Cut(piece, []byte{0})
		z.plain, piece = append(z.plain, before...), after
	}
	return z.plain, true
}
