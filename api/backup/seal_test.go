package backup

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
)

// Only its recipients can read an encrypted archive. Nobody can read one that was changed or cut
// off.
func TestOnlyRecipientsCanReadAnEncryptedBackup(t *testing.T) {
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	const secret = "a record of a patient"
	w, err := Seal(&archive, []string{mine.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, secret); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sealed := archive.Bytes()
	if bytes.Contains(sealed, []byte(secret)) {
		t.Error("it is not encrypted")
	}
	read := func(data []byte, identity string) (string, error) {
		var keys io.Reader
		if identity != "" {
			keys = strings.NewReader(identity)
		}
		r, err := Unseal(bytes.NewReader(data), keys)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(r)
		return string(text), err
	}
	if got, err := read(sealed, mine.String()); got != secret || err != nil {
		t.Errorf("its recipient reads %q, %v", got, err)
	}
	if got, err := read(sealed, other.String()); err == nil {
		t.Errorf("somebody else reads %q", got)
	}
	if _, err := read(sealed, ""); !errors.Is(err, ErrSealed) {
		t.Errorf("without an identity: %v", err)
	}
	if _, err := read([]byte(secret), mine.String()); !errors.Is(err, ErrNotSealed) {
		t.Errorf("an archive in its place that is not encrypted: %v", err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for _, data := range [][]byte{
		changed, sealed[:len(sealed)-1], sealed[:len(sealed)-len(secret)],
	} {
		if got, err := read(data, mine.String()); err == nil {
			t.Errorf("%d bytes of %d, changed or cut off, are read as %q", len(data), len(sealed),
				got)
		}
	}
	if got, err := read([]byte(secret), ""); got != secret || err != nil {
		t.Errorf("not encrypted: %q, %v", got, err)
	}
	for _, wrong := range []string{"", "age1nonsense", mine.String()} {
		if _, err := Seal(io.Discard, []string{wrong}); err == nil {
			t.Errorf("%q is a recipient", wrong)
		}
	}
}
