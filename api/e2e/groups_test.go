package e2e

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/records"
)

// startOn starts a server after importing files.
func startOn(t *testing.T, paths ...string) *world {
	t.Helper()
	data := t.TempDir()
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Import(t.Context(), paths, source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return start(t, data, config(), node.Options{})
}

// BULK-8: an export of a Group contains those who are members at its transaction time. A Group
// that does not list its members is refused by name.
func TestBULK8GroupsAreThoseOfTheTransactionTime(t *testing.T) {
	t.Parallel()
	more := filepath.Join(t.TempDir(), "groups.ndjson")
	err := os.WriteFile(more,
		[]byte(`{"resourceType":"Group","id":"g-traits","type":"person","actual":false,`+
			`"characteristic":[{"code":{"text":"smokers"}}]}
{"resourceType":"Group","id":"g-nested","type":"person","actual":true,"member":[{"entity":{"reference":"Group/g-traits"}}]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := startOn(t, filepath.Join(records.Cases(t, "group-membership"), "in.ndjson"), more)
	c := w.service("system/*.rs system/$ehi-export")
	want := []string{
		"Group/g-inner", "Group/g-outer", "Observation/mo1", "Observation/mo4", "Patient/m1",
		"Patient/m4",
	}
	for target, method := range map[string]string{
		"/fhir/Group/g-outer/$export":                  "GET",
		"/auto-approve/fhir/Group/g-outer/$ehi-export": "POST",
	} {
		got, _ := w.bulk(c, method, target, nil)
		if d := cmp.Diff(want, slices.Sorted(maps.Keys(got))); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
	for _, id := range []string{"g-traits", "g-nested"} {
		a, err := c.Do(t.Context(), "GET", "/fhir/Group/"+id+"/$export", nil)
		body := string(a.Body)
		if err != nil || a.Status != http.StatusBadRequest ||
			!strings.Contains(body, "Group/g-traits") || !strings.Contains(body, "smokers") {
			t.Errorf("%s: %d %s, %v", id, a.Status, body, err)
		}
	}
	if got, _ := w.bulk(c, "GET", "/fhir/Group/g-empty/$export", nil); len(got) != 1 {
		t.Errorf("a group of nobody: %v", got)
	}
}
