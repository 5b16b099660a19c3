package openapi

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Each operation lists every status that it answers with: no default stands for all others, and 500
// is listed only where it says something else than that the server is broken.
func TestOperationsListEveryStatus(t *testing.T) {
	var broken []string
	for _, o := range Operations() {
		for status := 400; status < 600; status++ {
			media, documented := o.Media(status)
			if documented && status == 500 {
				broken = append(broken, o.String())
			}
			if documented && (status == 418 || status == 501) {
				t.Errorf("%s documents %d: %v", o, status, media)
			}
		}
	}
	want := []string{"GET /admin/debug/pprof/{profile}", "GET /jobs/{id}/status"}
	if !slices.Equal(broken, want) {
		t.Errorf("500 is documented of %v, not of %v", broken, want)
	}
	document, err := json.Marshal(Document("https://ehi.example", "1", []string{""}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(document), `"default":{"`) {
		t.Error("a response by default is in the document")
	}
}

// The tables of failures name operations that there are.
func TestFailuresAreOfOperations(t *testing.T) {
	var names, paths []string
	for _, o := range Operations() {
		names, paths = append(names, o.String()), append(paths, o.Path)
	}
	for name := range alsoFails {
		if !slices.Contains(names, name) {
			t.Errorf("%s fails, which is no operation", name)
		}
	}
	for _, name := range guessed {
		if !slices.Contains(names, name) {
			t.Errorf("%s is guessed at, which is no operation", name)
		}
	}
	for _, path := range fixed {
		if !slices.Contains(paths, path) {
			t.Errorf("%s is fixed, which is no path", path)
		}
	}
	for _, o := range operations {
		for _, status := range o.fails() {
			if failureNotes[status] == "" {
				t.Errorf("%s fails with %d, of which there is no note", o.path, status)
			}
		}
	}
}
