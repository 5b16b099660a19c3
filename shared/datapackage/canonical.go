package datapackage

import (
	"strconv"
	"strings"
	"time"
)

// Canonical returns the one text for all values that mean the same by the type of the field: 5 for
// 05, +5.0 and 5e0, an instant in UTC, true for each of trueValues. Space around a value does not
// count. Other values are returned as they are.
func (f *Field) Canonical(value string) string {
	text := strings.TrimSpace(value)
	switch f.kind() {
	case "integer", "number", "year":
		if plain, ok := f.decimal(text); ok {
			return plain
		}
	case "boolean":
		if is, ok := f.truth(text); ok {
			return strconv.FormatBool(is)
		}
	case "date", "time", "datetime":
		if f.Format == "any" {
			break
		}
		if at, err := f.moment(text); err == nil {
			return at.UTC().Format(time.RFC3339Nano)
		}
	case "duration":
		if s, err := seconds(text); err == nil {
			return strconv.FormatFloat(s, 'g', -1, 64)
		}
	}
	return text
}

// AppendCanonical appends the canonical form of a value. It makes no text of a plain integer.
func (f *Field) AppendCanonical(to, value []byte) []byte {
	switch f.kind() {
	case "integer", "number":
		if isPlainInteger(value) {
			return append(to, value...)
		}
	}
	return append(to, f.Canonical(string(value))...)
}

// isPlainInteger reports whether a value is canonical as it is: digits without zeros in front.
func isPlainInteger(value []byte) bool {
	if len(value) > 1 && value[0] == '0' {
		return false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(value) > 0
}

// truth is boolean in any case. What is not in trueValues is true as Table Schema has it by
// default.
func (f *Field) truth(s string) (is, ok bool) {
	yes, no := append([]string{"true", "1"}, f.TrueValues...),
		append([]string{"false", "0"}, f.FalseValues...)
	if is, err := f.boolean(s); err == nil {
		return is, true
	}
	for i, values := range [][]string{yes, no} {
		for _, v := range values {
			if strings.EqualFold(v, s) {
				return i == 0, true
			}
		}
	}
	return false, false
}

// mostZeros is the number of zeros that a canonical number is written with, instead of an exponent.
const mostZeros = 64

// decimal returns a number without a plus sign, zeros in front, zeros behind a decimal point, and
// an exponent.
func (f *Field) decimal(text string) (string, bool) {
	text, ok := f.number(text)
	switch {
	case !ok:
		return "", false
	case special(text):
		return strings.ToUpper(text), true
	}
	sign := ""
	if text[0] == '-' {
		sign = "-"
	}
	mantissa, power, _ := strings.Cut(strings.ToLower(unsigned(text)), "e")
	exponent := 0
	if power != "" {
		var err error
		if exponent, err = strconv.Atoi(power); err != nil || exponent > 1<<30 ||
			exponent < -1<<30 {
			return "", false // no number that means anything
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	significant := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	if significant == "" {
		return "0", true
	}
	short := strings.TrimRight(significant, "0")
	exponent += len(significant) - len(short)
	switch point := len(short) + exponent; { // the digits before the decimal point
	case exponent >= 0 && exponent <= mostZeros:
		return sign + short + strings.Repeat("0", exponent), true
	case exponent < 0 && point > 0:
		return sign + short[:point] + "." + short[point:], true
	case exponent < 0 && point > -mostZeros:
		return sign + "0." + strings.Repeat("0", -point) + short, true
	}
	return sign + short + "e" + strconv.Itoa(exponent), true
}
