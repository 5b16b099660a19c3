package auth

import (
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Names that people cannot tell apart are alike, however they are spelled.
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
		{"An App", "4n App", true},
		{"An App", "@n Αpp", true},
		{"An App", "Λn App", true},
		{"An App", "ʌn ʌpp", true},
		{"An App", "∆n App", true},
		{"An App", "An 4pp!", true},
		{"A web site", "4 web site", true},
		{"A web site", "A vveb 51te", true},
		{"A web site", "Д шев sitэ", true},
		{"A web site", "A w€b $i+e", true},
		{"Third Skipper", "Third 5kipper", true},
		{"Third Skipper", "7h1rd $kipper", true},
		{"Third Skipper", "Тhігd Ѕkірреr", true}, // Cyrillic
		{"Third Skipper", "тнɪяd sкɪррєя", true}, // the shapes of Cyrillic
		{"Third Skipper", "🅃🄷🄸🅁🄳 🆂🅺🅸🅿🅿🅴🆁", true},
		{"Third Skipper", "🇹🇭🇮🇷🇩 🇸🇰🇮🇵🇵🇪🇷", true},
		{"Second Thing", "Ƨecond Thing", true}, // tone two
		{"Second Thing", "ƨɘɔond Thing", true}, // reversed
		{"Second Thing", "5ec0nd Th!ng", true},
		{"Second Thing", "Sǝcond Ʇhing", true}, // turned
		{"Second Thing", "Ŝęcōnd Ŧĥĭňģ", true},
		{"Second Thing", "§econd Thing", true},
		{"Benefits", "8ene7its", false}, // 7 stands only for t
		{"Begin Big", "8e9in Bi6", true},
		{"Records", "Яecoяds", true},
		{"Records", "Recørds", true},
		{"Records", "Rec()rds", false}, // drawn with several characters
		{"Café", "Caf3", true},
		{"健康", "健康", true},
		{"My Health 2", "My Health 5", false}, // both may stand for s
		{"Ward 6", "Ward 9", false},           // both for g
		{"Ward 6", "Ward 8", false},
		{"Room 4 Health", "Room 5 Health", false},
		{"Clinic 1", "Clinic 7", false},
		{"Clinic 1", "Clinic 11", false},
		{"R2D2", "R2D3", false},
		{"Care+", "Care", true}, // punctuation
		{"$", "€", false},
		{"$", "$", true},
		{"$", "★", false},
		{"$$", "s", false},
		{"ΛΑΜΑ", "ΔΑΜΑ", false}, // Greek
		{"Шар", "Щар", false},   // Russian
		{"Дом", "Том", false},
		{"Health A", "Health B", false},
		{"St. John", "St. Joan", false},
		{"Notes", "Votes", false},
		{"Cat", "Bat", false},
		{"★★", "★ ★", true},
		{"My Health", "My Wealth", false},
		{"My Health", "My Health 2", false},
		{"健康", "健保", false},
		{"★", "☂", false},
	} {
		if alike(c.a, c.b) != c.want || alike(c.b, c.a) != c.want {
			t.Errorf("%q and %q: not %v (%q, %q)", c.a, c.b, c.want, words(c.a), words(c.b))
		}
	}
}

// words returns the looks of a name in readable form.
func words(name string) (out []string) {
	for _, l := range append(looks(name), drawn(name)...) {
		out = append(out, string(l))
	}
	return out
}

// Each letter is recognized in each of its variants by Unicode name, and in a digit that stands
// for it.
func TestVarietiesOfLettersLookLikeThem(t *testing.T) {
	for letter := 'a'; letter <= 'z'; letter++ {
		plain, upper := "x"+string(letter)+"y", unicode.ToUpper(letter)
		for _, other := range []rune{
			upper, 'Ａ' + upper - 'A', 'ａ' + letter - 'a', '𝐀' + upper - 'A', '𝚊' + letter - 'a',
			'ⓐ' + letter - 'a', '🄰' + upper - 'A', '🅐' + upper - 'A', '🅰' + upper - 'A',
			'🇦' + upper - 'A',
		} {
			if name := "x" + string(other) + "y"; !alike(plain, name) {
				t.Errorf("%q and %q are told apart (%q, %q)", plain, name, words(plain),
					words(name))
			}
		}
	}
	for other, letters := range stands {
		for _, letter := range letters {
			if a, b := "x"+string(letter)+"y", "x"+string(other)+"y"; !alike(a, b) || !alike(b, a) {
				t.Errorf("%q and %q are told apart (%q, %q)", a, b, words(a), words(b))
			}
		}
	}
	for a := '0'; a <= '9'; a++ {
		for b := a + 1; b <= '9'; b++ {
			if x, y := "Ward "+string(a), "Ward "+string(b); alike(x, y) {
				t.Errorf("%q and %q are taken for each other", x, y)
			}
		}
	}
}
