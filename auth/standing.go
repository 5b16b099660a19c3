package auth

import (
	"context"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
)

// What ends an authorization, and what of it ends, is decided in this file. Tokens ask Holds; what
// lasts longer than a token, such as an export, asks Stands.

// Withdrawal is an authorization that is withdrawn, and with it whatever was begun under it.
type Withdrawal struct {
	Client  string `json:"client"`
	Patient string `json:"patient"`
}

// tokensOnly is the record of a family of which the tokens are void, and nothing else.
const tokensOnly = "1"

// followRevocation keeps the set of revoked families as every process writes it.
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
	if w == (Withdrawal{}) { // news of an older revocation may come later than a withdrawal
		s.revoked.LoadOrStore(family, w)
		return
	}
	s.revoked.Store(family, w)
}

// Revoke voids every token of a family, in every process. What was begun by them goes on: a
// client that signs itself out, or whose refresh token came twice, does not cancel what the
// patient asked for.
func (s *Server) Revoke(ctx context.Context, family string) error {
	s.revoked.LoadOrStore(family, Withdrawal{})
	_, err := s.KV.CreateFor(ctx, revokedRecords.Of(family), []byte(tokensOnly), s.Lasts)
	if kv.IsConflict(err) {
		return nil
	}
	return err
}

// End voids every token of a family, and whatever was begun under it: it does not stand any
// more, in every process, for as long as such a thing can last.
func (s *Server) End(ctx context.Context, family string, w Withdrawal) error {
	s.revoked.Store(family, w)
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return s.KV.PutFor(ctx, revokedRecords.Of(family), data, s.Lasts)
}

// Withdrawals are whose authorizations for whom were withdrawn, of all that are remembered.
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

// sandboxFamily begins the name of a family that a sandbox has let in. The name is in the code, the
// tokens, the consent and the jobs that come of it, and so says of each of them whose it is.
const sandboxFamily = "sandbox-"

// newFamily names what comes of an authorization that a patient gives here.
func (s *Server) newFamily() string {
	if s.Sandbox {
		return sandboxFamily + random()
	}
	return random()
}

// ofSandbox reports whether a family was let in by a sandbox, where anybody may be any patient,
// and this server is none: it waits for the sandbox, and is good for nothing here. Names of
// before families said so do not tell: see agreed for what they renew.
func (s *Server) ofSandbox(family string) bool {
	return !s.Sandbox && strings.HasPrefix(family, sandboxFamily)
}

// voided reports whether the tokens of a family are void.
func (s *Server) voided(family string) bool {
	_, gone := s.revoked.Load(family)
	return gone || s.ofSandbox(family)
}

// Origin is what something came of: which registration of a client it was, or which account of a
// name. One that is removed and made again, however fast and by whichever process, is another
// one.
type Origin struct {
	// Begun is when it was authorized.
	Begun time.Time
	// Made is when the client was registered, or the account added, as its record says it: the
	// mark of that one. Zero of what an older build noted: then only what was made before Begun
	// can be it.
	Made time.Time
}

// is reports whether what was made at an instant is what something came of.
func (o Origin) is(made time.Time) bool {
	if o.Made.IsZero() {
		return made.Unix() <= o.Begun.Unix() // as older builds told: by the second
	}
	return made.Equal(o.Made)
}

// madeNow is when a client or an account is made that is made now, to the nanosecond: no other
// one of its name has the same.
func (s *Server) madeNow() time.Time { return s.Now().UTC().Round(0) }

// lives reports whether a client is registered still that something came of: another one may
// have its id by now.
func (s *Server) lives(ctx context.Context, client string, o Origin) (bool, error) {
	c, err := s.client(ctx, client)
	return c.isOf(o), err
}

func (c *clientRecord) isOf(o Origin) bool { return c != nil && (c.anyRedirect || o.is(c.Created)) }

// livesAsHeard is lives by what this process has heard. told is false where that says nothing.
func (s *Server) livesAsHeard(client string, o Origin) (lives, told bool) {
	c := s.heard(client)
	return c.isOf(o), c != nil || s.clients.isGone(client)
}

// agreed reports whether the account that agreed to a grant is there still, as that patient's.
// Without an account nobody has agreed where patients have them.
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

// Holds reports whether what a token came of still holds: it is not revoked, its client is
// registered, and an account has agreed to it where patients have them. It says nothing of the
// token's time.
func (s *Server) Holds(ctx context.Context, a *Access) (bool, error) {
	if s.voided(a.family) || a.unasked && s.ByAccounts {
		return false, nil
	}
	return s.lives(ctx, a.ClientID, a.Origin)
}

// Ended reports whether this process has heard that what a token came of does not hold any more.
// It asks nobody.
func (s *Server) Ended(a *Access) bool {
	lives, told := s.livesAsHeard(a.ClientID, a.Origin)
	return s.voided(a.family) || told && !lives
}

// Stands reports whether what a client began may go on: the client that began it is registered
// still, and the patient's authorization for it is not withdrawn. grant is Access.Grant; ""
// where there was none.
func (s *Server) Stands(ctx context.Context, client, grant string, o Origin) (bool, error) {
	if s.isWithdrawn(grant) {
		return false, nil
	}
	return s.lives(ctx, client, o)
}

// StandsAsHeard is Stands by what this process has heard; it asks nobody. told is false where
// that says nothing.
func (s *Server) StandsAsHeard(client, grant string, o Origin) (stands, told bool) {
	if s.isWithdrawn(grant) {
		return false, true
	}
	return s.livesAsHeard(client, o)
}

// isWithdrawn reports whether the patient's authorization is withdrawn, or was never given by a
// log-in.
func (s *Server) isWithdrawn(grant string) bool {
	if s.ofSandbox(grant) {
		return true
	}
	v, known := s.revoked.Load(grant)
	w, _ := v.(Withdrawal)
	return grant != "" && known && w != (Withdrawal{})
}
