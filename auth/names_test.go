package auth

import (
	"testing"

	"golang.org/x/text/unicode/norm"
)

// Names that people take for one are alike, whichever way they are written.
func TestNamesThatLookAlike(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"My Health", "My Health", true},
		{"My Health", "MY HEALTH", true},
		{"My Health", "MyHealth", true},
		{"My Health", "My  Health", true},
		{"My Health", "My-Health!", true},
		{"My Health", "Му Неаlth", true}, // Cyrillic letters
		{"My Health", "Ｍｙ Ｈｅａｌｔｈ", true},
		{"My Health", "𝐌𝐲 𝐇𝐞𝐚𝐥𝐭𝐡", true},
		{"My Health", "Mý Héalth", true},
		{"My Health", "My Heaⅼth", true}, // a Roman numeral
		{"Illumina", "lllumina", true},   // of a capital i, and of three l
		{"Illumina", "ILLUMINA", true},
		{"Café", norm.NFD.String("Café"), true},
		{"Straße", "STRASSE", true},
		{"modern", "modem", true},
		{"paypal", "pаypаl", true}, // Cyrillic letters
		{"cares", "ϲares", true},   // a lunate sigma
		{"CARES", "ϹARES", true},   // a capital one
		{"cares", "сares", true},   // Cyrillic
		{"oscar", "ᴏꜱᴄᴀʀ", true},   // small capitals
		{"bibi", "ʙɪʙɪ", true},     // others
		{"hannah", "ʜᴀɴɴᴀʜ", true}, // others
		{"admin", "adm1n", true},   // a digit
		{"admin", "admln", true},   // an l
		{"admin", "аdmіn", true},   // Cyrillic
		{"admin", "ɑdmin", true},   // of phonetics
		{"admin", "αdmin", true},   // Greek
		{"root", "r00t", true},     // digits
		{"健康", "健康", true},
		{"★★", "★ ★", true},
		{"My Health", "My Wealth", false},
		{"My Health", "My Health 2", false},
		{"健康", "健保", false},
		{"★", "☂", false},
	} {
		if alike(c.a, c.b) != c.want || alike(c.b, c.a) != c.want {
			t.Errorf("%q and %q: not %v (%q, %q)", c.a, c.b, c.want, looks(c.a), looks(c.b))
		}
	}
}
