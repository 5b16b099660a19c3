// Package records finds the real records for tests of all modules: Synthea bundles beside the
// repository. It is for tests only.
package records

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder of the records: $EHI_TEST_RECORDS, or shared/synthea beside the
// checkout. If it does not exist, the test is skipped, or fails under CI=true.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("EHI_TEST_RECORDS")
	if dir == "" {
		dir = beside(t, "synthea")
	}
	return present(t, dir, "set EHI_TEST_RECORDS to a folder of Synthea bundles")
}

// Cases returns the folder of one case, such as history-bundle, of shared/cases beside the
// checkout: small records that reproduce faults, whose README says the right outcome of each. If
// it does not exist, the test is skipped, or fails under CI=true.
func Cases(t testing.TB, name string) string {
	t.Helper()
	return present(t, filepath.Join(beside(t, "cases"), name), "they belong in ../shared/cases")
}

// present returns a folder if it exists, and otherwise skips or fails the test.
func present(t testing.TB, dir, otherwise string) string {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("the test records are absent: %s", dir)
	}
	t.Skipf("the test records are absent: %s", otherwise)
	return ""
}

// beside returns a folder of shared, next to the root of the workspace.
func beside(t testing.TB, folder string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return filepath.Join(dir, "..", "shared", folder)
		}
	}
	return filepath.Join("..", "shared", folder)
}

// Resource is a resource decoded by encoding/json: an oracle that shares no code with the
// server.
type Resource = map[string]any

// Bundle is one file of the records.
type Bundle struct {
	Path      string
	Resources []Resource
	// Names maps the entries of the bundle: fullUrl -> type/id.
	Names map[string]string
	// Patient is the ID of the bundle's patient, or "" if it has none.
	Patient string
}

// Bundles reads every bundle of a folder, ordered by name.
func Bundles(t testing.TB, dir string) []Bundle {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Bundle
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Entry []struct {
				FullURL  string   `json:"fullUrl"`
				Resource Resource `json:"resource"`
			} `json:"entry"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		b := Bundle{Path: path, Names: map[string]string{}}
		for _, e := range doc.Entry {
			b.Resources = append(b.Resources, e.Resource)
			b.Names[e.FullURL] = Key(e.Resource)
			if e.Resource["resourceType"] == "Patient" {
				b.Patient = e.Resource["id"].(string)
			}
		}
		out = append(out, b)
	}
	return out
}

// Key returns type/id of a resource.
func Key(r Resource) string { return r["resourceType"].(string) + "/" + r["id"].(string) }

// References calls f for each reference in a JSON value. f may return a replacement.
func References(v any, f func(string) string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if ref, ok := e.(string); ok && k == "reference" {
				v[k] = f(ref)
				continue
			}
			References(e, f)
		}
	case []any:
		for _, e := range v {
			References(e, f)
		}
	}
}

// Rewrite replaces the urn: references of the bundle's resources by type/id, as an import must.
func (b Bundle) Rewrite() {
	for _, r := range b.Resources {
		References(r, func(ref string) string {
			if name, ok := b.Names[ref]; ok {
				return name
			}
			return ref
		})
	}
}
