package fhir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"

	"github.com/segmentio/encoding/json"
)

// Cursor walks the tokens of a JSON document and knows the names of the fields around each
// value. A walk to the end detects every syntax error (RFC 8259). It builds no values and, once
// warm, allocates nothing. It is not safe for concurrent use.
//
//	for c.Reset(line); c.Next(); {
//		switch c.Kind { case Open: ... case Close: ... case Scalar: ... }
//	}
//	if err := c.Err(); err != nil { ... }
type Cursor struct {
	Kind  Kind
	Depth int // nesting of the value: 0 for the document, 1 for a top-level field
	// Unique makes a repeated name within an object an error (ErrRepeated). RFC 8259 section 4
	// leaves open which value counts, so two readers may see different data. Set it before
	// Reset; it holds for all later walks.
	Unique bool

	names  names // of the open objects, if Unique is set
	src    []byte
	levels []level // open containers: [0] is the document, [1] its outermost container
	at     int     // offset of the next byte to read
	pos    int     // offset of the current token
	end    int     // offset after it

	state   state
	escaped bool // the current token is a string with an escape
	broken  bool // there was a line break between tokens
	err     error
}

// level is an open container.
type level struct {
	array bool
	names int // how many names the enclosing objects have
	start int // offset of its opening brace
	// key is the name of the latest field, unescaped; nil if there is none.
	key []byte
	pos int // offset of that name's opening quote
}

// state is what may come next.
type state uint8

const (
	wantValue   state = iota // a value
	wantElement              // a value, or the end of an empty array
	wantField                // a name, or the end of an empty object
	wantMore                 // a comma, or the end of the container
	wantNothing              // the document is complete
)

var errGrammar = errors.New("unexpected token")

// MaxDepth is how deeply objects and arrays may be nested. FHIR stays far below.
const MaxDepth = 1000

// ErrTooDeep is the error of a document that is nested deeper than MaxDepth.
var ErrTooDeep = errors.New("nested too deep")

