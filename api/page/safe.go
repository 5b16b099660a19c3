package page

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/kv"
)

// Safe stores notes of pages encrypted. The key derives from a secret that only a browser's
// cookie has, so nobody can read the notes in the bucket.
type Safe struct {
	// Kept is the storage.
	Kept *kv.Storage
}

// Put stores data under a secret, for the time life.
func (s Safe) Put(c *fiber.Ctx, secret string, plain []byte, life time.Duration) error {
	seal, name := sealer(secret)
	return s.in(c).Set(name, seal.Seal(nil, nil, plain, nil), life)
}

// Get returns the data under a secret; nil for none.
func (s Safe) Get(c *fiber.Ctx, secret string) ([]byte, error) {
	seal, name := sealer(secret)
	sealed, err := s.in(c).Get(name)
	if err != nil || sealed == nil {
		return nil, err
	}
	return seal.Open(nil, nil, sealed, nil)
}

// Forget deletes the data under a secret.
func (s Safe) Forget(c *fiber.Ctx, secret string) error {
	_, name := sealer(secret)
	return s.in(c).Delete(name)
}

// in returns the storage with the request's context.
func (s Safe) in(c *fiber.Ctx) *kv.Storage { return s.Kept.In(c.UserContext()) }

// sealer returns the cipher of a secret, and the name of its data in the bucket.
func sealer(secret string) (seal cipher.AEAD, name string) {
	key, id := sha256.Sum256([]byte("key "+secret)), sha256.Sum256([]byte("name "+secret))
	block, err := aes.NewCipher(key[:])
	if err == nil {
		seal, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil { // the key has the right length
		panic(err)
	}
	return seal, "flash-" + base64.RawURLEncoding.EncodeToString(id[:])
}
