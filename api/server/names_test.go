package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/auth"
	"ehi-server/exporter/sources"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files/local"
)

// EHI-11: uploaded names keep the letters of every script, and lose what could mislead; they are made unique.
func TestEHI11UploadedNames(t *testing.T) {
	taken := map[string]bool{}
	for _, c := range []struct{ name, want string }{
		{"scan.pdf", "scan.pdf"}, {"scan.pdf", "scan-1.pdf"}, {"SCAN.PDF", "SCAN-2.PDF"}, {"scan.pdf", "scan-3.pdf"},
		{"../../etc/passwd", "passwd"}, {`C:\docs\a "b".txt`, "a b.txt"}, {"%22c%22%0D%0A.txt", "c.txt"},
		{"...", "attachment"}, {"", "attachment-1"}, {"\x00\n", "attachment-2"}, {".htaccess", "htaccess"}, {"end. .", "end"},
		{"näme.pdf", "näme.pdf"}, {"na\u0308me.pdf", "näme-1.pdf"}, {"ＮÄＭＥ.pdf", "ＮÄＭＥ-2.pdf"}, {"診断書.pdf", "診断書.pdf"}, {"Анализ крови.pdf", "Анализ крови.pdf"}, {"تقرير.pdf", "تقرير.pdf"},
		{"می\u200cخواهم.pdf", "می\u200cخواهم.pdf"}, {"x\u202efdp.exe", "xfdp.exe"}, {"a\u2066b\u200bc\ufeff\u2028d.txt", "abc d.txt"}, {"M\xfcller.pdf", "Mller.pdf"}, {"😀.png", "😀.png"},
		{strings.Repeat("x", 300) + ".pdf", strings.Repeat("x", 168) + ".pdf"}, {strings.Repeat("é", 300) + ".pdf", strings.Repeat("é", 84) + ".pdf"},
		{"a." + strings.Repeat("é", 30), "a." + strings.Repeat("é", 9)},
		{"CON", "_CON"}, {"nul.txt", "_nul.txt"}, {"Aux .tar.gz", "_Aux .tar.gz"}, {"com1.pdf", "_com1.pdf"}, {"COM¹", "_COM¹"}, {"ＬＰＴ9.x", "_ＬＰＴ9.x"},
		{"CONIN$", "_CONIN$"}, {"console.txt", "console.txt"}, {"com10.txt", "com10.txt"}, {"my con.txt", "my con.txt"}, {"a:b", "a_b"}, {"file.txt:stream", "file.txt_stream"},
		{"a|b<c>d?e*f.txt", "a_b_c_d_e_f.txt"}, {"=cmd", "_=cmd"}, {"＝cmd.csv", "_＝cmd.csv"}, {"+1.csv", "_+1.csv"}, {"-rf", "_-rf"}, {"@sum.csv", "_@sum.csv"}, {"~root", "_~root"},
		{" =a.csv", "_=a.csv"}, {".aux", "_aux"}, {"\u200d=b.csv", "_=b.csv"}, {"\u200d", "attachment-3"}, {"L\u200cPT8", "_L\u200cPT8"}, {"\u3164=c.csv", "_=c.csv"},
		{"ς.txt", "ς.txt"}, {"Σ.txt", "Σ-1.txt"}, {"σ.txt", "σ-2.txt"}, {"straße.txt", "straße.txt"}, {"STRASSE.TXT", "STRASSE-1.TXT"}, {"stra\u200dsse.txt", "stra\u200dsse-2.txt"}, {"a=b-c+d@e~.txt", "a=b-c+d@e~.txt"},
	} {
		got := uniqueName(c.name, taken)
		taken[ehi.NameKey(got)] = true
		if got != c.want {
			t.Errorf("%q became %q, want %q", c.name, got, c.want)
		}
	}
}

// RFC 6266 and 8187: a name in ASCII for old browsers, and the true one.
func TestNamesInHeadersAreTrueAndASCII(t *testing.T) {
	app := fiber.New()
	for _, c := range []struct{ name, want string }{
		{"scan.pdf", `attachment; filename="scan.pdf"`},
		{"näme (1).pdf", `attachment; filename="name (1).pdf"; filename*=UTF-8''n%C3%A4me%20%281%29.pdf`},
		{"診.pdf", `attachment; filename="_.pdf"; filename*=UTF-8''%E8%A8%BA.pdf`},
		{`50%41'*.txt`, `attachment; filename="50_41'*.txt"; filename*=UTF-8''50%2541%27%2A.txt`},
	} {
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		offerAs(ctx, c.name)
		got := string(ctx.Response().Header.Peek("Content-Disposition"))
		_, params, err := mime.ParseMediaType(got)
		if got != c.want || err != nil || params["filename"] != c.name {
			t.Errorf("%q is offered as %s, which reads as %q, %v", c.name, got, params["filename"], err)
		}
		app.ReleaseCtx(ctx)
	}
}

