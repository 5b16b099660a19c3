package link_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The packages that use the client library of NATS, and why. What is not named here reaches NATS
// through these, which take keys and subjects of package subject alone: no text from a request
// becomes a subject in any other way. This package's methods take no text as a subject, and hand
// out nothing of the library that does but a stream and a bucket, see TestTextsAreNoSubjects.
var usersOfNATS = map[string]string{
	"shared/link": "holds the connection",
	"shared/kv":   "is the buckets",
	"shared/bus":  "is the streams, their topology and the embedded server",
	"api/doctor":  "looks at a NATS that it is told of, and sends nothing",
	"bench/chaos": "looks at the server under test from outside",
}

func TestOnlyAFewPackagesUseNATS(t *testing.T) {
	root := filepath.Join("..", "..")
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" ||
			strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if strings.HasPrefix(imported, "github.com/nats-io/nats.go") {
				in, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				found[filepath.ToSlash(in)] = imported
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d := cmp.Diff(slices.Sorted(maps.Keys(usersOfNATS)), slices.Sorted(maps.Keys(found)))
	if d != "" {
		t.Errorf("packages that use the client library (-want +got):\n%s", d)
	}
}

// takingText are the methods of the library's streams and buckets that take a subject or key as
// a text.
var takingText = []string{
	"GetLastMsgForSubject", "Get", "GetRevision", "Put", "PutString", "Create", "Update", "Delete",
	"Purge", "Watch",
	"WatchFiltered", "History", "PurgeStreamWithSubject", "WithPurgeSubject",
}

// Where a package has a stream or a bucket of the client library in its hands, what it gives it
// as a subject or key is the spelling of one of package subject, and comes from nowhere else.
func TestTextsAreNoSubjects(t *testing.T) {
	checked := 0
	for _, dir := range []string{"kv", "bus"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, is := n.(*ast.CallExpr)
				if !is || !ofLibrary(call) {
					return true
				}
				checked++
				if !spells(call.Args[1]) {
					t.Errorf("%s: a text is taken as a subject", set.Position(call.Pos()))
				}
				return true
			})
		}
	}
	if checked < 7 {
		t.Errorf("only %d calls were found", checked)
	}
}

// ofLibrary tells a call of the library's stream or bucket, by the names that they have in the
// source.
func ofLibrary(call *ast.CallExpr) bool {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is || len(call.Args) < 2 || !slices.Contains(takingText, method.Sel.Name) {
		return false
	}
	switch of := method.X.(type) {
	case *ast.Ident:
		return of.Name == "kv" || of.Name == "stream" || of.Name == "trail"
	case *ast.SelectorExpr:
		return of.Sel.Name == "stream"
	}
	return false
}

// spells tells the spelling of a subject: x.String().
func spells(e ast.Expr) bool {
	call, is := e.(*ast.CallExpr)
	if !is || len(call.Args) > 0 {
		return false
	}
	method, is := call.Fun.(*ast.SelectorExpr)
	return is && method.Sel.Name == "String"
}
