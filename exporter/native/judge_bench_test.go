package native

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// lenient are rules that search as little as a form can.
type lenient struct{}

func (lenient) Line(ehi.Category, *fhir.Span) string       { return "" }
func (lenient) Code(string, []byte) string                 { return "" }
func (lenient) Text([]byte) string                         { return "" }
func (lenient) Label(string, []byte) string                { return "" }
func (lenient) Authorization(ehi.Authorization) string     { return "" }
func (lenient) Resource(string, []byte) (reason string)    { return "" }
func (lenient) Describes([]byte) (string, error)           { return "", nil }
func (lenient) Called([]byte) (reason string)              { return "" }
func (lenient) Named(string, []byte, func(string, []byte)) {}
func (lenient) Group(fhir.Coding) ehi.Category             { return "" }

func (lenient) Mentions(text []byte) (reason string) {
	if bytes.Contains(text, []byte(needle)) {
		return "found"
	}
	return ""
}

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
		"escaped": {"application/json",
			`{"text":"\u0054he patient came in good health\nand left so"},`},
	} {
		text := []byte(strings.Repeat(c.text, 16<<20/len(c.text)))
		d := &source.Document{ContentType: c.mime, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text)), nil
		}}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if why, err := NewRelease(lenient{}, nil).content(d); why != "" || err != nil {
					b.Fatal(why, err)
				}
			}
		})
	}
}
