package native

import (
	"bytes"
	"encoding/hex"
	"html"
	"regexp"
	"strings"
)

// The escapes of JSON (RFC 8259 7) and of rich text (RTF 1.9) for characters of ASCII, of which
// IDs and codes consist.
var (
	jsonEscape = regexp.MustCompile(`\\u00[0-7][0-9a-fA-F]`)
	richEscape = regexp.MustCompile(`\\'[0-7][0-9a-fA-F]`)
)

// withoutEscapes returns a piece of a document of a media type without the escapes of the format;
// nil if it has none. An escape that is cut at the end of a piece is whole in the next one, as
// pieces overlap.
func withoutEscapes(contentType string, piece []byte) []byte {
	t := strings.ToLower(contentType)
	switch {
	case strings.Contains(t, "xml"), strings.Contains(t, "html"):
		if bytes.Contains(piece, []byte("&#")) {
			return []byte(html.UnescapeString(string(piece)))
		}
	case strings.Contains(t, "json"):
		return decoded(jsonEscape, piece)
	case strings.Contains(t, "rtf"):
		return decoded(richEscape, piece)
	}
	return nil
}

// decoded replaces escapes that end with two hexadecimal digits; nil if there are none.
func decoded(escape *regexp.Regexp, piece []byte) []byte {
	if !escape.Match(piece) {
		return nil
	}
	return escape.ReplaceAllFunc(piece, func(e []byte) []byte {
		out := make([]byte, 1)
		_, _ = hex.Decode(out, e[len(e)-2:]) // the expression admits digits only
		return out
	})
}
