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

// Key is the secret of all processes that share their state. Tokens of forms are signed by it, and
// what a browser keeps for the server is sealed by it. It is a record of the bucket of the
// authorization server, and lasts as long as that.
type Key []byte

// keyRecord is the record of the key.
var keyRecord = subject.KindOf("page-secret").Of("hmac")

// ReadKey reads the key. The first process that asks makes it.
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

// Cipher seals by a key of its own for each purpose. A purpose never changes: what was sealed
// before an update is opened after it.
func (k Key) Cipher(purpose string) (cipher.AEAD, error) {
	own := sha256.Sum256(append([]byte(purpose+" "), k...))
	block, err := aes.NewCipher(own[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
