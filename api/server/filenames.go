package server

import (
	"strings"
	"unicode"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/unicode/norm"
)

// offerAs makes a browser save the answer under a name (RFC 6266): the name in ASCII for old ones, and, where that is another, the true one
// (RFC 8187).
func offerAs(c *fiber.Ctx, name string) {
	plain := asciiName(name)
	value := `attachment; filename="` + plain + `"`
	if plain != name {
		value += "; filename*=UTF-8''" + extendedValue(name)
	}
	c.Set(fiber.HeaderContentDisposition, value)
}

// asciiName is a name without accents, and with _ for what ASCII or a quoted string has not. A % goes too: some take what follows it for an
// escape.
func asciiName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Mn, r):
			return -1
		case r > unicode.MaxASCII, r < ' ', r == 0x7f, r == '"', r == '\\', r == '%':
			return '_'
		}
		return r
	}, norm.NFD.String(name))
}

// extendedValue is the ext-value of RFC 8187 without charset and language.
func extendedValue(s string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for _, b := range []byte(s) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', strings.IndexByte("!#$&+-.^_`|~", b) >= 0:
			out.WriteByte(b)
		default:
			out.Write([]byte{'%', hex[b>>4], hex[b&15]})
		}
	}
	return out.String()
}

// inert makes sure that nothing of an answer runs, whatever its type is and however it is opened.
func inert(c *fiber.Ctx) {
	c.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	c.Set("X-Content-Type-Options", "nosniff")
}
