package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"ehi-server/shared/fhir"
)

// scanner takes JSON apart value by value as it comes from a reader, and holds no more of it
// than the value at hand. It finds where values end; whether they are valid inside is for others
// to say. It is for one goroutine.
type scanner struct {
	r       io.Reader
	buf     []byte
	at, end int   // buf[at:end] is read and not yet taken
	line    int   // the line that at stands in, from 1
	taken   int64 // bytes before at
	most    int   // how large buf gets, unless a value needs more
	err     error // of r
}

// errSyntax says where a document stops being JSON.
type errSyntax struct {
	line int
	why  string
}

func (e errSyntax) Error() string { return "not valid JSON: " + e.why }

// errTooLarge is the error of a value that was skipped.
var errTooLarge = errors.New("value too large")

// scannerBytes is how much a scanner reads at once.
const scannerBytes = 64 << 10

// more reads on, keeping buf[at:], and reports whether anything came.
func (s *scanner) more() bool {
	if s.err != nil {
		return false
	}
	held := s.buf[s.at:s.end]
	switch {
	case len(held) > 0 && len(held) >= cap(s.buf)-scannerBytes/2:
		size := max(len(held)+scannerBytes, min(2*len(held)+scannerBytes, s.most))
		s.buf = append(make([]byte, 0, size), held...)
	case len(held) == 0 && cap(s.buf) > 16*scannerBytes, s.buf == nil: // a large value has gone
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

// take moves on by n bytes.
func (s *scanner) take(n int) {
	s.line += bytes.Count(s.buf[s.at:s.at+n], []byte{'\n'})
	s.at += n
	s.taken += int64(n)
}

// peek skips white space and returns the byte that comes next; io.EOF where none does.
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

// begin skips what may stand before a document, and returns the byte that comes next; io.EOF
// where none does.
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

// opens reports whether a document is written in several lines: its first one is a bracket
// alone. A line of NDJSON never is.
func (s *scanner) opens() bool {
	for s.end-s.at < 3 && s.more() {
	}
	line, _, _ := bytes.Cut(s.buf[s.at:s.end], []byte{'\n'})
	line = bytes.TrimSuffix(line, []byte{'\r'})
	return len(line) == 1 && (line[0] == '{' || line[0] == '[')
}

// rest reads what is not yet taken. The scanner is not used any more then.
func (s *scanner) rest() io.Reader {
	held := bytes.NewReader(s.buf[s.at:s.end])
	if s.r == nil {
		return held
	}
	return io.MultiReader(held, s.r)
}

// next takes one byte behind white space, which has to be one of want.
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

// broken is the error of a document that ends within.
func (s *scanner) broken(err error) error {
	if errors.Is(err, io.EOF) {
		return errSyntax{s.line, "unexpected end of JSON input"}
	}
	return err
}

// value takes the next value, and says in which line it begins. The bytes are valid until the
// next call; none come where skip is set. Errors: errTooLarge for one of more than limit bytes,
// behind which it goes on; errSyntax; those of the reader.
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

// text takes a string; any other value gives "".
func (s *scanner) text() (string, error) {
	raw, _, err := s.value(maxName, false)
	if errors.Is(err, errTooLarge) {
		err = nil
	}
	return string(fhir.Unquote(raw)), err
}

// fields takes an object apart: visit is called with each field's name while its value comes
// next, and takes that value.
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

// elements takes an array apart: visit takes each element.
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

// extent finds the end of a value that comes in pieces.
type extent struct {
	scalar  bool   // a number or word: what follows ends it
	quoted  bool   // within a string
	escaped bool   // behind a backslash
	open    []byte // the brackets that are open
	bad     string
}

// scan looks at the next piece: used bytes of it belong to the value, which is done or goes on
// in another piece.
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

// textWindow bounds how far endOfText looks for a quote at once, so that a long string full of
// escapes costs no more than its length.
const textWindow = 1 << 10

// endOfText finds the next quote or backslash of a string; len(p) where it has none.
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
