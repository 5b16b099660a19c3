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

// Safe keeps what pages note, sealed. The key is made of a secret that only a browser's cookie has,
// so that whoever reads the bucket reads nothing.
type Safe struct {
	// Kept is where it is kept.
	Kept *kv.Storage
}

// Put keeps something under a secret, for as long as life.
func (s Safe) Put(c *fiber.Ctx, secret string, plain []byte, life time.Duration) error {
	seal, name := sealer(secret)
	return s.in(c).Set(name, seal.Seal(nil, nil, plain, nil), life)
}

// Get is what is kept under a secret, nil for nothing.
func (s Safe) Get(c *fiber.Ctx, secret string) ([]byte, error) {
	seal, name := sealer(secret)
	sealed, err := s.in(c).Get(name)
	if err != nil || sealed == nil {
		return nil, err
	}
	return seal.Open(nil, nil, sealed, nil)
}

// Forget deletes what is kept under a secret.
func (s Safe) Forget(c *fiber.Ctx, secret string) error {
	_, name := sealer(secret)
	return s.in(c).Delete(name)
}

// in is where it is kept, within the time of a request.
func (s Safe) in(c *fiber.Ctx) *kv.Storage { return s.Kept.In(c.UserContext()) }

// sealer is the cipher of a secret, and the name that the bucket keeps its text under.
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
