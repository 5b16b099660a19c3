package ehi

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"ehi-server/shared/fhir"
)

// The bounds of a FileName in bytes: without its extension, of the extension with its dot, and of
// the digits that replace the end of a longer name.
const (
	longestStem      = 120
	longestExtension = 20
	nameDigits       = 8
)

// FileName returns the name that an export gives to the file of a document, behind its number: the
// PortableName, or "document" for want of one. The end of a long name is replaced by digits of its
// SHA-256, so that names which begin alike stay different. The FileName of a FileName is the same.
func FileName(name string) string {
	name = PortableName(name)
	extension := path.Ext(name)
	if len(extension) > longestExtension { // it is none
		extension = ""
	}
	stem := strings.TrimSuffix(name, extension)
	if stem == "" {
		return "document" + extension
	}
	if len(stem) <= longestStem {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	stem = fhir.CutText(stem, longestStem-nameDigits-1)
	return stem + "~" + hex.EncodeToString(sum[:])[:nameDigits] + extension
}

// PortableName returns a name as a file may have it on every system. It keeps letters of every
// script, in Unicode form NFC. It removes paths, quotes, and invisible characters that change how
// the rest looks: control and bidi characters, zero-width characters. It changes names that other
// systems treat specially. The result may be empty.
func PortableName(name string) string {
	if plain(name) {
		return name
	}
	return cleaned(name)
}

func cleaned(name string) string {
	name = strings.Map(visible, name[strings.LastIndexAny(name, `/\`)+1:])
	name = strings.Join(strings.Fields(norm.NFC.String(name)), " ")
	return portable(strings.TrimRight(strings.TrimLeft(name, ". \u200c\u200d"), ". "))
}

// plain reports whether a name consists of letters, digits, - and _ of ASCII and an extension of
// the same, and cannot be that of a device. Most names do, and take no time.
func plain(name string) bool {
	stem := len(name)
	for i := range len(name) {
		c := name[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		switch {
		case letter, i > 0 && (c == '-' || c == '_'):
		case c == '.' && i > 0 && i < len(name)-1 && stem == len(name):
			stem = i
		default:
			return false
		}
	}
	return stem > 4 // devices have three or four
}

// devices matches names that Windows treats as devices, with any extension and in any case.
var devices = regexp.MustCompile(
	`(?i)^(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9])[ .]*(\.|$)`)

// joiners removes the invisible characters that visible keeps.
var joiners = strings.NewReplacer("\u200c", "", "\u200d", "")

// portable puts _ before a name that another system treats specially: a device, a formula of a
// spreadsheet, or an option of a command. It compares the name as these systems read it, in
// Unicode form NFKC and without joiners: COM¹ is COM1.
func portable(name string) string {
	read := norm.NFKC.String(joiners.Replace(name))
	if devices.MatchString(read) || read != "" && strings.ContainsRune("=+-@~", rune(read[0])) {
		return "_" + name
	}
	return name
}

// visible returns r, a replacement, or -1 for a character that must not be in a file's name.
func visible(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case strings.ContainsRune(`<>:|?*`, r): // drives, streams, pipes and patterns on other systems
		return '_'
	case r == '"', r == unicode.ReplacementChar, unicode.IsControl(r):
		return -1
	case r == '\u200c', r == '\u200d': // needed in Persian and several scripts of India
		return r
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r),
		unicode.Is(unicode.Co, r):
		return -1
	// invisible, although letters or marks
	case unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
		return -1
	}
	return r
}
