package datapackage

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
)

// grammar is a dialect in the bytes of an encoding.
//
// Rows are split in the bytes of the file, never in decoded text, so that no byte is lost, even
// one that is no character. That works as follows:
//
//   - In UTF-8 and in encodings with one byte for a character, no part of a character looks like
//     a delimiter, a quote or a line end.
//   - In UTF-16, characters are searched at even offsets only.
//   - In the other encodings (Shift_JIS, GBK, Big5, EUC), some second bytes are letters or
//     signs of ASCII from 0x40, and digits. A dialect with such characters is refused.
//   - ISO-2022-JP switches its meaning within a line, and is refused.
type grammar struct {
	unit    int // bytes of the smallest character: 2 in UTF-16, else 1
	delim   []byte
	quote   []byte // nil if nothing is quoted
	escape  []byte // nil if nothing is escaped
	double  bool   // two quotes within quotes are one
	comment []byte // nil if there are no comments
	skip    bool   // spaces before a value are skipped
	space   []byte
	null    []byte // nil if there is no null sequence
	header  bool

	// terminator is what ends rows that are written. Rows that are read may end with \n or \r\n
	// if it is one of these.
	terminator []byte
	lines      bool // rows end with \n or \r\n
	lf, cr     []byte

	// stops are the first bytes of what ends a value without quotes, and of escapes.
	stops [256]bool

	encoding encoding.Encoding // nil for UTF-8
	name     string            // of the encoding
	// special are the characters that a value cannot have without quotes.
	special string
	text    Dialect // with defaults
}

// written returns the dialect with the delimiter that the format implies.
func (t *Resource) written() *Dialect {
	tabs := t.Format == "tsv" || t.MediaType == "text/tab-separated-values"
	if t.Format == "" && len(t.Path) > 0 {
		tabs = tabs || strings.HasSuffix(t.Path[0], ".tsv")
	}
	if !tabs || t.Dialect != nil && t.Dialect.Delimiter != "" {
		return t.Dialect
	}
	d := Dialect{}
	if t.Dialect != nil {
		d = *t.Dialect
	}
	d.Delimiter = "\t"
	return &d
}

// newGrammar compiles a dialect; nil is the default. It fails if the dialect is ambiguous, or if
// the encoding is unknown.
func newGrammar(d *Dialect, name string) (*grammar, error) {
	g := &grammar{unit: 1, header: true, double: true}
	if d != nil {
		g.text = *d
	}
	if err := g.setEncoding(name); err != nil {
		return nil, err
	}
	g.setDefaults()
	if err := g.checkDialect(); err != nil {
		return nil, err
	}
	return g, g.encode()
}

// SameEncoding reports whether two names are those of one encoding: latin1 and iso-8859-1, or
// utf-16 and utf-16le. An unknown name is that of no encoding.
func SameEncoding(a, b string) bool {
	var of [2]string
	for i, name := range []string{a, b} {
		var g grammar
		if err := g.setEncoding(name); err != nil {
			return false
		}
		of[i] = "utf-8"
		switch {
		case g.unit == 2:
			of[i] = g.name
		case g.encoding != nil:
			of[i], _ = htmlindex.Name(g.encoding) // it comes from there
		}
	}
	return of[0] == of[1]
}

func (g *grammar) setEncoding(name string) error {
	g.name = strings.ToLower(strings.TrimSpace(name))
	switch g.name {
	case "", "utf-8", "utf8":
		g.name = "utf-8"
		return nil
	case "utf-16be":
		g.unit, g.encoding = 2, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
		return nil
	case "utf-16", "utf-16le":
		g.name = "utf-16le"
		g.unit, g.encoding = 2, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
		return nil
	}
	e, err := htmlindex.Get(g.name)
	if err != nil {
		return fmt.Errorf("the encoding %q is unknown", name)
	}
	switch canonical, _ := htmlindex.Name(e); canonical {
	case "utf-8":
		return nil
	case "utf-16be", "utf-16le":
		return g.setEncoding(canonical)
	case "replacement", "iso-2022-jp", "x-user-defined":
		return fmt.Errorf("the encoding %q is not supported: convert the table to UTF-8", name)
	}
	g.encoding = e
	return nil
}

