package content

import (
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Preferences are the preferences in the Prefer lines of a request: values by name in lower
// case, "" for one without a value (RFC 7240 2).
type Preferences map[string]string

// Preferred reads all Prefer lines of a request.
func Preferred(c *fiber.Ctx) Preferences {
	p := Preferences{}
	for _, line := range c.Request().Header.PeekAll("Prefer") {
		p.add(string(line))
	}
	return p
}

// Has reports whether the request states a preference, with any value.
func (p Preferences) Has(name string) bool {
	_, stated := p[name]
	return stated
}

// Lenient reports whether the client asks to ignore what the server does not know (RFC 7240 4.4).
// Where a request is neither lenient nor strict, the server chooses.
func (p Preferences) Lenient() bool { return strings.EqualFold(p["handling"], "lenient") }

// Strict reports whether the client asks to refuse what the server does not know (RFC 7240 4.4).
func (p Preferences) Strict() bool { return strings.EqualFold(p["handling"], "strict") }

// Wait returns how long the client is willing to wait for a response (RFC 7240 4.3). ok is false
// unless it is a number of whole seconds.
func (p Preferences) Wait() (d time.Duration, ok bool) {
	value := p["wait"]
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil { // the number is too large: the server sets the limit
		seconds = 1<<31 - 1
	}
	return time.Duration(seconds) * time.Second, true
}

// add adds the preferences of one header line. If a name occurs several times, the first one
// counts (RFC 7240 2). Malformed parts are skipped up to the next comma.
func (p Preferences) add(line string) {
	for s := (prefer{line}); ; {
		name, value, ok := s.pair()
		for s.skip(';') { // parameters: no preference that this server knows has any
			if _, _, fine := s.pair(); !fine && !s.at(";,") {
				ok = false
				break
			}
		}
		if !s.at(",") {
			ok = false
		}
		if ok {
			if name = strings.ToLower(name); !p.Has(name) {
				p[name] = value
			}
		}
		if !s.next() {
			return
		}
	}
}

// prefer is the rest of a header line.
type prefer struct{ rest string }

// space skips white space (RFC 9110 5.6.3).
func (s *prefer) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

// at reports whether the next character is one of some, or the line ends.
func (s *prefer) at(chars string) bool {
	s.space()
	return s.rest == "" || strings.IndexByte(chars, s.rest[0]) >= 0
}

// skip skips a character if it comes next.
func (s *prefer) skip(char byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != char {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// pair reads token [ "=" word ]. An empty value counts as none.
func (s *prefer) pair() (name, value string, ok bool) {
	s.space()
	if name = s.token(); name == "" {
		return "", "", false
	}
	if !s.skip('=') {
		return name, "", true
	}
	s.space()
	if strings.HasPrefix(s.rest, `"`) {
		value, ok = s.quoted()
		return name, value, ok
	}
	return name, s.token(), true
}

// token reads a token (RFC 9110 5.6.2), "" where something else comes next.
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

// next moves to the next member of the list, behind a comma outside of quotes. more is false at the
// end.
func (s *prefer) next() (more bool) {
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
