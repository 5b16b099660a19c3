package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"
)

// currentKey is where the signing key is kept; the first process of a set-up makes it.
const currentKey = "key.current"

func (s *Server) loadKey(ctx context.Context) error {
	e, err := s.KV.Get(ctx, currentKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if err := s.makeKey(ctx); err != nil {
			return err
		}
		e, err = s.KV.Get(ctx, currentKey)
	}
	if err != nil {
		return fmt.Errorf("read signing key: %w", err)
	}
	if s.key, err = jwk.ParseKey(e.Value()); err != nil {
		return fmt.Errorf("parse signing key: %w", err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(s.key); err != nil {
		return err
	}
	s.public, err = jwk.PublicSetOf(set)
	return err
}

// makeKey stores a new key, unless another process has just done so.
func (s *Server) makeKey(ctx context.Context) error {
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := jwk.Import(raw)
	if err != nil {
		return err
	}
	if err := errors.Join(jwk.AssignKeyID(key), key.Set(jwk.AlgorithmKey, jwa.ES256()), key.Set(jwk.KeyUsageKey, "sig")); err != nil {
		return err
	}
	data, err := json.Marshal(key)
	if err != nil {
		return err
	}
	if _, err := s.KV.Create(ctx, currentKey, data); err != nil && !errExists(err) {
		return fmt.Errorf("store signing key: %w", err)
	}
	return nil
}

// JWKS is the public keys, for /auth/jwks (SMART-1, SMART-6).
func (s *Server) JWKS() ([]byte, error) { return json.Marshal(s.public) }
