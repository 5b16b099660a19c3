package datapackage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/datapackage"
)

// dialects are those that systems write, and strange ones.
func dialects() map[string]*datapackage.Dialect {
	return map[string]*datapackage.Dialect{
		"default":     nil,
		"tsv":         {Delimiter: "\t", LineTerminator: "\n"},
		"unquoted":    {Delimiter: "\t", LineTerminator: "\n", QuoteChar: new(""), EscapeChar: `\`},
		"escaped":     {Delimiter: ";", DoubleQuote: new(false), EscapeChar: `\`},
		"both":        {Delimiter: "|", EscapeChar: `\`, NullSequence: `\N`},
		"apostrophe":  {QuoteChar: new("'"), Header: new(false), CommentChar: "#"},
		"spaces":      {Delimiter: ",", SkipInitialSpace: true, CommentChar: "//"},
		"mac":         {LineTerminator: "\r"},
		"long":        {Delimiter: "||", LineTerminator: "~~\n", NullSequence: "NULL"},
		"separators":  {Delimiter: "\x1f", LineTerminator: "\x1e"},
		"same escape": {EscapeChar: `"`},
		"not ASCII":   {Delimiter: "¦", QuoteChar: new("«")},
	}
}

func table(d *datapackage.Dialect, encoding string, fields ...string) *datapackage.Resource {
	r := &datapackage.Resource{Name: "t", Dialect: d, Encoding: encoding}
	for _, name := range fields {
		r.Fields.Fields = append(r.Fields.Fields, datapackage.Field{Name: name})
	}
	return r
}

func codec(t testing.TB, r *datapackage.Resource) *datapackage.Codec {
	t.Helper()
	c, err := datapackage.NewCodec(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// scanned returns all rows of a file.
func scanned(s *datapackage.Scanner) (rows []string, err error) {
	for {
		row, err := s.Next()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows = append(rows, string(row))
	}
}

// What Append writes comes back as the same rows, bytes and values, in every dialect and
// encoding, whatever the values are and however the reader cuts them.
func TestRowsComeBackAsTheyWereWritten(t *testing.T) {
	encodings := map[string]string{
		"utf-8":        `ab01 ,;|"'\«¦#/~é√日NUL` + "\t\r\n\x1e\x1f\ufeff",
		"windows-1252": `ab01 ,;|"'\«¦#/~éNUL` + "\t\r\n\x1e\x1f",
		"utf-16le":     `ab01 ,;|"'\«¦#/~é√日∀NUL` + "\t\r\n\x1e\x1f\U0001f600\u0a00\u000a",
		"utf-16be":     `ab01 ,;|"'\«¦#/~é√日NUL` + "\t\r\n\x1e\x1f\u0a0d",
		"shift_jis":    `ab01 ,;"'日本表ソNUL` + "\t\r\n",
	}
	for name, d := range dialects() {
		for encoding, alphabet := range encodings {
			if encoding == "shift_jis" && name != "default" && name != "tsv" {
				continue
			}
			t.Run(name+"/"+encoding, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) { roundTrip(t, d, encoding, []rune(alphabet)) })
			})
		}
	}
}

