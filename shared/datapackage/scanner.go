package datapackage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Scanner splits the files of a table into rows without changing a byte. It reads no more than
// a row ahead. A byte order mark, empty lines and comments are no rows, and are skipped.
type Scanner struct {
	r       io.Reader
	g       *grammar
	codec   *Codec
	max     int
	buf     []byte
	from    int // where what was not returned yet begins in buf
	readErr error

	mark         []byte
	started      bool
	header       bool // the header was read
	row          int
	line         int // where the last row began
	next         int // where the next row begins
	unterminated bool
}

// NewScanner makes a scanner of a table's file; the dialect nil is the default. A row must have
// at most maxRow bytes. It fails if the dialect is ambiguous or the encoding is unknown.
//
// In UTF-16, as in all encodings, rows are the bytes of the file. The file must have the byte
// order that the encoding says; utf-16 means utf-16le.
func NewScanner(r io.Reader, d *Dialect, encoding string, maxRow int) (*Scanner, error) {
	g, err := newGrammar(d, encoding)
	if err != nil {
		return nil, err
	}
	return &Scanner{r: r, g: g, codec: &Codec{g: g}, max: maxRow, next: 1}, nil
}

// RowError is a row that cannot be read. The scanner goes on after it.
type RowError struct {
	Row, Line int // as Scanner.Row and Scanner.Line
	Problem   string
}

// ErrNoHeader means that a file is empty although the dialect says that it has a header.
var ErrNoHeader = errors.New("is empty: the header is missing")

func (e *RowError) Error() string {
	return fmt.Sprintf("line %d (row %d): %s", e.Line, e.Row, e.Problem)
}

// Next returns the next row with its line terminator. It is valid until the next call. At the
// end it returns io.EOF.
//
// A quote that is not closed within maxRow bytes, or at all, is a *RowError with the line where
// it begins, and Next goes on after that line. A row that is too long is a *RowError, too, and
// Next goes on after it. Other errors are those of the reader.
func (s *Scanner) Next() ([]byte, error) {
	if err := s.start(); err != nil {
		return nil, err
	}
	if s.g.header && !s.header {
		s.header = true
		if _, err := s.scan(); err != nil {
			return nil, err
		}
	}
	s.row++
	row, err := s.scan()
	if err == io.EOF {
		s.row--
	}
	return row, err
}

// ReadHeader returns the names of the columns in the header. It is called before Next, which
// skips the header otherwise, and returns nil if the dialect has no header. An empty file is
// ErrNoHeader.
func (s *Scanner) ReadHeader() ([]string, error) {
	if err := s.start(); err != nil || !s.g.header {
		return nil, err
	}
	s.header = true
	row, err := s.scan()
	if err == io.EOF {
		err = ErrNoHeader
	}
	if err != nil {
		return nil, err
	}
	values, err := s.codec.Fields(row, nil)
	if err != nil {
		return nil, &RowError{Line: s.line, Problem: err.Error()}
	}
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return names, nil
}

// Row returns the number of the last row. It counts from 1, without the header; 0 is the header.
func (s *Scanner) Row() int { return s.row }

// Line returns the number of the line where the last row began. It counts from 1.
func (s *Scanner) Line() int { return s.line }

// Mark returns the byte order mark that the file began with, or nil.
func (s *Scanner) Mark() []byte { return s.mark }

// Unterminated reports whether the last row came without a line terminator, as the last row of
// a file may. Codec.Terminator returns what it lacks.
func (s *Scanner) Unterminated() bool { return s.unterminated }

// marks are byte order marks by encoding. No mark is the beginning of another.
var marks = []struct {
	encoding string
	mark     []byte
}{
	{"utf-8", []byte("\xef\xbb\xbf")},
	{"utf-16be", []byte("\xfe\xff")},
	{"utf-16le", []byte("\xff\xfe")},
}

// start skips the byte order mark.
func (s *Scanner) start() error {
	if s.started {
		return nil
	}
	for len(s.buf) < 3 && s.fill() {
	}
	s.started = true // an error of the reader comes after the rows before it
	for _, m := range marks {
		if !bytes.HasPrefix(s.buf, m.mark) {
			continue
		}
		if m.encoding == s.g.name {
			s.mark, s.from = m.mark, len(m.mark)
		} else if s.g.encoding == nil || s.g.unit == 2 || m.encoding == "utf-8" {
			return fmt.Errorf("the byte order mark says %s, but the descriptor says %s",
				m.encoding, s.g.name)
		}
	}
	return nil
}

