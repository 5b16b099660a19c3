package reading

import (
	"bytes"
	"strings"
	"testing"
)

func BenchmarkATextIsJudged(b *testing.B) {
	for name, c := range map[string]struct{ mime, text string }{
		"plain": {"text/plain", "The patient came in good health, and left so.\n"},
		"RTF": {"text/rtf",
			"{\\rtf1 \\b The patient\\b0  came in good health, and left so.\\par\r\n}"},
		"CDA": {"text/xml",
			`<value code="E11.9" codeSystem="2.16" displayName="Diabetes"/>` +
				`<text>It is &lt; 5</text>`},
		"XHTML": {"text/html",
			`<p>The <b>patient</b> came in good health &amp; left so.</p>` + "\n"},
		"JSON": {"application/json", `{"text":"The patient came in good health\nand left so"},`},
		"FHIR": {"application/fhir+json",
			`{"resourceType":"Condition","text":{"status":"generated","div":"<div xmlns=` +
				`\"http://www.w3.org/1999/xhtml\"><p>It is &lt; 5 &amp; good\n</p></div>"},` +
				`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm",` +
				`"code":"E11.9"}]}},`},
		"escaped": {"application/json",
			`{"text":"\u0054he patient came in good health\nand left so"},`},
	} {
		text := []byte(strings.Repeat(c.text, 16<<20/len(c.text)))
		by := Judge{
			Text: func(text []byte) (reason string) {
				if bytes.Contains(text, []byte(needle)) {
					return "found"
				}
				return ""
			},
			Codes: NewCodes(func(string, []byte) string { return "" }).In,
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				why, _, err := Document(bytes.NewReader(text), c.mime, by)
				if why != "" || err != nil {
					b.Fatal(why, err)
				}
			}
		})
	}
}
