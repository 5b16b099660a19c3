package reading

import (
	"bytes"
	"mime"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	text "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
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

// charsetOf returns the step that resolves the character set of a text that begins with head, by
// its byte order mark. Of UTF-16 and UTF-32 without a mark it leaves the bytes of ASCII, of which
// IDs and codes consist.
func charsetOf(head []byte) step {
	for _, w := range wide {
		if bytes.HasPrefix(head, []byte(w.mark)) {
			return &charset{decoder: w.encoding.NewDecoder()}
		}
	}
	return &noZeros{}
}

// hasMark reports whether a text begins with a byte order mark, which says its character set
// whatever is declared.
func hasMark(head []byte) bool {
	_, plain := charsetOf(head).(*noZeros)
	return !plain || bytes.HasPrefix(head, []byte("\ufeff"))
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
	if need := utf8.UTFMax*len(raw) + 16; cap(c.plain) < need {
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

// declared is the character set that a text says it has.
type declared struct {
	// step makes UTF-8 of it; nil if its ASCII is that of everybody.
	step func() step
	// unknown means that nobody here can read it.
	unknown bool
}

// isPlain reports whether it says nothing about how the text is read.
func (d declared) isPlain() bool { return d.step == nil && !d.unknown }

// declaredBy returns the character set that a media type, or the beginning of an XML or HTML
// document, says.
func declaredBy(contentType string, head []byte) (d declared) {
	head = head[:min(len(head), overlap)]
	if hasMark(head) {
		return declared{}
	}
	names := []string{charsetParameter(contentType)}
	for _, form := range [][]byte{bytes.ReplaceAll(head, []byte{0}, nil), latin(head)} {
		if m := declaration.FindSubmatch(form); m != nil {
			names = append(names, string(m[1]))
		}
	}
	for _, name := range names {
		one := charsetCalled(name)
		d.unknown = d.unknown || one.unknown
		if d.step == nil {
			d.step = one.step
		}
	}
	if d.step == nil && looksLikeEBCDIC(head) {
		d.step = ebcdic
	}
	return d
}

// charsetParameter returns the parameter charset of a media type; "" if it has none.
func charsetParameter(contentType string) string {
	if _, parameters, err := mime.ParseMediaType(contentType); err == nil {
		return parameters["charset"]
	}
	if m := parameter.FindStringSubmatch(contentType); m != nil {
		return m[1]
	}
	return ""
}

var (
	parameter   = regexp.MustCompile(`(?i)charset\s*=\s*["']?([^\s"';,]*)`)
	declaration = regexp.MustCompile(`(?i)(?:^\s*<\?xml\s[^>]*\bencoding\s*=\s*["']|` +
		`<meta\s[^>]*\bcharset\s*=\s*["']?)([^\s"'/>]*)`)
)

// charsetCalled returns a character set by its name.
func charsetCalled(name string) declared {
	name = strings.ToLower(strings.Trim(name, " \t\"';,"))
	if plain := properName(name); plain != name {
		if proper := charsetCalled(plain); !proper.unknown {
			return proper
		}
	}
	switch {
	case slices.Contains(plainCharsets, name):
		return declared{}
	case strings.HasSuffix(name, "utf-7") || name == "utf7":
		return declared{step: func() step { return newEscapes('+', utf7) }}
	case ebcdicName.MatchString(name):
		return declared{step: ebcdic}
	}
	encoding, err := ianaindex.IANA.Encoding(name)
	if err != nil || encoding == nil {
		encoding, err = htmlindex.Get(name)
	}
	switch {
	case err != nil || encoding == nil || encoding == text.Replacement:
		return declared{unknown: true}
	case holdsASCII(encoding):
		return declared{}
	}
	return declared{step: func() step { return &charset{decoder: encoding.NewDecoder()} }}
}

// plainCharsets are names of character sets of which noZeros leaves ASCII, and names that mean
// none.
var plainCharsets = []string{
	"", "utf-8", "utf8", "us-ascii", "ascii", "ansi", "binary", "unknown-8bit", "7bit", "8bit",
	"unknown", "default", "none", "null", "undefined",
	"utf-32", "utf-32le", "utf-32be", "ucs-2", "ucs-4", "iso-10646-ucs-2", "iso-10646-ucs-4",
}

// properName returns a name of a character set as its registry spells it: utf_8, ISO8859_1,
// windows1252, en_US.UTF-8 and ASCII//TRANSLIT are names in programs and locales.
func properName(name string) string {
	name, _, _ = strings.Cut(name, "//")
	name = localeName.ReplaceAllString(name, "")
	name = strings.ReplaceAll(name, "_", "-")
	name = strings.TrimSuffix(name, "-sig")
	name = windowsName.ReplaceAllString(name, "windows-$1")
	return isoName.ReplaceAllString(name, "iso-8859-$1")
}

var (
	localeName  = regexp.MustCompile(`^[a-z]{2,3}(?:[_-][a-z]{2,4})?\.`)
	windowsName = regexp.MustCompile(`^(?:windows|win|x-cp|cp)-?(125[0-8]|874)$`)
	isoName     = regexp.MustCompile(`^(?:iso)?-?8859[-/]?([1-9][0-9]?)$`)
)

// holdsASCII reports whether each byte of ASCII stands for itself, and no other byte changes that.
func holdsASCII(encoding text.Encoding) bool {
	if encoding == unicode.UTF8 {
		return true
	}
	set, is := encoding.(*charmap.Charmap)
	for c := byte(' '); is && c < 0x7f; c++ {
		is = set.DecodeByte(c) == rune(c)
	}
	return is
}

// ebcdicName are the names of the Latin code pages of EBCDIC. Letters, digits and most of the
// punctuation of IDs, JSON and XML are the same in all of them.
var ebcdicName = regexp.MustCompile(
	`^(?:(?:x-|cs)?(?:ibm|cp|ebcdic)?[-_]?` +
		`(?:0?37|27[34578]|28[0145]|297|500|87[01]|905|0*924|1026|1047|0*114[0-9])(?:-s390)?|` +
		`(?:cs)?ebcdic-?[a-z-]*)$`)

func ebcdic() step { return &charset{decoder: charmap.CodePage1047.NewDecoder()} }

// latin returns the beginning of a text as if it were EBCDIC.
func latin(head []byte) []byte {
	plain, _ := charmap.CodePage1047.NewDecoder().Bytes(head)
	return plain
}

// looksLikeEBCDIC reports whether a text that begins with head may be EBCDIC: most of it would be
// letters, digits and spaces, which bytes at random, and texts of other character sets, are not.
func looksLikeEBCDIC(head []byte) bool {
	words, high := 0, 0
	for _, c := range head {
		if c >= utf8.RuneSelf {
			high++
		}
		if c == 0x40 || ebcdicWords[c] {
			words++
		}
	}
	return len(head) >= 16 && words*5 > len(head)*3 && high*2 > len(head)
}

// ebcdicWords are the bytes of letters and digits.
var ebcdicWords = func() (is [256]bool) {
	for b := range is {
		c := charmap.CodePage1047.DecodeByte(byte(b))
		is[b] = c < utf8.RuneSelf && naming[c]
	}
	return is
}()
