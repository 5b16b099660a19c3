package auth

import (
	"strings"
	"testing"
)

// The initial access token's configuration limits what it can register. Without a configuration
// it registers applications for patients.
func TestRegistrationIsHeldToWhatItsTokenAllows(t *testing.T) {
	app := Client{
		Name:         "App",
		RedirectURIs: []string{"https://app.example.org/cb"},
		Scope:        "launch/patient patient/$ehi-export",
	}
	with := func(change func(*Client)) Client { c := app; change(&c); return c }
	system := with(func(c *Client) {
		c.Scope, c.RedirectURIs, c.Kind = "system/*.rs", nil, Symmetric
	})
	one := with(func(c *Client) { c.Scope = "system/Patient.rs" })
	export := with(func(c *Client) { c.Scope += " system/$ehi-export" })
	offline := with(func(c *Client) { c.Scope += " offline_access" })
	native := with(func(c *Client) {
		c.RedirectURIs = []string{"http://127.0.0.1/cb", "org.example.app:/cb"}
	})
	elsewhere := with(func(c *Client) {
		c.RedirectURIs = append(c.RedirectURIs[:1:1], "https://app.example.org.evil.example/cb")
	})
	below := with(func(c *Client) { c.RedirectURIs = []string{"https://a.b.example.org/cb"} })
	for name, c := range map[string]struct {
		limits RegistrationLimits
		client Client
		asked  []string
		says   string // "" if it is allowed
	}{
		"an application": {
			RegistrationLimits{}, app, []string{"authorization_code"}, "",
		},
		"one that stays": {RegistrationLimits{}, offline, nil, ""},
		"a service": {
			RegistrationLimits{}, system, nil, "allows the scopes",
		},
		"a service of one type": {
			RegistrationLimits{}, one, nil, "allows the scopes",
		},
		"a service beside an application": {
			RegistrationLimits{}, export, nil, "allows the scopes",
		},
		"a service's grant": {
			RegistrationLimits{}, app, []string{"client_credentials"},
			`grant type "client_credentials"`,
		},
		"an unknown grant": {
			RegistrationLimits{}, app, []string{"password"}, `grant type "password"`,
		},
		"scopes without the grant": {
			RegistrationLimits{Scopes: []string{"system/*.rs"}},
			system,
			nil,
			`grant type "client_credentials"`,
		},
		"a service that is allowed": {
			RegistrationLimits{
				Scopes:     []string{"system/*.rs"},
				GrantTypes: []string{"client_credentials"},
			},
			system,
			nil,
			"",
		},
		"an application where services may": {
			RegistrationLimits{
				Scopes:     []string{"system/*.rs"},
				GrantTypes: []string{"client_credentials"},
			},
			app,
			nil,
			"allows the scopes",
		},
		"one that stays where none may": {
			RegistrationLimits{GrantTypes: []string{"authorization_code"}},
			offline,
			nil,
			`grant type "refresh_token"`,
		},
		"a host": {
			RegistrationLimits{Hosts: []string{"APP.example.org"}},
			app,
			nil,
			"",
		},
		"another host": {
			RegistrationLimits{Hosts: []string{"app.example.org"}},
			elsewhere,
			nil,
			"evil.example",
		},
		"a host below": {
			RegistrationLimits{Hosts: []string{".example.org"}},
			below,
			nil,
			"",
		},
		"a host below one that is exact": {
			RegistrationLimits{Hosts: []string{"example.org"}},
			below,
			nil,
			"a.b.example.org",
		},
		"what stays on the patient's own device": {
			RegistrationLimits{Hosts: []string{"example.org"}},
			native,
			nil,
			"",
		},
	} {
		err := c.limits.Check(c.client, c.asked)
		if c.says == "" && err != nil ||
			c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name contains nothing invisible, and nothing that reverses the rest of the line.
func TestNamesHoldNothingInvisible(t *testing.T) {
	hidden := []rune{
		0, 0x1b, 0x7f, 0x85, 0xad, 0x34f, 0x61c, 0x115f, 0x180b, 0x180e, 0x200b, 0x200c, 0x200d,
		0x200e, 0x200f,
		0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2061, 0x2064, 0x2066, 0x2069, 0x206a, 0x2800,
		0x3164, 0xe000, 0xfe00,
		0xfe0f, 0xfeff, 0xffa0, 0xfff9, 0xfffd, 0x1bca0, 0x1d173, 0xe0001, 0xe0020, 0xe007f,
		0xe0100, 0xe01ef, 0xf0000,
		0x10fffd, 0x378, 0xffff,
	}
	for _, r := range hidden {
		c := Client{
			Name:         "Hospital" + string(r) + " app",
			RedirectURIs: []string{"https://app.example/cb"},
			Scope:        "patient/$ehi-export",
		}
		// line separators become a space
		if err := c.validate(); err == nil && c.Name != "Hospital app" {
			t.Errorf("U+%04X is taken", r)
		}
	}
	for _, name := range []string{
		"Clínica «Ñ» app", "病院アプリ", "تطبيق المستشفى", "अस्पताल ऐप",
		"App™ №1 – 😀", "\xffbroken",
	} {
		c := Client{
			Name:         name,
			RedirectURIs: []string{"https://app.example/cb"},
			Scope:        "patient/$ehi-export",
		}
		if err := c.validate(); (err == nil) == strings.Contains(name, "broken") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// RFC 8252 7.1: a private-use scheme is a reversed domain, so that two applications do not share
// one by chance.
func TestPrivateUseSchemesAreReverseDomains(t *testing.T) {
	for uri, good := range map[string]bool{
		"org.example.app:/cb":          true,
		"com.example.my-app:/oauth":    true,
		"https://app.example/cb":       true,
		"http://[::1]/cb":              true,
		"myapp:/cb":                    false,
		"org..app:/cb":                 false,
		"org.example.:/cb":             false,
		"javascript:alert(1)":          false,
		"data:text/html,x":             false,
		"org.-app:/cb":                 false,
		"org.app-:/cb":                 false,
		"o.x+y:/cb":                    false,
		"http://app.example/cb":        false,
		"file:///etc/passwd":           false,
		"uk.co.example:/cb":            true,
		"io.github.someone:/cb":        true,
		"edu.example.app:/cb":          true,
		"xn--p1ai.app:/cb":             true,
		"data.x.y:/cb":                 false,
		"DATA.x.y:/cb":                 false,
		"tel.x.y:1":                    false,
		"shell.x.y:z":                  false,
		"data.text.html:x":             false,
		"javascript.x.y:alert(1)":      false,
		"vbscript.x.y:x":               false,
		"file.x.y:/etc/passwd":         false,
		"http.x.y:/cb":                 false,
		"https.x.y:/cb":                false,
		"HTTPS.x.y:/cb":                false,
		"about.blank.x:y":              false,
		"blob.x.y:https://app.example": false,
		"view-source.x:y":              false,
		"intent.x.y://z":               false,
		"mailto.x.y:z":                 false,
		"ms-settings.x.y:z":            false,
		"chrome-extension.x.y:z":       false,
		"localhost.x:/cb":              false,
		"uk.co:/cb":                    false, "127.0.0.1:/cb": false,
	} {
		c := Client{Name: "App", RedirectURIs: []string{uri}, Scope: "patient/$ehi-export"}
		if err := c.validate(); (err == nil) != good {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// A jwks_uri that can only lead to a private address is recognized by its spelling, before
// anything is fetched.
func TestKeysOfNeighboursAreKnownByTheirAddress(t *testing.T) {
	private := &Server{Config: Config{Flags: Flags{PrivateKeySets: ranges("10.1.0.0/16", "127.0.0.0/8")}}}
	for uri, want := range map[string]struct{ anywhere, here bool }{
		"https://app.example.org/keys":          {true, true},
		"https://app.example.org:8443/keys":     {true, true},
		"https://8.8.8.8/keys":                  {true, true},
		"https://[2606:4700::1111]/keys":        {true, true},
		"http://app.example.org/keys":           {},
		"http://8.8.8.8/keys":                   {},
		"https://localhost/keys":                {},
		"https://LOCALHOST./keys":               {},
		"https://a.localhost/keys":              {},
		"https://printer.local/keys":            {},
		"https://metadata.google.internal/keys": {},
		"https://intranet/keys":                 {},
		"https://127.0.0.1/keys":                {false, true},
		"https://127.1/keys":                    {false, true},
		"https://2130706433/keys":               {false, true},
		"https://0x7f.0.0.1/keys":               {false, true},
		"https://0177.0.0.1/keys":               {false, true},
		"https://[::ffff:127.0.0.1]/keys":       {false, true},
		"http://127.0.0.1/keys":                 {false, true},
		"https://[::1]/keys":                    {},
		"https://[::7f00:1]/keys":               {},
		"https://[64:ff9b::7f00:1]/keys":        {},
		"https://0.0.0.0/keys":                  {},
		"https://10.1.2.3/keys":                 {false, true},
		"https://10.2.2.3/keys":                 {},
		"https://169.254.169.254/keys":          {},
		"https://192.168.1.1/keys":              {},
		"https://[fd00::1]/keys":                {},
		"https://[fe80::1]/keys":                {},
		"file:///etc/passwd":                    {},
		"":                                      {},
	} {
		if (&Server{}).MayFetchKeys(uri) != want.anywhere ||
			private.MayFetchKeys(uri) != want.here {
			t.Errorf("%s: not %+v", uri, want)
		}
	}
}
