package files

import (
	"crypto/rand"
	"errors"
	"path/filepath"
	"slices"
)

// A server writes a text that it has drawn into the folder of the exports, and tells it to its exporters.
// Who finds it has the same folder, whatever that is called there. Each text is a file of its own: no
// cache of a network's file system can have missed it before it was told.

// ProofsFolder holds the texts, as the names of files.
const ProofsFolder = ".pairing"

// DrawProof writes a new text, and removes all but that and last, the one before it ("": none).
func (l *Local) DrawProof(last string) (text string, err error) {
	text = rand.Text()
	folder := filepath.Join(l.root, ProofsFolder)
	if err := l.disk.MkdirAll(folder); err != nil {
		return "", err
	}
	if err := errors.Join(l.keep(filepath.Join(folder, text), text), l.disk.SyncDir(l.root)); err != nil {
		return "", err
	}
	all, err := l.disk.ReadDir(folder)
	for _, name := range all {
		if name != text && name != last && identityText.MatchString(name) {
			err = errors.Join(err, ignoreAbsent(l.disk.Remove(filepath.Join(folder, name))))
		}
	}
	return text, err
}

// HasProof reports whether a text is in the folder.
func (l *Local) HasProof(text string) (bool, error) {
	if !identityText.MatchString(text) {
		return false, nil
	}
	found, err := l.small(filepath.Join(l.root, ProofsFolder, text))
	return found == text, err
}

// Proofs are the texts that are there, for people.
func (l *Local) Proofs() []string {
	all, _ := l.disk.ReadDir(filepath.Join(l.root, ProofsFolder)) // there may be none
	slices.Sort(all)
	return all
}

// Root is the folder of the exports.
func (l *Local) Root() string { return l.root }

// SetSpillBytes changes Config.SpillBytes for batches from here on.
func (l *Local) SetSpillBytes(n int) {
	if n > 0 {
		l.spill.Store(int64(n))
	}
}
