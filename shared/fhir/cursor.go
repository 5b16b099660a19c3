package fhir

import (
	"bytes"
	"errors"
	"io"

	"github.com/segmentio/encoding/json"
)

// Cursor walks the tokens of one JSON document and knows, at each value, under which names it stands. A walk to the end finds every
// error of syntax (RFC 8259). It builds no values and, once warm, allocates nothing. It is for one goroutine.
//
//	for c.Reset(line); c.Next(); {
//		switch c.Kind { case Open: ... case Close: ... case Scalar: ... }
//	}
//	if err := c.Err(); err != nil { ... }
type Cursor struct {
	Kind  Kind
	Depth int // nesting of the value: 0 for the document itself, 1 for a field of it

	tok   json.Tokenizer
	src   []byte
	keys  []key  // by depth: the latest key seen in the object at that depth
	array []bool // by depth: whether the container at that depth is an array
	start []int  // by depth: offset of the container's opening brace
	pos   int    // offset of the current token
	end   int

	expect grammar // what may come next
	spaced bool    // there was space between tokens
	err    error
}

// grammar is a set of tokens.
type grammar uint8

const (
	value grammar = 1 << iota // a scalar, or the start of an object or array
	name
	colon
	comma
	endOfObject
	endOfArray
	nothing grammar = 0 // the document is whole
)

var errGrammar = errors.New("unexpected token")

// MaxDepth is how deep objects and arrays may lie in one another; those of FHIR stay far below.
const MaxDepth = 1000

// ErrTooDeep is the error of a document that is nested deeper than MaxDepth.
var ErrTooDeep = errors.New("nested too deep")

// CheckDepth holds a document to MaxDepth before it is given to a decoder that works by recursion: one of 16 MB that is nothing but brackets
// would be the end of the process. It costs one look at each byte. Errors: ErrTooDeep.
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

// key is a field's name as it stands in the document, quotes included, and its offset.
type key struct {
	raw []byte
	pos int
}

// Kind tells what a Cursor stands on.
type Kind int

const (
	// Scalar is a string, number, boolean or null.
	Scalar Kind = iota
	// Open is the start of an object or array.
	Open
	// Close is its end; Key and Depth are those of its Open.
	Close
)

// Reset starts a walk over doc, which must stay unchanged during it.
func (c *Cursor) Reset(doc []byte) {
	c.tok.Reset(doc)
	c.src, c.Depth = doc, 0
	c.keys, c.array, c.start = c.keys[:0], c.array[:0], c.start[:0]
	c.keys = append(c.keys, key{})
	c.pos, c.end, c.expect, c.spaced, c.err = 0, 0, value, false, nil
}

// Next moves to the next value and reports whether there is one.
func (c *Cursor) Next() bool {
	for c.err == nil && c.tok.Next() {
		before := c.end
		c.end = len(c.src) - c.tok.Remaining()
		c.pos = c.end - len(c.tok.Value)
		c.spaced = c.spaced || c.pos != before
		switch c.tok.Delim {
		case '{':
			if c.take(value) {
				return c.open(false, name|endOfObject)
			}
		case '[':
			if c.take(value) {
				return c.open(true, value|endOfArray)
			}
		case '}':
			if c.take(endOfObject) {
				c.close()
				return true
			}
		case ']':
			if c.take(endOfArray) {
				c.close()
				return true
			}
		case ':':
			if c.take(colon) {
				c.expect = value
			}
		case ',':
			if c.take(comma) && c.array[len(c.array)-1] {
				c.expect = value
			} else {
				c.expect = name
			}
		default:
			// tok.IsKey is wrong behind an empty object: [{},"no key"].
			if c.expect&name != 0 && c.src[c.pos] == '"' {
				c.keys[len(c.keys)-1] = key{c.tok.Value, c.pos}
				c.expect = colon
				continue
			}
			if c.take(value) {
				c.Kind, c.Depth = Scalar, len(c.start)
				c.complete()
				return true
			}
		}
	}
	return false
}

