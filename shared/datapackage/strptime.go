package datapackage

import (
	"errors"
	"strings"
	"time"
)

var errMoment = errors.New("does not have the format of the field")

// strptime reads a date or a time by a pattern of C's function of that name, as Table Schema
// asks for. Names of months and days are English.
func strptime(pattern, s string) (time.Time, error) {
	m, err := readMoment(pattern, s)
	if err != nil {
		return time.Time{}, err
	}
	return m.time()
}

func readMoment(pattern, s string) (moment, error) {
	m := moment{year: 1900, month: 1, day: 1, rest: s}
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' || i+1 == len(pattern) {
			if !m.literal(pattern[i]) {
				return m, errMoment
			}
			continue
		}
		i++
		if !m.directive(pattern[i]) {
			return m, errMoment
		}
	}
	return m, nil
}

// moment is a date and time that is being read.
type moment struct {
	rest                      string // what is still to be read
	year, month, day, yearDay int
	hour, minute, second      int
	nanosecond                int
	afternoon, half           bool // half: the hour is one of twelve
	zone                      *time.Location
	named                     string // the name of a zone
	read                      string // the directives that were read
	digits                    int    // of the fraction
}

func (m *moment) literal(b byte) bool {
	if m.rest == "" || m.rest[0] != b {
		return false
	}
	m.rest = m.rest[1:]
	return true
}

func (m *moment) directive(d byte) bool {
	m.read += string(d)
	switch d {
	case 'Y':
		return digits(m.rest) >= 4 && m.number(&m.year, 4, 1, 9999)
	case 'y':
		ok := m.number(&m.year, 2, 0, 99)
		if m.year += 1900; m.year < 1969 { // as POSIX has it
			m.year += 100
		}
		return ok
	case 'm':
		return m.number(&m.month, 2, 1, 12)
	case 'd':
		return m.number(&m.day, 2, 1, 31)
	case 'j':
		return m.number(&m.yearDay, 3, 1, 366)
	case 'H':
		return m.number(&m.hour, 2, 0, 23)
	case 'I':
		m.half = true
		return m.number(&m.hour, 2, 1, 12)
	case 'M':
		return m.number(&m.minute, 2, 0, 59)
	case 'S':
		return m.number(&m.second, 2, 0, 61)
	case 'f':
		return m.fraction()
	case 'p':
		i := m.name([]string{"am", "pm"}, 2)
		m.afternoon = i == 1
		return i >= 0
	case 'B':
		return m.monthName(0)
	case 'b', 'h':
		return m.monthName(3)
	case 'A':
		return m.dayName(0)
	case 'a':
		return m.dayName(3)
	case 'z':
		return m.offset()
	case 'Z':
		behind := strings.TrimLeft(m.rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
		m.named, m.rest = m.rest[:len(m.rest)-len(behind)], behind
		return true
	case 'T':
		return m.directive('H') && m.literal(':') && m.directive('M') && m.literal(':') &&
			m.directive('S')
	case 'D':
		return m.directive('m') && m.literal('/') && m.directive('d') && m.literal('/') &&
			m.directive('y')
	case 'F':
		return m.directive('Y') && m.literal('-') && m.directive('m') && m.literal('-') &&
			m.directive('d')
	case '%':
		return m.literal('%')
	}
	return false
}

// number reads up to width digits.
func (m *moment) number(into *int, width, least, most int) bool {
	n := min(digits(m.rest), width)
	v := 0
	for i := range n {
		v = v*10 + int(m.rest[i]-'0')
	}
	*into, m.rest = v, m.rest[n:]
	return n > 0 && v >= least && v <= most
}

// fraction reads one to six digits behind a decimal point.
func (m *moment) fraction() bool {
	n := min(digits(m.rest), 6)
	m.digits = n
	ok := m.number(&m.nanosecond, 6, 0, 999999)
	for range 9 - n {
		m.nanosecond *= 10
	}
	return ok
}

// name reads one of some names, cut to a length unless that is 0, and returns its number.
func (m *moment) name(names []string, length int) int {
	for i, name := range names {
		if length > 0 {
			name = name[:length]
		}
		if len(m.rest) >= len(name) && strings.EqualFold(m.rest[:len(name)], name) {
			m.rest = m.rest[len(name):]
			return i
		}
	}
	return -1
}

func (m *moment) monthName(length int) bool {
	var names []string
	for month := time.January; month <= time.December; month++ {
		names = append(names, month.String())
	}
	m.month = m.name(names, length) + 1
	return m.month > 0
}

func (m *moment) dayName(length int) bool {
	var names []string
	for day := time.Sunday; day <= time.Saturday; day++ {
		names = append(names, day.String())
	}
	return m.name(names, length) >= 0
}

// offset reads Z, +hhmm or +hh:mm.
func (m *moment) offset() bool {
	if strings.HasPrefix(m.rest, "Z") {
		m.rest = m.rest[1:]
		return true
	}
	sign := 1
	if strings.HasPrefix(m.rest, "-") {
		sign = -1
	} else if !strings.HasPrefix(m.rest, "+") {
		return false
	}
	m.rest = m.rest[1:]
	var hours, minutes int
	ok := m.number(&hours, 2, 0, 23)
	m.rest = strings.TrimPrefix(m.rest, ":")
	ok = ok && m.number(&minutes, 2, 0, 59)
	m.zone = time.FixedZone("", sign*(hours*60+minutes)*60)
	return ok
}

// time returns what was read, if all of it was and the day exists.
func (m *moment) time() (time.Time, error) {
	if m.rest != "" {
		return time.Time{}, errMoment
	}
	if m.half {
		m.hour %= 12
		if m.afternoon {
			m.hour += 12
		}
	}
	if m.zone == nil {
		m.zone = time.UTC
	}
	if m.yearDay > 0 {
		m.month, m.day = 1, m.yearDay
	}
	t := time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, m.second, m.nanosecond,
		m.zone)
	if m.yearDay == 0 && t.Day() != m.day && m.second < 60 {
		return time.Time{}, errMoment
	}
	return t, nil
}

