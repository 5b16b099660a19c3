package auth_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"ehi-server/auth"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// A client or account that is removed and registered again under the same name is a different
// one. This holds within the same second, and if another process registers it whose clock is
// behind.
func TestANewRegistrationOfANameInheritsNothing(t *testing.T) {
	const back = "https://app.example/cb"
	clients := []auth.Client{
		{ID: "app", Name: "An app", RedirectURIs: []string{back}, Scope: appScope},
		{ID: "back", Name: "A service", Kind: auth.Symmetric, Scope: "system/*.rs"},
	}
	ann := auth.Account{Name: "ann", Patient: "p1"}
	for name, behind := range map[string]time.Duration{
		"at once":                   0,
		"by a clock that is behind": 30 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			_, right, b := newServer(t)
			wrong := &clock{}
			wrong.Store(-int64(behind))
			s := production(t, b, right, func(c *auth.Config) { c.ByAccounts = true })
			other := production(t, b, wrong, func(c *auth.Config) { c.ByAccounts = true })
			let := func() auth.TokenRequest {
				t.Helper()
				q := authorizeQuery("client_id", "app", "redirect_uri", back, "scope", appScope)
				req, err := s.Check(t.Context(), q, []string{fhirBase})
				if err != nil {
					t.Fatal(err)
				}
				a, err := s.PatientAccount(t.Context(), "ann")
				if err != nil {
					t.Fatal(err)
				}
				req.Account, req.AccountMade = a.Name, a.Created
				c, err := s.IssueCode(t.Context(), req, "p1")
				if err != nil {
					t.Fatal(err)
				}
				return codeForm(c, "client_id", "app", "redirect_uri", back)
			}
			asService := func(secret string) auth.TokenRequest {
				return auth.TokenRequest{
					Form: with(url.Values{}, "grant_type", "client_credentials", "scope",
						"system/*.rs"),
					BasicID: "back", BasicSecret: secret, HasBasic: true,
				}
			}
			secret := registered(t, s, clients)
			if _, err := s.AddAccount(t.Context(), ann, "four plain words here 77"); err != nil {
				t.Fatal(err)
			}
			app, service, waiting :=
				mustToken(t, s, let()), mustToken(t, s, asService(secret)), let()
			a, err := s.Verify(t.Context(), app.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			job := auth.Origin{Begun: right.now(), Made: a.Made}

			for _, c := range clients {
				if err := other.RemoveClient(t.Context(), c.ID); err != nil {
					t.Fatal(err)
				}
			}
			secret = registered(t, other, clients)
			heard := func() bool {
				valid, known := s.StillValidFromMemory("app", "", job)
				return known && !valid
			}
			until(t, "the other client", heard)
			for _, token := range []string{app.AccessToken, service.AccessToken} {
				if _, err := s.Verify(t.Context(), token); !errors.Is(err, auth.ErrToken) {
					t.Errorf("an access token of the client before is answered %v", err)
				}
			}
			refused(t, s, refreshForm(app.RefreshToken, "client_id", "app"), "invalid_grant")
			refused(t, s, waiting, "invalid_grant")
			if valid, err := s.StillValid(t.Context(), "app", a.Grant(), job); err != nil || valid {
				t.Errorf("a job of the client before is valid: %v, %v", valid, err)
			}
			if list, err := s.Consents(t.Context(), "p1"); err != nil || len(list) != 0 {
				t.Errorf("consents for the client before: %v, %v", list, err)
			}

			waiting = let() // of the account, for the client that is registered now
			if err := other.RemoveAccount(t.Context(), "patient", "ann"); err != nil {
				t.Fatal(err)
			}
			_, err = other.AddAccount(t.Context(), ann, "four plain words here 77")
			if err != nil {
				t.Fatal(err)
			}
			refused(t, s, waiting, "invalid_grant")
			if _, err := s.Verify(t.Context(), mustToken(t, s, let()).AccessToken); err != nil {
				t.Errorf("a token of who is there now: %v", err)
			}
			_, err = s.Verify(t.Context(), mustToken(t, s, asService(secret)).AccessToken)
			if err != nil {
				t.Errorf("a token of the service that is there now: %v", err)
			}
		})
	}
}

// An interrupted removal leaves an account that can be removed again. Everything that the
// account approved has ended before the account is gone.
func TestAnAccountIsRemovedAfterWhatItAuthorized(t *testing.T) {
	const back = "https://app.example/cb"
	_, clock, b := newServer(t)
	s := production(t, b, clock, func(c *auth.Config) { c.ByAccounts = true })
	registered(t, s, []auth.Client{
		{ID: "app", Name: "An app", RedirectURIs: []string{back}, Scope: appScope},
	})
	ann, err := s.AddAccount(t.Context(), auth.Account{Name: "ann", Patient: "p1"},
		"four plain words here 77")
	if err != nil {
		t.Fatal(err)
	}
	q := authorizeQuery("client_id", "app", "redirect_uri", back, "scope", appScope)
	req, err := s.Check(t.Context(), q, []string{fhirBase})
	if err != nil {
		t.Fatal(err)
	}
	req.Account, req.AccountMade = ann.Name, ann.Created
	c, err := s.IssueCode(t.Context(), req, "p1")
	if err != nil {
		t.Fatal(err)
	}
	token := mustToken(t, s, codeForm(c, "client_id", "app", "redirect_uri", back)).AccessToken

	gone := make(chan error, 1)
	stop, err := s.KV.Follow(t.Context(), subject.KindOf("account").All(), func(e kv.Entry) {
		if e.Deleted {
			_, err := s.Verify(t.Context(), token)
			gone <- err
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := s.RemoveAccount(t.Context(), "patient", "ann"); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; !errors.Is(err, auth.ErrToken) {
		t.Errorf("the account is gone, and its token is answered %v", err)
	}
}

// registered registers clients and returns the secret of the last one.
func registered(t *testing.T, s *auth.Server, clients []auth.Client) (secret string) {
	t.Helper()
	for _, c := range clients {
		var err error
		if _, secret, err = s.AddClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return secret
}
