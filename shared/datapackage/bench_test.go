package datapackage_test

import (
	"bytes"
	"strings"
	"testing"

	"ehi-server/shared/datapackage"
)

// rowsOf100 returns a megabyte of rows with 100 bytes each.
func rowsOf100(quote string) []byte {
	row := "1234567,2026-01-31,A10.1," + quote + strings.Repeat("x", 20) + quote + ",12.5,mg,"
	row += strings.Repeat("y", 98-len(row)) + "\r\n"
	return bytes.Repeat([]byte(row), 10_000)
}

func BenchmarkRows(b *testing.B) {
	for name, data := range map[string][]byte{"plain": rowsOf100(""), "quoted": rowsOf100(`"`)} {
		c := codec(b, table(nil, "", "a"))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				n := 0
				for range c.Rows(data) {
					n++
				}
				if n != 10_000 {
					b.Fatal(n)
				}
			}
		})
		b.Run(name+"/fields", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var into [][]byte
			for b.Loop() {
				for row := range c.Rows(data) {
					into, _ = c.Fields(row, into)
				}
			}
		})
		b.Run(name+"/scanner", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				s, err := datapackage.NewScanner(bytes.NewReader(data), nil, "", 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = s.Next()
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	c := codec(b, table(nil, "", "a"))
	values := []string{"1234567", "2026-01-31", "A10.1", strings.Repeat("x", 70)}
	var row []byte
	for b.Loop() {
		row = c.Append(row[:0], values...)
		b.SetBytes(int64(len(row)))
	}
}

// BenchmarkCheck checks the values of a row of 100 bytes with types.
func BenchmarkCheck(b *testing.B) {
	r := table(nil, "", "id", "date", "code", "text", "dose", "unit", "more")
	for i, kind := range []string{"integer", "date", "string", "string", "number"} {
		r.Fields.Fields[i].Type = kind
	}
	c := codec(b, r)
	row := rowsOf100("")[:100]
	values, err := c.Fields(row, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Check(values); err != nil {
			b.Fatal(err)
		}
	}
}
