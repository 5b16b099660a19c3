package auth_test

import (
	"errors"
	"testing"

	"ehi-server/auth"
)

// What a sandbox granted without a log-in is invalid on other servers, and still valid in the
// sandbox.
func TestSandboxGrantsAreValidInTheSandboxOnly(t *testing.T) {
	sandbox, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	const back = "https://app.example/cb"
	app := auth.Client{ID: "app", Name: "App", Scope: appScope, RedirectURIs: []string{back}}
	if _, _, err := sandbox.AddClient(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	until(t, "the client", func() bool { return s.Known("app") && sandbox.Known("app") })
	ask := []string{"client_id", "app", "redirect_uri", back}
	tok := mustToken(t, sandbox, codeForm(code(t, sandbox, ask...), ask...))
	waiting := codeForm(code(t, sandbox, ask...), ask...)
	a, err := sandbox.Verify(t.Context(), tok.AccessToken)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := s.Verify(t.Context(), tok.AccessToken); !errors.Is(err, auth.ErrToken) {
		t.Errorf("an access token: %v", err)
	}
	refused(t, s, refreshForm(tok.RefreshToken, "client_id", "app"), "invalid_grant")
	refused(t, s, waiting, "invalid_grant")
	if !s.Ended(a) {
		t.Error("what goes on by its access token has not ended")
	}
	if valid, err := s.StillValid(t.Context(), "app", a.Grant(),
		auth.Origin{Begun: clock.now()}); err != nil || valid {
		t.Errorf("its job is valid: %v, %v", valid, err)
	}
	valid, known := s.StillValidFromMemory("app", a.Grant(), auth.Origin{Begun: clock.now()})
	if valid || !known {
		t.Errorf("its job is valid from memory: %v, %v", valid, known)
	}
	if list, err := s.Consents(t.Context(), "p1"); err != nil || len(list) != 0 {
		t.Errorf("consents: %v, %v", list, err)
	}

	void := map[string]auth.TokenRequest{
		"code": waiting, "refresh token": refreshForm(tok.RefreshToken, "client_id", "app"),
	}
	for name, r := range void {
		if _, err := sandbox.Token(t.Context(), r); err != nil {
			t.Errorf("the sandbox's %s: %v", name, err)
		}
	}
	valid, err = sandbox.StillValid(t.Context(), "app", a.Grant(), auth.Origin{Begun: clock.now()})
	if err != nil || !valid {
		t.Errorf("its job in the sandbox: %v, %v", valid, err)
	}
}

func refused(t *testing.T, s *auth.Server, r auth.TokenRequest, code string) {
	t.Helper()
	_, err := s.Token(t.Context(), r)
	wantError(t, err, code)
}
