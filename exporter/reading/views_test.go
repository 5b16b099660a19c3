package reading

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// whole reads a text in one piece, or in pieces of some bytes.
func whole(s step, text []byte, size int) string {
	var out []byte
	for {
		n := min(size, len(text))
		plain, _ := s.read(text[:n], n == len(text))
		out = append(out, plain...)
		if text = text[n:]; len(text) == 0 {
			return string(out)
		}
	}
}

// steps are all steps, by name.
var steps = map[string]func() step{
	"JSON":             func() step { return newEscapes('\\', jsonEscape) },
	"quoted-printable": func() step { return newEscapes('=', quotedPrintable) },
	"percent":          func() step { return newEscapes('%', percentEncoded) },
	"CSV":              func() step { return newDoubled() },
	"UTF-7":            func() step { return newEscapes('+', utf7) },
	"hidden UTF-7":     func() step { return newEscapes('+', hiddenUTF7) },
	"EBCDIC":           ebcdic,
	"GB 18030":         func() step { return charsetCalled("gb18030").step() },
	"references":       func() step { return newEscapes('&', characterReference) },
	"all references":   func() step { return newEscapes('&', anyReference) },
	"rich text":        func() step { return &richText{} },
	"seen rich text":   func() step { return &richText{visible: true} },
	"markup":           func() step { return &markup{} },
	"seen markup":      func() step { return &both{} },
	"UTF-16":           func() step { return charsetOf([]byte("\xff\xfe")) },
	"elements":         func() step { return &elements{} },
	"entities": func() step {
		all := entitiesOf([]byte(`<!DOCTYPE a [<!ENTITY b "1&c;2"><!ENTITY c '3'>` +
			`<!ENTITY d "&d;&d;x"><!ENTITY t "<b>">]>`))
		return newEscapes('&', all.resolve(characterReference, false))
	},
	"no zeros":       func() step { return charsetOf(nil) },
	"codes of JSON":  func() step { return &jsonCodes{} },
	"JSON in text":   func() step { return &jsonCodes{lines: true} },
	"codes of XML":   func() step { return &xmlCodes{of: entities{"b": []byte("B2")}} },
	"codes of HL7v2": func() step { return newMessageCodes() },
}

// both are the two steps for markup, of which the second one counts.
type both struct {
	markup
	visible visibleMarkup
}

func (b *both) read(piece []byte, last bool) (plain []byte, changed bool) {
	b.visible.of = &b.markup
	b.markup.read(piece, last)
	return b.visible.read(piece, last)
}

