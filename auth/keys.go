package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// TokenAlgorithms lists the signature algorithms of access tokens, the default first (SMART-6).
// ID tokens use RS256, which OpenID Connect Core 15.1 requires of every provider.
func TokenAlgorithms() []string { return []string{"ES256", "ES384", "RS256"} }

// IDAlgorithm is the signature algorithm of ID tokens.
const IDAlgorithm = "RS256"

// signingKey is a key as stored.
type signingKey struct {
	JWK  json.RawMessage `json:"jwk"` // private
	Made time.Time       `json:"made"`
	// Retired is when a newer key replaced it; zero while it signs. It stays published as long
	// as tokens that it signed may be valid.
	Retired time.Time `json:"retired,omitzero"`

	key jwk.Key
	alg jwa.SignatureAlgorithm
}

// parse parses the JWK.
func (k *signingKey) parse() (id string, err error) {
	if k.key, err = jwk.ParseKey(k.JWK); err != nil {
		return "", err
	}
	id, _ = k.key.KeyID()
	alg, _ := k.key.Algorithm()
	if k.alg, _ = jwa.LookupSignatureAlgorithm(fmt.Sprint(alg)); id == "" ||
		!slices.Contains(TokenAlgorithms(), k.alg.String()) {
		return "", fmt.Errorf("a signing key has the id %q and the algorithm %q", id, alg)
	}
	return id, nil
}

// ring holds the signing keys in this process. It follows the bucket, so that a rotation takes
// effect in every process.
type ring struct {
	mu     sync.RWMutex
	keys   map[string]*signingKey     // by kid
	kids   map[subject.Subject]string // by record key
	public jwk.Set                    // of all keys
	making sync.Mutex                 // held while a missing key is created
	stop   func()
	gone   func() // called after the removal of a key, whose signatures become invalid
	// went holds the records of removed keys, so that a late read does not restore one.
	went map[subject.Subject]struct{}
	// removed counts removed keys. It increases before gone is called, so that a concurrent
	// verification can detect the removal.
	removed atomic.Uint64
}

func (r *ring) apply(e kv.Entry) {
	if e.Deleted {
		r.forget(e.Key)
		return
	}
	k := &signingKey{}
	if e.Key == firstKey {
		k.JWK, k.Made = e.Value, e.Created
	}
	if json.Unmarshal(e.Value, k) != nil {
		return
	}
	id, err := k.parse()
	if err != nil {
		return // of a newer version; it does not sign here
	}
	r.take(e.Key, id, k)
}

// take adds a key. It is called for this process's keys immediately, and for those of others
// when they arrive.
func (r *ring) take(record subject.Subject, id string, k *signingKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, went := r.went[record]; went {
		return
	}
	r.keys[id], r.kids[record] = k, id
	r.publish()
}

func (r *ring) forget(record subject.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if record != firstKey { // other records hold one key each
		r.went[record] = struct{}{}
	}
	id, known := r.kids[record]
	if !known {
		return
	}
	delete(r.kids, record)
	for _, other := range r.kids { // the first version's key, retired under another name
		if other == id {
			return
		}
	}
	delete(r.keys, id)
	r.publish()
	r.removed.Add(1)
	r.gone()
}

// publish rebuilds the set of public keys.
func (r *ring) publish() {
	set := jwk.NewSet()
	for _, k := range r.keys {
		public, err := k.key.PublicKey()
		if err == nil {
			err = set.AddKey(public)
		}
		if err != nil { // cannot fail: parse accepted the key, and IDs are unique
			panic(err)
		}
	}
	r.public = set
}

// reloaded removes the keys that were deleted while the connection was lost.
func (r *ring) reloaded(records map[subject.Subject]uint64) {
	r.mu.RLock()
	var went []subject.Subject
	for record := range r.kids {
		if _, there := records[record]; !there {
			went = append(went, record)
		}
	}
	r.mu.RUnlock()
	for _, record := range went {
		r.forget(record)
	}
}

// set returns the public keys.
func (r *ring) set() jwk.Set {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.public
}

// newest returns the signing key for an algorithm, or nil.
func (r *ring) newest(alg string) (out *signingKey) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if k.alg.String() == alg && (out == nil || k.Made.After(out.Made)) {
			out = k
		}
	}
	return out
}

// followKeys starts to follow the keys.
func (s *Server) followKeys(ctx context.Context) (err error) {
	s.ring = &ring{
		keys:   map[string]*signingKey{},
		kids:   map[subject.Subject]string{},
		went:   map[subject.Subject]struct{}{},
		public: jwk.NewSet(),
		gone:   s.verified.Purge,
	}
	s.ring.stop, err = s.KV.Follow(ctx, keyRecords.Under(), s.ring.apply, s.ring.reloaded)
	return err
}

// signer returns the signing key for an algorithm, and creates it if there is none.
func (s *Server) signer(ctx context.Context, alg string) (*signingKey, error) {
	if k := s.ring.newest(alg); k != nil {
		return k, nil
	}
	s.ring.making.Lock()
	defer s.ring.making.Unlock()
	if k := s.ring.newest(alg); k != nil {
		return k, nil
	}
	return s.makeKey(ctx, alg)
}