// take reports whether a token may come here.
func (c *Cursor) take(token grammar) bool {
	if c.expect&token == 0 {
		c.err = errGrammar
	}
	return c.err == nil
}

// complete decides what may follow a value.
func (c *Cursor) complete() {
	switch n := len(c.array); {
	case n == 0:
		c.expect = nothing
	case c.array[n-1]:
		c.expect = comma | endOfArray
	default:
		c.expect = comma | endOfObject
	}
}

func (c *Cursor) open(array bool, expect grammar) bool {
	if len(c.start) == MaxDepth {
		c.err = ErrTooDeep
		return false
	}
	c.expect = expect
	c.Kind, c.Depth = Open, len(c.start)
	c.start, c.array = append(c.start, c.pos), append(c.array, array)
	c.keys = append(c.keys, key{})
	return true
}

func (c *Cursor) close() {
	n := len(c.start) - 1
	c.pos = c.start[n]
	c.start, c.array, c.keys = c.start[:n], c.array[:n], c.keys[:n+1]
	c.Kind, c.Depth = Close, n
	c.complete()
}

// Err returns what was wrong with the JSON, if anything was; it is called when Next has returned false.
func (c *Cursor) Err() error {
	switch {
	case c.tok.Err != nil:
		return c.tok.Err
	case c.err == nil && c.expect != nothing:
		return io.ErrUnexpectedEOF
	}
	return c.err
}

// Spaced reports, once Next has returned false, whether there is white space outside of strings.
func (c *Cursor) Spaced() bool { return c.spaced || c.end != len(c.src) }

// Key is the name of the field that holds the current value; elements of an array have the array's name. It is nil
// for the document itself.
func (c *Cursor) Key() []byte { return c.KeyAt(c.Depth) }

// KeyAt is the name at an outer depth: KeyAt(1) is the top-level field that the current value lies in.
func (c *Cursor) KeyAt(depth int) []byte {
	for ; depth >= 0 && depth < len(c.keys); depth-- {
		if k := c.keys[depth].raw; len(k) >= 2 {
			return k[1 : len(k)-1]
		}
		if depth == 0 || !c.array[depth-1] {
			return nil
		}
	}
	return nil
}

// InArray reports whether the current value is an element of an array.
func (c *Cursor) InArray() bool { return c.Depth > 0 && c.Depth <= len(c.array) && c.array[c.Depth-1] }

// IsArray reports whether an Open or Close belongs to an array.
func (c *Cursor) IsArray() bool {
	return c.Kind != Scalar && c.src[c.pos] == '['
}

// IsString reports whether the current value is a string.
func (c *Cursor) IsString() bool { return c.Kind == Scalar && c.src[c.pos] == '"' }

// Raw is the current token as it stands in the document; after Close it is the whole container.
func (c *Cursor) Raw() []byte { return c.src[c.pos:c.end] }

// Span is where Raw stands in the document.
func (c *Cursor) Span() (start, end int) { return c.pos, c.end }

// KeyStart is the offset at which the current value's field begins (its key's opening quote), or -1 in an array.
func (c *Cursor) KeyStart() int {
	if c.InArray() || c.Depth >= len(c.keys) || c.keys[c.Depth].raw == nil {
		return -1
	}
	return c.keys[c.Depth].pos
}

// Text is the current string without quotes and escapes. It may point into the document.
func (c *Cursor) Text() []byte { return Unquote(c.Raw()) }

// Unquote gives the text of a JSON string, which may point into it; nil for any other value.
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

// AppendPath appends the names from the top down to the current value, joined by dots and without array indices:
// participant.actor.reference.
func (c *Cursor) AppendPath(dst []byte) []byte {
	for d := 1; d <= c.Depth && d < len(c.keys); d++ {
		k := c.keys[d].raw
		if len(k) < 2 {
			continue
		}
		if len(dst) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, k[1:len(k)-1]...)
	}
	return dst
}