func roundTrip(t *rapid.T, d *datapackage.Dialect, encoding string, alphabet []rune) {
	least := 1
	if d != nil && d.QuoteChar != nil && *d.QuoteChar == "" {
		least = 2 // one empty value would be an empty line
	}
	width := rapid.IntRange(least, 4).Draw(t, "width")
	c, err := datapackage.NewCodec(table(d, encoding, []string{"a", "b", "c", "d"}[:width]...))
	if err != nil {
		t.Fatal(err)
	}
	values := rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom(alphabet), 0, 5, -1), width, width)
	table := rapid.SliceOfN(values, 1, 6).Draw(t, "values")
	file := c.Header(nil)
	var rows []string
	for _, v := range table {
		row := c.Append([]byte("x"), v...)[1:]
		if err := c.CheckLineEnds(row); err != nil {
			t.Errorf("%q: %v", row, err)
		}
		rows = append(rows, string(row))
		file = append(file, row...)
	}
	var in io.Reader = bytes.NewReader(file)
	if rapid.Bool().Draw(t, "byte by byte") {
		in = iotest.OneByteReader(in)
	}
	s, err := datapackage.NewScanner(in, d, encoding, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	names, err := s.ReadHeader()
	if err != nil || names != nil && c.CheckHeader(names) != nil {
		t.Fatal(names, err)
	}
	got, err := scanned(s)
	if err != nil {
		t.Fatalf("%q: %v", file, err)
	}
	if diff := cmp.Diff(rows, got); diff != "" {
		t.Fatal(diff)
	}
	var split []string
	for row := range c.Rows([]byte(strings.Join(rows, ""))) {
		split = append(split, string(row))
	}
	if diff := cmp.Diff(rows, split); diff != "" {
		t.Fatal(diff)
	}
	for i, row := range rows {
		read, err := c.Fields([]byte(row), nil)
		if err != nil {
			t.Fatalf("%q: %v", row, err)
		}
		var texts []string
		for _, v := range read {
			if v == nil {
				t.Fatalf("%q has a null", row)
			}
			texts = append(texts, string(v))
		}
		if diff := cmp.Diff(table[i], texts); diff != "" {
			t.Fatalf("%q: %s", row, diff)
		}
	}
}

