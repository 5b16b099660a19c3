package datapackage

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// Codec reads and writes the rows of a table. It is safe for concurrent use.
type Codec struct {
	g      *grammar
	names  []string
	cells  []*cell
	header []byte
}

// NewCodec makes the codec of a table. It fails if the dialect is ambiguous, the encoding
// unknown, or if the constraints of a field cannot be applied.
func NewCodec(r *Resource) (*Codec, error) {
	g, err := newGrammar(r.written(), r.Encoding)
	if err != nil {
		return nil, fmt.Errorf("table %q: %w", r.Name, err)
	}
	c := &Codec{g: g}
	for i := range r.Fields.Fields {
		f := &r.Fields.Fields[i]
		cell, err := f.compile(r.Fields.Missing(f))
		if err != nil {
			return nil, fmt.Errorf("table %q, field %q: %w", r.Name, f.Name, err)
		}
		c.names = append(c.names, f.Name)
		c.cells = append(c.cells, cell)
	}
	if g.header {
		c.header = c.Append(nil, c.names...)
	}
	return c, nil
}

// Header returns the header row as the dialect writes it, or nil if the dialect has no header. It
// ends as the first of the rows that follow it does: with one of both line ends, most programs can
// read neither the header nor the rows. Without rows, it ends as the dialect says.
func (c *Codec) Header(rows []byte) []byte {
	header := slices.Clone(c.header)
	if header == nil || !c.g.lines {
		return header
	}
	end := c.g.terminator
	for row := range c.Rows(rows) {
		if !bytes.HasSuffix(row, c.g.lf) {
			break
		}
		end = c.g.lf
		if both := slices.Concat(c.g.cr, c.g.lf); bytes.HasSuffix(row, both) {
			end = both
		}
		break
	}
	return append(bytes.TrimSuffix(header, c.g.terminator), end...)
}

// Terminator returns what ends rows that are written.
func (c *Codec) Terminator() []byte { return slices.Clone(c.g.terminator) }

// CheckHeader reports how the names of a file's columns differ from the fields. It repeats no value
// of a row that is taken for a header, because the file has none.
func (c *Codec) CheckHeader(names []string) error {
	if len(names) != len(c.names) {
		return fmt.Errorf("the header has %d columns, but the descriptor has %d fields",
			len(names), len(c.names))
	}
	if !slices.ContainsFunc(names, func(s string) bool { return c.IsName([]byte(s)) }) {
		return errors.New("the header is missing: the first row names none of the descriptor's " +
			"fields, and dialect.header is not false")
	}
	for i, name := range names {
		if name != c.names[i] {
			return fmt.Errorf("the header's column %d is %q, but the descriptor's field is %q",
				i+1, name, c.names[i])
		}
	}
	return nil
}

// IsName reports whether a value is the name of a field, in any case.
func (c *Codec) IsName(value []byte) bool {
	value = bytes.TrimSpace(value)
	return slices.ContainsFunc(c.names, func(name string) bool {
		return strings.EqualFold(name, string(value))
	})
}

// Rows returns the rows in a block of whole rows, each with its line terminator, as slices of
// the block. Rest without a line terminator is the last row.
func (c *Codec) Rows(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			end, _, _ := c.g.row(data)
			if end < 0 {
				end = len(data)
			}
			if !yield(data[:end:end]) {
				return
			}
			data = data[end:]
		}
	}
}

// Fields appends the values of a row to into[:0] and returns it. The values are UTF-8, without
// quotes and escapes. The null sequence is nil; other values are not nil. Values are parts of
// raw where they can be. Bytes that are no characters become U+FFFD, but stay in UTF-8 tables.
func (c *Codec) Fields(raw []byte, into [][]byte) ([][]byte, error) {
	g := c.g
	into = into[:0]
	if g.unit == 1 && g.plain(raw) {
		return c.plainFields(raw, into), nil
	}
	for i := 0; ; {
		start := g.skipSpace(raw, i)
		quoted, ok := g.skipQuoted(raw, i)
		if !ok {
			return into, fmt.Errorf("value %d: a quote is not closed", len(into)+1)
		}
		end := min(g.skipPlain(raw, quoted), len(raw))
		into = append(into, c.value(raw[start:end]))
		if at(raw, end, g.delim) && g.lineEnd(raw, end) == 0 {
			i = end + len(g.delim)
			continue
		}
		if end+g.lineEnd(raw, end) < len(raw) {
			return into, fmt.Errorf("line end after value %d, within the row", len(into))
		}
		return into, nil
	}
}

