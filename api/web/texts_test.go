package web_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/api/web"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

var placeholder = regexp.MustCompile(`%(\[\d\])?[a-z]`)

func catalogues(t *testing.T) web.Catalogues {
	t.Helper()
	c, err := web.ReadCatalogues()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// All languages have the same texts, with the same placeholders.
func TestCataloguesSayTheSame(t *testing.T) {
	all := catalogues(t)
	if len(all.List) < 2 || all.List[0].Tag != "en" {
		t.Fatalf("%d catalogues, the first one %s", len(all.List), all.List[0].Tag)
	}
	first := all.List[0].Keys()
	for _, c := range all.List[1:] {
		for _, key := range slices.Sorted(maps.Keys(first)) {
			text, ok := c.Keys()[key]
			if !ok {
				t.Errorf("%s has no %q", c.Tag, key)
				continue
			}
			a, b := placeholder.FindAllString(first[key], -1), placeholder.FindAllString(text, -1)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s: %q has the placeholders %v, not %v", c.Tag, key, b, a)
			}
		}
		for key := range c.Keys() {
			if _, ok := first[key]; !ok {
				t.Errorf("%s alone has %q", c.Tag, key)
			}
		}
	}
}

// Every text that templates and handlers use exists, and every text is used.
func TestTextsAreUsed(t *testing.T) {
	texts := catalogues(t).List[0].Keys()
	var sources strings.Builder
	templates, err := fs.Glob(web.Files, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range templates {
		data, err := web.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(data)
	}
	handlers, err := filepath.Glob("../*/*.go")
	if err != nil || len(handlers) == 0 {
		t.Fatalf("%d handlers, %v", len(handlers), err)
	}
	for _, name := range handlers {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(data)
	}
	text := sources.String()
	for _, m := range regexp.MustCompile(
		`\.(?:Say|Stress|With) "([a-z.-]+)"`).FindAllStringSubmatch(text, -1) {
		if texts[m[1]] == "" {
			t.Errorf("a template asks for %q", m[1])
		}
	}
	made := regexp.MustCompile(
		`^(category|authorization|withheld|type|bytes|entries|fault|state|stage|withheld)\.`)
	for key := range texts {
		if !made.MatchString(key) && !strings.Contains(text, `"`+key+`"`) {
			t.Errorf("nobody asks for %q", key)
		}
	}
	for _, c := range ehi.Categories() {
		if texts["category."+string(c.Key)] == "" ||
			texts["category."+string(c.Key)+".hint"] == "" {
			t.Errorf("no text for %s", c.Key)
		}
	}
	for _, a := range ehi.Authorizations() {
		if texts["authorization."+string(a.Key)] == "" {
			t.Errorf("no text for %s", a.Key)
		}
	}
}

func TestWordsOfLanguages(t *testing.T) {
	all := catalogues(t)
	en, es := all.Find("en"), all.Find("es")
	at := time.Date(2026, 1, 31, 15, 4, 0, 0, time.UTC)
	for _, c := range []struct{ got, want string }{
		{all.Match("es-MX,es;q=0.9,en;q=0.5").Tag, "es"},
		{all.Match("fr,en;q=0.5").Tag, "en"},
		{all.Match("").Tag, "en"},
		{all.Match("de").Tag, "en"},
		{all.Match(";;;").Tag, "en"},
		{en.Time(at), "January 31, 2026 at 15:04 UTC"},
		{es.Time(at), "31 de enero de 2026 a las 15:04 UTC"},
		{en.Count("entries", 1), "1 entry"},
		{en.Count("entries", 12345), "12,345 entries"},
		{es.Count("entries", 12345), "12.345 registros"},
		{en.Bytes(999), "999 bytes"}, {en.Bytes(1_500_000), "1.5 MB"}, {es.Bytes(1500), "1,5 KB"},
		{en.Type("Observation"), "Measurements and test results"}, {en.Type("Unheard"), "Unheard"},
		{string(en.Stress("form.intro", "<b>")),
			"An app asked for a copy of the health record of <strong>&lt;b&gt;</strong>. " +
				"You choose here what the hospital shares."},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
}

var (
	sentence = regexp.MustCompile(`[.:?!]+(\s|$)`)
	word     = regexp.MustCompile(`[A-Za-z']+`)
	vowels   = regexp.MustCompile(`[aeiouy]+`)
)

// grade returns the Flesch-Kincaid grade level of a text: the number of school years that it
// takes to read it (Kincaid et al. 1975). A syllable is a group of vowels, without a silent e.
func grade(text string) float64 {
	words := word.FindAllString(strings.ToLower(text), -1)
	syllables := 0
	for _, w := range words {
		n := len(vowels.FindAllString(w, -1))
		if strings.HasSuffix(w, "e") && !strings.HasSuffix(w, "le") && n > 1 {
			n--
		}
		syllables += max(1, n)
	}
	sentences := max(1, len(sentence.FindAllString(text, -1)))
	return 0.39*float64(len(words))/float64(sentences) +
		11.8*float64(syllables)/float64(len(words)) - 15.59
}

// Eight years of school are enough to read the patients' pages as a whole. A single sentence may
// take more, because of medical words.
func TestTextsAreEasyToRead(t *testing.T) {
	var all strings.Builder
	en := catalogues(t).List[0]
	for _, key := range slices.Sorted(maps.Keys(en.Keys())) {
		text := placeholder.ReplaceAllString(en.Keys()[key], "it")
		if len(word.FindAllString(text, -1)) < 8 || !strings.HasSuffix(text, ".") {
			continue // a label
		}
		all.WriteString(text + " ")
		if g := grade(text); g > 12 {
			t.Errorf("%s takes %.1f years of school: %s", key, g, text)
		}
	}
	g := grade(all.String())
	t.Logf("grade %.1f", g)
	if g > 8 {
		t.Errorf("the pages take %.1f years of school", g)
	}
}

// Every resource type of R4 has a name in plain words, in every language.
func TestEveryTypeHasAName(t *testing.T) {
	for _, c := range catalogues(t).List {
		names := map[string]string{}
		for _, typ := range fhir.Types() {
			name := c.Type(typ)
			if !c.Has("type."+typ) || name == typ {
				t.Errorf("%s: %s is called %q", c.Tag, typ, name)
			}
			if other, taken := names[name]; taken {
				t.Errorf("%s: %s and %s are both called %q", c.Tag, typ, other, name)
			}
			names[name] = typ
		}
		for key := range c.Keys() {
			if typ, ok := strings.CutPrefix(key, "type."); ok && !fhir.KnownType(typ) {
				t.Errorf("%s names %s, which is no type of R4", c.Tag, typ)
			}
		}
	}
}
