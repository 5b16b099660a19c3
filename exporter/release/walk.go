package release

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf8"

	"ehi-server/shared/fhir"
)

// walk visits the values of one line of JSON, as a fhir.Cursor does, in a third of the time,
// because release looks at every byte of every record that a form narrows. It checks the nesting
// and separation of values. It relies on the source for well-formed numbers and texts
// (source.Resource). After warming up it does not allocate. It is for one goroutine.
type walk struct {
	kind  kind
	depth int // of the value: 0 for the document itself, 1 for a field of it
	// start and end are the span of the value; after closed, of the whole container.
	start, end int

	src     []byte
	at      int
	expect  grammar
	escaped bool    // the text has escapes
	isText  bool    // the value is a text
	levels  []level // the open containers, by depth
	fields  []field // by depth: the field that contains the value
	err     error
}

// kind is the kind of a walk's current position.
type kind uint8

const (
	scalar kind = iota
	opened
	closed
)

// level is an open container.
type level struct {
	start int
	array bool
}

// field is a name and the position of its opening quote. The elements of an array have the
// array's name, and -1.
type field struct {
	name []byte
	at   int
}

// grammar is what may come next.
type grammar uint8

const (
	aValue grammar = iota
	valueOrEnd
	aName
	nameOrEnd
	separator // a comma, or the end of the container
)

var errSyntax = errors.New("not valid JSON")

// reset starts a walk over a line, which must not change during the walk.
func (w *walk) reset(line []byte) {
	w.src, w.at, w.expect, w.err = line, 0, aValue, nil
	w.levels = w.levels[:0]
	w.fields = append(w.fields[:0], field{at: -1})
}

// next moves to the next value and reports whether there is one.
func (w *walk) next() bool {
	for w.at < len(w.src) && w.err == nil {
		c := w.src[w.at]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			w.at++
		case w.expect == separator:
			if len(w.levels) == 0 {
				return w.fail(errSyntax)
			}
			if c != ',' {
				return w.close(c)
			}
			w.at++
			w.expect = aName
			if w.levels[len(w.levels)-1].array {
				w.expect = aValue
			}
		case w.expect >= aName:
			if c == '}' && w.expect == nameOrEnd {
				return w.close(c)
			}
			w.name()
		default:
			if c == ']' && w.expect == valueOrEnd {
				return w.close(c)
			}
			return w.value(c)
		}
	}
	if w.err == nil && (len(w.levels) > 0 || w.expect != separator) {
		w.err = errSyntax
	}
	return false
}

func (w *walk) fail(err error) bool {
	w.err = err
	return false
}

// name reads the name of a field and the colon after it.
func (w *walk) name() {
	start := w.at
	end, escaped := textEnd(w.src, start)
	if end < 0 || w.src[start] != '"' {
		w.err = errSyntax
		return
	}
	for w.at = end; w.at < len(w.src) && w.src[w.at] <= ' '; w.at++ {
	}
	if w.at == len(w.src) || w.src[w.at] != ':' {
		w.err = errSyntax
		return
	}
	w.at++
	w.expect = aValue
	name := w.src[start+1 : end-1]
	if escaped {
		name = fhir.Unquote(w.src[start:end])
	}
	w.fields[len(w.levels)] = field{name, start}
}

// value reads a scalar, or the beginning of a container.
func (w *walk) value(c byte) bool {
	w.start, w.depth, w.kind, w.isText = w.at, len(w.levels), scalar, false
	switch c {
	case '{':
		return w.open(false, nameOrEnd, field{at: -1})
	case '[':
		return w.open(true, valueOrEnd, field{w.fields[w.depth].name, -1})
	case '"':
		w.end, w.escaped = textEnd(w.src, w.at)
		w.isText = true
	default:
		for w.end = w.at; w.end < len(w.src) && isLiteral(w.src[w.end]); w.end++ {
		}
	}
	if w.end <= w.at {
		return w.fail(errSyntax)
	}
	w.at, w.expect = w.end, separator
	return true
}

func (w *walk) open(array bool, expect grammar, inner field) bool {
	if len(w.levels) == fhir.MaxDepth {
		return w.fail(fhir.ErrTooDeep)
	}
	w.levels = append(w.levels, level{w.at, array})
	w.fields = append(w.fields, inner)
	w.at++
	w.end = w.at
	w.kind, w.expect = opened, expect
	return true
}

func (w *walk) close(c byte) bool {
	n := len(w.levels) - 1
	top := w.levels[n]
	if c != '}' && c != ']' || top.array != (c == ']') {
		return w.fail(errSyntax)
	}
	w.at++
	w.levels, w.fields = w.levels[:n], w.fields[:n+1]
	w.kind, w.depth, w.start, w.end, w.isText, w.expect =
		closed, n, top.start, w.at, false, separator
	return true
}