func TestRowsOfAFile(t *testing.T) {
	cases := map[string]struct {
		dialect  *datapackage.Dialect
		encoding string
		file     string
		header   []string
		rows     []string
	}{
		"all line ends": {
			file: "a,b\n1,2\r\n3,4\n5,6", header: []string{"a", "b"},
			rows: []string{"1,2\r\n", "3,4\n", "5,6"},
		},
		"a carriage return within a value": {
			file: "a\nx\ry\n", header: []string{"a"}, rows: []string{"x\ry\n"},
		},
		"a byte order mark": {
			file: "\ufeffa\n1\n", header: []string{"a"}, rows: []string{"1\n"},
		},
		"UTF-16 with a byte order mark": {
			encoding: "utf-16", file: "\xff\xfea\x00\n\x00\n\x0a\n\x00",
			header: []string{"a"}, rows: []string{"\n\x0a\n\x00"},
		},
		"line ends and delimiters in quotes": {
			file: "a,b\n\"1\n,\r\n\",\"2\"\"\n\"\n3,4\n", header: []string{"a", "b"},
			rows: []string{"\"1\n,\r\n\",\"2\"\"\n\"\n", "3,4\n"},
		},
		"a quote within a value": {
			file: "a,b\n5\" nail,1\n3,\"x\"y\"\n", header: []string{"a", "b"},
			rows: []string{"5\" nail,1\n", "3,\"x\"y\"\n"},
		},
		"empty lines and comments": {
			dialect: &datapackage.Dialect{CommentChar: "#"},
			file:    "#\"x\na\n\n1\n# \"y\n\r\n2\n\n", header: []string{"a"},
			rows: []string{"1\n", "2\n"},
		},
		"no header": {
			dialect: &datapackage.Dialect{Header: new(false)}, file: "1\n2\n",
			rows: []string{"1\n", "2\n"},
		},
		"escaped line ends": {
			dialect: &datapackage.Dialect{EscapeChar: `\`, QuoteChar: new("")},
			file:    "a,b\n1\\\n,2\\,\n3,4\\\\\n", header: []string{"a", "b"},
			rows: []string{"1\\\n,2\\,\n", "3,4\\\\\n"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := datapackage.NewScanner(strings.NewReader(c.file), c.dialect, c.encoding, 99)
			if err != nil {
				t.Fatal(err)
			}
			header, err := s.ReadHeader()
			if err != nil {
				t.Fatal(err)
			}
			rows, err := scanned(s)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.header, header); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.rows, rows); diff != "" {
				t.Error(diff)
			}
			last := c.rows[len(c.rows)-1]
			if s.Unterminated() != (last[len(last)-1] != '\n' && c.encoding == "") {
				t.Error("Unterminated is wrong")
			}
		})
	}
}

// A carriage return within a row must be quoted, unless the dialect ends rows with something else.
func TestACarriageReturnWithinARowMustBeQuoted(t *testing.T) {
	unquoted := &datapackage.Dialect{QuoteChar: new(""), EscapeChar: `\`}
	for _, c := range []struct {
		dialect  *datapackage.Dialect
		encoding string
		row      string
		value    int // that has one; 0 for none
	}{
		{nil, "", "1,2\n", 0},
		{nil, "", "1,2\r\n", 0},
		{nil, "", "1,2", 0},
		{nil, "", "\"1\r\",\"\r\n2\r\"\r\n", 0},
		{nil, "", "\"1\"\"\r\",2\n", 0},
		{nil, "", "1\r,2\n", 1},
		{nil, "", "1,\r2\n", 2},
		{nil, "", "1,2\r\r\n", 2},
		{nil, "", "1,2\r", 2},
		{nil, "", "\"\r\"\r,2\n", 1},
		{nil, "utf-16le", "1\x00,\x00\r\x002\x00\n\x00", 2},
		{nil, "utf-16le", "1\x00,\x00\x00\r2\x00\r\x00\n\x00", 0}, // U+0D00
		{unquoted, "", "1\\\r,2\n", 0},
		{unquoted, "", "1\\\\\r,2\n", 1},
		{unquoted, "", "\"1\r\",2\n", 1},
		{&datapackage.Dialect{LineTerminator: "\r"}, "", "1,2\r", 0},
		{&datapackage.Dialect{LineTerminator: "|"}, "", "1\r,2|", 0},
	} {
		codec, err := datapackage.NewCodec(table(c.dialect, c.encoding, "a", "b"))
		if err != nil {
			t.Fatal(err)
		}
		err = codec.CheckLineEnds([]byte(c.row))
		want := fmt.Sprintf("value %d: a carriage return must be quoted", c.value)
		if (err != nil) != (c.value > 0) || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want value %d", c.row, err, c.value)
		}
	}
}

func TestRowsAndLinesAreCounted(t *testing.T) {
	file := "a\n1\n\"2\n2\"\n\n4\n"
	s, err := datapackage.NewScanner(strings.NewReader(file), nil, "", 99)
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]int
	for {
		if _, err := s.Next(); err != nil {
			break
		}
		got = append(got, [2]int{s.Row(), s.Line()})
	}
	if diff := cmp.Diff([][2]int{{1, 2}, {2, 3}, {3, 6}}, got); diff != "" {
		t.Error(diff)
	}
}

// A quote that nobody closes costs its line, not the rest of the file.
func TestScanningGoesOnAfterRowsThatCannotBeRead(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct {
		file   string
		max    int
		rows   []string
		errors []string
	}{
		"a quote to the end of the file": {
			"a,b\n1,\"2\n3,4\n5,6\n", 1000, []string{"3,4\n", "5,6\n"},
			[]string{"line 2 (row 1): a quote is not closed before the end of the file"},
		},
		"a quote that is open for long": {
			"a,b\n1,\"2\n3,4\n5," + long + "\n6,7\n", 1000, []string{"3,4\n", "6,7\n"},
			[]string{
				"line 2 (row 1): a quote is not closed within 1000 bytes",
				"line 4 (row 3): the row has more than 1000 bytes",
			},
		},
		"an endless line with a quote": {
			"a\n\"" + long + "\nx\n", 1000, []string{"x\n"},
			[]string{"line 2 (row 1): a quote is not closed within 1000 bytes"},
		},
		"a row that ends within the buffer": {
			"a\n" + long[:3000] + "\nx\n", 1000, []string{"x\n"},
			[]string{"line 2 (row 1): the row has more than 1000 bytes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := datapackage.NewScanner(strings.NewReader(c.file), nil, "", c.max)
			if err != nil {
				t.Fatal(err)
			}
			var rows, problems []string
			for {
				row, err := s.Next()
				if err == io.EOF {
					break
				}
				if _, ok := errors.AsType[*datapackage.RowError](err); ok {
					problems = append(problems, err.Error())
				} else if err != nil {
					t.Fatal(err)
				} else {
					rows = append(rows, string(row))
				}
			}
			if diff := cmp.Diff(c.rows, rows); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.errors, problems); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScannersRefuseAFileInAnotherEncoding(t *testing.T) {
	for encoding, file := range map[string]string{
		"utf-8": "\xff\xfea\x00", "utf-16": "\xfe\xff\x00a", "windows-1252": "\ufeffa",
	} {
		s, err := datapackage.NewScanner(strings.NewReader(file), nil, encoding, 99)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(); err == nil || !strings.Contains(err.Error(), "byte order mark") {
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

func TestScannersReturnTheErrorOfTheReader(t *testing.T) {
	broken := errors.New("the disk is gone")
	in := io.MultiReader(strings.NewReader("a\n1\n2"), iotest.ErrReader(broken))
	s, err := datapackage.NewScanner(in, nil, "", 99)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := scanned(s)
	if !errors.Is(err, broken) || !slices.Equal(rows, []string{"1\n"}) {
		t.Errorf("%q, %v", rows, err)
	}
}

// A header ends as the row after it does, also within a value of which a line ends otherwise.
func TestAHeaderEndsAsItsRows(t *testing.T) {
	utf16 := func(s string) string {
		var out []byte
		for _, r := range s {
			out = append(out, byte(r), 0)
		}
		return string(out)
	}
	for _, c := range []struct {
		dialect              datapackage.Dialect
		encoding, rows, want string
	}{
		{want: "a,b\r\n"},
		{rows: "1,2\n", want: "a,b\n"},
		{rows: "1,2\r\n3,4\n", want: "a,b\r\n"},
		{rows: "\"1\r\n\",2\n3,4\r\n", want: "a,b\n"},
		{rows: "1,2", want: "a,b\r\n"},
		{dialect: datapackage.Dialect{LineTerminator: "\n"}, want: "a,b\n"},
		{dialect: datapackage.Dialect{LineTerminator: "\n"}, rows: "1,2\r\n", want: "a,b\r\n"},
		{dialect: datapackage.Dialect{LineTerminator: "|"}, rows: "1,2|", want: "a,b|"},
		{dialect: datapackage.Dialect{Header: new(bool)}, rows: "1,2\n", want: ""},
		{encoding: "utf-16le", rows: utf16("1,2\n"), want: utf16("a,b\n")},
		{encoding: "utf-16le", rows: utf16("1,2\r\n"), want: utf16("a,b\r\n")},
	} {
		codec, err := datapackage.NewCodec(&datapackage.Resource{
			Name: "t", Dialect: &c.dialect, Encoding: c.encoding, Fields: datapackage.Schema{
				Fields: []datapackage.Field{{Name: "a"}, {Name: "b"}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(codec.Header([]byte(c.rows))); got != c.want {
			t.Errorf("before %q the header is %q, want %q", c.rows, got, c.want)
		}
	}
}

func TestNamesOfAnEncodingAreTheSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "UTF-8", true}, {"utf8", "utf-8", true}, {"utf-16", "UTF-16LE", true},
		{"utf-16", "utf-16be", false}, {"latin1", "ISO-8859-1", true}, {"", "latin1", false},
		{"sjis", "shift_jis", true}, {"latin1", "windows-1250", false}, {"x", "x", false},
	} {
		if got := datapackage.SameEncoding(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}

func TestDialectsThatCannotBeReadAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		dialect  datapackage.Dialect
		encoding string
		want     string
	}{
		"two quotes":          {datapackage.Dialect{QuoteChar: new("ab")}, "", "one character"},
		"quote as delimiter":  {datapackage.Dialect{Delimiter: `"`}, "", "must not be part"},
		"delimiter line end":  {datapackage.Dialect{Delimiter: "\n"}, "", "no line end"},
		"delimiter in escape": {datapackage.Dialect{EscapeChar: ","}, "", "must not be part"},
		"half a character":    {datapackage.Dialect{Delimiter: "|"}, "shift_jis", "can be part of"},
		"no such character":   {datapackage.Dialect{Delimiter: "√"}, "latin1", "cannot be"},
		"unknown encoding":    {datapackage.Dialect{}, "klingon", "unknown"},
		"changing encoding":   {datapackage.Dialect{}, "iso-2022-jp", "not supported"},
	} {
		_, err := datapackage.NewCodec(table(&c.dialect, c.encoding, "a"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNullsAreNoTexts(t *testing.T) {
	c := codec(t, table(&datapackage.Dialect{NullSequence: "NULL"}, "", "a", "b", "c"))
	values, err := c.Fields([]byte("NULL,,\"NULL\"\r\n"), nil)
	if err != nil || values[0] != nil || values[1] == nil || string(values[2]) != "NULL" {
		t.Errorf("%q %v", values, err)
	}
	if !c.Missing(0, values[0]) || !c.Missing(1, values[1]) || c.Missing(2, values[2]) {
		t.Error("another value is missing")
	}
}

// Cells that spreadsheets would execute come and go as they are.
func TestFormulasStayAsTheyCame(t *testing.T) {
	c := codec(t, table(nil, "", "a", "b"))
	const row = "=1+2,\"@SUM(A1,A2)\"\r\n"
	values, err := c.Fields([]byte(row), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.Append(nil, string(values[0]), string(values[1]))); got != row {
		t.Errorf("got %q", got)
	}
}

func TestCharactersThatCannotBeWrittenAreReplaced(t *testing.T) {
	bare := &datapackage.Dialect{QuoteChar: new(""), LineTerminator: "\n"}
	c := codec(t, table(bare, "", "a", "b"))
	if got := string(c.Append(nil, "1,2", "3\n")); got != "1 2,3 \n" {
		t.Errorf("got %q", got)
	}
	c = codec(t, table(nil, "latin1", "a"))
	if got := string(c.Append(nil, "é√")); got != "\xe9?\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestPlainRowsAreReadWithoutAllocations(t *testing.T) {
	c := codec(t, table(nil, "", "a", "b", "c"))
	row := []byte("1,2,3\r\n")
	into := make([][]byte, 0, 3)
	if n := testing.AllocsPerRun(100, func() { into, _ = c.Fields(row, into) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzScanner holds that all bytes of a file come back, but for what is no row.
func FuzzScanner(f *testing.F) {
	f.Add("a,b\n1,\"2\n\"\n", 0, 50)
	f.Add("a\n\"1", 3, 10)
	names := []string{}
	for name := range dialects() {
		names = append(names, name)
	}
	slices.Sort(names)
	encodings := []string{"", "utf-16", "windows-1252"}
	f.Fuzz(func(t *testing.T, file string, which, maxRow int) {
		which, maxRow = which&0xfff, maxRow&0xff+1
		d, encoding := dialects()[names[which%len(names)]], encodings[which%3]
		s, err := datapackage.NewScanner(strings.NewReader(file), d, encoding, maxRow)
		if err != nil {
			t.Fatal(err)
		}
		c := codec(t, table(d, encoding, "a", "b"))
		size := 0
		for {
			row, err := s.Next()
			if _, ok := errors.AsType[*datapackage.RowError](err); ok {
				continue
			}
			if err != nil {
				break
			}
			if size += len(row); size > len(file) || !strings.Contains(file, string(row)) {
				t.Fatalf("%q is not in %q", row, file)
			}
			whole := bytes.Clone(row)
			n := 0
			for part := range c.Rows(whole) {
				if n++; !bytes.Equal(part, whole) {
					t.Fatalf("Rows gives %q of %q", part, whole)
				}
			}
			values, err := c.Fields(whole, nil)
			if err != nil || len(values) == 0 {
				t.Fatalf("%q: %v", whole, err)
			}
			_ = c.Check(values)
		}
	})
}
