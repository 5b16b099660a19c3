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

// Argon2id as OWASP's password storage cheat sheet asks for at least: 19 MiB, 2 passes, one
// lane. About 20 ms of one processor.
const (
	argonMemory  = 19 * 1024 // KiB
	argonPasses  = 2
	argonLanes   = 1
	argonKeyLen  = 32
	argonSaltLen = 16
)

// What a stored hash may ask for at most: a later version may ask for more than this one does.
const (
	argonMost       = 128 * 1024 // KiB
	argonMostPasses = 16
)

// MinPassword is the shortest password that an account may have, in characters (NIST SP
// 800-63B-4, 3.1.1.2: at least 15 where it is the only factor; 12 with the limits on guessing
// that there are here). MaxPassword keeps a log-in's work bounded.
const (
	MinPassword = 12
	MaxPassword = 1024
)

// hasher hashes and checks passwords and secrets. At most as many are worked on at once as there
// are processors, so that guessing costs the server no more memory than that.
type hasher struct {
	slots chan struct{}
	// known are the secrets of clients that were found right, so that a backend service that
	// comes every second costs no hash each time. What is kept is a digest of the stored hash
	// and the secret; a rotated secret has another hash.
	known *lru.Cache[[sha256.Size]byte, struct{}]
}

// decoy is what the password of an unknown account is compared with, so that it takes as long as
// a known one's: random bytes in place of a hash.
const decoy = "$argon2id$v=19$m=19456,t=2," +
	"p=1$RmouMDedld804Aki2fr27w$VyeH2NlrOjN7KilcLaYJRqRDB1vh1pxtdn1b4ala3qM"

// knownSecrets bounds the secrets that are remembered as right.
const knownSecrets = 1024

func newHasher() (*hasher, error) {
	known, err := lru.New[[sha256.Size]byte, struct{}](knownSecrets)
	if err != nil {
		return nil, err
	}
	return &hasher{slots: make(chan struct{}, runtime.GOMAXPROCS(0)), known: known}, nil
}

// enter waits for a slot. Errors: ctx's.
func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) leave() { <-h.slots }

// hash is the PHC string of a secret: $argon2id$v=19$m=19456,t=2,p=1$salt$key.
func (h *hasher) hash(ctx context.Context, secret string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, argonSaltLen)
	_, _ = rand.Read(salt) // never fails (crypto/rand since Go 1.24)
	key := argon2.IDKey([]byte(secret), salt, argonPasses, argonMemory, argonLanes, argonKeyLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory,
		argonPasses, argonLanes, b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// errHash is a stored hash that cannot be read.
var errHash = errors.New("the stored hash of a secret cannot be read")

// check tells whether a secret is the one of a hash, in a time that does not tell how nearly.
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
	// a broken record must not cost the process its memory
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

// checkOften is check for a secret of 256 random bits, which is remembered once it was right.
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

// waste takes as long as a check does, of what there is no hash of.
func (h *hasher) waste(ctx context.Context, secret string) error {
	_, err := h.check(ctx, decoy, secret)
	return err
}

// Equal compares in constant time, whatever the lengths.
func Equal(a, b string) bool {
	ha, hb := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(ha[:], hb[:]) == 1
}

// SessionMark stands for a password of the configuration in the sessions that it opened: another
// password, or another circumstance, has another mark. Every process works out the same one; who
// reads a session has to guess as slowly as at a stored hash.
func SessionMark(password string, circumstances ...string) string {
	salt := sha256.Sum256([]byte("session\x00" + strings.Join(circumstances, "\x00")))
	key := argon2.IDKey([]byte(password), salt[:], argonPasses, argonMemory, argonLanes,
		argonKeyLen)
	return base64.RawURLEncoding.EncodeToString(key)
}
