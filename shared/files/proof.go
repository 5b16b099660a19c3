package files

import (
	"crypto/rand"
	"errors"
	"slices"
)

// A proof is a random text that a server writes beside the export files and tells its exporters.
// An exporter that finds the text uses the same store, whatever the store's path is there. Each
// text is a mark of its own, so that no cache of a network file system can hide it.

// ProofsFolder is the folder whose file names are the texts.
const ProofsFolder = "." + proofKind

// DrawProof writes a new text and removes all others but last, the previous one ("" for none).
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

// HasProof reports whether the store has a text.
func (b *Base) HasProof(text string) (bool, error) {
	if !identityText.MatchString(text) {
		return false, nil
	}
	found, err := b.backend.MarkText(Mark{proofKind, text})
	return found == text, err
}

// Proofs lists the texts, for people.
func (b *Base) Proofs() []string {
	all, _ := b.backend.MarksOf(proofKind) // there may be none
	slices.Sort(all)
	return all
}
