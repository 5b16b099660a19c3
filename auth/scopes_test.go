package auth_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/auth"
)

// SMART-7: requested scopes are reduced to what the server offers, in the spelling of the
// client.
func TestSMART7ScopesAreGrantedDownInTheWordsOfTheClient(t *testing.T) {
	for asked, want := range map[string]string{
		"patient/*.rs":                              "patient/*.rs",
		"patient/*.read":                            "patient/*.read",
		"patient/*.cruds":                           "patient/*.rs",
		"patient/*.*":                               "patient/*.read",
		"patient/*.write":                           "",
		"patient/*.cud":                             "",
		"patient/Patient.r patient/Patient.s":       "patient/Patient.r patient/Patient.s",
		"patient/Patient.us":                        "patient/Patient.s",
		"patient/Patient.sr patient/Patient.dus":    "",
		"patient/Patient.rr patient/Patient.":       "",
		"patient/Observation.rs patient/Nope.rs":    "patient/Observation.rs",
		"patient/Patient.rs patient/Patient.rs":     "patient/Patient.rs",
		"openid made/up openid fhirUser":            "openid fhirUser",
		"patient/$ehi-export patient/$ehi-export.r": "patient/$ehi-export",
		"system/*.rs user/*.rs launch":              "",
		"patient/Observation.rs?category=laboratory patient/Condition.rs": "patient/Condition.rs",
		"PATIENT/*.rs patient/*.RS patient/patient.rs":                    "",
	} {
		if got := auth.ParseScopes(asked).String(); got != want {
			t.Errorf("%s: granted %q, want %q", asked, got, want)
		}
	}
	for asked, want := range map[string]string{
		"system/Patient.r system/Patient.s":            "system/Patient.r system/Patient.s",
		"system/*.* system/$ehi-export patient/*.read": "system/*.read system/$ehi-export",
		"offline_access openid":                        "",
	} {
		if got := auth.ParseSystemScopes(asked).String(); got != want {
			t.Errorf("%s: granted %q, want %q", asked, got, want)
		}
	}
}

// SMART-7, REAL-12: scopes with the same meaning are equal, however they are spelled.
func TestSMART7SpellingsAreOnePermission(t *testing.T) {
	same := [][]string{
		{
			"patient/Patient.rs",
			"patient/Patient.read",
			"patient/Patient.r patient/Patient.s",
			"patient/Patient.s patient/Patient.r patient/Patient.r",
			"patient/Patient.cruds",
		},
		{
			"patient/*.rs",
			"patient/*.read",
			"patient/*.rs patient/Condition.r",
			"patient/*.s patient/Patient.rs patient/*.r",
		},
		{"openid patient/*.r", "patient/*.r openid"},
	}
	for _, spellings := range same {
		first := auth.ParseScopes(spellings[0])
		for _, other := range spellings[1:] {
			if s := auth.ParseScopes(other); !s.Contains(first) || !first.Contains(s) {
				t.Errorf("%q is not %q", other, spellings[0])
			}
		}
	}
	for wide, narrow := range map[string]string{
		"patient/*.rs":                     "patient/Patient.rs",
		"patient/*.read":                   "patient/Condition.r",
		"patient/Patient.rs":               "patient/Patient.s",
		"patient/$ehi-export patient/*.rs": "patient/*.rs",
		"patient/*.rs patient/$ehi-export": "patient/$ehi-export",
	} {
		w, n := auth.ParseScopes(wide), auth.ParseScopes(narrow)
		if !w.Contains(n) || n.Contains(w) {
			t.Errorf("%q is not narrower than %q", narrow, wide)
		}
	}
	types, all := auth.ParseSystemScopes("system/*.r system/Patient.s system/Condition.read "+
		"system/Claim.s").Types(auth.SystemContext, auth.Export)
	if want := []string{"Patient", "Condition", "Claim"}; all || !slices.Equal(types, want) {
		t.Errorf("types %v, all %t", types, all)
	}
	if _, all := auth.ParseSystemScopes("system/*.s system/*.r").Types(auth.SystemContext,
		auth.Export); !all {
		t.Error(".s and .r do not add up")
	}
}

// words generates scope parameters of a small universe, as clients spell them.
func words(t *rapid.T, label string) string {
	contexts := []string{"patient/", "system/", "user/", ""}
	types := []string{"*", "Patient", "Condition", "Claim", "Nope", "$ehi-export"}
	suffixes := []string{
		".r", ".s", ".rs", ".read", ".write", ".*", ".cruds", ".cud", ".us", ".sr", "", ".rs?a=b",
	}
	names := []string{
		"openid", "fhirUser", "launch/patient", "patient/$ehi-export", "system/$ehi-export",
		"offline_access",
	}
	word := rapid.OneOf(
		rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom(contexts).Draw(t, "context") +
				rapid.SampledFrom(types).Draw(t, "type") +
				rapid.SampledFrom(suffixes).Draw(t, "suffix")
		}),
		rapid.SampledFrom(names),
	)
	return strings.Join(rapid.SliceOfN(word, 0, 6).Draw(t, label), " ")
}

// permissions computes the meaning of a scope parameter independently of the code: one line for
// each interaction on each type of the universe. Device represents the types that no scope
// names.
func permissions(scopes string) map[string]bool {
	out := map[string]bool{}
	old := strings.NewReplacer(".read", ".rs", ".write", ".cud", ".*", ".cruds")
	for _, word := range strings.Fields(scopes) {
		at := strings.LastIndexByte(word, '.')
		if at < 0 {
			out[word] = true
			continue
		}
		context, typ, _ := strings.Cut(word[:at], "/")
		types := []string{typ}
		if typ == "*" {
			types = []string{"Patient", "Condition", "Claim", "Device"}
		}
		for _, typ := range types {
			for _, right := range strings.TrimPrefix(old.Replace(word[at:]), ".") {
				out[context+"/"+typ+"."+string(right)] = true
			}
		}
	}
	return out
}