func TestEHI9EachWayOfWritingCharactersIsResolved(t *testing.T) {
	for _, c := range []struct{ step, text, want string }{
		{"JSON", `\u0041\u00e9\uD83D\uDE00\n\"\\u0041\/`, "Aé😀\n\"\\u0041/"},
		{"JSON", `\uD83Dx \uD83D\u0041 \uDE00 \u00g1 \u12`, "\ufffdx \ufffdA \ufffd \\u00g1 \\u12"},
		{"JSON", `C:\Documents\`, `C:\Documents\`},
		{"quoted-printable", "=41=c3=A9=3D=\r\nB=  \t\nC=zz =", "Aé=BC=zz ="},
		{"percent", `%41%c3%A9 100% %`, `Aé 100% %`},
		{"CSV", `a,"b ""c"" """,""d"`, `a,"b "c" "",` + `"d"`},
		{"UTF-7", "1+AC0-2+AOk.+2D3eAA-+- +A-+ 3+", "1-2é.😀+ +A-+ 3+"},
		{"hidden UTF-7", "1+AC0-2+AOk.+2D3eAA-+- " + "+AEIAMgAw", "1-2+AOk.+2D3eAA-+ +AEIAMgAw"},
		{"hidden UTF-7", "+AEIAMgAw-", "B20"},
		{"EBCDIC", "\x81\x82\x60\xf1\x4b\x7f\xc1", `ab-1."A`},
		{"GB 18030", "a\xa3\xad\x81\x30\x84\x36", "a\uff0d\u00a5"},
		{"references", `&#65;&#x00042;&eacute;&amp;&lt;b&#62;&quot;&zzz; & &`,
			`ABé&&lt;b&#62;&quot;&zzz; & &`},
		{"references", `&#65 &#x0000000000000000000000000000000000000000000000042;`, `A B`},
		{"all references", `&lt;b&#62;`, `<b>`},
		{"rich text", `{\rtf1\ansi {\b 1}2\par 3\'e94}`, "12\n3é4"},
		{"rich text", `\u233?\u-4051 ?\uc0\u55357\u56832 \uc2\u65\'3f\'3f{\uc0 \u66}\u67 ??\u68}`,
			"é\uf02d😀ABCD"},
		{"rich text", "a\\-b\\_c\\~d\\\\\\{e\\}\r\nf\\b-g\\b0-1\\uc1\\u65{\\*\\f ?}",
			"a-b-c d\\{e}f-g-1A?"},
		{"seen rich text", "a\\-b\\_c", "ab-c"},
		{"rich text", "{\\bin3 {\\}A\\endash}", "{\\}A–"},
		{"markup", `1<b>2</b><!-- a > b -->3<td title='>'>4</td>5<br/>6`, "123 4 5 6"},
		{"markup", `a < b, a <5, <![CDATA[1]]>2<?xml a?>`, "a < b, a <5, 12 "},
		{"markup", `<![CDATA[1]] ]>2]]]>3]]><![CDATA[<b>4</b>]]>]`, "1]] ]>2]3]]>4]"},
		{"markup", `1<img src="data:x">2<v3:content>3</v3:content>4<br>5`, "1234 5"},
		{"markup", `1<style>p{}</style>2`, "1 p{} 2"},
		{"seen markup", `1<style a=">">p<b{}</style>2<SCRIPT>a < b</p>'</Script >3<script/>4`,
			"1234"},
		{"seen rich text", `{\rtf1 1{\*\bkmkstart {a} b}2{\field{\*\fldinst X}{\fldrslt 3}}4}`,
			"1234"},
		{"seen rich text", `{1{\v x\v0 2}{\fonttbl {\f0 X;}}3{\*\f \'41\bin2 }}}4}`, "1234"},
		{"elements", `code="0"<a x='code="1" y' codeSystem = "2"><b>code <c code='3'/>`,
			`< code="0"< code="1" codeSystem="2"< code='3'`},
		{"entities", `&b; &c &t; &zz; &#65;&amp;`, `132 &c &t; &zz; A&`},
		{"markup", `<!-->1<a href=">" title = '"'>2</a`, "12"},
		{"codes of JSON", `{"a":[{"code":"1","x":{"system":"y","e":"}\""},"system":"s\u0031"},` +
			`{"s\u0079stem":"s","\u0063ode":2}],"code":"3"}{"codeSystem":"<\"","code":["4","5"]}`,
			coded("s1", "1", "s", "2", "  ", "4", "  ", "5")},
		{"JSON in text", `<a b="{"system":"s","code":"1"}" c="x">"y"z "{"code":2,"system":"t"}` +
			"say \"{\nsystem\":\"u\",\"code\":\"3\"}", coded("s", "1", "t", "2")},
		{"codes of JSON", `{"system":"s","code":"1&#x32;"}`, coded("s", "1&#x32;", "s", "12")},
		{"codes of XML", `<a><system value="s"/><![CDATA[</a>] a<b 'c ]]]><code value="1"/>` +
			`<![CDATA[<code value='2'/> <!-- ]> --><system value="t"/>]]></a>`,
			coded("s", "1", "t", "2")},
		{"codes of XML", `<?xml ?><f:a><f:system  value = "s>"/><!--<x>-->` +
			`<version value='v'></version>` +
			`<extension><code value="0"/></extension><code value='&b;&#x30;'/></f:a>` +
			`<b><![CDATA[<c>]]><system value='1'/><code alt="value" value="2"><x/></code></b>` +
			`<code value="3"/>`, coded("s>", "B20", "1", "2")},
		{"codes of HL7v2", "MSH|^~\\&|A\rDG1|1|I10|1^text^|x~2^^s^3^^t\nOBX|4&&u^5\r" +
			"ORC" + strings.Repeat("|", 28) + "7\x0bMSH#-~\\&#A\rPR1##L#8-x-y\rZ#9-x-y",
			coded("I10", "1", "s", "2", "t", "3", "u", "4",
				"urn:oid:2.16.840.1.113883.12.177", "7", "y", "8", "L", "8", "y", "9")},
		{"codes of HL7v2", "MSH|^~\\&|A\\|B\rOBX|79\\X31\\8-6^\\F\\^L\\n|" +
			"a\\S\\b\\R\\\\T\\\\E\\\\P\\^x^\\H\\s\\N\\|5\\.br\\x\\Xa\\^\\^\\q\\|6^^\\X4C4e",
			coded("L\\n", "7918-6", "s", `a^b~&\#`, `\q\`, "5 x", `\X4C4e`, "6")},
		{"UTF-16", "\xff\xfeA\x00\xe9\x00\x3d\xd8\x00\xde", "Aé😀"},
		{"no zeros", "A\x00B\x00", "AB"},
	} {
		for size := 1; size <= len(c.text); size++ {
			if got := whole(steps[c.step](), []byte(c.text), size); got != c.want {
				t.Errorf("%s: %q in pieces of %d is %q, want %q", c.step, c.text, size, got, c.want)
				break
			}
		}
	}
}

// coded returns codes as steps leave them, which are given as systems and codes.
func coded(pairs ...string) string {
	var c codings
	for at := 0; at < len(pairs); at += 2 {
		c.add([]byte(pairs[at]), []byte(pairs[at+1]))
	}
	return string(c.plain)
}

// A text means the same, whatever pieces it comes in.
func FuzzPiecesDoNotMatter(f *testing.F) {
	f.Add([]byte(`{\rtf1 \u233?\'e9{\b x}\bin3 {}}`), uint8(1))
	f.Add([]byte(`"\uD83D\uDE00\u00" =41=  &amp;#65; %4 <b a=">">&lt; <!-- - --->`), uint8(3))
	f.Add([]byte("<a xcode='1' code = \"2\"codeSystem='3' code code\n= =code='4><code='5'"),
		uint8(2))
	f.Add([]byte("\xff\xfeA\x00\x3d\xd8\x00\xde"), uint8(3))
	f.Add([]byte(`{"code":"\u0031","a":{},"system":["2",3]}`), uint8(2))
	f.Add([]byte(`<a><!-- <b> --><system value="1"/><code value='2'/></a><![CDATA[<]]>`), uint8(2))
	f.Add([]byte(`<a><![CDATA[</b><system value="1"/><c ']]]><code value='2'/><![CDATA[]]`),
		uint8(2))
	f.Add([]byte(`x="{"system":"1","code":"2"}" y="z"`), uint8(2))
	f.Add([]byte("MSH|^~\\&|\rDG1|1|1|2^3^4~5&6&7\r"), uint8(2))
	f.Add([]byte("MSH|^~\\&|\rDG1|1|1|2\\X31\\^3\\F\\^4\\|\\S"), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		for name, of := range steps {
			want := whole(of(), text, len(text)+1)
			if got := whole(of(), text, int(size)+1); got != want {
				t.Errorf("%s: %q is %q in pieces of %d, and %q", name, text, got, int(size)+1, want)
			}
		}
	})
}

// needle is what must be found.
const needle = "withheld-0123456789"

// writings write a character in a way that a format has.
var writings = map[string]func(r *rand.Rand, c byte) string{
	"application/json": func(_ *rand.Rand, c byte) string { return fmt.Sprintf(`\u%04x`, c) },
	"text/rtf": func(r *rand.Rand, c byte) string {
		return []string{
			fmt.Sprintf(`\'%02x`, c), fmt.Sprintf(`\u%d?`, c), fmt.Sprintf(`{\insrsid%d %c}`, c, c),
			fmt.Sprintf("{\\uc0\\u%d}\r\n", c), fmt.Sprintf(`\u%d\'3f`, c),
			fmt.Sprintf(`{\*\bkmkstart _Toc%d}%c`, c, c),
			fmt.Sprintf(`{\field{\*\fldinst {X %d}}{\fldrslt {%c}}}`, c, c),
			fmt.Sprintf(`\-%c`, c),
		}[r.IntN(8)]
	},
	"text/html": func(r *rand.Rand, c byte) string {
		return []string{
			fmt.Sprintf("&#%d;", c), fmt.Sprintf("&#x%x;", c), fmt.Sprintf("<b>%c</b>", c),
			fmt.Sprintf("%c<!-- & -->", c), fmt.Sprintf("<style>p{}</style>%c", c),
			fmt.Sprintf("%c<img src='data:image/png;base64,%s'>", c, strings.Repeat("A", 6000)),
			fmt.Sprintf("<![CDATA[%c]]>", c),
		}[r.IntN(7)]
	},
	"message/rfc822": func(r *rand.Rand, c byte) string {
		return []string{fmt.Sprintf("=%02X", c), fmt.Sprintf("%c=\r\n", c)}[r.IntN(2)]
	},
	"text/uri-list": func(_ *rand.Rand, c byte) string { return fmt.Sprintf("%%%02X", c) },
	"text/plain":    func(_ *rand.Rand, c byte) string { return string(c) },
}

// EHI-9: an ID is found however it is written, in every character set, and wherever it is.
func TestEHI9AnIDIsFoundHoweverItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mime := rapid.SampledFrom([]string{
			"application/json", "text/rtf", "text/html", "message/rfc822", "text/uri-list",
			"text/plain",
		}).Draw(t, "type")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var b strings.Builder
		if mime == "text/rtf" {
			b.WriteString(`{\rtf1\ansi `)
		}
		b.WriteString(strings.Repeat("1 finding\n", rapid.IntRange(0, 1000).Draw(t, "before")))
		for i := range len(needle) {
			if r.IntN(2) == 0 {
				b.WriteString(writings[mime](r, needle[i]))
			} else {
				b.WriteByte(needle[i])
			}
		}
		b.WriteString(strings.Repeat(" 1 finding\n", rapid.IntRange(0, 1000).Draw(t, "after")))
		text := []byte(b.String())
		switch rapid.SampledFrom([]string{"", "mark", "little", "big"}).Draw(t, "set") {
		case "mark":
			text = append([]byte("\ufeff"), text...)
		case "little":
			text = []byte("\xff\xfe")
			for _, u := range utf16.Encode([]rune(b.String())) {
				text = append(text, byte(u), byte(u>>8))
			}
		case "big":
			text = []byte("\xfe\xff")
			for _, u := range utf16.Encode([]rune(b.String())) {
				text = append(text, byte(u>>8), byte(u))
			}
		}
		size := rapid.IntRange(1, 5000).Draw(t, "piece")
		if !finds(mime, text, size) {
			t.Fatalf("%q is not found in %s: %q", needle, mime, text)
		}
	})
}

// finds reports whether a text with the needle is judged to have it.
func finds(mime string, text []byte, size int) bool {
	return readAll(mime, text, size, Judge{Text: func(text []byte) string {
		if bytes.Contains(text, []byte(needle)) {
			return "found"
		}
		return ""
	}}) != ""
}

// readAll reads a text in pieces of some bytes, up to the first reason.
func readAll(mime string, text []byte, size int, by Judge) (reason string) {
	head := text[:min(size, len(text))]
	views := viewsOf(mime, head, declaredBy(mime, head))
	for {
		n := min(size, len(text))
		reason, _ = views.read(text[:n], n == len(text), by)
		if reason != "" || n == len(text) {
			return reason
		}
		text = text[n:]
	}
}

// A view keeps a little of a text, however it is written.
func TestAViewKeepsLittleOfAText(t *testing.T) {
	for _, unit := range []string{
		"&", "&#0", "&a", "\\", "\\u", "\\ud83d", "=", "= ", "%", "<", "<a '", "<!--", "<!", "{",
		"\\bin99999999999 ", "\\a1", "\\u1", "codeSystem", "<codeSystem ", "\x00",
		"{", `{"code":"`, "[\"", "^", "&", "MSH|", "~|", "<x>", "<!--x",
	} {
		text := []byte(strings.Repeat(unit, 1<<20/len(unit)))
		for name, of := range steps {
			s := of()
			for rest := text; len(rest) > 0; {
				n := min(64<<10, len(rest))
				if plain, _ := s.read(rest[:n], false); len(plain) > 4*n+overlap {
					t.Errorf("%s: %d bytes of %q are %d", name, n, unit, len(plain))
				}
				rest = rest[n:]
			}
			switch s := s.(type) {
			case *escapes:
				if len(s.begun) > overlap {
					t.Errorf("%s keeps %d bytes of %q", name, len(s.begun), unit)
				}
			case *richText:
				if len(s.control) > maxControl || len(s.groups) > maxGroups {
					t.Errorf("%s keeps %d and %d of %q", name, len(s.control), len(s.groups), unit)
				}
			case *markup:
				if len(s.name) > maxControl+1 {
					t.Errorf("%s keeps %d bytes of %q", name, len(s.name), unit)
				}
			}
		}
	}
}
