package auth

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"ehi-server/shared/weburl"
)

// Of the keys that a client publishes, the server uses only public keys with an ID that fit one
// of the algorithms.
func FuzzAssertionKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-384","kid":"a","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"x"}]}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"x","alg":"RS256"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := assertionKeys(data)
		if err != nil {
			return
		}
		for i := range set.Len() {
			key, _ := set.Key(i)
			private, err := jwk.IsPrivateKey(key)
			kid, _ := key.KeyID()
			alg, _ := key.Algorithm()
			if err != nil || private || kid == "" || alg == nil ||
				alg.String() != "RS384" && alg.String() != "ES384" {
				t.Fatalf("%s serves: %v", data, key)
			}
		}
	})
}

// A redirect is allowed only to a registered URI, or to a registered loopback URI with another
// port (RFC 8252 7.3).
func FuzzRedirects(f *testing.F) {
	c := &clientRecord{
		Client: Client{
			Name:  "x",
			Scope: "launch/patient",
			RedirectURIs: []string{
				"https://app.example/cb", "http://127.0.0.1:3000/cb", "http://[::1]/cb?a=1",
				"org.example.app:/cb",
			},
		},
	}
	if err := c.validate(); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"https://app.example/cb",
		"https://app.example/cb/",
		"http://127.0.0.1:99/cb",
		"http://127.0.0.1:99@evil.example/cb",
		"http://127.0.0.1.evil.example/cb",
		"http://[::1]:1/cb?a=1",
		"http://127.0.0.1:3000/cb#x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if !c.redirectsTo(uri) {
			return
		}
		for _, registered := range c.RedirectURIs {
			if uri == registered {
				return
			}
		}
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		ip := net.ParseIP(u.Hostname())
		if ip == nil || !ip.IsLoopback() || u.Scheme != "http" || u.Path != "/cb" ||
			u.Fragment != "" || u.User != nil || strings.Contains(uri, "#") {
			t.Fatalf("%q is let through", uri)
		}
	})
}

// EHI-7: the release form redirects only to a registered origin or redirect_uri, as browsers
// parse the address.
func TestEHI7FormsLeadWhereBrowsersAreLetTo(t *testing.T) {
	app := formsClient(t)
	sandbox := (&Server{Config: Config{Sandbox: true}}).sandboxClient()
	for address, want := range map[string]struct{ app, sandbox string }{
		"http:/other.example/done": {"", "http://other.example/done"},
		"https:/app.example/done": {
			"https://app.example/done", "https://app.example/done",
		},
		`https:\\app.example\done`: {
			"https://app.example/done", "https://app.example/done",
		},
		" HTTPS://APP.example:443/d\tone#x ": {
			"https://app.example/done#x", "https://app.example/done#x",
		},
		"https://app.exampl%65/": {"https://app.example/", "https://app.example/"},
		"https://xn--bcher-kva.example/": {
			"https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/",
		},
		"https://BÜCHER.example/": {
			"https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/",
		},
		"http:/127.0.0.1:99/cb":               {"http://127.0.0.1:99/cb", "http://127.0.0.1:99/cb"},
		"http://[0:0::1]:8080/x":              {"http://[::1]:8080/x", "http://[::1]:8080/x"},
		"org.example.app:/cb":                 {"org.example.app:/cb", ""},
		"https://app.example./":               {"", "https://app.example./"},
		"https://app.example:8443/":           {"", "https://app.example:8443/"},
		"http://app.example/":                 {"", "http://app.example/"},
		"https://app.example@evil.example/":   {"", ""},
		`https://evil.example\@app.example/`:  {"", "https://evil.example/@app.example/"},
		"https://evil.example#@app.example/":  {"", "https://evil.example/#@app.example/"},
		"https://app.example.evil.example/":   {"", "https://app.example.evil.example/"},
		"http://127.0.0.1:99@evil.example/cb": {"", ""},
		"//app.example/":                      {"", ""},
		"/done":                               {"", ""},
		"javascript:alert(1)":                 {"", ""},
		"data:text/html,x":                    {"", ""},
		"":                                    {"", ""},
	} {
		for c, want := range map[*clientRecord]string{app: want.app, sandbox: want.sandbox} {
			if to, ok := c.leadsTo(address); to != want || ok != (want != "") {
				t.Errorf("%s: %q leads to %q, %v", c.Name, address, to, ok)
			}
		}
	}
	if app.redirectsTo("https:/app.example/cb") || app.redirectsTo("HTTPS://app.example/cb") {
		t.Error("SMART-2: a redirect_uri is compared exactly")
	}
}