func (g *grammar) setDefaults() {
	d := &g.text
	if d.Header != nil {
		g.header = *d.Header
	}
	if d.DoubleQuote != nil {
		g.double = *d.DoubleQuote
	}
	if d.Delimiter == "" {
		d.Delimiter = ","
	}
	if d.LineTerminator == "" {
		d.LineTerminator = "\r\n"
	}
	if d.QuoteChar == nil {
		d.QuoteChar = new(`"`)
	}
	if d.EscapeChar == *d.QuoteChar && d.EscapeChar != "" {
		d.EscapeChar, g.double = "", true // a quote escapes a quote
	}
	g.lines = d.LineTerminator == "\n" || d.LineTerminator == "\r\n"
	g.skip = d.SkipInitialSpace
	g.special = *d.QuoteChar + d.EscapeChar + d.Delimiter + d.LineTerminator + "\r\n"
}

func (g *grammar) checkDialect() error {
	d := &g.text
	breaks := d.LineTerminator
	if g.lines {
		breaks = "\r\n"
	}
	for name, s := range map[string]string{
		"quoteChar": *d.QuoteChar, "escapeChar": d.EscapeChar,
	} {
		switch {
		case utf8.RuneCountInString(s) > 1:
			return fmt.Errorf("%s must be one character", name)
		case s != "" && strings.ContainsAny(s, d.Delimiter+breaks):
			return fmt.Errorf("%s must not be part of delimiter or lineTerminator", name)
		case s == " " && g.skip:
			return fmt.Errorf("%s must be no space with skipInitialSpace", name)
		}
	}
	switch {
	case !utf8.ValidString(g.special + d.CommentChar + d.NullSequence):
		return errors.New("must be valid Unicode")
	case g.lines && strings.ContainsAny(d.Delimiter, breaks):
		return errors.New("delimiter must have no line end")
	case strings.Contains(d.Delimiter, breaks), strings.Contains(breaks, d.Delimiter):
		return errors.New("delimiter and lineTerminator must not contain each other")
	case strings.HasPrefix(d.Delimiter, " ") && g.skip:
		return errors.New("delimiter must not begin with a space with skipInitialSpace")
	case strings.ContainsAny(d.CommentChar, g.special):
		return errors.New("commentChar must not have characters of the other properties")
	}
	return nil
}

// encode sets the bytes of the characters.
func (g *grammar) encode() error {
	d := &g.text
	for _, x := range []struct {
		name, text string
		into       *[]byte
	}{
		{"delimiter", d.Delimiter, &g.delim},
		{"lineTerminator", d.LineTerminator, &g.terminator},
		{"quoteChar", *d.QuoteChar, &g.quote},
		{"escapeChar", d.EscapeChar, &g.escape},
		{"commentChar", d.CommentChar, &g.comment},
		{"nullSequence", d.NullSequence, &g.null},
		{"a line end", "\n", &g.lf},
		{"a line end", "\r", &g.cr},
		{"a space", " ", &g.space},
	} {
		if x.text == "" {
			continue
		}
		b, err := g.bytes(x.text)
		if err != nil {
			return fmt.Errorf("%s cannot be written in %s", x.name, g.name)
		}
		if g.unsafe(b) && x.name != "nullSequence" && x.name != "commentChar" {
			return fmt.Errorf("%s can be part of another character in %s: "+
				"convert the table to UTF-8", x.name, g.name)
		}
		*x.into = b
	}
	for _, b := range [][]byte{g.delim, g.terminator, g.escape, g.lf, g.cr} {
		if b != nil {
			g.stops[b[0]] = true
		}
	}
	return nil
}

// bytes encodes a text.
func (g *grammar) bytes(s string) ([]byte, error) {
	if g.encoding == nil {
		return []byte(s), nil
	}
	return g.encoding.NewEncoder().Bytes([]byte(s))
}

// unsafe reports whether bytes can be part of a character.
func (g *grammar) unsafe(b []byte) bool {
	if _, single := g.encoding.(*charmap.Charmap); single || g.encoding == nil || g.unit == 2 {
		return false
	}
	return bytes.ContainsFunc(b, func(r rune) bool {
		return r >= 0x40 || r >= '0' && r <= '9'
	})
}

// at reports whether a sequence is at a position of data.
func at(data []byte, i int, sequence []byte) bool {
	return len(sequence) > 0 && i+len(sequence) <= len(data) && data[i] == sequence[0] &&
		string(data[i:i+len(sequence)]) == string(sequence)
}