// CheckDepth checks that a document is not nested deeper than MaxDepth before it is passed to a
// recursive decoder: 16 MB of brackets would overflow the stack and end the process. It reads
// each byte once. Errors: ErrTooDeep.
func CheckDepth(doc []byte) error {
	depth := 0
	for at := 0; at < len(doc); at++ {
		switch doc[at] {
		case '"':
			for at++; at < len(doc) && doc[at] != '"'; at++ {
				if doc[at] == '\\' {
					at++
				}
			}
		case '{', '[':
			if depth++; depth > MaxDepth {
				return ErrTooDeep
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// Kind is the kind of the current token of a Cursor.
type Kind int

const (
	// Scalar is a string, number, boolean or null.
	Scalar Kind = iota
	// Open is the start of an object or array.
	Open
	// Close is its end. Key and Depth are those of its Open.
	Close
)

// Reset starts a walk over doc, which must not change during the walk.
func (c *Cursor) Reset(doc []byte) {
	c.src, c.Depth = doc, 0
	c.levels = append(c.levels[:0], level{})
	c.at, c.pos, c.end, c.state, c.broken, c.err = 0, 0, 0, wantValue, false, nil
	c.names.reset()
}

// Next moves to the next value and reports whether there is one.
func (c *Cursor) Next() bool {
	if c.err != nil {
		return false
	}
	b, ok := c.peek()
	if !ok {
		return false
	}
	if c.state == wantMore && b == ',' {
		c.at++
		if b, ok = c.peek(); !ok {
			return false
		}
		c.state = wantValue
		if !c.levels[len(c.levels)-1].array {
			if b != '"' {
				return c.fail()
			}
			return c.field()
		}
	}
	switch {
	case c.state == wantField && b == '"':
		return c.field()
	case c.state <= wantElement && b != ']':
		return c.value(b)
	case b == '}', b == ']':
		return c.close(b)
	}
	return c.fail()
}

func (c *Cursor) fail() bool {
	if c.err == nil {
		c.err = errGrammar
	}
	return false
}

// peek skips white space and returns the next byte; ok is false at the end of the document.
func (c *Cursor) peek() (b byte, ok bool) {
	for c.at < len(c.src) {
		if b = c.src[c.at]; b > ' ' {
			return b, true
		}
		if b != ' ' && b != '\n' && b != '\t' && b != '\r' {
			return 0, c.fail()
		}
		c.at++
		c.broken = c.broken || b == '\n' || b == '\r'
	}
	return 0, false
}

// field reads a name, its colon and the value.
func (c *Cursor) field() bool {
	top := &c.levels[len(c.levels)-1]
	top.pos = c.at
	if !c.text() {
		return c.fail()
	}
	top.key = c.src[top.pos+1 : c.at-1]
	if c.escaped {
		top.key = append([]byte{}, Unquote(c.src[top.pos:c.at])...)
	}
	if c.Unique && c.names.repeated(top.names, top.key) {
		c.err = ErrRepeated{string(top.key)}
		return false
	}
	if b, ok := c.peek(); !ok || b != ':' {
		return ok && c.fail()
	}
	c.at++
	c.state = wantValue
	b, ok := c.peek()
	return ok && c.value(b)
}

// value reads a scalar or the start of a container.
func (c *Cursor) value(b byte) bool {
	c.pos = c.at
	switch b {
	case '"':
		if !c.text() {
			return c.fail()
		}
	case '{':
		return c.open(false, wantField)
	case '[':
		return c.open(true, wantElement)
	case 't':
		if !c.word("true") {
			return c.fail()
		}
	case 'f':
		if !c.word("false") {
			return c.fail()
		}
	case 'n':
		if !c.word("null") {
			return c.fail()
		}
	default:
		if !c.number() {
			return c.fail()
		}
	}
	c.end = c.at
	c.Kind, c.Depth = Scalar, len(c.levels)-1
	c.complete()
	return true
}

// complete sets what may follow a value.
func (c *Cursor) complete() {
	c.state = wantMore
	if len(c.levels) == 1 {
		c.state = wantNothing
	}
}

func (c *Cursor) open(array bool, want state) bool {
	if len(c.levels) > MaxDepth {
		c.err = ErrTooDeep
		return false
	}
	c.at++
	c.end, c.state = c.at, want
	c.Kind, c.Depth = Open, len(c.levels)-1
	c.levels = append(c.levels, level{array: array, start: c.pos, names: len(c.names.list)})
	return true
}

func (c *Cursor) close(b byte) bool {
	n := len(c.levels) - 1
	top := &c.levels[n]
	if c.state == wantValue || c.state == wantNothing || top.array != (b == ']') {
		return c.fail()
	}
	c.at++
	c.pos, c.end = c.levels[n].start, c.at
	c.names.cut(c.levels[n].names)
	c.levels = c.levels[:n]
	c.Kind, c.Depth = Close, n-1
	c.complete()
	return true
}

func (c *Cursor) word(w string) bool {
	if len(c.src)-c.at < len(w) || string(c.src[c.at:c.at+len(w)]) != w {
		return false
	}
	c.at += len(w)
	return true
}

// number reads a number.
func (c *Cursor) number() bool {
	end := NumberEnd(c.src, c.at)
	if end < 0 {
		return false
	}
	c.at = end
	return true
}

// NumberEnd returns the offset after the JSON number
// -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? that starts at the offset at, or -1 if there is
// none. The caller checks that the number ends there.
func NumberEnd(src []byte, at int) (end int) {
	is := func(b byte) bool { return at < len(src) && src[at] == b }
	digits := func() bool {
		from := at
		for at < len(src) && src[at]-'0' < 10 {
			at++
		}
		return at > from
	}
	if is('-') {
		at++
	}
	if is('0') {
		at++
	} else if !digits() {
		return -1
	}
	if is('.') {
		at++
		if !digits() {
			return -1
		}
	}
	if is('e') || is('E') {
		at++
		if is('+') || is('-') {
			at++
		}
		if !digits() {
			return -1
		}
	}
	return at
}

// text reads a string.
func (c *Cursor) text() bool {
	src, at := c.src, c.at+1
	c.escaped = false
	for {
		at = PlainText(src, at)
		if at == len(src) {
			return false
		}
		switch src[at] {
		case '"':
			c.at = at + 1
			return true
		case '\\':
			n := escapeLen(src[at:])
			if n == 0 {
				return false
			}
			c.escaped = true
			at += n
		default: // a control character
			return false
		}
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// PlainText returns the offset of the next quote, backslash or control character of a string, or
// len(src). It reads eight bytes at once: (x-n)&^x has the high bit set where a byte is below n,
// and the first such bit is exact.
func PlainText(src []byte, at int) int {
	for ; at+8 <= len(src); at += 8 {
		x := binary.LittleEndian.Uint64(src[at:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		found := ((quote - ones) &^ quote) | ((slash - ones) &^ slash) | ((x - ones*' ') &^ x)
		if found &= highs; found != 0 {
			return at + bits.TrailingZeros64(found)>>3
		}
	}
	for ; at < len(src); at++ {
		if b := src[at]; b == '"' || b == '\\' || b < ' ' {
			break
		}
	}
	return at
}

// CommonPrefix returns the length of the longest common prefix of two texts. It reads eight
// bytes at once.
func CommonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if d := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); d != 0 {
			return i + bits.TrailingZeros64(d)>>3
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// escapeLen returns the length of the escape at the start of p, or 0 if there is none.
func escapeLen(p []byte) int {
	if len(p) < 2 {
		return 0
	}
	switch p[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if utf16Unit(p) >= 0 {
			return 6
		}
	}
	return 0
}

// Err returns the syntax error, if any. Call it after Next has returned false.
func (c *Cursor) Err() error {
	if c.err == nil && c.state != wantNothing {
		return io.ErrUnexpectedEOF
	}
	return c.err
}

// Broken reports whether the document has several lines. Call it after Next has returned false.
func (c *Cursor) Broken() bool { return c.broken }

// Key returns the name of the field of the current value, unescaped. Elements of an array have
// the array's name. It is nil for the document itself.
func (c *Cursor) Key() []byte { return c.KeyAt(c.Depth) }

// KeyAt returns the name at an outer depth: KeyAt(1) is the top-level field that contains the
// current value.
func (c *Cursor) KeyAt(depth int) []byte {
	for ; depth >= 0 && depth < len(c.levels); depth-- {
		if at := &c.levels[depth]; !at.array {
			return at.key
		}
	}
	return nil
}

// InArray reports whether the current value is an element of an array.
func (c *Cursor) InArray() bool {
	return c.Depth > 0 && c.Depth < len(c.levels) && c.levels[c.Depth].array
}

// IsArray reports whether an Open or Close belongs to an array.
func (c *Cursor) IsArray() bool {
	return c.Kind != Scalar && c.src[c.pos] == '['
}

// IsString reports whether the current value is a string.
func (c *Cursor) IsString() bool { return c.Kind == Scalar && c.src[c.pos] == '"' }

// Raw returns the current token as it is in the document; after Close, the whole container.
func (c *Cursor) Raw() []byte { return c.src[c.pos:c.end] }

// Span returns the start and end offsets of Raw.
func (c *Cursor) Span() (start, end int) { return c.pos, c.end }

// KeyStart returns the offset of the opening quote of the current field's key, or -1 in an
// array.
func (c *Cursor) KeyStart() int {
	if c.InArray() || c.Depth >= len(c.levels) || c.levels[c.Depth].key == nil {
		return -1
	}
	return c.levels[c.Depth].pos
}

// ParentStart returns the offset of the opening brace or bracket of the container of the current
// value; 0 for the document itself.
func (c *Cursor) ParentStart() int { return c.levels[c.Depth].start }

// Text returns the current string without quotes and escapes. The result may point into the
// document.
func (c *Cursor) Text() []byte {
	if !c.IsString() {
		return nil
	}
	if !c.escaped {
		return c.src[c.pos+1 : c.end-1]
	}
	return Unquote(c.Raw())
}

// Unquote returns the text of a JSON string, or nil for any other value. The result may point
// into raw.
func Unquote(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return nil
	}
	body := raw[1 : len(raw)-1]
	if bytes.IndexByte(body, '\\') < 0 {
		return body
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return body
	}
	return []byte(s)
}

// AppendPath appends the names from the top down to the current value, joined by dots and
// without array indices, such as participant.actor.reference.
func (c *Cursor) AppendPath(dst []byte) []byte {
	for d := 1; d <= c.Depth && d < len(c.levels); d++ {
		if c.levels[d].array || c.levels[d].key == nil {
			continue
		}
		if len(dst) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, c.levels[d].key...)
	}
	return dst
}
