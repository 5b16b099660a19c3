package weburl_test

import (
	"net/url"
	"strings"
	"testing"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"ehi-server/shared/weburl"
)

// Addresses are read as browsers read them.
func TestAddressesAreReadAsBrowsersDo(t *testing.T) {
	for raw, want := range map[string]struct{ origin, whole string }{
		"http:/app.example/done":            {"http://app.example", "http://app.example/done"},
		"http:app.example/done":             {"http://app.example", "http://app.example/done"},
		`http:\\app.example\done`:           {"http://app.example", "http://app.example/done"},
		"http:////app.example/done":         {"http://app.example", "http://app.example/done"},
		" \t\nhttp://app.example/done\r\n ": {"http://app.example", "http://app.example/done"},
		"ht\ntp:/\t/app.exa\rmple/do\nne":   {"http://app.example", "http://app.example/done"},
		"HTTPS://APP.Example:443":           {"https://app.example", "https://app.example/"},
		"http://app.example:80/a/../b?c#d":  {"http://app.example", "http://app.example/b?c#d"},
		"https://app.example:8443/": {
			"https://app.example:8443", "https://app.example:8443/",
		},
		"https://bücher.example/": {
			"https://xn--bcher-kva.example", "https://xn--bcher-kva.example/",
		},
		"https://%61pp.example/": {"https://app.example", "https://app.example/"},
		"https://app。example/":   {"https://app.example", "https://app.example/"},
		"https://app.example./":  {"https://app.example.", "https://app.example./"},
		"http://[::0001]:80/":    {"http://[::1]", "http://[::1]/"},
		"http://0x7f.1/":         {"http://127.0.0.1", "http://127.0.0.1/"},
		`https://app.example\@evil.example/`: {
			"https://app.example",
			"https://app.example/@evil.example/",
		},
		"https://app.example#@evil.example/": {
			"https://app.example",
			"https://app.example/#@evil.example/",
		},
		"javascript:alert(1)":               {"", "javascript:alert(1)"},
		"data:text/html,x":                  {"", "data:text/html,x"},
		"org.example.app:/cb":               {"", "org.example.app:/cb"},
		"file:///etc/passwd":                {"", "file:///etc/passwd"},
		"blob:https://app.example/9115d58c": {"", "blob:https://app.example/9115d58c"},
	} {
		u, err := weburl.Parse(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		if u.Origin() != want.origin || u.String() != want.whole ||
			u.IsWeb() != (want.origin != "") {
			t.Errorf("%q is %q of %q", raw, u, u.Origin())
		}
	}
	for _, raw := range []string{
		"",
		" ",
		"/path",
		"//app.example/",
		"app.example/cb",
		"http://",
		"http:",
		"https://app.example:99999/",
		"https://a b/",
		"https://[::1/",
		"https://1.2.3.256/",
		"https://a%00b/",
		"https://" + strings.Repeat("a", 9000),
	} {
		if u, err := weburl.Parse(raw); err == nil {
			t.Errorf("%q is read as %q", raw, u)
		}
	}
	for _, raw := range []string{
		"https://app.example@evil.example/",
		"https://:x@evil.example/",
		"http:app.example@evil.example",
	} {
		u, err := weburl.Parse(raw)
		if err != nil || !u.HasCredentials() || u.Hostname() != "evil.example" {
			t.Errorf("%q: %v, %v", raw, u, err)
		}
	}
}

// What a page may lead on to is a path of its own origin, however it is written.
func TestALocalPathStaysOnItsOrigin(t *testing.T) {
	for raw, want := range map[string]string{
		"/jobs/1/customize?a=b#c":        "/jobs/1/customize?a=b",
		"https://ehi.example:443/jobs/1": "/jobs/1",
		"HTTPS://EHI.example/jobs/1":     "/jobs/1",
		` \jobs\1 `:                      "/jobs/1",
		"/jobs/../my/requests":           "/my/requests",
		"/jobs/\t1":                      "/jobs/1",
		`/"><script>`:                    "/%22%3E%3Cscript%3E",
		// of the same scheme: a relative address
		"https:evil.example":                "/evil.example",
		"/.%2e/%2f/evil.example":            "/%2f/evil.example",
		"":                                  "",
		" \n":                               "",
		"//evil.example/":                   "",
		`/\evil.example`:                    "",
		`\\evil.example`:                    "",
		"/\t/evil.example":                  "",
		"/\n\\evil.example":                 "",
		" //evil.example":                   "",
		"///evil.example":                   "",
		"/.//evil.example":                  "", // of this origin, yet its path alone is another
		"/..//evil.example":                 "",
		`/.\\evil.example`:                  "",
		"https://ehi.example//evil.example": "",
		"https://ehi.example@evil.example/": "",
		"https://user@ehi.example/":         "",
		"https://ehi.example.evil.example/": "",
		"https://ehi.example./":             "",
		"https://ehi.example:8443/":         "",
		"http://ehi.example/":               "",
		"http:evil.example":                 "",
		"javascript:alert(1)":               "",
		"java\nscript:alert(1)":             "",
		"data:text/html,x":                  "",
	} {
		got, ok := weburl.Local("https://ehi.example", raw)
		if got != want && ok || ok != (want != "") {
			t.Errorf("%q leads to %q, %v", raw, got, ok)
		}
	}
}

// The parameters of an answer are added to the query of the address that it goes to.
func TestParametersAreAddedToAQuery(t *testing.T) {
	for raw, want := range map[string]string{
		"http://app.example":                   "http://app.example/?code=a+b",
		"http://app.example/cb?code=old&x=%C3": "http://app.example/cb?code=a+b&x=%C3",
		"org.example.app:/cb":                  "org.example.app:/cb?code=a+b",
		"http:/app.example/cb%zz#x":            "http://app.example/cb%zz?code=a+b",
	} {
		u, err := weburl.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.With(url.Values{"code": {"a b"}}); got != want {
			t.Errorf("%q with a code is %q", raw, got)
		}
	}
}

// Reading an address costs little, whatever it is made of.
func BenchmarkParseLongest(b *testing.B) {
	for _, part := range []string{"a", "a.", "%", "@", "/../", "ü", "\t", "xn--", "0x"} {
		raw := "http://" + strings.Repeat(part, 8000/len(part))
		b.Run(part, func(b *testing.B) {
			for b.Loop() {
				_, _ = weburl.Parse(raw)
			}
		})
		raw = "http://x/" + strings.Repeat(part, 8000/len(part))
		b.Run("path "+part, func(b *testing.B) {
			for b.Loop() {
				_, _ = weburl.Parse(raw)
			}
		})
	}
}

// FuzzLocal: whatever is accepted stays on the origin, read from any of its pages.
func FuzzLocal(f *testing.F) {
	for _, seed := range []string{
		"/a?b", "//evil.example", `/\evil.example`, "/.//evil.example", "/a/..//evil.example",
		"https://ehi.example//x",
		"\t/\n/x", "/%2e//x", "http:/\\x", "https:/x", "javascript:x", "/a/b/../..//x", "?//x",
		"#//x", "x//y", "/ü?ü#ü", "//[::1]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, origin := range []string{"https://ehi.example", "http://[::1]:8080"} {
			path, ok := weburl.Local(origin, raw)
			if !ok {
				continue
			}
			for _, page := range []string{"/", "/jobs/1/customize", "/patient-login?action=x"} {
				to, err := whatwg.ParseRef(origin+page, path)
				if err != nil || to.Protocol()+"//"+to.Host() != origin ||
					to.Username()+to.Password() != "" {
					t.Fatalf("%q, read as %q, leads from %s%s to %v, %v", raw, path, origin, page,
						to, err)
				}
			}
			if again, ok := weburl.Local(origin, path); !ok || again != path {
				t.Fatalf("%q is %q, and then %q", raw, path, again)
			}
			only, _, _ := strings.Cut(path, "?")
			if strings.ContainsAny(path, "\r\n ") || strings.Contains(only, `\`) || path[0] != '/' {
				t.Fatalf("%q is %q", raw, path)
			}
		}
	})
}

// FuzzParse: what is handed on is what was looked at.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"http:/a/b", `http:\\a\b`, "http://a@b", "HTTP://A:80", "https://bücher.example",
		"http://[::1]:1/", "a:b", "a:///b",
		"http://0x7f.1", "http://a%2fb", "web+x:/..//b", "data: x ", "http://a?b#c", "http://xn--/",
		"file:c|/x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := weburl.Parse(raw)
		if err != nil {
			return
		}
		again, err := weburl.Parse(u.String())
		if err != nil || again.String() != u.String() || again.Origin() != u.Origin() {
			t.Fatalf("%q is %q, and then %q: %v", raw, u, again, err)
		}
		with, err := weburl.Parse(u.With(url.Values{"a": {"b"}}))
		if err != nil || with.Origin() != u.Origin() {
			t.Fatalf("%q with a parameter is %q: %v", raw, with, err)
		}
	})
}

// A path is read in parts, as servers read it: an escaped slash separates nothing.
func TestPathsAreReadInParts(t *testing.T) {
	page, err := weburl.Parse("https://ehr.example/r4/Patient/1")
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"2": "r4 Patient 2", "/x//y/": "x y", "../Binary/%62": "r4 Binary b",
		"./a%2Fb": "r4 Patient a%2Fb",
		"%zz":     "r4 Patient %zz", "//else.example/a": "a", "?q#f": "r4 Patient 1",
	} {
		u, err := page.Resolve(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
		} else if got := strings.Join(u.Segments(), " "); got != want {
			t.Errorf("%q has the parts %q, want %q", raw, got, want)
		}
	}
	u, err := page.Resolve("?q=%31#f")
	if err != nil || u.Query() != "q=%31" || u.Fragment() != "f" {
		t.Errorf("query %q, fragment %q, %v", u.Query(), u.Fragment(), err)
	}
}