// formsClient returns a client with redirect_uris and origins of each kind.
func formsClient(t testing.TB) *clientRecord {
	c := &clientRecord{Client: Client{Name: "An application", Scope: "launch/patient",
		RedirectURIs: []string{
			"https://app.example/cb", "http://127.0.0.1:3000/cb", "org.example.app:/cb",
		},
		RedirectOrigins: []string{
			"https://APP.example:443", "https://bücher.example", "http://[::1]:8080/",
		}}}
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzFormsLeadOn: no spelling of an address leads to an origin that is not registered.
func FuzzFormsLeadOn(f *testing.F) {
	c := formsClient(f)
	for _, seed := range []string{
		"https:/app.example",
		`https:\\app.example\@evil.example`,
		"https://app.example@evil.example",
		"http://127.0.0.1:9/cb",
		"org.example.app:/cb",
		"HTTP://[::1]:8080",
		"https://bücher.example",
		"https://evil.example#app.example",
	} {
		f.Add(seed)
	}
	origins := []string{"https://app.example", "https://xn--bcher-kva.example", "http://[::1]:8080"}
	f.Fuzz(func(t *testing.T, address string) {
		to, ok := c.leadsTo(address)
		if !ok || to == "org.example.app:/cb" {
			return
		}
		u, err := weburl.Parse(to)
		if err != nil || u.HasCredentials() || u.String() != to {
			t.Fatalf("%q leads to %q: %v", address, to, err)
		}
		if !slices.Contains(origins, u.Origin()) &&
			!strings.HasPrefix(u.Origin()+"/", "http://127.0.0.1") {
			t.Fatalf("%q leads to %q", address, to)
		}
		if u.Hostname() == "127.0.0.1" && !strings.HasSuffix(to, "/cb") {
			t.Fatalf("%q leads to %q", address, to)
		}
	})
}

// FuzzPasswordHash: a broken stored hash neither accepts a password nor crashes the process.
func FuzzPasswordHash(f *testing.F) {
	h, err := newHasher()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"",
		"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$a2V5",
		"$argon2id$v=19$m=0,t=0,p=0$$",
		"$argon2i$v=19$m=8,t=1,p=1$c2FsdA$a2V5",
		"plain",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, phc string) {
		if right, _ := h.check(t.Context(), phc, "a secret"); right {
			t.Fatalf("%q lets a secret in", phc)
		}
	})
}

// The decoy costs as much as a current hash.
func TestTheDecoyCostsWhatAHashDoes(t *testing.T) {
	h, err := newHasher()
	if err != nil {
		t.Fatal(err)
	}
	real, err := h.hash(t.Context(), "a secret")
	if err != nil {
		t.Fatal(err)
	}
	parts, fake := strings.Split(real, "$"), strings.Split(decoy, "$")
	if len(parts) != len(fake) || parts[1] != fake[1] || parts[2] != fake[2] ||
		parts[3] != fake[3] || len(parts[4]) != len(fake[4]) || len(parts[5]) != len(fake[5]) {
		t.Errorf("%s and %s", real, decoy)
	}
	if right, err := h.check(t.Context(), decoy, ""); right || err != nil {
		t.Errorf("%t, %v", right, err)
	}
}

