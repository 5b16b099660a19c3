package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"ehi-server/shared/fhir"
)

// scanner splits JSON from a reader into values and holds only the current one in memory. It
// finds the ends of values and does not validate their content. It is not safe for concurrent
// use.
type scanner struct {
	r       io.Reader
	buf     []byte
	at, end int   // buf[at:end] has been read and not consumed
	line    int   // line number at the offset at, from 1
	taken   int64 // bytes before at
	most    int   // maximum size of buf, unless a value needs more
	err     error // of r
}

// errSyntax is the position of a syntax error in a document.
type errSyntax struct {
	line int
	why  string
}

func (e errSyntax) Error() string { return "not valid JSON: " + e.why }

// errTooLarge is the error of a value that was skipped.
var errTooLarge = errors.New("value too large")

// scannerBytes is the size of a read.
const scannerBytes = 64 << 10

// more reads more data, keeping buf[at:], and reports whether there was any.
func (s *scanner) more() bool {
	if s.err != nil {
		return false
	}
	held := s.buf[s.at:s.end]
	switch {
	case len(held) > 0 && len(held) >= cap(s.buf)-scannerBytes/2:
		size := max(len(held)+scannerBytes, min(2*len(held)+scannerBytes, s.most))
		s.buf = append(make([]byte, 0, size), held...)
	// release the memory of a large value
	case len(held) == 0 && cap(s.buf) > 16*scannerBytes, s.buf == nil:
		s.buf = make([]byte, 0, scannerBytes)
	default:
		copy(s.buf[:cap(s.buf)], held)
	}
	s.at, s.end = 0, len(held)
	s.buf = s.buf[:cap(s.buf)]
	for s.err == nil {
		var n int
		n, s.err = s.r.Read(s.buf[s.end:])
		s.end += n
		if n > 0 {
			return true
		}
	}
	return false
}

// take consumes n bytes.
func (s *scanner) take(n int) {
	s.line += bytes.Count(s.buf[s.at:s.at+n], []byte{'\n'})
	s.at += n
	s.taken += int64(n)
}

// peek skips white space and returns the next byte, or io.EOF at the end.
func (s *scanner) peek() (byte, error) {
	for {
		for i, b := range s.buf[s.at:s.end] {
			if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
				s.take(i)
				return b, nil
			}
		}
		s.take(s.end - s.at)
		if !s.more() {
			return 0, s.err
		}
	}
}

// begin skips what may precede a document and returns the next byte, or io.EOF at the end.
func (s *scanner) begin() (byte, error) {
	for {
		b, err := s.peek()
		for b == fhir.BOM[0] && s.end-s.at < len(fhir.BOM) && s.more() {
		}
		if err != nil || !bytes.HasPrefix(s.buf[s.at:s.end], fhir.BOM) {
			return b, err
		}
		s.take(len(fhir.BOM))
	}
}

// opens reports whether a document spans several lines: its first line is a single bracket,
// which a line of NDJSON never is.
func (s *scanner) opens() bool {
	for s.end-s.at < 3 && s.more() {
	}
	line, _, _ := bytes.Cut(s.buf[s.at:s.end], []byte{'\n'})
	line = bytes.TrimSuffix(line, []byte{'\r'})
	return len(line) == 1 && (line[0] == '{' || line[0] == '[')
}

// rest returns a reader of the remaining data. The scanner must not be used afterwards.
func (s *scanner) rest() io.Reader {
	held := bytes.NewReader(s.buf[s.at:s.end])
	if s.r == nil {
		return held
	}
	return io.MultiReader(held, s.r)
}

// next consumes one byte after white space, which must be one of want.
func (s *scanner) next(want string) (byte, error) {
	b, err := s.peek()
	if err != nil {
		return 0, s.broken(err)
	}
	if bytes.IndexByte([]byte(want), b) < 0 {
		return 0, errSyntax{
			s.line,
			fmt.Sprintf("invalid character %q, where one of %s may stand", b, want),
		}
	}
	s.take(1)
	return b, nil
}

// broken returns the error of a document that ends prematurely.
func (s *scanner) broken(err error) error {
	if errors.Is(err, io.EOF) {
		return errSyntax{s.line, "unexpected end of JSON input"}
	}
	return err
}

// value returns the next value and its line number. The bytes are valid until the next call;
// with skip it returns none. Errors: errTooLarge for a value of more than limit bytes, after
// which the scan continues; errSyntax; those of the reader.
func (s *scanner) value(limit int64, skip bool) (raw []byte, line int, err error) {
	if _, err := s.peek(); err != nil {
		return nil, s.line, s.broken(err)
	}
	var e extent
	line, n, size := s.line, 0, int64(0)
	for {
		used, done := e.scan(s.buf[s.at+n : s.end])
		n += used
		size += int64(used)
		switch {
		case e.bad != "":
			return nil, line, errSyntax{
				s.line + bytes.Count(s.buf[s.at:s.at+n], []byte{'\n'}),
				e.bad,
			}
		case done:
			return s.taking(n, line, skip, size > limit)
		case skip || size > limit:
			s.take(n)
			n = 0
		}
		if s.more() {
			continue
		}
		if e.scalar && errors.Is(s.err, io.EOF) { // 12 and true end with the document
			return s.taking(n, line, skip, size > limit)
		}
		return nil, line, s.broken(s.err)
	}
}

