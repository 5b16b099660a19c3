package built

import (
	"os"
	"path/filepath"
	"testing"
)

// A command is linked once, is gone after Remove, and can be had again.
func TestCommandsAreBuiltOnceAndRemoved(t *testing.T) {
	var m maker
	t.Cleanup(func() { _ = m.remove() }) // again, where the test has failed early
	get := func() (string, os.FileInfo) {
		t.Helper()
		file, err := m.command(t.Context(), "", "ehi-server/shared/fhir/generate")
		if err != nil {
			t.Fatal(err)
		}
		is, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return file, is
	}
	first, one := get()
	second, two := get()
	if first != second || !os.SameFile(one, two) || !one.ModTime().Equal(two.ModTime()) {
		t.Errorf("%s was built again as %s", first, second)
	}
	if err := m.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(first)); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", filepath.Dir(first), err)
	}
	get()
}

// What a run of CI has built is taken; what it has not is built; what does not build says why.
func TestCommandsThatAreReadyAreTaken(t *testing.T) {
	var m maker
	t.Cleanup(func() { _ = m.remove() })
	ready := t.TempDir()
	want := filepath.Join(ready, "nats-server")
	if err := os.WriteFile(want, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := m.command(t.Context(), ready, "github.com/nats-io/nats-server/v2")
	if err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	got, err = m.command(t.Context(), ready, "ehi-server/shared/fhir/generate")
	if err != nil || filepath.Dir(got) == ready {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := m.command(t.Context(), ready, "ehi-server/shared/none"); err == nil {
		t.Errorf("%s was built of nothing", got)
	}
}
