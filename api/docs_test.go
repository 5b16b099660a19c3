package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"ehi-server/api/node"
	"ehi-server/exporter/standalone"
	"ehi-server/shared/golden"
	"ehi-server/shared/settings"
)

// docs/configuration.md matches the command lines, and the short table of docs/operations.md
// names only flags and variables that exist.
func TestTheConfigurationReferenceIsTheCommandLines(t *testing.T) {
	var want strings.Builder
	want.WriteString("# Configuration\n\nA flag outranks its variable. Durations are written as " +
		"`90s`, `10m`, `24h`. A negative value needs `=`: `--inline-bytes=-1`. " +
		"`go test ./api -run Reference -update` writes this page.\n")
	names := map[string]bool{}
	for _, program := range []struct {
		run  string
		into any
	}{{"go run ./api", new(cli)}, {"go run ./exporter", new(standalone.Command)}} {
		parser, err := kong.New(program.into)
		if err != nil {
			t.Fatal(err)
		}
		describe(&want, program.run, parser.Model.Node, names)
	}
	golden.Check(t, "../docs/configuration.md", want.String())
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(--[a-z-]+)` \\| `(EHI_[A-Z_]+)`")
	named := row.FindAllStringSubmatch(string(page), -1)
	if len(named) < 8 {
		t.Errorf("the table of docs/operations.md names %d flags", len(named))
	}
	for _, n := range named {
		if !names[n[1]+" "+n[2]] {
			t.Errorf("docs/operations.md names %s with %s, which no command takes", n[1], n[2])
		}
	}
}

// A command line takes a negative value only behind "=", and so do the documents write it.
func TestDocumentsWriteNegativeValuesAsCommandLinesTakeThem(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	apart := regexp.MustCompile(`--[a-z-]+ +-[0-9]`)
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md") {
		for _, found := range apart.FindAllString(document(t, page), -1) {
			t.Errorf("%s has %q, which no command takes", page, found)
		}
	}
}

// Every test that the threat model and the design cite exists, and so does every group of
// attacks.
func TestTheDocumentsNameTestsThatAreThere(t *testing.T) {
	there := map[string]bool{}
	names := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(|"([a-z ]+)": +\w+Attacks\b`)
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range names.FindAllStringSubmatch(string(text), -1) {
			there[found[1]+found[2]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	inPage := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`|`attacks: ([a-z ]+)`")
	for page, atLeast := range map[string]int{"security.md": 60, "design.md": 30} {
		named := inPage.FindAllStringSubmatch(document(t, "../docs/"+page), -1)
		if len(named) < atLeast {
			t.Errorf("%s names tests %d times", page, len(named))
		}
		for _, n := range named {
			if name := n[1] + n[2]; name != "x" && !there[name] {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}

// describe writes a table of the flags of a command and of each of its subcommands.
func describe(w *strings.Builder, run string, n *kong.Node, names map[string]bool) {
	for _, child := range n.Children {
		describe(w, run+" "+child.Name, child, names)
	}
	if !n.Leaf() {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n", run)
	if n.Help != "" {
		fmt.Fprintf(w, "%s\n\n", n.Help)
	}
	for _, a := range n.Positional {
		fmt.Fprintf(w, "`%s`: %s\n\n", a.Summary(), a.Help)
	}
	titles, groups := []string{""}, map[string][]*kong.Flag{}
	for _, f := range n.Flags {
		title := ""
		if f.Group != nil {
			title = f.Group.Title
		}
		if !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
		groups[title] = append(groups[title], f)
	}
	for _, title := range titles {
		if title != "" {
			fmt.Fprintf(w, "\n### %s\n\n", title)
		}
		table(w, groups[title], names)
	}
}

// table writes a table of flags.
func table(w *strings.Builder, flags []*kong.Flag, names map[string]bool) {
	w.WriteString(
		"| flag | variable | default | takes | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range flags {
		if f.Name == "help" {
			continue
		}
		long, env, def := "--"+f.Name, strings.Join(f.Envs, "`, `"), f.Default
		if len(f.Envs) > 0 {
			names[long+" "+f.Envs[0]] = true
			env = "`" + env + "`"
		}
		if f.Tag.Negatable != "" {
			long = "--[no-]" + f.Name
		}
		if def == "" && f.Required {
			def = "required"
		} else if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s |\n", long, env, def,
			settings.Limits(f, node.Forms), strings.ReplaceAll(f.Help, "|", "\\|"))
	}
}
