package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/argon2"
)

// The minimum parameters of argon2id in OWASP's password storage cheat sheet: 19 MiB, 2 passes,
// one lane. A hash takes about 20 ms of one processor.
const (
	argonMemory  = 19 * 1024 // KiB
	argonPasses  = 2
	argonLanes   = 1
	argonKeyLen  = 32
	argonSaltLen = 16
)

// The largest parameters accepted in a stored hash. A later version may use larger ones than
// this one.
const (
	argonMost       = 128 * 1024 // KiB
	argonMostPasses = 16
)

// MinPassword is the shortest password in characters. NIST SP 800-63B-4, 3.1.1.2 requires 15 if
// it is the only factor; with the rate limits here 12 are enough. MaxPassword bounds the work of
// a log-in.
const (
	MinPassword = 12
	MaxPassword = 1024
)

// hasher hashes and checks passwords and secrets. It works on at most one per processor at a
// time, which bounds the memory that guessing can use.
type hasher struct {
	slots chan struct{}
	// known caches client secrets that were correct, so that a backend service that requests a
	// token every second does not cost a hash each time. The key is a digest of the stored hash
	// and the secret, so that a rotated secret does not match.
	known *lru.Cache[[sha256.Size]byte, struct{}]
}

// decoy is the hash that an unknown account's password is compared with, so that the check takes
// as long as for a known account. It contains random bytes.
const decoy = "$argon2id$v=19$m=19456,t=2," +
	"p=1$RmouMDedld804Aki2fr27w$VyeH2NlrOjN7KilcLaYJRqRDB1vh1pxtdn1b4ala3qM"

// knownSecrets is how many correct secrets are cached.
const knownSecrets = 1024

func newHasher() (*hasher, error) {
	known, err := lru.New[[sha256.Size]byte, struct{}](knownSecrets)
	if err != nil {
		return nil, err
	}
	return &hasher{slots: make(chan struct{}, runtime.GOMAXPROCS(0)), known: known}, nil
}

// enter waits for a free slot. Errors: those of ctx.
func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) leave() { <-h.slots }

// hash returns the PHC string of a secret: $argon2id$v=19$m=19456,t=2,p=1$salt$key.
func (h *hasher) hash(ctx context.Context, secret string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, argonSaltLen)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	key := argon2.IDKey([]byte(secret), salt, argonPasses, argonMemory, argonLanes, argonKeyLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory,
		argonPasses, argonLanes, b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// errHash means that a stored hash is malformed.
var errHash = errors.New("the stored hash of a secret cannot be read")

// check reports whether a secret matches a hash, in constant time.
func (h *hasher) check(ctx context.Context, phc, secret string) (bool, error) {
	var version int
	var memory, passes uint32
	var lanes uint8
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, errHash
	}
	_, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes,
		&lanes)
	if err != nil || version != argon2.Version {
		return false, errHash
	}
	// A corrupt record must not exhaust the memory of the process.
	if memory > argonMost || passes < 1 || passes > argonMostPasses || lanes < 1 {
		return false, errHash
	}
	salt, errSalt := base64.RawStdEncoding.DecodeString(parts[4])
	want, errKey := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(errSalt, errKey) != nil || len(want) == 0 {
		return false, errHash
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	got := argon2.IDKey([]byte(secret), salt, passes, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// checkOften is check for a secret of 256 random bits, and caches correct ones.
func (h *hasher) checkOften(ctx context.Context, phc, secret string) (bool, error) {
	digest := sha256.Sum256([]byte(phc + "\x00" + secret))
	if h.known.Contains(digest) {
		return true, nil
	}
	right, err := h.check(ctx, phc, secret)
	if right {
		h.known.Add(digest, struct{}{})
	}
	return right, err
}

// waste takes as long as check, for a secret without a stored hash.
func (h *hasher) waste(ctx context.Context, secret string) error {
	_, err := h.check(ctx, decoy, secret)
	return err
}

// Equal compares two texts in constant time, whatever their lengths.
func Equal(a, b string) bool {
	ha, hb := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(ha[:], hb[:]) == 1
}

// SessionMark returns a mark that ties a session to a configured password: another password or
// other circumstances give another mark. Every process computes the same mark. Guessing the
// password from a session is as slow as from a stored hash.
func SessionMark(password string, circumstances ...string) string {
	salt := sha256.Sum256([]byte("session\x00" + strings.Join(circumstances, "\x00")))
	key := argon2.IDKey([]byte(password), salt[:], argonPasses, argonMemory, argonLanes,
		argonKeyLen)
	return base64.RawURLEncoding.EncodeToString(key)
}