// Keys are fetched only from public addresses and from configured private ones.
func TestWhereKeysMayBeFetchedFrom(t *testing.T) {
	opened := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for at, may := range map[string]bool{
		"93.184.215.14": true, "2606:2800:21f:cb07:6820:80da:af6b:8b2c": true, "10.1.2.3": true,
		"10.2.0.1":        false,
		"127.0.0.1":       false,
		"::1":             false,
		"0.0.0.0":         false,
		"::":              false,
		"169.254.169.254": false,
		"fe80::1":         false,
		"fd00:ec2::254":   false,
		"192.168.1.1":     false,
		"172.16.0.1":      false,
		"100.64.0.1":      false,
		"224.0.0.1":       false,
		"255.255.255.255": false,
		"198.18.0.1":      false,
		"64:ff9b::7f00:1": false,
		"2002:7f00:1::":   false,
		"240.0.0.1":       false,
	} {
		if got := mayAsk(netip.MustParseAddr(at), opened); got != may {
			t.Errorf("%s: %t", at, got)
		}
	}
}

// An IPv4 address from which keys must not be fetched is rejected in every IPv6 spelling. A
// configured address is allowed only in its own form.
func TestKeysAreNotFetchedFromIPv4InAnotherSpelling(t *testing.T) {
	opened := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for _, at := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "10.2.0.1", "169.254.169.254", "192.168.1.1",
		"172.16.0.1", "100.64.0.1",
	} {
		four := netip.MustParseAddr(at).As4()
		hex := fmt.Sprintf("%x:%x", int(four[0])<<8|int(four[1]), int(four[2])<<8|int(four[3]))
		for _, spelling := range []string{
			"::ffff:" + at, "::" + at, "::ffff:0:" + at, "64:ff9b::" + at, "64:ff9b:1::" + at,
			"2002:" + hex + "::1",
			"2001:0:5ef5:79fd::" + hex, "fe80::5efe:" + at, "2606:2800::5efe:" + at,
			"2606:2800::200:5efe:" + at, "::ffff:" + at + "%lo",
		} {
			addr, err := netip.ParseAddr(spelling)
			if err != nil {
				if strings.Contains(spelling, "%") {
					continue // netip accepts no zone there
				}
				t.Fatal(err)
			}
			if mayAsk(addr, opened) {
				t.Errorf("%s as %s", at, spelling)
			}
		}
	}
	for at, may := range map[string]bool{
		"::ffff:10.1.2.3": true, "::ffff:93.184.215.14": true, "fec0::1": false, "5f00::1": false,
		"3fff::1": false, "100::1": false,
		"4000::1": false, "fe80::1%eth0": false, "::1%lo": false,
	} {
		if got := mayAsk(netip.MustParseAddr(at), opened); got != may {
			t.Errorf("%s: %t", at, got)
		}
	}
}

// SMART-5: the audience of an assertion is this server's token endpoint or issuer, and nothing
// else.
func TestSMART5AnAssertionIsForThisServerAlone(t *testing.T) {
	token, issuer := "https://ehi.example/auth/token", "https://ehi.example"
	ours := []string{token, issuer}
	for _, c := range []struct {
		audience []string
		want     bool
	}{
		{[]string{token}, true}, {[]string{issuer}, true}, {[]string{issuer, token}, true},
		{nil, false},
		{[]string{}, false},
		{[]string{""}, false},
		{[]string{token, "https://evil.example"}, false},
		{[]string{"https://evil.example", issuer}, false},
		{[]string{token, ""}, false},
		{[]string{issuer + "/"}, false},
		{[]string{token + "/"}, false},
		{[]string{"HTTPS://EHI.EXAMPLE"}, false},
		{[]string{issuer + "/fhir"}, false},
	} {
		if got := onlyFor(ours, c.audience); got != c.want {
			t.Errorf("%q: %v", c.audience, got)
		}
	}
}
