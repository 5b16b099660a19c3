package jobs

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"

	"ehi-server/shared/ehi"
)

// EHI-11: uploaded names keep the letters of every script, lose misleading characters, and are
// unique.
func TestEHI11UploadedNames(t *testing.T) {
	taken := map[string]bool{}
	for _, c := range []struct{ name, want string }{
		{"scan.pdf", "scan.pdf"},
		{"scan.pdf", "scan-1.pdf"},
		{"SCAN.PDF", "SCAN-2.PDF"},
		{"scan.pdf", "scan-3.pdf"},
		{"../../etc/passwd", "passwd"},
		{`C:\docs\a "b".txt`, "a b.txt"},
		{"%22c%22%0D%0A.txt", "c.txt"},
		{"...", "attachment"},
		{"", "attachment-1"},
		{"\x00\n", "attachment-2"},
		{".htaccess", "htaccess"},
		{"end. .", "end"},
		{"näme.pdf", "näme.pdf"},
		{"na\u0308me.pdf", "näme-1.pdf"},
		{"ＮÄＭＥ.pdf", "ＮÄＭＥ-2.pdf"},
		{"診断書.pdf", "診断書.pdf"},
		{"Анализ крови.pdf", "Анализ крови.pdf"},
		{"تقرير.pdf", "تقرير.pdf"},
		{"می\u200cخواهم.pdf", "می\u200cخواهم.pdf"},
		{"x\u202efdp.exe", "xfdp.exe"},
		{"a\u2066b\u200bc\ufeff\u2028d.txt", "abc d.txt"},
		{"M\xfcller.pdf", "Mller.pdf"},
		{"😀.png", "😀.png"},
		{strings.Repeat("x", 300) + ".pdf", strings.Repeat("x", 168) + ".pdf"},
		{strings.Repeat("é", 300) + ".pdf", strings.Repeat("é", 84) + ".pdf"},
		{"a." + strings.Repeat("é", 30), "a." + strings.Repeat("é", 9)},
		{"CON", "_CON"},
		{"nul.txt", "_nul.txt"},
		{"Aux .tar.gz", "_Aux .tar.gz"},
		{"com1.pdf", "_com1.pdf"},
		{"COM¹", "_COM¹"},
		{"ＬＰＴ9.x", "_ＬＰＴ9.x"},
		{"CONIN$", "_CONIN$"},
		{"console.txt", "console.txt"},
		{"com10.txt", "com10.txt"},
		{"my con.txt", "my con.txt"},
		{"a:b", "a_b"},
		{"file.txt:stream", "file.txt_stream"},
		{"a|b<c>d?e*f.txt", "a_b_c_d_e_f.txt"},
		{"=cmd", "_=cmd"},
		{"＝cmd.csv", "_＝cmd.csv"},
		{"+1.csv", "_+1.csv"},
		{"-rf", "_-rf"},
		{"@sum.csv", "_@sum.csv"},
		{"~root", "_~root"},
		{" =a.csv", "_=a.csv"},
		{".aux", "_aux"},
		{"\u200d=b.csv", "_=b.csv"},
		{"\u200d", "attachment-3"},
		{"L\u200cPT8", "_L\u200cPT8"},
		{"\u3164=c.csv", "_=c.csv"},
		{"ς.txt", "ς.txt"},
		{"Σ.txt", "Σ-1.txt"},
		{"σ.txt", "σ-2.txt"},
		{"straße.txt", "straße.txt"},
		{"STRASSE.TXT", "STRASSE-1.TXT"},
		{"stra\u200dsse.txt", "stra\u200dsse-2.txt"},
		{"a=b-c+d@e~.txt", "a=b-c+d@e~.txt"},
	} {
		got := UniqueName(c.name, taken)
		taken[ehi.NameKey(got)] = true
		if got != c.want {
			t.Errorf("%q became %q, want %q", c.name, got, c.want)
		}
	}
}

// A document keeps its true type. Browsers never run it.
func TestSniffedTypesAreTrue(t *testing.T) {
	for _, c := range []struct{ content, name, want string }{
		{"%PDF-1.4", "x.txt", "application/pdf"},
		{"<html><script>", "x.pdf", "text/html; charset=utf-8"},
		{"hello", "x.html", "text/html; charset=utf-8"},
		{"\x89PNG\r\n\x1a\n", "x", "image/png"},
		{"<svg xmlns='http://www.w3.org/2000/svg'>", "x", "image/svg+xml"},
		{"<?xml version='1.0'?>\n<!-- a -->\n<svg>", "x.xml", "image/svg+xml"},
		{"\ufeff<svg>", "x.svg", "image/svg+xml"},
		{"<?xml version='1.0'?><ClinicalDocument>", "x", "text/xml; charset=utf-8"},
		{"Müller", "x", "text/plain; charset=utf-8"},
		{"\xff\xfeM\x00", "x.csv", "text/csv; charset=utf-16le"},
	} {
		if got := sniff([]byte(c.content), c.name); got != c.want {
			t.Errorf("%q as %s is %s, want %s", c.content, c.name, got, c.want)
		}
	}
}