// A document keeps its true type; what is sent of it runs nowhere.
func TestSniffedTypesAreTrue(t *testing.T) {
	for _, c := range []struct{ content, name, want string }{
		{"%PDF-1.4", "x.txt", "application/pdf"}, {"<html><script>", "x.pdf", "text/html; charset=utf-8"}, {"hello", "x.html", "text/html; charset=utf-8"},
		{"\x89PNG\r\n\x1a\n", "x", "image/png"}, {"<svg xmlns='http://www.w3.org/2000/svg'>", "x", "image/svg+xml"}, {"<?xml version='1.0'?>\n<!-- a -->\n<svg>", "x.xml", "image/svg+xml"},
		{"\ufeff<svg>", "x.svg", "image/svg+xml"}, {"<?xml version='1.0'?><ClinicalDocument>", "x", "text/xml; charset=utf-8"},
		{"Müller", "x", "text/plain; charset=utf-8"},
		{"\xff\xfeM\x00", "x.csv", "text/csv; charset=utf-16le"},
	} {
		if got := sniff([]byte(c.content), c.name); got != c.want {
			t.Errorf("%q as %s is %s, want %s", c.content, c.name, got, c.want)
		}
	}
}

// Text is said to be in UTF-8 only where it is, as a whole.
func TestTextIsSaidToBeUTF8WhereItIs(t *testing.T) {
	long := strings.Repeat("x", 511)
	const text, plain, latin = "text/plain; charset=utf-8", "text/plain", "text/plain; charset=iso-8859-1"
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
			"at once": strings.NewReader(c.content), "byte by byte": iotest.OneByteReader(strings.NewReader(c.content)),
		} {
			content := utf8Reader{Reader: r}
			if _, err := io.Copy(io.Discard, &content); err != nil {
				t.Fatal(err)
			}
			head := []byte(c.content[:min(len(c.content), 512)])
			if got := charsetOf(sniff(head, "x.txt"), content.valid(), c.declared); got != c.want {
				t.Errorf("%q, declared %q, read %s, is %s, want %s", c.content, c.declared, name, got, c.want)
			}
		}
	}
	for _, of := range []string{"application/pdf", "image/svg+xml", "text/plain; charset=utf-16le", "application/json"} {
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
		r := utf8Reader{Reader: io.MultiReader(bytes.NewReader(content[:at]), bytes.NewReader(content[at:]))}
		if _, err := io.Copy(io.Discard, &r); err != nil {
			t.Fatal(err)
		}
		if want := utf8.Valid(content) && bytes.IndexByte(content, 0) < 0; r.valid() != want {
			t.Errorf("%q, cut at %d: %v", content, at, !want)
		}
	})
}

func FuzzUniqueName(f *testing.F) {
	for _, s := range []string{"a.pdf", "../x", "", ".", strings.Repeat("é", 100), "a.b.c.d", "-", "a." + strings.Repeat("x", 300), "\u202e", "İ.pdf", "ﬁ.pdf", "CON", "nul .txt", "a:b", "=cmd", "\u200c=x", "\u200d", "\u3164", "-.", "com1" + strings.Repeat(".", 200) + "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		taken := map[string]bool{}
		for range 3 {
			n := uniqueName(name, taken)
			if taken[ehi.NameKey(n)] || n == "" || len(n) > maxAttachmentName || strings.ContainsAny(n, "/\\\"\x00\r\n") || strings.HasPrefix(n, ".") || !utf8.ValidString(n) {
				t.Fatalf("%q became %q", name, n)
			}
			if portable(n) != n || strings.ContainsAny(n, "<>:|?*") {
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

func FuzzKickOffParameters(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"_since","valueInstant":"2020-01-01T00:00:00Z"},{"name":"x","part":[]}]}`), true)
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"_typeFilter","valueString":"Observation?date=ge2020,Condition?category=a|b,c"},
		{"name":"patient","valueReference":{"reference":"Patient/1"}},{"name":"_elements","valueString":"id,Patient.name"}]}`), true)
	f.Fuzz(func(t *testing.T, body []byte, lenient bool) {
		params, err := fhir.ParseParameters(body)
		if err != nil {
			return
		}
		for _, level := range []ehi.Level{ehi.OnePatient, ehi.AllPatients, ehi.System} {
			for _, op := range []ehi.Operation{ehi.EHIExport, ehi.BulkExport} {
				k, err := ehi.ParseKickOff(ehi.Asked{Level: level, Operation: op, Parameters: params, Lenient: lenient})
				if err != nil && ehi.CodeOf(err) != ehi.Invalid && ehi.CodeOf(err) != ehi.Unsupported {
					t.Fatal(err)
				}
				if err == nil && !lenient && len(k.Notices()) > 0 {
					t.Fatalf("unknown parameters were taken: %v", k.Notices())
				}
			}
		}
	})
}

