// Package fingerprint identifies builds by the source text of packages that make decisions: two
// processes with equal digests decide alike. Such a package embeds its own files. Nobody has to
// maintain a version number.
package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io/fs"
	"strings"
)

// Of returns a digest of the Go files of packages, and of the tables that they embed, without
// their tests.
func Of(packages ...fs.FS) string {
	sum := sha256.New()
	for _, files := range packages {
		if err := add(sum, files); err != nil { // they are part of the build
			panic(err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:digestBytes])
}

// digestBytes is how many bytes of the digest are kept: enough to rule out collisions of builds.
const digestBytes = 8

func add(sum hash.Hash, files fs.FS) error {
	return fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(files, path)
		sum.Write([]byte(path + "\x00"))
		sum.Write(text)
		sum.Write([]byte{0})
		return err
	})
}