// plainFields is Fields for a row without quotes and escapes.
func (c *Codec) plainFields(raw []byte, into [][]byte) [][]byte {
	g := c.g
	raw = g.trimEnd(raw)
	for {
		i := g.index(raw, g.delim)
		value := raw
		if i >= 0 {
			value = raw[:i:i]
		}
		if g.skip {
			value = value[g.skipSpace(value, 0):]
		}
		if g.null != nil && string(value) == string(g.null) {
			into = append(into, nil)
		} else {
			into = append(into, c.decode(value))
		}
		if i < 0 {
			return into
		}
		raw = raw[i+len(g.delim):]
	}
}

// trimEnd returns a plain row without its line end.
func (g *grammar) trimEnd(raw []byte) []byte {
	if !g.lines {
		return bytes.TrimSuffix(raw, g.terminator)
	}
	if trimmed, ok := bytes.CutSuffix(raw, g.lf); ok {
		return bytes.TrimSuffix(trimmed, g.cr)
	}
	return raw
}

// value returns a value without quotes and escapes as UTF-8.
func (c *Codec) value(raw []byte) []byte {
	g := c.g
	if g.null != nil && string(raw) == string(g.null) {
		return nil
	}
	if g.plain(raw) {
		return c.decode(raw)
	}
	if inside := g.inside(raw); inside != nil {
		return c.decode(inside)
	}
	out := make([]byte, 0, len(raw))
	quoted := at(raw, 0, g.quote)
	i := 0
	if quoted {
		i = len(g.quote)
	}
	for i < len(raw) {
		switch {
		case at(raw, i, g.escape):
			i += len(g.escape)
			out = append(out, raw[min(i, len(raw)):min(i+g.unit, len(raw))]...)
			i += g.unit
		case quoted && at(raw, i, g.quote):
			i += len(g.quote)
			if quoted = g.double && at(raw, i, g.quote); quoted {
				out = append(out, g.quote...)
				i += len(g.quote)
			}
		default:
			out = append(out, raw[i:min(i+g.unit, len(raw))]...)
			i += g.unit
		}
	}
	return c.decode(out)
}

// inside returns what is between the quotes of a value, if nothing in it is a quote or an escape.
func (g *grammar) inside(raw []byte) []byte {
	n := len(g.quote)
	if n == 0 || len(raw) < 2*n || !bytes.HasPrefix(raw, g.quote) {
		return nil
	}
	if inside := raw[n : len(raw)-n]; g.plain(inside) && at(raw, len(raw)-n, g.quote) {
		return inside
	}
	return nil
}