func (s *scanner) taking(n, line int, skip, large bool) ([]byte, int, error) {
	raw := s.buf[s.at : s.at+n]
	s.take(n)
	switch {
	case skip:
		return nil, line, nil
	case large:
		return nil, line, errTooLarge
	}
	return raw, line, nil
}

// text returns a string, or "" for any other value.
func (s *scanner) text() (string, error) {
	raw, _, err := s.value(maxName, false)
	if errors.Is(err, errTooLarge) {
		err = nil
	}
	return string(fhir.Unquote(raw)), err
}

// fields splits an object. It calls visit with each field's name; visit consumes the value.
func (s *scanner) fields(visit func(name string) error) error {
	if _, err := s.next("{"); err != nil {
		return err
	}
	if b, err := s.peek(); err != nil || b == '}' {
		s.take(min(1, s.end-s.at))
		return s.ended(err)
	}
	for {
		if b, err := s.peek(); err != nil || b != '"' {
			_, err = s.next(`"`)
			return err
		}
		raw, _, err := s.value(maxName, false)
		if err != nil {
			return err
		}
		name := string(fhir.Unquote(raw))
		if _, err := s.next(":"); err != nil {
			return err
		}
		if err := visit(name); err != nil {
			return err
		}
		if b, err := s.next(",}"); err != nil || b == '}' {
			return err
		}
	}
}

// maxName is the longest name of a field, in bytes.
const maxName = 1 << 16

// elements splits an array. visit consumes each element.
func (s *scanner) elements(visit func() error) error {
	if _, err := s.next("["); err != nil {
		return err
	}
	if b, err := s.peek(); err != nil || b == ']' {
		s.take(min(1, s.end-s.at))
		return s.ended(err)
	}
	for {
		if err := visit(); err != nil {
			return err
		}
		if b, err := s.next(",]"); err != nil || b == ']' {
			return err
		}
	}
}

func (s *scanner) ended(err error) error {
	if err != nil {
		return s.broken(err)
	}
	return nil
}

// extent finds the end of a value that arrives in pieces.
type extent struct {
	scalar  bool   // a number or literal: the next token ends it
	quoted  bool   // within a string
	escaped bool   // after a backslash
	open    []byte // the open brackets
	bad     string
}

// scan processes the next piece. used bytes of it belong to the value. done reports whether the
// value ends there.
func (e *extent) scan(p []byte) (used int, done bool) {
	for i := 0; i < len(p); i++ {
		if e.escaped {
			e.escaped = false
			continue
		}
		if e.quoted {
			if i += endOfText(p[i:]); i == len(p) {
				return i, false
			}
			if p[i] == '\\' {
				e.escaped = true
				continue
			}
			e.quoted = false
			if len(e.open) == 0 {
				return i + 1, true
			}
			continue
		}
		switch b := p[i]; b {
		case '"':
			if e.scalar {
				return i, true
			}
			e.quoted = true
		case '{', '[':
			if e.scalar {
				return i, true
			}
			if len(e.open) == fhir.MaxDepth {
				e.bad = fhir.ErrTooDeep.Error()
				return i, false
			}
			e.open = append(e.open, b+2) // its closing bracket
		case '}', ']':
			if e.scalar {
				return i, true
			}
			if len(e.open) == 0 || e.open[len(e.open)-1] != b {
				e.bad = fmt.Sprintf("unexpected %q", b)
				return i, false
			}
			if e.open = e.open[:len(e.open)-1]; len(e.open) == 0 {
				return i + 1, true
			}
		case ' ', '\t', '\r', '\n', ',', ':':
			if e.scalar {
				return i, true
			}
			if len(e.open) == 0 {
				e.bad = fmt.Sprintf("unexpected %q", b)
				return i, false
			}
		default:
			e.scalar = len(e.open) == 0
		}
	}
	return len(p), false
}

// textWindow bounds each search of endOfText for a quote, so that a long string with many
// escapes takes linear time.
const textWindow = 1 << 10

// endOfText returns the offset of the next quote or backslash of a string, or len(p).
func endOfText(p []byte) (n int) {
	for n < len(p) {
		window := p[n:min(n+textWindow, len(p))]
		quote := bytes.IndexByte(window, '"')
		if quote >= 0 {
			window = window[:quote]
		}
		if slash := bytes.IndexByte(window, '\\'); slash >= 0 {
			return n + slash
		}
		n += len(window)
		if quote >= 0 {
			return n
		}
	}
	return n
}
