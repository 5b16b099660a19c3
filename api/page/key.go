package page

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Key is a secret that all processes with the same state share. It signs form tokens and
// encrypts what a browser stores for the server. It is a record in the bucket of the
// authorization server, and lives as long as that.
type Key []byte

// keyRecord is the record of the key.
var keyRecord = subject.KindOf("page-secret").Of("hmac")

// ReadKey reads the key. The first process creates it.
func ReadKey(ctx context.Context, bucket *kv.Bucket) (Key, error) {
	for {
		e, err := bucket.Get(ctx, keyRecord)
		if err == nil || !errors.Is(err, kv.ErrNotFound) {
			return e.Value, err
		}
		_, err = bucket.Create(ctx, keyRecord, []byte(rand.Text()+rand.Text()))
		if err != nil && !kv.IsConflict(err) {
			return nil, err
		}
	}
}

// Cipher returns a cipher with a separate key for each purpose. A purpose must never change, so
// that an updated server can decrypt earlier data.
func (k Key) Cipher(purpose string) (cipher.AEAD, error) {
	own := sha256.Sum256(append([]byte(purpose+" "), k...))
	block, err := aes.NewCipher(own[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
