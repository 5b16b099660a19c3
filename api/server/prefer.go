package server

import (
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// preferences is what a request's Prefer header lines ask for: the value of each preference by its
// name in lower case, "" for one without a value (RFC 7240 2).
type preferences map[string]string

// preferred reads all Prefer lines of a request.
func preferred(c *fiber.Ctx) preferences {
	p := preferences{}
	for _, line := range c.Request().Header.PeekAll("Prefer") {
		p.read(string(line))
	}
	return p
}

// has reports whether a preference was stated, with whatever value.
func (p preferences) has(name string) bool {
	_, stated := p[name]
	return stated
}

// lenient and strict report a preference for handling (RFC 7240 4.4); neither is the server's choice.
func (p preferences) lenient() bool { return strings.EqualFold(p["handling"], "lenient") }
func (p preferences) strict() bool  { return strings.EqualFold(p["handling"], "strict") }

// wait is how long the client would wait for an answer (RFC 7240 4.3); ok is false where it does
// not say, or says it in another form than whole seconds.
func (p preferences) wait() (d time.Duration, ok bool) {
	value := p["wait"]
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil { // too large a number: as long as the server likes
		seconds = 1<<31 - 1
	}
	return time.Duration(seconds) * time.Second, true
}

// read adds the preferences of one header line. The first of a name counts, as RFC 7240 2 wants it;
// what is malformed is skipped up to the next comma.
func (p preferences) read(line string) {
	for s := (prefer{line}); ; {
		name, value, ok := s.pair()
		for s.take(';') { // parameters: no preference known here has any
			if _, _, fine := s.pair(); !fine && !s.at(";,") {
				ok = false
				break
			}
		}
		if !s.at(",") {
			ok = false
		}
		if ok {
			if name = strings.ToLower(name); !p.has(name) {
				p[name] = value
			}
		}
		if !s.skip() {
			return
		}
	}
}

// prefer is the rest of a header line.
type prefer struct{ rest string }

// space skips white space (RFC 9110 5.6.3).
func (s *prefer) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

// at reports whether one of some characters comes next, or the end.
func (s *prefer) at(chars string) bool {
	s.space()
	return s.rest == "" || strings.IndexByte(chars, s.rest[0]) >= 0
}

// take skips a character, if it comes next.
func (s *prefer) take(char byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != char {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// pair reads token [ "=" word ]; a value that is empty is as good as none.
func (s *prefer) pair() (name, value string, ok bool) {
	s.space()
	if name = s.token(); name == "" {
		return "", "", false
	}
	if !s.take('=') {
		return name, "", true
	}
	s.space()
	if strings.HasPrefix(s.rest, `"`) {
		value, ok = s.quoted()
		return name, value, ok
	}
	return name, s.token(), true
}

// token reads a token (RFC 9110 5.6.2), "" where none comes next.
func (s *prefer) token() string {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return !isTokenRune(r) })
	if end < 0 {
		end = len(s.rest)
	}
	token := s.rest[:end]
	s.rest = s.rest[end:]
	return token
}

func isTokenRune(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// quoted reads a quoted string (RFC 9110 5.6.4); ok is false where it has no end.
func (s *prefer) quoted() (value string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case '\\':
			if i++; i == len(s.rest) {
				s.rest = ""
				return "", false
			}
		}
		b.WriteByte(s.rest[i])
	}
	s.rest = ""
	return "", false
}

// skip goes to the next member of the list, behind a comma outside of quotes; more is false at the end.
func (s *prefer) skip() (more bool) {
	for s.rest != "" {
		switch s.rest[0] {
		case ',':
			s.rest = s.rest[1:]
			return true
		case '"':
			if _, ok := s.quoted(); !ok {
				return false
			}
		default:
			s.rest = s.rest[1:]
		}
	}
	return false
}
