package verify

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"ehi-server/shared/datapackage"
)

// maxRow is the longest row that is read of a table with an unusual dialect, in bytes.
const maxRow = 64 << 20

// rowReader reads the rows of a table.
type rowReader interface {
	// header returns the names of the columns; nil if the table has none.
	header() ([]string, error)
	// next returns the values of the next row, until io.EOF. nil stands for no value.
	next() ([][]byte, error)
}

// newRowReader returns a reader of the dialect of a table.
func newRowReader(r io.Reader, t *datapackage.Resource, codec *datapackage.Codec) (
	rowReader, error,
) {
	d := t.Dialect
	if d == nil {
		d = &datapackage.Dialect{}
	}
	if !usual(d, t.Encoding) {
		s, err := datapackage.NewScanner(r, d, t.Encoding, maxRow)
		return &scanned{Scanner: s, codec: codec}, err
	}
	return &separated{
		from:      bufio.NewReaderSize(r, 64<<10),
		delimiter: cmp.Or(d.Delimiter, ",")[0],
		headed:    d.Header == nil || *d.Header,
	}, nil
}

// usual reports whether a dialect is that of RFC 4180, but for the delimiter.
func usual(d *datapackage.Dialect, encoding string) bool {
	encoding = strings.ToLower(encoding)
	return (encoding == "" || encoding == "utf-8") && len(d.Delimiter) <= 1 &&
		(d.LineTerminator == "" || d.LineTerminator == "\n" || d.LineTerminator == "\r\n") &&
		(d.QuoteChar == nil || *d.QuoteChar == `"`) && (d.DoubleQuote == nil || *d.DoubleQuote) &&
		d.EscapeChar == "" && d.NullSequence == "" && d.CommentChar == "" && !d.SkipInitialSpace
}

// separated reads rows of values between delimiters. A value that begins with a quote ends with
// one; two quotes in it are one. Every row ends with a line end.
type separated struct {
	from      *bufio.Reader
	delimiter byte
	headed    bool

	text   []byte // the values of a row, one after the other
	ends   []int  // of the values in text
	quoted bool   // within a value
	values [][]byte
}

func (s *separated) header() ([]string, error) {
	if !s.headed {
		return nil, nil
	}
	values, err := s.next()
	var names []string
	for _, v := range values {
		names = append(names, string(v))
	}
	return names, err
}

func (s *separated) next() ([][]byte, error) {
	s.text, s.ends, s.quoted = s.text[:0], s.ends[:0], false
	for begun := false; ; begun = true {
		line, err := s.from.ReadSlice('\n')
		var long []byte
		for errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			line, err = s.from.ReadSlice('\n')
		}
		if long != nil {
			line = append(long, line...)
		}
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0 && !begun:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, errors.New("a quote is not closed, or the last row has no line end")
		case err != nil:
			return nil, err
		}
		if s.line(line); !s.quoted {
			break
		}
	}
	s.values = s.values[:0]
	begin := 0
	for _, end := range s.ends {
		s.values = append(s.values, s.text[begin:end:end])
		begin = end
	}
	return s.values, nil
}

// line takes a line of a row. A row whose quotes are closed ends with it.
func (s *separated) line(line []byte) {
	begins := !s.quoted // a value
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case s.quoted && c == '"' && line[i+1] == '"': // a line end comes after every quote
			s.text = append(s.text, c)
			i++
		case s.quoted && c == '"':
			s.quoted = false
		case s.quoted:
			s.text = append(s.text, c)
		case begins && c == '"':
			s.quoted, begins = true, false
		case c == s.delimiter:
			s.ends, begins = append(s.ends, len(s.text)), true
		case c == '\n' || c == '\r' && i == len(line)-2:
			s.ends = append(s.ends, len(s.text))
			return
		default:
			s.text, begins = append(s.text, c), false
		}
	}
}

// scanned reads dialects that encoding/csv does not know.
type scanned struct {
	*datapackage.Scanner
	codec  *datapackage.Codec
	values [][]byte
}

func (s *scanned) header() ([]string, error) { return s.ReadHeader() }

func (s *scanned) next() ([][]byte, error) {
	row, err := s.Next()
	if err != nil {
		return nil, err
	}
	s.values, err = s.codec.Fields(row, s.values)
	return s.values, err
}

// table verifies the file of a table: its description, its header, and each row. Its keys become
// part of some keys.
func (n *Native) table(r io.Reader, t *datapackage.Resource, l Listed, into ...*keys) error {
	if fragment, ok := link(l.Description, l.Format); ok && fragment != "table-"+t.Name {
		return Wrongf("%s is the table %s, and its description links to %s", l.URL, t.Name,
			fragment)
	}
	codec, err := datapackage.NewCodec(t)
	if err != nil {
		return Wrongf("%s: %v", l.URL, err)
	}
	m := newMeasured(r)
	rows, err := newRowReader(m, t, codec)
	if err != nil {
		return Wrongf("%s: %v", l.URL, err)
	}
	names, err := rows.header()
	if err == nil && names != nil {
		err = codec.CheckHeader(names)
	}
	if err != nil {
		return Wrongf("%s: the header: %v", l.URL, err)
	}
	sum, err := n.rows(rows, t, codec, l.URL, into)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, m); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.content.Tables == nil {
		n.content.Tables = map[string]Tally{}
	}
	sum.Add(n.content.Tables[t.Name])
	n.content.Tables[t.Name] = sum
	return m.describedAs(t, l.URL)
}

// rows verifies the rows of a table.
func (n *Native) rows(
	rows rowReader, t *datapackage.Resource, codec *datapackage.Codec, at string, into []*keys,
) (sum Tally, err error) {
	var of []*tableKeys
	for _, k := range into {
		of = append(of, k.of(t, codec))
	}
	var row []byte
	for {
		values, err := rows.next()
		if errors.Is(err, io.EOF) {
			for i, k := range into {
				if err := k.add(of[i], at); err != nil {
					return sum, err
				}
			}
			return sum, nil
		}
		if err == nil {
			err = codec.Check(values)
		}
		for _, k := range of {
			if err == nil {
				err = k.row(values, sum.Lines+1)
			}
		}
		if err == nil {
			err = n.owner(t, values)
		}
		if err != nil {
			return sum, Wrongf("%s, row %d: %v", at, sum.Lines+1, err)
		}
		row = row[:0]
		for _, v := range values {
			row = append(binary.AppendUvarint(row, uint64(len(v))), v...)
		}
		sum.Lines++
		sum.Bytes += int64(len(row))
		sum.Sum.add(sha256.Sum256(row))
	}
}

// owner checks that a row whose patient it names belongs to the patient of the export.
func (n *Native) owner(t *datapackage.Resource, values [][]byte) error {
	if n.Patient == "" || len(t.Patient) != 1 || t.PatientSystem != "" {
		return nil
	}
	if who := values[t.Fields.Field(t.Patient[0])]; string(who) != n.Patient {
		return fmt.Errorf("it belongs to the patient %q", who)
	}
	return nil
}
