package content

import (
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func TestPreferIsReadByRFC7240(t *testing.T) {
	app := fiber.New()
	for _, c := range []struct {
		about string
		lines []string
		want  Preferences
	}{
		{"nothing", nil, Preferences{}},
		{"one", []string{"respond-async"}, Preferences{"respond-async": ""}},
		{"a list", []string{"respond-async, handling=lenient"},
			Preferences{"respond-async": "", "handling": "lenient"}},
		{"several lines", []string{"respond-async", "handling=lenient", "wait=3"},
			Preferences{"respond-async": "", "handling": "lenient", "wait": "3"}},
		{"any order and case", []string{"Wait=10,HANDLING=Lenient,Respond-Async"},
			Preferences{"respond-async": "", "handling": "Lenient", "wait": "10"}},
		{"quoted", []string{`handling="lenient", wait="5"`},
			Preferences{"handling": "lenient", "wait": "5"}},
		{"escaped in quotes", []string{`foo="a\"b, c;d\\", handling=lenient`},
			Preferences{"foo": `a"b, c;d\`, "handling": "lenient"}},
		{"white space around =", []string{"handling \t=\t lenient ,\twait= 4"},
			Preferences{"handling": "lenient", "wait": "4"}},
		{"empty values are none", []string{`respond-async="", foo=, wait=2`},
			Preferences{"respond-async": "", "foo": "", "wait": "2"}},
		{
			"parameters are not preferences",
			[]string{`respond-async; wait=9; x="a,b", handling=strict;foo`},
			Preferences{"respond-async": "", "handling": "strict"},
		},
		{"empty parameters", []string{"respond-async ; ; wait=9;, handling=strict"},
			Preferences{"respond-async": "", "handling": "strict"}},
		{
			"the first of a name counts",
			[]string{"handling=lenient, handling=strict", "Handling=strict"},
			Preferences{"handling": "lenient"},
		},
		{"empty members", []string{",, respond-async,,", ""}, Preferences{"respond-async": ""}},
		{
			"malformed members alone are skipped",
			[]string{`=x, a b, foo="x"y, wait=3, /, handling=lenient`},
			Preferences{"wait": "3", "handling": "lenient"},
		},
		{
			"a quote without an end takes the rest of its line",
			[]string{`wait=3, foo="x, handling=lenient`, "respond-async"},
			Preferences{"wait": "3", "respond-async": ""},
		},
	} {
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		for _, line := range c.lines {
			ctx.Request().Header.Add("prefer", line)
		}
		if diff := cmp.Diff(c.want, Preferred(ctx)); diff != "" {
			t.Errorf("%s: %s", c.about, diff)
		}
		app.ReleaseCtx(ctx)
	}
}

func TestPreferWaitTakesWholeSeconds(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0":                    0,
		"10":                   10 * time.Second,
		"007":                  7 * time.Second,
		"99999999999999999999": (1<<31 - 1) * time.Second,
	} {
		if got, ok := (Preferences{"wait": value}).Wait(); !ok || got != want {
			t.Errorf("%q is %s, %t", value, got, ok)
		}
	}
	for _, value := range []string{"", "-1", "+1", "1.5", "1s", "ten", "0x10", "1_0"} {
		if got, ok := (Preferences{"wait": value}).Wait(); ok {
			t.Errorf("%q is %s", value, got)
		}
	}
}

// Any Prefer line is read to its end. The first value of a name counts, and earlier members are
// not lost.
func FuzzPrefer(f *testing.F) {
	for _, line := range []string{
		`respond-async`, `a="\`, `a=";,`, `,;=`, `handling="lenient";x, wait=5`, "a\x00b",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		p := Preferences{}
		p.add("handling=lenient, " + line)
		if !p.Lenient() {
			t.Fatalf("handling is %q", p["handling"])
		}
		for name, value := range p {
			if name == "" || name != strings.ToLower(name) ||
				strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }) {
				t.Fatalf("%q=%q", name, value)
			}
		}
		alone, again := Preferences{}, Preferences{}
		alone.add(line)
		again.add(line)
		again.add(line)
		if diff := cmp.Diff(alone, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
