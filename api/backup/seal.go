package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Errors of Seal and Unseal.
var (
	// ErrSealed says that an archive is encrypted, and no identity was given.
	ErrSealed = errors.New("the archive is encrypted: give the identity file of one of its recipients")
	// ErrNotSealed says that an identity was given for an archive that is not encrypted: it may not be
	// the one that was written.
	ErrNotSealed = errors.New("the archive is not encrypted")
)

// Seal encrypts an archive with age for recipients, by their public keys. Whoever writes it cannot read
// it again. The caller closes it, which does not close w. Without recipients nothing is encrypted.
func Seal(w io.Writer, recipients []string) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return open{w}, nil
	}
	keys, err := age.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("recipients of the backup: %w", err)
	}
	return age.Encrypt(w, keys...)
}

// open is an archive that is not encrypted.
type open struct{ io.Writer }

func (open) Close() error { return nil }

// sealedBegin is what an encrypted archive begins with (the age file format, version 1).
var sealedBegin = []byte("age-encryption.org/v1\n")

// Unseal reads an archive. identities is the file of the private keys of one of its recipients, nil where
// the archive is not encrypted. Errors: ErrSealed, ErrNotSealed, or the keys are of no recipient.
func Unseal(r io.Reader, identities io.Reader) (io.Reader, error) {
	archive := bufio.NewReader(r)
	begin, err := archive.Peek(len(sealedBegin))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sealed := bytes.Equal(begin, sealedBegin)
	switch {
	case sealed && identities == nil:
		return nil, ErrSealed
	case !sealed && identities != nil:
		return nil, ErrNotSealed
	case !sealed:
		return archive, nil
	}
	keys, err := age.ParseIdentities(identities)
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	return age.Decrypt(archive, keys...)
}