// isLiteral reports whether a byte may be part of a number, true, false or null.
func isLiteral(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-' || c == '+' || c == '.' ||
		c == 'E'
}

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// textEnd returns the end of the text whose opening quote is at from; -1 if it has none. It
// reads 16 bytes at a time. Most texts are shorter, so the branch predictor rarely has to guess
// where they end.
func textEnd(src []byte, from int) (end int, escaped bool) {
	for i := from + 1; ; {
		for ; i+16 <= len(src); i += 16 {
			low, high := special(src[i:]), special(src[i+8:])
			if low|high == 0 {
				continue
			}
			if low == 0 {
				low, i = high, i+8
			}
			i += bits.TrailingZeros64(low) >> 3
			break
		}
		for i < len(src) && src[i] != '"' && src[i] != '\\' {
			i++
		}
		if i >= len(src) {
			return -1, escaped
		}
		if src[i] == '"' {
			return i + 1, escaped
		}
		escaped = true
		i += 2
	}
}

// marks are properties of a text that decide whether it needs a closer look.
type marks uint8

const (
	endMark     marks = 1 << iota // a quote or a backslash
	outOfIDMark                   // a byte that does not occur in ids
	pointMark
	slashMark
	percentMark
	disguiseMark // the beginning of a character reference, or a non-ASCII byte
	binaryMark   // a byte in every text that mentions a Binary, see mentionsBinary
)

// markOf maps each byte to its marks.
var markOf = func() (of [256]marks) {
	for c := range of {
		if !fhir.ValidID([]byte{byte(c)}) {
			of[c] = outOfIDMark
		}
	}
	of['"'] |= endMark
	of['\\'] |= endMark
	of['.'] |= pointMark
	of['/'] |= slashMark
	of['%'] |= percentMark
	of['&'] |= disguiseMark
	for c := utf8.RuneSelf; c < len(of); c++ {
		of[c] |= disguiseMark
	}
	for _, c := range []byte("yY=") {
		of[c] |= binaryMark
	}
	return of
}()

// readText reads a text whose first byte is at from. It returns the position of the closing
// quote and the text's marks. end is -1 if the text has escapes or does not end.
func readText(src []byte, from int) (end int, all marks) {
	at := from
	for ; at+8 <= len(src); at += 8 {
		b := src[at : at+8]
		some := markOf[b[0]] | markOf[b[1]] | markOf[b[2]] | markOf[b[3]] |
			markOf[b[4]] | markOf[b[5]] | markOf[b[6]] | markOf[b[7]]
		if some&endMark != 0 {
			break
		}
		all |= some
	}
	for ; at < len(src); at++ {
		m := markOf[src[at]]
		if m&endMark != 0 {
			break
		}
		all |= m
	}
	if at >= len(src) || src[at] != '"' {
		return -1, all
	}
	return at, all
}

// special returns a word whose lowest high bit marks the first of eight bytes that is a quote or
// a backslash.
func special(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)
	quote, slash := x^('"'*eachByte), x^('\\'*eachByte)
	return zeroByte(quote) | zeroByte(slash)
}

// identify reads the type and id of a resource. If one is repeated, the last one counts.
func (w *walk) identify(line []byte) (typ, id []byte, err error) {
	for w.reset(line); w.next(); {
		switch {
		case w.depth != 1 || !w.isText:
		case string(w.key()) == resourceType:
			typ = w.text()
		case string(w.key()) == "id":
			id = w.text()
		}
	}
	return typ, id, w.err
}

// key returns the name of the field that contains the value.
func (w *walk) key() []byte { return w.fields[w.depth].name }

// keyAt returns the name at an outer depth: keyAt(1) is the field of the resource that contains
// the value.
func (w *walk) keyAt(depth int) []byte {
	if depth > w.depth {
		return nil
	}
	return w.fields[depth].name
}

// fieldStart returns where the value's field begins; -1 for an element of an array.
func (w *walk) fieldStart() int { return w.fields[w.depth].at }

// text returns the current text without quotes and escapes. It may share memory with the line.
func (w *walk) text() []byte {
	if w.escaped {
		return fhir.Unquote(w.src[w.start:w.end])
	}
	return w.src[w.start+1 : w.end-1]
}

// appendPath appends the names from the top to the value, joined by dots:
// participant.actor.reference.
func (w *walk) appendPath(dst []byte) []byte {
	from := len(dst)
	for d := 1; d <= w.depth; d++ {
		f := &w.fields[d]
		if f.at < 0 { // an element of an array, which already has a name
			continue
		}
		if len(dst) > from {
			dst = append(dst, '.')
		}
		dst = append(dst, f.name...)
	}
	return dst
}
