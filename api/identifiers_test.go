package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// names are the identifiers that the Go code of the workspace declares and uses.
type names struct {
	// declared are the package-level names, and the methods and fields as Type.Member, by package.
	declared map[string]map[string]bool
	// members are all methods and fields by package, whatever their type.
	members map[string]map[string]bool
	// known are all identifiers of the code and all words of its string literals.
	known map[string]bool
	// flags are the fields of structs, spelt as flags.
	flags    map[string]bool
	tests    strings.Builder // the names of all tests, one per line
	comments []comment
}

// comment is a comment of a file.
type comment struct {
	where token.Position
	text  string
}

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

// readNames parses every Go file of the workspace.
func readNames(t *testing.T) *names {
	t.Helper()
	n := &names{
		declared: map[string]map[string]bool{},
		members:  map[string]map[string]bool{},
		known:    map[string]bool{},
		flags:    map[string]bool{},
	}
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil,
			parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		n.add(files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// add reads a file.
func (n *names) add(files *token.FileSet, file *ast.File) {
	pkg := strings.TrimSuffix(file.Name.Name, "_test")
	if n.declared[pkg] == nil {
		n.declared[pkg], n.members[pkg] = map[string]bool{}, map[string]bool{}
	}
	for _, group := range file.Comments {
		n.comments = append(n.comments, comment{files.Position(group.Pos()), group.Text()})
	}
	for _, d := range file.Decls {
		n.declare(pkg, d)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.Ident:
			n.known[node.Name] = true
		case *ast.BasicLit:
			if node.Kind == token.STRING {
				for _, w := range word.FindAllString(node.Value, -1) {
					n.known[w] = true
				}
			}
		}
		return true
	})
}

var testName = regexp.MustCompile(`^(Test|Benchmark|Fuzz|Example)`)

// declare records what a declaration declares.
func (n *names) declare(pkg string, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			n.declared[pkg][d.Name.Name] = true
			if testName.MatchString(d.Name.Name) {
				n.tests.WriteString(d.Name.Name + "\n")
			}
			return
		}
		typ := d.Recv.List[0].Type
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		if generic, ok := typ.(*ast.IndexExpr); ok {
			typ = generic.X
		}
		if name, ok := typ.(*ast.Ident); ok {
			n.member(pkg, name.Name, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					n.declared[pkg][name.Name] = true
				}
			case *ast.TypeSpec:
				n.declared[pkg][spec.Name.Name] = true
				n.fields(pkg, spec)
			}
		}
	}
}

// fields records the fields of a struct, or the methods of an interface.
func (n *names) fields(pkg string, spec *ast.TypeSpec) {
	ast.Inspect(spec.Type, func(node ast.Node) bool {
		if field, ok := node.(*ast.Field); ok {
			for _, name := range field.Names {
				n.member(pkg, spec.Name.Name, name.Name)
			}
		}
		return true
	})
}

// addWords makes all words of a file known.
func (n *names) addWords(t *testing.T, path string) {
	t.Helper()
	for _, w := range word.FindAllString(read(t, path), -1) {
		n.known[w] = true
	}
}

func (n *names) member(pkg, typ, name string) {
	n.declared[pkg][typ+"."+name] = true
	n.members[pkg][name] = true
	n.flags[kebab(name)] = true
}

// kebab returns the flag of a field: max-export-bytes for MaxExportBytes.
func kebab(field string) string {
	return strings.ToLower(capital.ReplaceAllString(field, "$1$3-$2$4"))
}

var capital = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

// qualified matches a name of a package, with a member after a second dot.
var qualified = regexp.MustCompile(
	`(^|[^A-Za-z0-9_./-])([a-z][a-z0-9]*)\.([A-Z][A-Za-z0-9]*)(?:\.([A-Z][A-Za-z0-9]*))?`)

// missing returns the qualified names in a text that the packages of the workspace do not have.
func (n *names) missing(text string) (out []string) {
	for _, m := range qualified.FindAllStringSubmatch(text, -1) {
		pkg, name, member := m[2], m[3], m[4]
		declared, ours := n.declared[pkg]
		// A variable may have the name of its type's package; name is then a member.
		if !ours || (declared[name] || n.members[pkg][name]) && (member == "" || n.known[member]) {
			continue
		}
		out = append(out, strings.TrimSuffix(pkg+"."+name+"."+member, "."))
	}
	return out
}

