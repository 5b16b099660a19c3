package native

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// columnOf is a column with the type or system of what it holds.
type columnOf struct {
	at      int
	of      string
	field   *datapackage.Field
	missing []string // the texts that stand for no value; nil for the empty one alone
}

// missingOf returns columnOf.missing of a field.
func missingOf(t *datapackage.Resource, field *datapackage.Field) []string {
	if all := t.Fields.Missing(field); len(all) != 1 || all[0] != "" {
		return append([]string{}, all...)
	}
	return nil
}

// value returns the value of a row; nil if it has none.
func (c *columnOf) value(values [][]byte) []byte {
	v := valueAt(values, c.at)
	if c.missing == nil {
		if len(v) == 0 {
			return nil
		}
		return v
	}
	for _, missing := range c.missing {
		if string(v) == missing {
			return nil
		}
	}
	return v
}

// said appends to into[:0] what a value of the column says: itself, and its canonical form if it
// is a number, or each text and number in it if it is JSON.
func (c *columnOf) said(v []byte, into [][]byte) [][]byte {
	into = append(into[:0], v)
	switch c.field.Type {
	case "integer", "number":
		if !isPlainInteger(v) {
			into = append(into, []byte(c.field.Canonical(string(v))))
		}
	case "array", "object", "geojson":
		into = appendScalars(into, v)
	}
	return into
}

// isPlainInteger reports whether a value is empty or a canonical integer, as most are.
func isPlainInteger(v []byte) bool {
	if len(v) > 1 && v[0] == '0' {
		return false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// appendScalars appends the texts and numbers of JSON, and the names of members.
func appendScalars(into [][]byte, text []byte) [][]byte {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		switch token := token.(type) {
		case string:
			into = append(into, []byte(token))
		case json.Number:
			into = append(into, []byte(token))
		}
		if err != nil { // the end, or no JSON
			return into
		}
	}
}

// sensitiveColumn is a column with values that need an authorization.
type sensitiveColumn struct {
	columnOf
	values []string // as plain returns them; none means every value
	needs  ehi.Authorization
}

// needed reports whether a cell has one of the values. A value that is declared counts even if it
// stands for none.
func (c *sensitiveColumn) needed(values [][]byte, room [][]byte) bool {
	if len(c.values) == 0 {
		return len(c.value(values)) > 0
	}
	for _, text := range c.said(valueAt(values, c.at), room) {
		if c.has(string(text)) {
			return true
		}
		if c.isText() && bytes.ContainsAny(text, listed) &&
			slices.ContainsFunc(strings.FieldsFunc(string(text), isListed), c.has) {
			return true
		}
	}
	return false
}

func (c *sensitiveColumn) has(value string) bool {
	return slices.Contains(c.values, c.plain(value))
}

// isText reports whether the values of the column have no type with an order.
func (c *sensitiveColumn) isText() bool {
	switch c.field.Type {
	case "", "string", "any", "array", "object", "geojson":
		return true
	}
	return false
}

// listed are the characters between the values of a cell that is a list.
const listed = ";,|~^"

func isListed(r rune) bool { return strings.ContainsRune(listed, r) }

// plain returns the form in which values are compared: by their type, or as somebody reads them.
// Case, width, space and quotes around a value do not count, nor do characters that nobody sees.
func (c *sensitiveColumn) plain(value string) string {
	plain := strings.TrimSpace(value)
	if strings.ContainsFunc(plain, func(r rune) bool { return r >= 0x80 || isQuiet(r) }) {
		plain = strings.Map(func(r rune) rune {
			if isQuiet(r) {
				return -1
			}
			return r
		}, norm.NFKC.String(plain))
		plain = strings.TrimSpace(plain)
	}
	if !c.isText() {
		plain = c.field.Canonical(plain)
	}
	return strings.ToLower(plain)
}

// isQuiet reports whether a character is a quote, or one that nobody sees.
func isQuiet(r rune) bool {
	return strings.ContainsRune("\"'`´‘’‚“”„«»‹›", r) ||
		unicode.In(r, unicode.Cf, unicode.Cc, unicode.Variation_Selector)
}

// appendKey appends a value of a key, in the form in which keys are compared: 05 refers to 5.
func appendKey(to []byte, field *datapackage.Field, v []byte) []byte {
	switch field.Type {
	case "", "string", "any":
		return append(to, bytes.TrimSpace(v)...)
	}
	return field.AppendCanonical(to, v)
}
