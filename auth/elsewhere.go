package auth

import (
	"context"
	"errors"
)

// Some administrators have no account here: those of the OpenID provider, and the one of the
// configuration. The records keep the role that the provider reported last, and the
// configuration that the configured one belongs to. A change ends their sessions, and changing
// back does not revive them.

const (
	// providedKind is for users of the OpenID provider. Their names are compared as the provider
	// does.
	providedKind = "openid"
	// configurationKind is for a single record, whose name is "".
	configurationKind = "configuration"
)

// isElsewhere reports whether administrators of a kind have no account here.
func isElsewhere(kind string) bool {
	return kind == configuredKind || kind == providedKind || kind == configurationKind
}

// Provided returns the role that the OpenID provider last reported for somebody, or the zero
// Account.
func (s *Server) Provided(name string) Account {
	a, _ := s.provided.find(accountKey(providedKind, name))
	return a
}

// StoredProvided is Provided from the record, which this process may not have received yet.
func (s *Server) StoredProvided(ctx context.Context, name string) (Account, error) {
	return s.storedElsewhere(ctx, providedKind, name)
}

// storedElsewhere returns the record of somebody without an account here, or the zero Account.
func (s *Server) storedElsewhere(ctx context.Context, kind, name string) (Account, error) {
	a, err := s.account(ctx, accountKey(kind, name))
	if errors.Is(err, ErrNoAccount) {
		return Account{}, nil
	}
	return a.Account, err
}

// Provide records the current role of somebody at the OpenID provider, "" for none. A changed
// role ends his sessions. Nothing is stored about somebody who never had a role.
func (s *Server) Provide(ctx context.Context, name string, role Role) (Account, error) {
	known, err := s.StoredProvided(ctx, name)
	if err != nil || known.Role == role {
		return known, err
	}
	return s.changeAccount(ctx, providedKind, name, func(r *accountRecord) error {
		if r.Role != role {
			r.Role, r.Changed = role, s.Now().UTC()
		}
		return nil
	})
}

// Configure records the configuration of the configured administrator by a mark from which
// nobody can guess a password. The account's Changed is when this configuration was first seen.
func (s *Server) Configure(ctx context.Context, mark string) (Account, error) {
	a, err := s.account(ctx, accountKey(configurationKind, ""))
	if err == nil && a.Configuration == hash(mark) || err != nil && !errors.Is(err, ErrNoAccount) {
		return a.Account, err
	}
	return s.changeAccount(ctx, configurationKind, "", func(r *accountRecord) error {
		if r.Configuration != hash(mark) {
			r.Configuration, r.Changed = hash(mark), s.Now().UTC()
		}
		return nil
	})
}
