package fhir

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// InstantLayout is the layout of every instant that the server writes: UTC with milliseconds.
const InstantLayout = "2006-01-02T15:04:05.000Z"

// FormatInstant formats t as a FHIR instant in UTC with milliseconds.
func FormatInstant(t time.Time) string { return t.UTC().Format(InstantLayout) }

// Span is the time that a FHIR date, dateTime or instant covers. A partial one covers the whole
// year, month or day.
type Span struct {
	Start time.Time // inclusive
	End   time.Time // exclusive
}

// ParseSpan parses a FHIR date, dateTime or instant
// (https://hl7.org/fhir/R4/datatypes.html#dateTime). A partial value covers its whole span: 2019
// the year, 2019-05 the month, 2019-05-07 the day, a time to the second that second, and a time
// with fractions its millisecond. A date without a zone is in UTC. A leap second (23:59:60) is
// the last 100 nanoseconds of the second before it: it stays within its day and sorts after the
// rest of that second.
func ParseSpan(s string) (Span, error) {
	switch len(s) {
	case 4:
		return widen(s, "2006", 1, 0, 0)
	case 7:
		return widen(s, "2006-01", 0, 1, 0)
	case 10:
		return widen(s, "2006-01-02", 0, 0, 1)
	}
	plain, leap := withoutLeap(s)
	t, err := time.Parse(time.RFC3339Nano, plain)
	if err != nil {
		return Span{}, fmt.Errorf("%q is no FHIR date or instant", s)
	}
	if leap {
		end := t.Truncate(time.Second).Add(time.Second)
		within := time.Duration(t.Nanosecond()) * leapWidth / time.Second
		return Span{Start: end.Add(within - leapWidth), End: end}, nil
	}
	width := time.Millisecond
	if t.Nanosecond() == 0 {
		width = time.Second
	}
	return Span{Start: t, End: t.Add(width)}, nil
}

// asked is R4's grammar of dateTime, which includes instant
// (https://hl7.org/fhir/R4/datatypes.html#dateTime).
var asked = regexp.MustCompile(`^([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])` +
	`(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?$`)

// ParseAsked is ParseSpan for requests. It is strict about R4's grammar except for two common
// mistakes of clients: an unescaped + arrives as a space, and t and z may be in lower case.
func ParseAsked(s string) (Span, error) {
	s = strings.ToUpper(strings.ReplaceAll(s, " ", "+"))
	if !asked.MatchString(s) {
		return Span{}, fmt.Errorf("%q is no FHIR date or instant", s)
	}
	return ParseSpan(s)
}

// leapWidth is the part of the preceding second that a leap second takes.
const leapWidth = 100 * time.Nanosecond

// withoutLeap replaces a 60th second, which time.Time does not support, by the 59th.
func withoutLeap(s string) (plain string, leap bool) {
	const seconds = len("2006-01-02T15:04:")
	if len(s) <= seconds+2 || s[seconds-1] != ':' || s[seconds:seconds+2] != "60" {
		return s, false
	}
	return s[:seconds] + "59" + s[seconds+2:], true
}

func widen(s, layout string, years, months, days int) (Span, error) {
	t, err := time.Parse(layout, s)
	if err != nil {
		return Span{}, fmt.Errorf("%q is no FHIR date", s)
	}
	return Span{Start: t, End: t.AddDate(years, months, days)}, nil
}

// Overlaps reports whether the span overlaps [from, to). A zero time means no bound.
func (s Span) Overlaps(from, to time.Time) bool {
	return (to.IsZero() || s.Start.Before(to)) && (from.IsZero() || s.End.After(from))
}
