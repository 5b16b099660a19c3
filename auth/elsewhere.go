package auth

import (
	"context"
	"errors"
)

// Administrators who have no account here, as far as something of them has to be known: what the
// OpenID provider said last of those whom it names, and which configuration the configured one
// is of. What has changed ends their sessions, and what changes back does not begin them again.

const (
	// providedKind is of the persons of the OpenID provider. Their names are told apart as it does.
	providedKind = "openid"
	// configurationKind is of one record, whose name is "".
	configurationKind = "configuration"
)

// isElsewhere reports whether administrators of a kind have no account here.
func isElsewhere(kind string) bool {
	return kind == configuredKind || kind == providedKind || kind == configurationKind
}

// Provided is what the OpenID provider said last of somebody; the zero Account where it has said
// nothing.
func (s *Server) Provided(name string) Account {
	a, _ := s.provided.find(accountKey(providedKind, name))
	return a
}

// StoredProvided is Provided by the record, which this process may not have heard of yet.
func (s *Server) StoredProvided(ctx context.Context, name string) (Account, error) {
	return s.storedElsewhere(ctx, providedKind, name)
}

// storedElsewhere is the record of somebody who has no account here, the zero Account where
// there is none.
func (s *Server) storedElsewhere(ctx context.Context, kind, name string) (Account, error) {
	a, err := s.account(ctx, accountKey(kind, name))
	if errors.Is(err, ErrNoAccount) {
		return Account{}, nil
	}
	return a.Account, err
}

// Provide takes in which role the OpenID provider gives somebody now, "" for none. Another one
// than before ends the sessions that he has. Of who never had a role nothing is kept.
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

// Configure takes in which configuration the configured administrator is of, by a mark that
// nobody can guess a password from. The account's Changed is since when it is that one.
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
