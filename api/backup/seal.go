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
	// ErrSealed means that an archive is encrypted and no identity was given.
	ErrSealed = errors.New(
		"the archive is encrypted: give the identity file of one of its recipients")
	// ErrNotSealed means that an identity was given for an archive that is not encrypted. It may
	// not be the archive that was written.
	ErrNotSealed = errors.New("the archive is not encrypted")
)

// Seal encrypts an archive with age for recipients, given by their public keys. The writer
// cannot read the archive again. The caller closes the result, which does not close w. Without
// recipients, Seal does not encrypt.
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

// sealedBegin is the beginning of an encrypted archive (age file format, version 1).
var sealedBegin = []byte("age-encryption.org/v1\n")

// Unseal reads an archive. identities is a file with the private key of at least one recipient;
// nil if the archive is not encrypted. Errors: ErrSealed, ErrNotSealed, or that no key belongs
// to a recipient.
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