// lineEnd returns the length of the line end at a position; 0 if there is none.
func (g *grammar) lineEnd(data []byte, i int) int {
	switch {
	case !g.lines:
		if at(data, i, g.terminator) {
			return len(g.terminator)
		}
	case at(data, i, g.lf):
		return len(g.lf)
	case at(data, i, g.cr) && at(data, i+len(g.cr), g.lf):
		return len(g.cr) + len(g.lf)
	}
	return 0
}

// index returns where a sequence is in data, in whole characters; -1 if it is nowhere.
func (g *grammar) index(data, sequence []byte) int {
	if g.unit == 1 {
		if len(sequence) == 1 {
			return bytes.IndexByte(data, sequence[0])
		}
		return bytes.Index(data, sequence)
	}
	for from := 0; ; {
		i := bytes.Index(data[from:], sequence)
		if i < 0 {
			return -1
		}
		if (from+i)%g.unit == 0 {
			return from + i
		}
		from += i + 1
	}
}

// has reports whether a sequence is in data; nil is nowhere.
func (g *grammar) has(data, sequence []byte) bool {
	return sequence != nil && g.index(data, sequence) >= 0
}

// plain reports whether no character of data is a quote or an escape.
func (g *grammar) plain(data []byte) bool { return !g.has(data, g.quote) && !g.has(data, g.escape) }

// lineMark returns what every line ends with.
func (g *grammar) lineMark() []byte {
	if g.lines {
		return g.lf
	}
	return g.terminator
}

// row returns the length of the first row of data with its line end, and the length of that. If
// data has no line end outside of quotes, the length is -1, and open says whether data ends
// within quotes.
func (g *grammar) row(data []byte) (end, terminator int, open bool) {
	mark := g.lineMark()
	i := g.index(data, mark)
	if i < 0 {
		return -1, 0, g.openQuote(data)
	}
	if g.plain(data[:i]) {
		end = i + len(mark)
		if before := i - len(g.cr); g.lines && before >= 0 && at(data, before, g.cr) {
			return end, end - before, false
		}
		return end, len(mark), false
	}
	return g.quotedRow(data)
}

// openQuote reports whether data, which has no line end, ends within quotes.
func (g *grammar) openQuote(data []byte) bool {
	if g.plain(data) {
		return false
	}
	_, _, open := g.quotedRow(data)
	return open
}

// quotedRow is row for data with quotes or escapes.
func (g *grammar) quotedRow(data []byte) (end, terminator int, open bool) {
	for i := 0; i < len(data); {
		var ok bool
		if i, ok = g.skipQuoted(data, i); !ok {
			return -1, 0, true
		}
		if i = g.skipPlain(data, i); i >= len(data) {
			break
		}
		if n := g.lineEnd(data, i); n > 0 {
			return i + n, n, false
		}
		i += len(g.delim)
	}
	return -1, 0, false
}

// skipSpace returns where a value begins.
func (g *grammar) skipSpace(data []byte, i int) int {
	for g.skip && at(data, i, g.space) {
		i += len(g.space)
	}
	return i
}

// skipQuoted returns where the quotes that a value begins with end; ok is false if they do not.
func (g *grammar) skipQuoted(data []byte, i int) (next int, ok bool) {
	if i = g.skipSpace(data, i); !at(data, i, g.quote) {
		return i, true
	}
	i += len(g.quote)
	for i < len(data) {
		switch {
		case at(data, i, g.escape):
			i += len(g.escape) + g.unit
		case at(data, i, g.quote):
			i += len(g.quote)
			if !g.double || !at(data, i, g.quote) {
				return i, true
			}
			i += len(g.quote)
		default:
			i = g.jump(data, i)
		}
	}
	return i, false
}

// jump returns the next position within quotes that may be a quote or an escape.
func (g *grammar) jump(data []byte, i int) int {
	if g.unit == 2 || g.escape != nil {
		return i + g.unit
	}
	n := bytes.IndexByte(data[i+1:], g.quote[0])
	if n < 0 {
		return len(data)
	}
	return i + 1 + n
}

// skipPlain returns where the delimiter or the line end is that ends a value without quotes, or
// the length of data or more.
func (g *grammar) skipPlain(data []byte, i int) int {
	for i < len(data) {
		switch {
		case !g.stops[data[i]]:
			i += g.unit
		case at(data, i, g.escape):
			i += len(g.escape) + g.unit
		case g.lineEnd(data, i) > 0, at(data, i, g.delim):
			return i
		default:
			i += g.unit
		}
	}
	return i
}