// Whatever a client says in Accept-Encoding, If-None-Match and Prefer, it is read without harm.
func FuzzHeaders(f *testing.F) {
	f.Add("gzip;q=0.5, br", `W/"x", "y"`, "respond-async, handling=lenient")
	f.Add(";q=", ",,", "")
	app := fiber.New()
	f.Fuzz(func(t *testing.T, encoding, match, prefer string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().Header.Set("Accept-Encoding", encoding)
		c.Request().Header.Set("Prefer", prefer)
		if accepts(c, "gzip") && !strings.Contains(strings.ToLower(encoding), "gzip") {
			t.Fatalf("gzip for %q", encoding)
		}
		if preferred(c).lenient() && !strings.Contains(strings.ToLower(prefer), "lenient") {
			t.Fatalf("lenient for %q", prefer)
		}
		matches(match, `"tag"`)
	})
}

// Whatever Range a client asks for, the answer is a part of the file that Content-Range names truly, the whole, or 416; and the file is
// closed.
func FuzzRange(f *testing.F) {
	for _, r := range []string{"bytes=0-4", "bytes=5-", "bytes=-3", "bytes=9-2", "bytes=0-1,3-4", "bytes=99999999999999999999-", "bytes=-0", "lines=1-2", "bytes=+1-2", "bytes=1--2"} {
		f.Add(r, "")
	}
	f.Add("bytes=0-4", `"tag"`)
	const digits = "0123456789"
	app := fiber.New()
	f.Fuzz(func(t *testing.T, asked, ifRange string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().Header.Set("Range", asked)
		c.Request().Header.Set("If-Range", ifRange)
		closed := &countingCloser{}
		if err := new(Server).send(c, content{ReadSeeker: strings.NewReader(digits), closer: closed, size: int64(len(digits)), mime: mimeNDJSON, tag: "tag"}); err != nil {
			t.Fatal(err)
		}
		body := string(c.Response().Body()) // reads the stream and closes it
		switch status, named := c.Response().StatusCode(), string(c.Response().Header.Peek("Content-Range")); status {
		case 200:
			if body != digits {
				t.Fatalf("%q: the whole is %q", asked, body)
			}
		case 206:
			var from, to, size int
			if _, err := fmt.Sscanf(named, "bytes %d-%d/%d", &from, &to, &size); err != nil || size != len(digits) || from < 0 || to < from || to >= size || body != digits[from:to+1] {
				t.Fatalf("%q: %q is %q", asked, named, body)
			}
		case 416:
			if named != "bytes */10" {
				t.Fatalf("%q: 416 with %q", asked, named)
			}
		default:
			t.Fatalf("%q: %d", asked, status)
		}
		if closed.n != 1 {
			t.Fatalf("%q: closed %d times", asked, closed.n)
		}
	})
}

type countingCloser struct{ n int }

func (c *countingCloser) Close() error { c.n++; return nil }

// Whatever a client puts into a path, routing answers it, as no file: only a job's own table makes names into files.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{"/jobs/x/download/../../etc/passwd", "/jobs/%2e%2e/status", "/fhir/Patient/%00/$ehi-export", "/jobs/x/download/attachments/%zz", "//", "/jobs/" + strings.Repeat("a", 300) + "/status", "/no-form/auto-approve/fhir/Patient/a%2Fb/$ehi-export"} {
		f.Add(p)
	}
	s := routed(f)
	f.Fuzz(func(t *testing.T, path string) {
		ctx := &fasthttp.RequestCtx{}
		ctx.Request.Header.SetMethod("GET")
		ctx.Request.SetRequestURI("/" + strings.TrimLeft(path, "/"))
		s.app.Handler()(ctx)
		if status := ctx.Response.StatusCode(); status >= 500 || status == 0 {
			t.Fatalf("%q: %d %s", path, status, ctx.Response.Body())
		}
	})
}

// routed is a server on a real bus and an empty store.
func routed(f testing.TB, change ...func(*Config)) *Server {
	f.Helper()
	b, err := bus.Open(f.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(b.Close)
	store, err := sources.Store(sources.Config{Data: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	exports, err := local.Open(local.Config{Root: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	a, err := auth.New(f.Context(), auth.Config{KV: b.Auth, Issuer: "http://server.test", Sandbox: true})
	if err != nil {
		f.Fatal(err)
	}
	cfg := Config{BaseURL: "http://server.test", Sandbox: true, MaxBodyBytes: 1 << 20, MaxHeaderBytes: 16 << 10}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg, Deps{Bus: b, Auth: a, Source: store, Files: exports, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		a.Close()
		if err := errors.Join(s.Close(), store.Close()); err != nil && !bus.IsAway(err) { // a test may close the bus
			f.Error(err)
		}
	})
	return s
}
