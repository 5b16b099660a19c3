// Command house measures the structure of the workspace's Go code and prints it as Markdown:
// packages and their lines, the largest method sets, the lengths of functions and files, lines
// that are too wide, importers of JetStream, and the ratio of test to code for each package. Its
// argument is the root of the workspace, by default the working directory.
package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// width is the maximum number of columns of a line of code; a tab takes tabWidth.
const (
	width    = 100
	tabWidth = 4
)

// jetstream is the client library whose importers are listed.
const jetstream = "github.com/nats-io/nats.go/jetstream"

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	h, err := measure(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
	h.print(os.Stdout)
}

// house is the result of the measurement.
type house struct {
	packages map[string]*pkg
	// functions and files are their lengths in lines, without tests.
	functions, files []span
	// wide is the number of lines over width, including tests.
	wide int
}

// pkg is one package.
type pkg struct {
	lines, tests, files int
	methods             map[string]int // by receiver type
	jetstream           bool
}

// span is a named length.
type span struct {
	name  string
	lines int
}

// measure reads every Go file below root, except those in testdata.
func measure(root string) (*house, error) {
	h := &house{packages: map[string]*pkg{}}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() &&
			(e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".") && path != root):
			return fs.SkipDir
		case e.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return h.add(filepath.ToSlash(name), text)
	})
	return h, err
}

// add adds a file.
func (h *house) add(name string, text []byte) error {
	folder := name[:max(0, strings.LastIndexByte(name, '/'))]
	p := h.packages[folder]
	if p == nil {
		p = &pkg{methods: map[string]int{}}
		h.packages[folder] = p
	}
	n := strings.Count(string(text), "\n")
	for line := range strings.Lines(string(text)) {
		if columns(strings.TrimSuffix(line, "\n")) > width {
			h.wide++
		}
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, "_test.go") {
		p.tests += n
		return nil
	}
	p.lines, p.files = p.lines+n, p.files+1
	h.files = append(h.files, span{name, n})
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		p.jetstream = p.jetstream || err == nil && path == jetstream
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		label := name + ": " + fn.Name.Name
		if of := receiver(fn); of != "" {
			p.methods[of]++
			label = name + ": " + of + "." + fn.Name.Name
		}
		h.functions = append(h.functions, span{
			label,
			set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1,
		})
	}
	return nil
}

// columns returns the width of a line on a screen.
func columns(line string) int {
	return utf8.RuneCountInString(line) + (tabWidth-1)*strings.Count(line, "\t")
}

// receiver returns the receiver's type of a method, or "" for a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	t := fn.Recv.List[0].Type
	for {
		switch of := t.(type) {
		case *ast.StarExpr:
			t = of.X
		case *ast.IndexExpr:
			t = of.X
		case *ast.IndexListExpr:
			t = of.X
		case *ast.Ident:
			return of.Name
		default:
			return ""
		}
	}
}

// most is the maximum number of printed entries of a list.
const most = 10

// print writes the figures.
func (h *house) print(w io.Writer) {
	code, tests, packages := 0, 0, 0
	var sizes, sets []span
	var importers []string
	for _, name := range slices.Sorted(maps.Keys(h.packages)) {
		p := h.packages[name]
		code, tests = code+p.lines, tests+p.tests
		if p.files > 0 {
			packages++
			sizes = append(sizes, span{name, p.lines})
		}
		for of, n := range p.methods {
			sets = append(sets, span{name + "." + of, n})
		}
		if p.jetstream {
			importers = append(importers, name)
		}
	}
	fmt.Fprintf(w,
		"%d packages, %d lines of code, %d of test (%.2f to 1), %d lines over %d columns\n\n",
		packages, code, tests, ratio(tests, code), h.wide, width)
	fmt.Fprintf(w,
		"| lines of | median | p95 | max | the longest |\n| --- | --- | --- | --- | --- |\n")
	for _, of := range []struct {
		what  string
		spans []span
	}{{"a function", h.functions}, {"a file", h.files}, {"a package", sizes}} {
		slices.SortFunc(of.spans, longest)
		fmt.Fprintf(w, "| %s | %d | %d | %d | %s |\n", of.what,
			at(of.spans, 50), at(of.spans, 95), at(of.spans, 100), of.spans[0].name)
	}
	slices.SortFunc(sets, longest)
	fmt.Fprintf(w, "\n| method set | methods |\n| --- | --- |\n")
	for _, s := range sets[:min(most, len(sets))] {
		fmt.Fprintf(w, "| %s | %d |\n", s.name, s.lines)
	}
	fmt.Fprintf(w, "\nImports of JetStream: %s\n", strings.Join(importers, ", "))
	fmt.Fprintf(w,
		"\n| package | files | lines | test | test to code |\n| --- | --- | --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(h.packages)) {
		p := h.packages[name]
		fmt.Fprintf(w, "| %s | %d | %d | %d | %.2f |\n", name, p.files, p.lines, p.tests,
			ratio(p.tests, p.lines))
	}
}

// longest orders by length, longest first, and then by name.
func longest(a, b span) int {
	return cmp.Or(cmp.Compare(b.lines, a.lines), cmp.Compare(a.name, b.name))
}

// at returns a percentile of spans that are ordered by longest.
func at(spans []span, percent int) int {
	return spans[(len(spans)-1)*(100-percent)/100].lines
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
