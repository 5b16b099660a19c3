package auth_test

import (
	"errors"
	"testing"
	"time"

	"ehi-server/auth"
)

// A clock is ten years ahead for a minute and is then set right. No token of that time stays
// valid for ten years: neither an access token whose signature was checked at that time, nor the
// refresh token of its grant.
func TestTokensOfAClockThatWasAheadEndWithIt(t *testing.T) {
	s, c, _ := newServer(t)
	c.Store(int64(10 * 365 * 24 * time.Hour))
	tok := mustToken(t, s, codeForm(code(t, s)))
	if _, err := s.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Fatalf("a token, by the clock that issued it: %v", err)
	}
	c.Store(0)
	if _, err := s.Verify(t.Context(), tok.AccessToken); !errors.Is(err, auth.ErrToken) {
		t.Errorf("an access token of ten years ahead: %v, want %v", err, auth.ErrToken)
	}
	_, err := s.Token(t.Context(), refreshForm(tok.RefreshToken))
	wantError(t, err, "invalid_grant")
	tok = mustToken(t, s, codeForm(code(t, s)))
	if _, err := s.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Errorf("a token of now: %v", err)
	}
	c.Store(-int64(clockStep))
	if _, err := s.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Errorf("a token, after the clock was set back a little: %v", err)
	}
}

// clockStep is how far a clock is set back in normal operation.
const clockStep = 30 * time.Second
