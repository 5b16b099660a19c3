package server

import (
	"go/ast"
	"maps"
	"slices"
	"testing"
)

// What streams an answer by itself does not ask whether the authority behind it has ended: only
// content/stream.go may, and what breaks an answer off in the sandbox.
func TestEveryStreamAsksForItsAuthority(t *testing.T) {
	streaming := []string{
		"SendStream", "SetBodyStream", "SetBodyStreamWriter", "SendFile", "Download", "Hijack",
	}
	allowed := map[string][]string{
		"../content/stream.go": {"SendStream", "SetBodyStream"},
		"../content/body.go":   {"Hijack"},
		"../faulty/faulty.go":  {"Hijack"},
	}
	seen := 0
	set, files := handlerFiles(t)
	for path, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			at, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(streaming, at.Sel.Name) {
				return true
			}
			if seen++; !slices.Contains(allowed[path], at.Sel.Name) {
				t.Errorf("%s: %s sends by itself: use a content.Sender", set.Position(at.Pos()),
					at.Sel.Name)
			}
			return true
		})
	}
	if seen < 4 {
		t.Errorf("only %d calls were seen: does this test look for the right ones?", seen)
	}
}

// Each function that streams an answer is cut off in a test, by a reading that fails:
// TestACutAnswerNeverLooksWhole and TestCutDataNeverLooksWhole of api/e2e. Whoever adds a function
// here adds it there.
func TestEveryStreamIsCutOffInATest(t *testing.T) {
	want := []string{
		"SendDecompressed", "handleAudit", "handleBackup", "handleEvents", "handleRequestArchive",
		"sendGzip", "sendManifest", "sendMoved", "sendRange",
	}
	found := map[string]bool{}
	_, files := handlerFiles(t)
	for _, file := range files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				at, ok := n.(*ast.SelectorExpr)
				if ok && (at.Sel.Name == "SendSized" || at.Sel.Name == "SendChunked") {
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
