package fhir

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// InstantLayout is how the server writes every instant: UTC with milliseconds.
const InstantLayout = "2006-01-02T15:04:05.000Z"

// FormatInstant writes t as a FHIR instant in UTC with milliseconds.
func FormatInstant(t time.Time) string { return t.UTC().Format(InstantLayout) }

// Span is the time that a FHIR date, dateTime or instant covers: a partial one covers the whole
// of what it names.
type Span struct {
	Start time.Time // inclusive
	End   time.Time // exclusive
}

// ParseSpan reads a FHIR date, dateTime or instant
// (https://hl7.org/fhir/R4/datatypes.html#dateTime). A partial one is widened to its span: 2019
// covers the year, 2019-05 the month, 2019-05-07 the day, a time to the second that second and a
// time with fractions its millisecond. A date without a zone is taken in UTC. A leap second
// (23:59:60) is the last 100 nanoseconds of the second before it, which keeps it within its day
// and behind the rest of that second.
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

// asked is R4's grammar of dateTime, which instant is a part of
// (https://hl7.org/fhir/R4/datatypes.html#dateTime).
var asked = regexp.MustCompile(`^([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])` +
	`(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?$`)

// ParseAsked is ParseSpan for what a request says: strict about R4's grammar, but for two things
// that clients get wrong. A + that is not escaped in a query arrives as a space; t and z may be
// lower case.
func ParseAsked(s string) (Span, error) {
	s = strings.ToUpper(strings.ReplaceAll(s, " ", "+"))
	if !asked.MatchString(s) {
		return Span{}, fmt.Errorf("%q is no FHIR date or instant", s)
	}
	return ParseSpan(s)
}

// leapWidth is what a leap second takes of the second before it.
const leapWidth = 100 * time.Nanosecond

// withoutLeap turns a 60th second, which time.Time does not know, into the 59th.
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

// Overlaps reports whether the span meets [from, to), where a zero time is open.
func (s Span) Overlaps(from, to time.Time) bool {
	return (to.IsZero() || s.Start.Before(to)) && (from.IsZero() || s.End.After(from))
}
