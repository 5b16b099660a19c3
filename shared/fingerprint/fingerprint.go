// Package fingerprint tells builds apart by the source text of the packages that decide about
// something: two processes with equal digests do it in the same way. A package that takes part
// embeds its own files. Nobody has to remember to count a version up.
package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io/fs"
	"strings"
)

// Of is a digest of the Go files of packages, and of the tables that they embed, without their
// tests.
func Of(packages ...fs.FS) string {
	sum := sha256.New()
	for _, files := range packages {
		if err := add(sum, files); err != nil { // they are part of the build
			panic(err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:digestBytes])
}

// digestBytes is how many bytes of a digest are kept: enough that no two builds have the same by
// chance.
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
