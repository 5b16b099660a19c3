package link_test

import (
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

// The packages that use the client library of NATS, and why. What is not named here reaches NATS through these, which take keys and
// subjects of package subject alone: no text from a request becomes a subject in any other way.
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
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
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
	if d := cmp.Diff(slices.Sorted(maps.Keys(usersOfNATS)), slices.Sorted(maps.Keys(found))); d != "" {
		t.Errorf("packages that use the client library (-want +got):\n%s", d)
	}
}
