package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	inCode  = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	aLink   = regexp.MustCompile(`\]\(([^)\s]+)\)|src="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noSlug  = regexp.MustCompile(`[^\pL\pN_ -]`)
)

// Every link in the documents leads to a file of the repository and to a heading in it.
func TestTheLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d documents, %v", len(pages), err)
	}
	roots, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := map[string]map[string]bool{} // by page
	for _, page := range append(pages, roots...) {
		text := document(t, page)
		for _, m := range aLink.FindAllStringSubmatch(inCode.ReplaceAllString(text, ""), -1) {
			link := m[1] + m[2]
			if strings.Contains(link, "://") {
				continue
			}
			path, fragment, _ := strings.Cut(link, "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: there is no %s", page, link)
				continue
			}
			if fragment == "" {
				continue
			}
			if headings[target] == nil {
				headings[target] = headingsOf(document(t, target))
			}
			if !headings[target][fragment] {
				t.Errorf("%s: %s leads to no heading", page, link)
			}
		}
	}
}

func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// headingsOf returns the fragments of a page's headings, as GitHub generates them.
func headingsOf(text string) map[string]bool {
	there := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := noSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		there[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return there
}
