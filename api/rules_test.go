package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/golden"
)

// The form of rule ids in text and in the names of tests.
var (
	ruleInText = regexp.MustCompile(`\b(?:EHI|BULK|SMART|REAL|IN)-[0-9]+\b`)
	ruleInName = regexp.MustCompile(`^(?:Test|Fuzz)(EHI|BULK|SMART|REAL|IN)([0-9]+)(?:[A-Z]|$)`)
)

// docs/conformance.md has every rule that the code names, and every rule in it has a test that names it.
func TestEveryRuleIsWrittenDownAndHasATest(t *testing.T) {
	const page = "../docs/conformance.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	named, held := rulesOf(t, "..")
	rules := map[string]bool{}
	var want strings.Builder
	for i, section := range strings.Split(string(text), "\n### ") {
		if i == 0 {
			want.WriteString(section)
			continue
		}
		id, _, _ := strings.Cut(section, "\n")
		rules[id] = true
		body, rest := section, ""
		if at := strings.Index(body, "\n## "); at >= 0 { // the next chapter begins
			body, rest = body[:at], body[at:]
		}
		body, _, _ = strings.Cut(body, "\n\nHeld by: ")
		tests := held[id]
		if len(tests) == 0 {
			t.Errorf("no test names %s", id)
		}
		fmt.Fprintf(&want, "\n### %s\n\nHeld by: %s\n%s", strings.TrimRight(body, "\n"),
			list(tests), rest)
	}
	golden.Check(t, page, strings.TrimRight(want.String(), "\n")+"\n")
	for _, id := range slices.Sorted(maps.Keys(named)) {
		if !rules[id] {
			t.Errorf("%s names the rule %s, of which docs/conformance.md has nothing", named[id],
				id)
		}
	}
}

// list returns the names of some tests of a rule, as code.
func list(tests []string) string {
	slices.Sort(tests)
	tests = slices.Compact(tests)
	more := ""
	if n := len(tests) - mostTests; n > 0 {
		tests, more = tests[:mostTests], fmt.Sprintf(", and %d more", n)
	}
	return "`" + strings.Join(tests, "`, `") + "`" + more
}

// mostTests is the maximum number of tests that are named for a rule.
const mostTests = 6

// rulesOf returns the rules that Go files name, each with one of the places, and the tests that
// name it.
func rulesOf(t *testing.T, root string) (named map[string]string, held map[string][]string) {
	t.Helper()
	named, held = map[string]string{}, map[string][]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, id := range ruleInText.FindAllString(string(text), -1) {
			named[id] = path
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text,
			parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok ||
				!strings.HasPrefix(fn.Name.Name, "Test") &&
					!strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			ids := ruleInText.FindAllString(fn.Doc.Text(), -1)
			if m := ruleInName.FindStringSubmatch(fn.Name.Name); m != nil {
				ids = append(ids, m[1]+"-"+m[2])
			}
			for _, id := range ids {
				named[id] = path
				held[id] = append(held[id], fn.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return named, held
}
