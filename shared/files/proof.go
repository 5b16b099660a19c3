package files

import (
	"crypto/rand"
	"errors"
	"slices"
)

// A server writes a text that it has drawn beside the files of the exports, and tells it to its
// exporters. Who finds it has the same store, whatever that is called there. Each text is a mark of
// its own: no cache of a network's file system can have missed it before it was told.

// ProofsFolder holds the texts, as the names of files.
const ProofsFolder = "." + proofKind

// DrawProof writes a new text, and removes all but that and last, the one before it ("": none).
func (b *Base) DrawProof(last string) (text string, err error) {
	text = rand.Text()
	if err := b.backend.PutMark(Mark{proofKind, text}, text); err != nil {
		return "", err
	}
	all, err := b.backend.MarksOf(proofKind)
	for _, name := range all {
		if name != text && name != last && identityText.MatchString(name) {
			err = errors.Join(err, b.backend.RemoveMark(Mark{proofKind, name}))
		}
	}
	return text, err
}

// HasProof reports whether a text is in the store.
func (b *Base) HasProof(text string) (bool, error) {
	if !identityText.MatchString(text) {
		return false, nil
	}
	found, err := b.backend.MarkText(Mark{proofKind, text})
	return found == text, err
}

// Proofs are the texts that are there, for people.
func (b *Base) Proofs() []string {
	all, _ := b.backend.MarksOf(proofKind) // there may be none
	slices.Sort(all)
	return all
}
