package main

import (
	"go/build"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/ARCHITECTURE.md lists the packages of the HTTP layer from the top to the bottom. Each
// imports only those below it.
func TestImportsOfTheHTTPLayerPointDown(t *testing.T) {
	const begin = "each imports only those below it:"
	_, list, ok := strings.Cut(read(t, "../docs/ARCHITECTURE.md"), begin)
	if !ok {
		t.Fatalf("docs/ARCHITECTURE.md does not say %q", begin)
	}
	list, _, _ = strings.Cut(list, "\n## ")
	var layers []string
	for _, m := range regexp.MustCompile("(?m)^- `([a-z]+)`: ").FindAllStringSubmatch(list, -1) {
		layers = append(layers, m[1])
	}
	if len(layers) < 15 {
		t.Fatalf("only %d packages are listed: %v", len(layers), layers)
	}
	const module = "ehi-server/api/"
	for i, layer := range layers {
		pkg, err := build.Default.ImportDir(layer, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range pkg.Imports {
			name, ours := strings.CutPrefix(path, module)
			if ours && slices.Contains(layers[:i], name) {
				t.Errorf("%s imports %s, which the list has above it", layer, name)
			}
		}
	}
	// the packages that serve one audience each do not know each other
	audiences := []string{"staff", "console", "smart", "patient", "fhirapi"}
	for _, audience := range audiences {
		if !slices.Contains(layers, audience) {
			t.Errorf("package %s is not in the list", audience)
		}
		pkg, err := build.Default.ImportDir(audience, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range pkg.Imports {
			name, ours := strings.CutPrefix(path, module)
			consent := audience == "smart" && name == "patient"
			if ours && slices.Contains(audiences, name) && !consent {
				t.Errorf("%s imports %s", audience, name)
			}
		}
	}
	// every package that handles requests is in the list
	folders, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range folders {
		name := filepath.Dir(file)
		if strings.HasSuffix(file, "_test.go") || slices.Contains(layers, name) {
			continue
		}
		if strings.Contains(read(t, file), `"github.com/gofiber/fiber/v2"`) {
			t.Errorf("%s handles requests, and the list does not have package %s", file, name)
		}
	}
}