func within(a, b map[string]bool) bool {
	for p := range a {
		if !b[p] {
			return false
		}
	}
	return true
}

// SMART-7: containment, union, intersection and narrowing work like those of sets.
func TestSMART7ScopesAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, second := words(t, "first"), words(t, "second")
		a, b := auth.ParseScopes(first), auth.ParseScopes(second)
		pa, pb := permissions(a.String()), permissions(b.String())
		if a.Contains(b) != within(pb, pa) {
			t.Fatalf("%q contains %q: %t", a, b, a.Contains(b))
		}
		both, either := a.Intersect(b), a.Union(b)
		for p := range permissions(both.String()) {
			if !pa[p] || !pb[p] {
				t.Fatalf("%q and %q have %s in common", a, b, p)
			}
		}
		for p := range pa {
			if pb[p] && !permissions(both.String())[p] {
				t.Fatalf("%q and %q have not %s in common, but %q", a, b, p, both)
			}
		}
		if !within(pa, permissions(either.String())) || !within(pb, permissions(either.String())) ||
			!a.Union(b).Contains(b.Union(a)) {
			t.Fatalf("%q and %q together are %q", a, b, either)
		}
		if again := auth.ParseScopes(a.String()); again.String() != a.String() {
			t.Fatalf("%q is read as %q", a, again)
		}
		if narrow, ok := a.Narrow(second); ok && !a.Contains(narrow) {
			t.Fatalf("%q is narrowed to %q", a, narrow)
		}
		narrow, ok := a.Narrow(both.String())
		if !both.Empty() && (!ok || narrow.String() != both.String()) {
			t.Fatalf("%q cannot be narrowed to %q", a, both)
		}
		data, err := json.Marshal(a)
		var back auth.Scopes
		if err != nil || json.Unmarshal(data, &back) != nil || back.String() != a.String() {
			t.Fatalf("%q is stored as %s", a, data)
		}
	})
}

// FuzzScopes: only requested scopes are granted, and a refresh never widens them.
func FuzzScopes(f *testing.F) {
	f.Add("patient/$ehi-export openid", "openid")
	f.Add("patient/*.cruds system/*.* patient/Patient.dus", "patient/Patient.r patient/*.read?x=y")
	f.Fuzz(func(t *testing.T, granted, asked string) {
		for _, s := range []auth.Scopes{
			auth.ParseScopes(granted), auth.ParseSystemScopes(granted),
		} {
			for _, word := range s.Words() {
				at := strings.LastIndexByte(word, '.')
				if !strings.Contains(granted, word[:max(at, 0)]) ||
					at < 0 && !strings.Contains(granted, word) {
					t.Fatalf("%q granted out of %q", word, granted)
				}
			}
			if n, ok := s.Narrow(asked); ok && !s.Contains(n) {
				t.Fatalf("%q widened to %q", granted, n)
			}
		}
	})
}

// SMART-4, SMART-7: a refresh narrows the granted scopes, by permission and not by spelling, and
// returns the client's spelling.
func TestSMART7RefreshNarrowsToASubset(t *testing.T) {
	s, _, _ := newServer(t)
	tok := mustToken(t, s,
		codeForm(code(t, s, "scope", "patient/*.rs patient/$ehi-export offline_access")))
	for _, asked := range []string{
		"patient/Patient.rs",
		"patient/Patient.read patient/Condition.r",
		"offline_access patient/*.s patient/*.r patient/*.r",
		"patient/*.cruds patient/$ehi-export launch/encounter offline_access",
	} {
		tok = mustToken(t, s, refreshForm(tok.RefreshToken, "scope", asked))
		a, err := s.Verify(t.Context(), tok.AccessToken)
		if err != nil || !auth.ParseScopes(asked).Contains(a.Scopes) ||
			!a.Scopes.Contains(auth.ParseScopes(asked)) {
			t.Errorf("%s: %q, %v", asked, a.Scopes, err)
		}
	}
	for _, asked := range []string{
		"patient/*.rs openid", "patient/*.cruds fhirUser", "made/up", "system/Patient.rs",
		"patient/Patient.rs?name=x",
	} {
		_, err := s.Token(t.Context(), refreshForm(tok.RefreshToken, "scope", asked))
		wantError(t, err, "invalid_scope")
	}
	if tok = mustToken(t, s,
		refreshForm(tok.RefreshToken)); tok.Scope != "patient/*.rs patient/$ehi-export "+
		"offline_access" {
		t.Errorf("the whole grant is %q", tok.Scope)
	}
}

// RFC 6749 3.3: a request without a scope, or with none that can be granted, is rejected with
// invalid_scope at both endpoints.
func TestARequestWithoutScopeIsInvalidScope(t *testing.T) {
	s, _, _ := newServer(t)
	for _, asked := range []string{"", " ", "made/up", "patient/*.rs", "system/Patient.rs?name=x"} {
		form := request(url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {auth.SandboxClientID},
			"client_secret": {secret},
			"scope":         {asked},
		})
		_, err := s.Token(t.Context(), form)
		wantError(t, err, "invalid_scope")
		form.Form.Del("scope")
		_, err = s.Token(t.Context(), form)
		wantError(t, err, "invalid_scope")
	}
	for _, asked := range []string{"", " ", "made/up", "system/*.rs"} {
		_, err := s.Check(t.Context(), authorizeQuery("scope", asked), []string{fhirBase})
		wantError(t, err, "invalid_scope")
	}
}