// A document's type says UTF-8 only if all of its text is UTF-8.
func TestTextIsSaidToBeUTF8WhereItIs(t *testing.T) {
	long := strings.Repeat("x", 511)
	const text, plain, latin = "text/plain; charset=utf-8", "text/plain",
		"text/plain; charset=iso-8859-1"
	for _, c := range []struct{ content, declared, want string }{
		{"Müller", "", text},
		{"Müller", latin, text},
		{"", "", text},
		{long + "üü漢😀", "", text},
		{"ñ"[:1], "", plain},
		{"\xf1", plain, plain},
		{"\xf1", latin, latin},
		{"\xf1", "text/plain; charset=ISO-8859-1", latin},
		{"\xf1", "application/pdf; charset=windows-1252", "text/plain; charset=windows-1252"},
		{"\xf1", text, plain},
		{"\xf1", "text/plain; charset=UTF8", plain},
		{"\xf1", "text/plain; charset=x-none", plain},
		{"\xf1", `text/plain; charset="a b"`, plain},
		{"\xf1", ";;;", plain},
		{"M\xfcller", "", plain},
		{long + "M\xfcller", "", plain},
		{long + "ü"[:1], "", plain},
		{long + "ü"[:1] + "x", "", plain},
		{"M\x00\xfc\x00", "", plain},
		{"M\x00u\x00", "text/plain; charset=utf-16le", "text/plain; charset=utf-16le"},
	} {
		for name, r := range map[string]io.Reader{
			"at once":      strings.NewReader(c.content),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.content)),
		} {
			content := utf8Reader{Reader: r}
			if _, err := io.Copy(io.Discard, &content); err != nil {
				t.Fatal(err)
			}
			head := []byte(c.content[:min(len(c.content), 512)])
			if got := charsetOf(sniff(head, "x.txt"), content.valid(), c.declared); got != c.want {
				t.Errorf("%q, declared %q, read %s, is %s, want %s", c.content, c.declared, name,
					got, c.want)
			}
		}
	}
	for _, of := range []string{
		"application/pdf", "image/svg+xml", "text/plain; charset=utf-16le", "application/json",
	} {
		if got := charsetOf(of, false, latin); got != of {
			t.Errorf("%s became %s", of, got)
		}
	}
}

func FuzzUTF8IsRecognized(f *testing.F) {
	f.Add([]byte("ü漢😀"), 1)
	f.Add([]byte("ü\xfc"), 2)
	f.Fuzz(func(t *testing.T, content []byte, at int) {
		at = min(max(at, 0), len(content))
		r := utf8Reader{
			Reader: io.MultiReader(bytes.NewReader(content[:at]), bytes.NewReader(content[at:])),
		}
		if _, err := io.Copy(io.Discard, &r); err != nil {
			t.Fatal(err)
		}
		if want := utf8.Valid(content) && bytes.IndexByte(content, 0) < 0; r.valid() != want {
			t.Errorf("%q, cut at %d: %v", content, at, !want)
		}
	})
}

func FuzzUniqueName(f *testing.F) {
	for _, s := range []string{
		"a.pdf",
		"../x",
		"",
		".",
		strings.Repeat("é", 100),
		"a.b.c.d",
		"-",
		"a." + strings.Repeat("x", 300),
		"\u202e",
		"İ.pdf",
		"ﬁ.pdf",
		"CON",
		"nul .txt",
		"a:b",
		"=cmd",
		"\u200c=x",
		"\u200d",
		"\u3164",
		"-.",
		"com1" + strings.Repeat(".", 200) + "x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		taken := map[string]bool{}
		for range 3 {
			n := UniqueName(name, taken)
			if taken[ehi.NameKey(n)] || n == "" || len(n) > maxAttachmentName ||
				strings.ContainsAny(n, "/\\\"\x00\r\n") || strings.HasPrefix(n, ".") ||
				!utf8.ValidString(n) {
				t.Fatalf("%q became %q", name, n)
			}
			if ehi.PortableName(n) != n || strings.ContainsAny(n, "<>:|?*") {
				t.Fatalf("%q became %q, which other systems misread", name, n)
			}
			for _, r := range n {
				if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
					t.Fatalf("%q became %q", name, n)
				}
			}
			taken[ehi.NameKey(n)] = true
		}
	})
}
