package server

import (
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// EHI-11: uploaded names are cleaned and made unique.
func TestEHI11UploadedNames(t *testing.T) {
	taken := map[string]bool{}
	var got []string
	for _, name := range []string{"scan.pdf", "scan.pdf", "scan.pdf", "../../etc/passwd", `C:\docs\a "b".txt`, "...", "", "\x00\n", "näme.pdf", strings.Repeat("x", 300) + ".pdf", ".htaccess"} {
		n := uniqueName(name, taken)
		taken[n] = true
		got = append(got, n)
	}
	want := []string{"scan.pdf", "scan-1.pdf", "scan-2.pdf", "passwd", "a b.txt", "attachment", "attachment-1", "attachment-2", "n_me.pdf", strings.Repeat("x", 78) + ".pdf", "htaccess"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What a browser would run as a page or script of this origin is never sent as such.
func TestSniffedTypesRunNothing(t *testing.T) {
	for _, c := range []struct{ content, name, want string }{
		{"%PDF-1.4", "x.txt", "application/pdf"}, {"<html><script>", "x.pdf", "text/plain; charset=utf-8"}, {"hello", "x.html", "text/plain; charset=utf-8"},
		{"\x89PNG\r\n\x1a\n", "x", "image/png"}, {"alert(1)", "x.js", "text/plain; charset=utf-8"}, {"<svg", "x.svg", "text/plain; charset=utf-8"},
	} {
		if got := sniff([]byte(c.content), c.name); got != c.want {
			t.Errorf("%q as %s is %s, want %s", c.content, c.name, got, c.want)
		}
	}
}

func FuzzUniqueName(f *testing.F) {
	for _, s := range []string{"a.pdf", "../x", "", ".", strings.Repeat("é", 100), "a.b.c.d", "-", "a." + strings.Repeat("x", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		taken := map[string]bool{}
		for range 3 {
			n := uniqueName(name, taken)
			if taken[n] || n == "" || len(n) > maxAttachmentName || strings.ContainsAny(n, "/\\\"\x00\r\n") || strings.HasPrefix(n, ".") {
				t.Fatalf("%q became %q", name, n)
			}
			for _, r := range n {
				if r > 126 {
					t.Fatalf("%q became %q", name, n)
				}
			}
			taken[n] = true
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
				if err == nil && !lenient && len(k.Unknown) > 0 {
					t.Fatalf("unknown parameters were taken: %v", k.Unknown)
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
		if preferred(c, "handling=lenient") && !strings.Contains(strings.ToLower(prefer), "lenient") {
			t.Fatalf("lenient for %q", prefer)
		}
		matches(match, `"tag"`)
	})
}
