package content

import (
	"strings"
	"unicode"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/unicode/norm"
)

// SaveAs makes browsers save the response under a name (RFC 6266). Old browsers read the name in
// ASCII. If it differs, the header also has the full name (RFC 8187).
func SaveAs(c *fiber.Ctx, name string) {
	plain := asciiName(name)
	value := `attachment; filename="` + plain + `"`
	if plain != name {
		value += "; filename*=UTF-8''" + extendedValue(name)
	}
	c.Set(fiber.HeaderContentDisposition, value)
}

// asciiName returns a name without accents, with _ for each character that ASCII or a quoted
// string does not allow. It replaces % too, because some browsers treat it as an escape.
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

// extendedValue returns the ext-value of RFC 8187 without charset and language.
func extendedValue(s string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for _, b := range []byte(s) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9',
			strings.IndexByte("!#$&+-.^_`|~", b) >= 0:
			out.WriteByte(b)
		default:
			out.Write([]byte{'%', hex[b>>4], hex[b&15]})
		}
	}
	return out.String()
}