// makeKey stores a new key, which signs from now on. Two processes that do so at once create two
// keys, and both are published.
func (s *Server) makeKey(ctx context.Context, alg string) (*signingKey, error) {
	key, err := generate(alg)
	if err != nil {
		return nil, err
	}
	id, _ := key.KeyID()
	k := &signingKey{Made: s.Now().UTC()}
	if k.JWK, err = json.Marshal(key); err != nil {
		return nil, err
	}
	if _, err := k.parse(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	if _, err := s.KV.Create(ctx, keyRecords.Of(id), data); err != nil {
		return nil, fmt.Errorf("store a signing key: %w", err)
	}
	s.ring.take(keyRecords.Of(id), id, k)
	return k, nil
}

// generate generates a private key for an algorithm.
func generate(alg string) (jwk.Key, error) {
	var raw any
	var err error
	switch alg {
	case "ES256":
		raw, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		raw, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		raw, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return nil, err
	}
	key, err := jwk.Import(raw)
	if err != nil {
		return nil, err
	}
	return key,
		errors.Join(jwk.AssignKeyID(key), key.Set(jwk.AlgorithmKey, alg),
			key.Set(jwk.KeyUsageKey, jwk.ForSignature))
}

// KeyInfo describes a signing key without the key itself.
type KeyInfo struct {
	ID        string    `json:"kid"`
	Algorithm string    `json:"alg"`
	Made      time.Time `json:"made"`
	Retired   time.Time `json:"retired,omitzero"` // zero while it signs
}

// Keys lists the published signing keys, newest first.
func (s *Server) Keys(context.Context) ([]KeyInfo, error) {
	s.ring.mu.RLock()
	defer s.ring.mu.RUnlock()
	out := make([]KeyInfo, 0, len(s.ring.keys))
	for id, k := range s.ring.keys {
		out = append(out, KeyInfo{id, k.alg.String(), k.Made, k.Retired})
	}
	slices.SortFunc(out, func(a, b KeyInfo) int { return b.Made.Compare(a.Made) })
	return out, nil
}

// RotateKeys creates new keys for all signatures. The old keys stay published until the tokens
// that they signed have expired. If compromised is set, they are removed immediately, which
// invalidates all access and ID tokens. Refresh tokens are not signed and stay valid.
func (s *Server) RotateKeys(ctx context.Context, compromised bool) ([]KeyInfo, error) {
	before, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, alg := range s.algorithms() {
		if _, err := s.makeKey(ctx, alg); err != nil {
			return nil, err
		}
	}
	for _, k := range before {
		if err := s.retire(ctx, k, compromised); err != nil {
			return nil, err
		}
	}
	return s.Keys(ctx)
}

// algorithms lists the algorithms that this server signs with.
func (s *Server) algorithms() []string {
	return slices.Compact([]string{s.Algorithm, IDAlgorithm})
}

// retire marks a key as retired, or removes it.
func (s *Server) retire(ctx context.Context, info KeyInfo, remove bool) error {
	record := s.ring.recordOf(info.ID)
	if record == (subject.Subject{}) {
		return nil
	}
	if remove {
		err := s.KV.Forget(ctx, record)
		if err == nil { // effective here immediately; other processes follow
			s.ring.forget(record)
		}
		return err
	}
	if !info.Retired.IsZero() {
		return nil
	}
	s.ring.mu.RLock()
	k := *s.ring.keys[info.ID]
	s.ring.mu.RUnlock()
	k.Retired = s.Now().UTC()
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if record == firstKey { // its record has no field for the time
		if _, err := s.KV.Create(ctx, keyRecords.Of(info.ID), data); err != nil {
			return err
		}
		s.ring.take(keyRecords.Of(info.ID), info.ID, &k)
		return s.KV.Forget(ctx, record)
	}
	if _, err = s.KV.Put(ctx, record, data); err == nil {
		s.ring.take(record, info.ID, &k)
	}
	return err
}

// recordOf returns the record of a key, or the zero Subject.
func (r *ring) recordOf(id string) subject.Subject {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for record, kid := range r.kids {
		if kid == id {
			return record
		}
	}
	return subject.Subject{}
}

// Tend rotates keys that have signed for longer than Config.KeyAge, and removes those whose
// tokens have all expired. Any process may call it at any time; one at a time does the work.
func (s *Server) Tend(ctx context.Context) error {
	keys, err := s.Keys(ctx)
	if err != nil {
		return err
	}
	now, old := s.Now(), false
	for _, k := range keys {
		switch {
		case k.Retired.IsZero():
			old = old || now.Sub(k.Made) > s.KeyAge
		case now.Sub(k.Retired) > s.AccessTTL+assertionLeeway:
			err = errors.Join(err, s.retire(ctx, k, true))
		}
	}
	if !old || err != nil {
		return err
	}
	if _, err := s.KV.CreateFor(ctx, rotatingKey, []byte("1"), time.Minute); kv.IsConflict(err) {
		return nil
	} else if err != nil {
		return err
	}
	_, err = s.RotateKeys(ctx, false)
	return err
}

// urlSafe matches the IDs of keys and families, which are parts of record keys.
var urlSafe = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// fetchKey reads a key that another process has just created, before the watch delivers it.
// Errors: ErrToken if there is no such key.
func (s *Server) fetchKey(ctx context.Context, kid string) error {
	if !urlSafe.MatchString(kid) {
		return ErrToken
	}
	e, err := s.KV.Get(ctx, keyRecords.Of(kid))
	if errors.Is(err, kv.ErrNotFound) {
		return ErrToken
	}
	if err != nil {
		return fmt.Errorf("read a signing key: %w", err)
	}
	s.ring.apply(e)
	return nil
}

// JWKS returns the public keys for /auth/jwks (SMART-1, SMART-6). It creates missing signing
// keys first, so that clients that cache the set have them.
func (s *Server) JWKS(ctx context.Context) ([]byte, error) {
	for _, alg := range s.algorithms() {
		if _, err := s.signer(ctx, alg); err != nil {
			return nil, err
		}
	}
	return json.Marshal(s.ring.set())
}
