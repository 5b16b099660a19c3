package auth_test

import (
	"slices"
	"testing"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// No administrator's account may have the name of the configured administrator, or one that
// looks like it; a patient's account may. Earlier accounts with such a name are reported.
func TestNobodyIsCalledAsTheConfigurationsAdministrator(t *testing.T) {
	_, clock, b := newServer(t)
	const password = "four plain words here"
	before := production(t, b, clock, nil)
	for _, name := range []string{"Chief", "rita"} {
		_, err := before.AddAccount(t.Context(), auth.Account{Name: name, Role: auth.Viewer},
			password)
		if err != nil {
			t.Fatal(err)
		}
	}
	s := production(t, b, clock, func(c *auth.Config) { c.Reserved = "admin" })
	for _, name := range []string{
		"admin", "Admin", "аdmin", "adm1n", "a-d-m-i-n", "ᴀᴅᴍɪɴ", "ａｄｍｉｎ",
	} {
		_, err := s.AddAccount(t.Context(), auth.Account{Name: name, Role: auth.Viewer}, password)
		if ehi.CodeOf(err) != ehi.Conflict && ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
	_, err := s.AddAccount(t.Context(), auth.Account{Name: "admin", Patient: "p1"}, password)
	if err != nil {
		t.Errorf("a patient: %v", err)
	}
	_, err = s.AddAccount(t.Context(), auth.Account{Name: "administrator", Role: auth.Viewer},
		password)
	if err != nil {
		t.Errorf("another name: %v", err)
	}
	for reserved, want := range map[string][]string{
		"admin": nil,
		"":      nil,
		"chief": {"Chief"},
		"Chief": {"Chief"},
		"сhief": {"Chief"},
		"ch1ef": {"Chief"},
		"RITA":  {"rita"},
	} {
		s := production(t, b, clock, func(c *auth.Config) { c.Reserved = reserved })
		if got := s.AccountsNamedLikeConfigured(); !slices.Equal(got, want) {
			t.Errorf("beside %q: %q, not %q", reserved, got, want)
		}
	}
}