// camel matches a word with an inner capital, which is rarely an English word.
var camel = regexp.MustCompile(`\b[A-Za-z]*[a-z][A-Z][A-Za-z0-9]*\b`)

// foreign are external names that comments and documents mention but no code does.
var foreign = strings.Fields(`
	CephFS GitHub LevelDB OpenMetrics PromQL SplitMix64 ClientHello uXXXX
	StructureDefinitions SearchParameters AccessTokenResponse valueBase64Binary
	dueTo sourceSignature bulkExport
	ErrStreamNameAlreadyInUse InProcessConnProvider
	JSAccountResourcesExceededErr JSInsufficientResourcesErr JSMaximumConsumersLimitErr
	JSMaximumStreamsLimitErr JSNoLimitsErr JSStorageResourcesExceededErr JSStreamMaxBytesRequired
	JSStreamMaxStreamBytesExceeded`)

// unknown returns the words with an inner capital that are neither an identifier nor part of the
// name of a test.
func (n *names) unknown(text string) (out []string) {
	for _, w := range camel.FindAllString(text, -1) {
		known := n.known[w] || n.known[strings.TrimSuffix(w, "s")] || slices.Contains(foreign, w)
		if !known && !strings.Contains(n.tests.String(), w) {
			out = append(out, w)
		}
	}
	return out
}

// Comments name only things that exist in the workspace.
func TestCommentsNameWhatIsThere(t *testing.T) {
	n := readNames(t)
	for _, c := range n.comments {
		for _, name := range slices.Concat(n.missing(c.text), n.unknown(c.text)) {
			t.Errorf("%s names %s, which does not exist", c.where, name)
		}
	}
	if len(n.comments) < 5000 {
		t.Errorf("only %d comments", len(n.comments))
	}
}

// flag is a flag of a command line.
var flag = regexp.MustCompile("(?:^|[ =(`])--(?:\\[no-\\])?([a-z][a-z-]+)")

// What documents name in code font exists too: identifiers, tests, metrics and flags.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	n := readNames(t)
	n.addWords(t, "../deploy/prometheus/rules.yml")
	n.addWords(t, "../docs/metrics.md") // generated from the metrics
	for _, name := range flag.FindAllStringSubmatch(read(t, "../docs/configuration.md"), -1) {
		n.flags[name[1]] = true // generated from the command lines
	}
	for _, ofCurl := range []string{"json", "data-binary"} {
		n.flags[ofCurl] = true
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	span := regexp.MustCompile("`([^`\n]+)`")
	metric := regexp.MustCompile(`\behi_[a-z_]+`)
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md") {
		for _, code := range span.FindAllStringSubmatch(read(t, page), -1) {
			names := slices.Concat(n.missing(code[1]), n.unknown(code[1]))
			for _, name := range metric.FindAllString(code[1], -1) {
				if !n.known[name] {
					names = append(names, name)
				}
			}
			for _, name := range flag.FindAllStringSubmatch(code[1], -1) {
				if !n.flags[strings.TrimPrefix(name[1], "no-")] && !n.flags[name[1]] {
					names = append(names, "--"+name[1])
				}
			}
			for _, name := range names {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

// The checks find names that do not exist, and no others.
func TestStaleNamesAreFound(t *testing.T) {
	n := readNames(t)
	for text, want := range map[string]string{
		"see release.NewRelics, which": "release.NewRelics",
		"jobs.Service.Open" + "Relics": "jobs.Service.Open" +
			"Relics Open" + "Relics",
		"the relic is " + "next" + "Relic":                               "next" + "Relic",
		"jobs.Service.OpenFile and an FHIR resource's birthDate, of S3.": "",
	} {
		if got := strings.Join(slices.Concat(n.missing(text), n.unknown(text)), " "); got != want {
			t.Errorf("%q names %q, not %q", text, got, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
