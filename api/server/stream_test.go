package server

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// What streams an answer by itself does not ask whether the authority behind it has ended: stream.go
// alone may (and faults.go, which breaks an answer off in the sandbox).
func TestEveryStreamAsksForItsAuthority(t *testing.T) {
	streaming := []string{"SendStream", "SetBodyStream", "SetBodyStreamWriter", "SendFile", "Download", "Hijack"}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			at, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(streaming, at.Sel.Name) {
				return true
			}
			if seen++; e.Name() != "stream.go" && !(e.Name() == "faults.go" && at.Sel.Name == "Hijack") {
				t.Errorf("%s: %s sends by itself: use sendStream or writeStream", set.Position(at.Pos()), at.Sel.Name)
			}
			return true
		})
	}
	if seen < 3 {
		t.Errorf("only %d calls were seen: does this test look for the right ones?", seen)
	}
}

// What streams an answer is cut off in a test, each by a reading that fails: TestACutAnswerNeverLooksWhole
// of api/e2e. Whoever adds something here adds it there.
func TestEveryStreamIsCutOffInATest(t *testing.T) {
	want := []string{
		"handleAudit", "handleBackup", "handleEvents", "handleRequestArchive",
		"sendGzip", "sendManifest", "sendRange", "sendUnpacked",
	}
	set := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				at, ok := n.(*ast.SelectorExpr)
				if ok && (at.Sel.Name == "sendStream" || at.Sel.Name == "writeStream") {
					found[f.Name.Name] = true
				}
				return true
			})
		}
	}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("answers are streamed by %q, and cut off in a test are those of %q", got, want)
	}
}
