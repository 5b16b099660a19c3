package auth

import (
	"context"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
)

// This file decides what ends an authorization, and what ends with it. Tokens use Holds. What
// lasts longer than a token, such as an export, uses StillValid.

// Withdrawal identifies an authorization that was withdrawn, together with everything started
// under it.
type Withdrawal struct {
	Client  string `json:"client"`
	Patient string `json:"patient"`
}

// tokensOnly is the record of a family whose tokens alone are revoked.
const tokensOnly = "1"

// followRevocation applies the revocation of a family by any process.
func (s *Server) followRevocation(e kv.Entry) {
	family := strings.TrimPrefix(e.Key.String(), revokedRecords.String())
	if e.Deleted {
		s.revoked.Delete(family)
		return
	}
	var w Withdrawal
	if string(e.Value) != tokensOnly && json.Unmarshal(e.Value, &w) != nil {
		w = Withdrawal{}
	}
	if w == (Withdrawal{}) { // an older revocation may arrive after a withdrawal
		s.revoked.LoadOrStore(family, w)
		return
	}
	s.revoked.Store(family, w)
}

// Revoke revokes every token of a family in every process. What was started with them continues:
// a client that logs out, or whose refresh token was used twice, does not cancel what the
// patient requested.
func (s *Server) Revoke(ctx context.Context, family string) error {
	s.revoked.LoadOrStore(family, Withdrawal{})
	_, err := s.KV.CreateFor(ctx, revokedRecords.Of(family), []byte(tokensOnly), s.Lasts)
	if kv.IsConflict(err) {
		return nil
	}
	return err
}

// End revokes every token of a family and everything started under it, in every process, for as
// long as such a thing can last.
func (s *Server) End(ctx context.Context, family string, w Withdrawal) error {
	s.revoked.Store(family, w)
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return s.KV.PutFor(ctx, revokedRecords.Of(family), data, s.Lasts)
}

// Withdrawals returns the withdrawn authorizations that are still remembered.
func (s *Server) Withdrawals() map[Withdrawal]bool {
	out := map[Withdrawal]bool{}
	s.revoked.Range(func(_, v any) bool {
		if w, _ := v.(Withdrawal); w != (Withdrawal{}) {
			out[w] = true
		}
		return true
	})
	return out
}

// sandboxFamily is the prefix of families that a sandbox granted. Codes, tokens, consents and
// jobs contain the family, so that each shows its origin.
const sandboxFamily = "sandbox-"

// newFamily returns a new name for everything that comes from one authorization.
func (s *Server) newFamily() string {
	if s.Sandbox {
		return sandboxFamily + random()
	}
	return random()
}

// ofSandbox reports whether a sandbox granted a family and this server is no sandbox. Anybody
// may be any patient in a sandbox, so the family is invalid here. Names of older families do not
// tell; see agreed.
func (s *Server) ofSandbox(family string) bool {
	return !s.Sandbox && strings.HasPrefix(family, sandboxFamily)
}

// voided reports whether the tokens of a family are revoked.
func (s *Server) voided(family string) bool {
	_, gone := s.revoked.Load(family)
	return gone || s.ofSandbox(family)
}

// Origin identifies the registration of a client, or the account of a name, at the time of an
// authorization. A client or account that is removed and created again is another one, however
// fast and by whichever process.
type Origin struct {
	// Begun is when it was authorized.
	Begun time.Time
	// Made is when the client was registered or the account created, according to its record. It
	// is zero in records of older builds; then only one created before Begun can match.
	Made time.Time
}

// is reports whether a client or account that was created at made is the same one.
func (o Origin) is(made time.Time) bool {
	if o.Made.IsZero() {
		return made.Unix() <= o.Begun.Unix() // as older builds compared: by the second
	}
	return made.Equal(o.Made)
}

// madeNow returns the creation time for a new client or account, to the nanosecond, so that no
// other one of its name has the same.
func (s *Server) madeNow() time.Time { return s.Now().UTC().Round(0) }

// lives reports whether the client of an Origin is still registered. Another client may have its
// ID by now.
func (s *Server) lives(ctx context.Context, client string, o Origin) (bool, error) {
	c, err := s.client(ctx, client)
	return c.isOf(o), err
}

func (c *clientRecord) isOf(o Origin) bool { return c != nil && (c.anyRedirect || o.is(c.Created)) }

// livesFromMemory is lives from this process's copy. known is false if the copy does not tell.
func (s *Server) livesFromMemory(client string, o Origin) (lives, known bool) {
	c := s.heard(client)
	return c.isOf(o), c != nil || s.clients.isGone(client)
}

// agreed reports whether the account that approved a grant still exists and belongs to the
// patient. A grant without an account is invalid where patients have accounts.
func (s *Server) agreed(ctx context.Context, g grant) (bool, error) {
	if g.Account == "" {
		return !s.ByAccounts, nil
	}
	a, err := s.PatientAccount(ctx, g.Account)
	if ehi.CodeOf(err) == ehi.NotFound {
		return false, nil
	}
	return err == nil && a.Patient == g.Patient && g.origin(g.AccountMade).is(a.Created), err
}

// Holds reports whether the authorization of a token is valid: not revoked, its client
// registered, and approved by an account where patients have accounts. It does not check the
// token's lifetime.
func (s *Server) Holds(ctx context.Context, a *Access) (bool, error) {
	if s.voided(a.family) || a.unasked && s.ByAccounts {
		return false, nil
	}
	return s.lives(ctx, a.ClientID, a.Origin)
}

// Ended reports whether this process knows that the authorization of a token has ended. It reads
// memory only.
func (s *Server) Ended(a *Access) bool {
	lives, known := s.livesFromMemory(a.ClientID, a.Origin)
	return s.voided(a.family) || known && !lives
}

// StillValid reports whether something that a client started may continue: the client is still
// registered and the patient's authorization is not withdrawn. grant is Access.Grant, or "" if
// there was none.
func (s *Server) StillValid(ctx context.Context, client, grant string, o Origin) (bool, error) {
	if s.isWithdrawn(grant) {
		return false, nil
	}
	return s.lives(ctx, client, o)
}

// StillValidFromMemory is StillValid from this process's memory. known is false if that does
// not tell.
func (s *Server) StillValidFromMemory(client, grant string, o Origin) (valid, known bool) {
	if s.isWithdrawn(grant) {
		return false, true
	}
	return s.livesFromMemory(client, o)
}

// isWithdrawn reports whether the patient's authorization was withdrawn, or was never approved
// by a log-in.
func (s *Server) isWithdrawn(grant string) bool {
	if s.ofSandbox(grant) {
		return true
	}
	v, known := s.revoked.Load(grant)
	w, _ := v.(Withdrawal)
	return grant != "" && known && w != (Withdrawal{})
}
