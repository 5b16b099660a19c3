package server

import (
	"go/ast"
	"go/parser"
	"go/token"
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
