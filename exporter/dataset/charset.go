package dataset

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// charset converts text that is not UTF-8. The zero value converts nothing.
//
// If a character is one byte (latin1 and similar), only lines and entries that are not UTF-8 are
// converted, since files of both kinds occur together. In other charsets a quote can be part of
// a character, so everything is converted while it is read, unless a byte order mark says
// otherwise.
type charset struct {
	name    string
	single  *charmap.Charmap
	several encoding.Encoding
}

// charsetOf returns a charset by its name in the WHATWG encoding standard, such as latin1,
// windows-1252, utf-16 or shift_jis. "" means none. Errors: ehi.Invalid.
func charsetOf(name string) (charset, error) {
	if name == "" || strings.EqualFold(name, "utf-8") {
		return charset{}, nil
	}
	e, err := htmlindex.Get(name)
	if err != nil {
		return charset{}, ehi.Errorf(ehi.Invalid, "Unknown charset %q", name)
	}
	if single, ok := e.(*charmap.Charmap); ok {
		return charset{name: name, single: single}, nil
	}
	return charset{name: name, several: e}, nil
}

// wide are the Unicode encodings that JSON must not use (RFC 8259, 8.1). They are detected by
// their byte order marks, or by the positions of the zero bytes in the first two characters,
// which are ASCII in JSON. Longer marks come first, because FF FE is a prefix of two.
var wide = []struct {
	name     string
	mark     string
	zero     string // pattern: 0 is a zero byte, x any other
	encoding encoding.Encoding
}{
	{"UTF-32BE", "\x00\x00\xfe\xff", "000x", nil},
	{"UTF-32LE", "\xff\xfe\x00\x00", "x000", nil},
	{"UTF-16BE", "\xfe\xff", "0x0x", unicode.UTF16(unicode.BigEndian, unicode.UseBOM)},
	{"UTF-16LE", "\xff\xfe", "x0x0", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)},
}

// text returns the UTF-8 of an input that starts with head, without a byte order mark. Errors:
// errInput.
func (c charset) text(head []byte, r io.Reader) (io.Reader, error) {
	if bytes.HasPrefix(head, fhir.BOM) {
		_, err := io.CopyN(io.Discard, r, int64(len(fhir.BOM)))
		return r, err
	}
	for _, w := range wide {
		if !bytes.HasPrefix(head, []byte(w.mark)) && zeros(head) != w.zero {
			continue
		}
		if w.encoding != nil && c.isUTF16() {
			return w.encoding.NewDecoder().Reader(r), nil
		}
		if w.encoding == nil {
			return nil, errInput{fmt.Sprintf("the text is %s; convert it to UTF-8", w.name)}
		}
		return nil, errInput{
			fmt.Sprintf("the text is %s; convert it to UTF-8, or import it with the charset utf-16",
				w.name),
		}
	}
	if c.several != nil && !c.isUTF16() { // text in UTF-16 is found above: the rest is UTF-8
		return c.several.NewDecoder().Reader(r), nil
	}
	return r, nil
}

func (c charset) isUTF16() bool { return strings.HasPrefix(strings.ToLower(c.name), "utf-16") }

// value returns a value of an index of documents as UTF-8, if it can be converted.
func (c charset) value(text string) string {
	if c.single == nil || utf8.ValidString(text) {
		return text
	}
	converted, err := c.single.NewDecoder().String(text)
	if err != nil || strings.Contains(converted, string(replacement)) {
		return text
	}
	return converted
}

// zeros returns the pattern of the first four bytes.
func zeros(head []byte) string {
	if len(head) < 4 {
		return ""
	}
	drawing := []byte("xxxx")
	for i := range drawing {
		if head[i] == 0 {
			drawing[i] = '0'
		}
	}
	return string(drawing)
}

// line returns a line or an entry as UTF-8. Errors: errResource.
func (c charset) line(line []byte) ([]byte, error) {
	at, why := fhir.CheckText(line)
	switch {
	case why == "" && c.several != nil && bytes.Contains(line, replacement):
		return nil, errResource{"holds bytes that are no " + c.name}
	case why == "":
		return line, nil
	case line[at] == '\\':
		return nil, errResource{why}
	case c.single == nil:
		return nil, errResource{why + "; a charset can be given"}
	}
	converted, err := c.single.NewDecoder().Bytes(line)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(converted, replacement) {
		return nil, errResource{"holds bytes that are no " + c.name}
	}
	if _, why := fhir.CheckText(converted); why != "" {
		return nil, errResource{why}
	}
	return converted, nil
}

// replacement is what decoders emit for invalid bytes.
var replacement = []byte("\ufffd")
