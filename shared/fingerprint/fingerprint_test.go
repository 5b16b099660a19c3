package fingerprint_test

import (
	"testing"
	"testing/fstest"

	"ehi-server/shared/fingerprint"
)

// A digest is that of the names and the texts of all files but the tests, in the order of the
// packages.
func TestADigestTellsPackagesApart(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	one := fstest.MapFS{"a.go": file("package a"), "table.csv": file("x,y")}
	other := fstest.MapFS{"b.go": file("package b")}
	same := fstest.MapFS{
		"a.go":      file("package a"),
		"table.csv": file("x,y"),
		"a_test.go": file("package a"),
	}
	if fingerprint.Of(one, other) != fingerprint.Of(same, other) {
		t.Error("a test changes the digest")
	}
	seen := map[string]string{}
	for name, digest := range map[string]string{
		"as it is":            fingerprint.Of(one, other),
		"one alone":           fingerprint.Of(one),
		"the other way round": fingerprint.Of(other, one),
		"another text": fingerprint.Of(
			fstest.MapFS{"a.go": file("package a "), "table.csv": file("x,y")}, other),
		"another table": fingerprint.Of(
			fstest.MapFS{"a.go": file("package a"), "table.csv": file("x,z")}, other),
		"another name": fingerprint.Of(
			fstest.MapFS{"c.go": file("package a"), "table.csv": file("x,y")}, other),
		"a file more": fingerprint.Of(fstest.MapFS{
			"a.go":      file("package a"),
			"b.go":      file(""),
			"table.csv": file("x,y"),
		}, other),
		"texts cut elsewhere": fingerprint.Of(
			fstest.MapFS{"a.go": file("package "), "atable.csv": file("x,y")}, other),
		"nothing":              fingerprint.Of(),
		"an empty package too": fingerprint.Of(fstest.MapFS{"a.go": file("")}),
	} {
		if before, is := seen[digest]; is {
			t.Errorf("%s has the digest of: %s", name, before)
		}
		seen[digest] = name
	}
}
