package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"

	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Consent is the access that a patient has granted to an application, for as long as the
// application holds tokens.
type Consent struct {
	// ID identifies it among the patient's consents.
	ID       string    `json:"id"`
	ClientID string    `json:"client_id"`
	Scopes   Scopes    `json:"scopes"`
	Begun    time.Time `json:"begun"`
	LastUsed time.Time `json:"last_used"` // when tokens were last issued
	// Account is the patient's account that agreed; "" if there was none, or in older records.
	Account string `json:"account,omitempty"`
	// ClientMade identifies the client's registration, see Origin.
	ClientMade time.Time `json:"client_made,omitzero"`
}

func consentKey(patient, family string) subject.Subject {
	return consentRecords.Of(hash(patient), family)
}

// noteConsent stores the consent behind tokens that were just issued, until the last of them
// expires.
func (s *Server) noteConsent(ctx context.Context, g grant) error {
	if g.Patient == "" {
		return nil
	}
	ttl := s.AccessTTL
	if g.Scopes.Refreshable() {
		ttl = s.RefreshTTL
	}
	data, err := json.Marshal(Consent{
		ID:       g.Family,
		ClientID: g.ClientID,
		Scopes:   g.Scopes,
		Begun:    time.Unix(g.Begun, 0).UTC(),
		LastUsed: s.Now().UTC().Truncate(time.Second),
		Account:  g.Account,

		ClientMade: g.ClientMade,
	})
	if err != nil {
		return err
	}
	return s.KV.PutFor(ctx, consentKey(g.Patient, g.Family), data, ttl)
}

// Consents lists the applications with tokens for a patient, the newest first.
func (s *Server) Consents(ctx context.Context, patient string) ([]Consent, error) {
	out := []Consent{}
	err := s.KV.Entries(ctx, consentRecords.Under(hash(patient)), func(e kv.Entry) error {
		var c Consent
		if err := json.Unmarshal(e.Value, &c); err != nil {
			return err
		}
		lives, err := s.lives(ctx, c.ClientID, Origin{c.Begun, c.ClientMade})
		if lives && !s.voided(c.ID) {
			out = append(out, c)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Consent) int { return b.Begun.Compare(a.Begun) })
	return out, nil
}

// ErrNoConsent is returned for a consent that does not exist and for that of another patient.
var ErrNoConsent = ehi.Errorf(ehi.NotFound, "There is no such application")

// Withdraw ends an application's access at the patient's request. Every process rejects its
// tokens, and exports that it started are cancelled (see StillValid). Errors: ErrNoConsent.
func (s *Server) Withdraw(ctx context.Context, patient, id string) (Consent, error) {
	var c Consent
	if !urlSafe.MatchString(id) {
		return c, ErrNoConsent
	}
	e, err := s.KV.Get(ctx, consentKey(patient, id))
	if errors.Is(err, kv.ErrNotFound) {
		return c, ErrNoConsent
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(e.Value, &c); err != nil {
		return c, err
	}
	return c,
		errors.Join(s.End(ctx, c.ID, Withdrawal{c.ClientID, patient}), s.KV.Forget(ctx, e.Key))
}

// disown withdraws the consents of an account that is being removed, and those without a
// recorded account.
func (s *Server) disown(ctx context.Context, gone Account) error {
	if gone.Patient == "" {
		return nil // administrators have no consents
	}
	list, err := s.Consents(ctx, gone.Patient)
	for _, c := range list {
		if c.Account == gone.Name || c.Account == "" {
			_, failed := s.Withdraw(ctx, gone.Patient, c.ID)
			err = errors.Join(err, failed)
		}
	}
	return err
}