// decode returns the UTF-8 of bytes of the encoding. It never returns nil.
func (c *Codec) decode(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	if c.g.encoding == nil || c.g.unit == 1 && isASCII(b) {
		return b
	}
	text, err := c.g.encoding.NewDecoder().Bytes(b)
	if err != nil {
		return []byte("\ufffd")
	}
	return text
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// CheckLineEnds reports a carriage return of a row that neither is quoted or escaped, nor is a part
// of a line end. RFC 4180 allows none, and other programs end the row there. A dialect whose rows
// do not end with \n or \r\n says itself what ends them.
func (c *Codec) CheckLineEnds(raw []byte) error {
	g := c.g
	if !g.lines {
		return nil
	}
	raw = g.trimEnd(raw)
	if g.index(raw, g.cr) < 0 {
		return nil
	}
	for i, value := 0, 1; i < len(raw); value++ {
		i, _ = g.skipQuoted(raw, i)
		for end := min(g.skipPlain(raw, i), len(raw)); i < end; {
			switch {
			case at(raw, i, g.escape):
				i += len(g.escape) + g.unit
			case at(raw, i, g.cr):
				return fmt.Errorf("value %d: a carriage return must be quoted", value)
			default:
				i += g.unit
			}
		}
		i += len(g.delim)
	}
	return nil
}

// Check reports the first value of a row that its field does not admit, or that the row has
// another number of values than the table has fields. It does not repeat the value. It is no
// check of unique, nor of keys.
func (c *Codec) Check(values [][]byte) error {
	if len(values) != len(c.cells) {
		return fmt.Errorf("the row has %d values, but the table has %d fields",
			len(values), len(c.cells))
	}
	for i, v := range values {
		if err := c.checkValue(i, v); err != nil {
			return fmt.Errorf("field %q: the value %w", c.names[i], err)
		}
	}
	return nil
}

func (c *Codec) checkValue(i int, v []byte) error {
	if v == nil {
		if c.cells[i].required {
			return errMissing
		}
		return nil
	}
	if c.g.encoding != nil && bytes.ContainsRune(v, utf8.RuneError) {
		return errBytes
	}
	if c.cells[i].free() {
		if !utf8.Valid(v) {
			return errBytes
		}
		return nil
	}
	return c.cells[i].check(string(v))
}

// Missing reports whether a value of the field with a number stands for none: it is the null
// sequence or one of missingValues.
func (c *Codec) Missing(field int, value []byte) bool {
	return value == nil || c.cells[field].isMissing(string(value))
}

// Append appends a row with values that are UTF-8. A value is quoted or escaped where it must
// be. Characters that the dialect cannot write become spaces, and those that the encoding does
// not have become '?'. A row whose only value is empty is an empty line in a dialect without
// quotes, and Scanner skips that.
func (c *Codec) Append(dst []byte, values ...string) []byte {
	start := len(dst)
	for i, v := range values {
		if i > 0 {
			dst = append(dst, c.g.text.Delimiter...)
		}
		dst = c.appendValue(dst, v, i == 0, len(values) == 1)
	}
	dst = append(dst, c.g.text.LineTerminator...)
	if c.g.encoding == nil {
		return dst
	}
	return append(dst[:start:start], c.encode(dst[start:])...)
}

// encode returns UTF-8 in the encoding.
func (c *Codec) encode(text []byte) []byte {
	out, err := c.g.encoding.NewEncoder().Bytes(text)
	if err == nil {
		return out
	}
	out = nil
	for _, r := range string(text) {
		b, err := c.g.encoding.NewEncoder().Bytes([]byte(string(r)))
		if err != nil {
			b, _ = c.g.encoding.NewEncoder().Bytes([]byte("?"))
		}
		out = append(out, b...)
	}
	return out
}

// appendValue appends a value, the first or the only one of a row, in UTF-8.
func (c *Codec) appendValue(dst []byte, v string, first, only bool) []byte {
	g := c.g
	if !g.needsQuotes(v, first, only) {
		return append(dst, v...)
	}
	quote, escape := g.text.QuoteChar, g.text.EscapeChar
	if *quote == "" {
		return g.appendEscaped(dst, v)
	}
	inside := " " // instead of a quote that cannot be written
	switch {
	case g.double:
		inside = *quote + *quote
	case escape != "":
		inside = escape + *quote
	}
	dst = append(dst, *quote...)
	for _, r := range v {
		switch s := string(r); s {
		case *quote:
			dst = append(dst, inside...)
		case escape:
			dst = append(append(dst, escape...), escape...)
		default:
			dst = append(dst, s...)
		}
	}
	return append(dst, *quote...)
}

// needsQuotes reports whether a value would be read as something else if it stood plain.
func (g *grammar) needsQuotes(v string, first, only bool) bool {
	d := &g.text
	switch {
	case v == "":
		return only
	case strings.ContainsAny(v, g.special), v == d.NullSequence:
		return true
	case first && d.CommentChar != "" && strings.HasPrefix(v, d.CommentChar):
		return true
	}
	return g.skip && v[0] == ' ' || first && strings.HasPrefix(v, "\ufeff")
}

// appendEscaped appends a value in a dialect without quotes.
func (g *grammar) appendEscaped(dst []byte, v string) []byte {
	escape := g.text.EscapeChar
	for i, r := range v {
		s := string(r)
		switch {
		case i > 0 && !strings.ContainsRune(g.special, r) && !(g.skip && r == ' '):
			dst = append(dst, s...)
		case escape != "":
			dst = append(append(dst, escape...), s...)
		case strings.ContainsRune(g.special, r):
			dst = append(dst, ' ')
		default:
			dst = append(dst, s...)
		}
	}
	return dst
}