// fill reads more. It returns false at the end and after an error.
func (s *Scanner) fill() bool {
	const chunk = 64 << 10
	if s.readErr != nil {
		return false
	}
	if s.from > 0 {
		s.buf = s.buf[:copy(s.buf, s.buf[s.from:])]
		s.from = 0
	}
	if cap(s.buf)-len(s.buf) < chunk/2 {
		grown := make([]byte, len(s.buf), max(2*cap(s.buf), chunk))
		copy(grown, s.buf)
		s.buf = grown
	}
	for range 100 { // as bufio: a reader that returns nothing again and again is broken
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		s.readErr = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	s.readErr = io.ErrNoProgress
	return false
}

// scan returns the next row that is neither empty nor a comment.
func (s *Scanner) scan() ([]byte, error) {
	for {
		line, unterminated := s.line, s.unterminated
		s.line, s.unterminated = s.next, false
		row, terminator, err := s.one()
		if err == io.EOF {
			s.line, s.unterminated = line, unterminated
		}
		if err != nil {
			return nil, err
		}
		s.next += s.lines(row)
		if len(row) > terminator && !s.isComment(row) {
			return row, nil
		}
	}
}

func (s *Scanner) isComment(row []byte) bool {
	return s.g.comment != nil && bytes.HasPrefix(row, s.g.comment)
}

// lines returns how many lines a row has.
func (s *Scanner) lines(row []byte) int {
	mark := s.g.lf
	if !s.g.lines && !bytes.Contains(s.g.terminator, s.g.lf) {
		mark = s.g.terminator
	}
	if s.g.unit == 1 {
		return bytes.Count(row, mark)
	}
	n := 0
	for i := s.g.index(row, mark); i >= 0; i = s.g.index(row, mark) {
		row = row[i+len(mark):]
		n++
	}
	return n
}

// one returns the next row or line and the length of its terminator.
func (s *Scanner) one() (row []byte, terminator int, err error) {
	for need := 1; ; {
		for len(s.buf)-s.from < need && s.fill() {
		}
		rest := s.buf[s.from:]
		all := len(rest) < need // of the file
		end, terminator, open := s.first(rest)
		switch {
		case end >= 0 && end <= s.max:
			s.from += end
			return rest[:end:end], terminator, nil
		case end > s.max || len(rest) > s.max:
			return nil, 0, s.tooLong(end, open)
		case all:
			row, err := s.last(rest, open)
			return row, 0, err
		}
		// Twice as much, so that a long row is not searched again for each piece of it.
		need = min(max(2*len(rest), 1), s.max+1)
	}
}

// first returns the length of the first row or comment, as grammar.row does.
func (s *Scanner) first(data []byte) (end, terminator int, open bool) {
	if !s.isComment(data) {
		return s.g.row(data)
	}
	mark := s.g.lineMark()
	if i := s.g.index(data, mark); i >= 0 {
		return i + len(mark), len(mark), false
	}
	return -1, 0, false
}

// tooLong skips a row that is longer than it may be.
func (s *Scanner) tooLong(end int, open bool) error {
	if open {
		s.skipLine()
		return s.problem(fmt.Sprintf("a quote is not closed within %d bytes", s.max))
	}
	if end < 0 {
		s.from += s.max / s.g.unit * s.g.unit
		s.skipLine()
	} else {
		s.next += s.lines(s.buf[s.from : s.from+end])
		s.from += end
	}
	return s.problem(fmt.Sprintf("the row has more than %d bytes", s.max))
}

func (s *Scanner) problem(text string) error {
	return &RowError{Row: s.row, Line: s.line, Problem: text}
}

// skipLine skips all up to the end of a line, whether it is quoted or not.
func (s *Scanner) skipLine() {
	mark := s.g.lineMark()
	for {
		rest := s.buf[s.from:]
		if i := s.g.index(rest, mark); i >= 0 {
			s.from += i + len(mark)
			break
		}
		if keep := len(mark) - 1; len(rest) > keep {
			s.from += (len(rest) - keep) / s.g.unit * s.g.unit
		}
		if !s.fill() {
			s.from = len(s.buf)
			break
		}
	}
	s.next++
}

// last returns what the file ends with, without a line terminator.
func (s *Scanner) last(rest []byte, open bool) ([]byte, error) {
	switch {
	case s.readErr != io.EOF:
		return nil, s.readErr
	case len(rest) == 0:
		return nil, io.EOF
	case open:
		s.skipLine()
		return nil, s.problem("a quote is not closed before the end of the file")
	}
	s.from = len(s.buf)
	s.unterminated = true
	return rest, nil
}
