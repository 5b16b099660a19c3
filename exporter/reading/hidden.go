package reading

import "bytes"

// marks begin what a text can be read without: markup and escapes.
const marks = `\<&=%+`

// shifted begins ASCII in UTF-7: its first six bits in UTF-16 are zero.
const shifted = "+A"

// MayHide reports whether a text has one of the marks. A sign before a number is none.
func MayHide(text []byte) bool {
	for i := range len(marks) - 1 {
		if bytes.IndexByte(text, marks[i]) >= 0 {
			return true
		}
	}
	return bytes.Contains(text, []byte(shifted))
}

// BeginsJSON reports whether a text begins as an object or array of JSON, which may have codes.
func BeginsJSON(text []byte) bool {
	if len(text) == 0 || naming[text[0]] { // as most do
		return false
	}
	for _, c := range bytes.TrimPrefix(text, []byte("\ufeff")) {
		if c > ' ' {
			return c == '{' || c == '['
		}
	}
	return false
}

// hides reports whether a text has a mark that begins something: not "dose < 5" or "a = b".
func hides(text []byte) bool {
	for len(text) > 0 {
		at := bytes.IndexAny(text, marks)
		if at < 0 {
			return false
		}
		mark := text[at]
		text = text[at+1:]
		if len(text) == 0 {
			return mark == '='
		}
		switch next := text[0]; mark {
		case '\\':
			return true
		case '+':
			if next == shifted[1] {
				return true
			}
		case '<', '&':
			if isLetter(next) || bytes.IndexByte([]byte("/!?#"), next) >= 0 {
				return true
			}
		case '=':
			if bytes.IndexByte([]byte("\r\n \t"), next) >= 0 && isSoftBreak(text) {
				return true
			}
			fallthrough
		case '%':
			if len(text) > 1 && isHex(next) && isHex(text[1]) {
				return true
			}
		}
	}
	return false
}

// isSoftBreak reports whether a line ends behind nothing but space.
func isSoftBreak(text []byte) bool {
	rest := bytes.TrimLeft(text, " \t")
	return len(rest) == 0 || rest[0] == '\r' || rest[0] == '\n'
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