// zones are the names of zones of RFC 822, in hours from UTC.
var zones = map[string]int{
	"": 0, "Z": 0, "UT": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5,
	"MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}

// span returns from when to when what was read lasts: as long as the finest unit of it.
func (m *moment) span() (start, end time.Time, err error) {
	has := func(directives string) bool { return strings.ContainsAny(m.read, directives) }
	hours, known := zones[m.named]
	if !has("Yy") || !known {
		return start, end, errMoment
	}
	if m.named != "" && m.zone == nil {
		m.zone = time.FixedZone(m.named, hours*60*60)
	}
	leap := m.second > 59 // time.Time has no leap seconds: they belong to the second before
	if leap {
		m.second, m.nanosecond = 59, 0
	}
	if !has("M") {
		m.second = 0
	}
	if !has("M") || !has("S") {
		m.nanosecond = 0
	}
	at, err := m.time()
	if err != nil || at.Year() != m.year {
		return start, end, errMoment
	}
	year, month, day := at.Date()
	date := func(years, months, days int) time.Time {
		return time.Date(year+years, month+time.Month(months), day+days, 0, 0, 0, 0, at.Location())
	}
	switch {
	case !has("mBbhj"):
		month, day = 1, 1
		return date(0, 0, 0), date(1, 0, 0), nil
	case !has("dj"):
		day = 1
		return date(0, 0, 0), date(0, 1, 0), nil
	case !has("H") && !(has("I") && has("p")):
		return date(0, 0, 0), date(0, 0, 1), nil
	}
	width := time.Second
	switch {
	case !has("M"):
		width = time.Hour
	case !has("S"):
		width = time.Minute
	case !leap:
		for range m.digits {
			width /= 10
		}
	}
	return at, at.Add(width), nil
}
