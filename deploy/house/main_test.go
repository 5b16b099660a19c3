package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The figures count code and tests separately, and include everything below the root except test
// data.
func TestCodeAndTestsAreCountedSeparately(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"a/a.go": "package a\n\nimport _ \"" + jetstream +
			"\"\n\ntype T struct{}\n\nfunc (T) One() {\n}\n\n" +
			"func (*T) Two() {\n\t_ = 1\n}\n\nfunc three() {}\n",
		"a/a_test.go": "package a\n\n// " + strings.Repeat("x", width) + "\n",
		"b/b.go": "package b\n\ntype L[E any] []E\n\nfunc (l L[E]) Len() int { return " +
			"len(l) }\n",
		"b/testdata/bad.go": "this is no Go\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := measure(root)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	h.print(&out)
	for _, want := range []string{
		"2 packages, 19 lines of code, 3 of test (0.16 to 1), 1 lines over 100 columns\n",
		"| a function | 2 | 3 | 3 | a/a.go: T.Two |\n",
		"| a.T | 2 |\n| b.L | 1 |\n",
		"Imports of JetStream: a\n",
		"| a | 1 | 14 | 3 | 0.21 |\n| b | 1 | 5 | 0 | 0.00 |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
}
