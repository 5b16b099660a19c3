package dataset_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// importEnv makes this binary import the folder in importFromEnv in bulk into the named store.
const importEnv, importFromEnv = "EHI_TEST_IMPORT", "EHI_TEST_IMPORT_FROM"

// movedFrom is source.ImportOptions.MoveFrom of that import.
const movedFrom = 1000

// importInBulk runs the import that importEnv requests.
func importInBulk(dir, from string) error {
	s, err := dataset.Open(dataset.Config{Dir: dir, Bulk: true})
	if err != nil {
		return err
	}
	dataset.SortInPieces(s, 64<<10, 1<<30, 1000)
	_, err = s.Import(context.Background(), []string{from},
		source.ImportOptions{Now: time.Now(), MoveFrom: movedFrom})
	return errors.Join(err, s.Close())
}

// recordsIn returns all records of a store by patient, see recordOf.
func recordsIn(t *testing.T, dir string) map[string][]string {
	t.Helper()
	s, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	patients, err := s.Patients(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, p := range patients {
		if out[p.ID], err = recordOf(t.Context(), s, p.ID); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// A killed first import leaves each record complete or absent, and no data of attachments that
// nothing has. When it runs again, it imports all.
func TestAKilledImportInBulkIsRunAgain(t *testing.T) {
	from := t.TempDir()
	whole := openStore(t, t.TempDir())
	of := synthetic.Config{Patients: 150, Resources: 60, Seed: 3}
	err := whole.Generate(t.Context(), of, time.Now(), func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	writeAsNDJSON(t, whole, from)
	patients, err := whole.Patients(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	writeReports(t, patients, filepath.Join(from, "Attached.ndjson"))
	dir := t.TempDir()
	took, _ := runImport(t, dir, from, 0)
	want := recordsIn(t, dir)
	data := sortedOf(blobsOf(t, dir))
	if len(want) != 150 || len(data) != 150 {
		t.Fatalf("%d patients, %d contents", len(want), len(data))
	}
	rnd := rand.New(rand.NewPCG(4, 2))
	kills := 0
	for round := range rounds(12) {
		dir := t.TempDir()
		killed := killImport(t, dir, from, &took, rnd)
		if killed {
			kills++
		}
		if _, err := os.Stat(filepath.Join(dir, "LOCK")); err == nil && round%2 == 0 {
			there := recordsIn(t, dir)
			if left := unheld(t, dir); len(left) > 0 {
				t.Errorf("round %d: %d contents that nothing has", round, len(left))
			}
			for id, got := range there {
				if got[0] == want[id][0] && !slices.Equal(got, want[id]) {
					t.Errorf("round %d: %s passes for whole with %d resources of %d", round, id,
						len(got), len(want[id]))
				}
			}
		}
		runImport(t, dir, from, 0)
		if got := recordsIn(t, dir); !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("round %d, killed %v: the import that followed brought other records", round,
				killed)
		}
		if d := cmp.Diff(data, sortedOf(blobsOf(t, dir))); d != "" {
			t.Errorf("round %d: contents (-want +got):\n%s", round, d)
		}
	}
	if kills == 0 {
		t.Error("no import was killed")
	}
}

// writeReports writes a report of each patient with data of its own.
func writeReports(t *testing.T, patients []ehi.Patient, path string) {
	t.Helper()
	var all []string
	for i, p := range patients {
		content := letter(byte(i), movedFrom+i)
		all = append(all, report(fmt.Sprintf("attached-%d", i), p.ID, dataField(content)))
	}
	if err := os.WriteFile(path, []byte(strings.Join(all, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// unheld returns the contents in a store's folder of blobs that no resource has.
func unheld(t *testing.T, dir string) (names []string) {
	t.Helper()
	s, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range blobsOf(t, dir) {
		if _, err := movedContent(t, s, "", name); err != nil {
			names = append(names, name)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return names
}

// runImport runs an import in bulk in a process of its own, and kills it after a time, unless that
// is 0.
func runImport(
	t *testing.T, dir, from string, kill time.Duration,
) (took time.Duration, killed bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), importEnv+"="+dir, importFromEnv+"="+from,
		"GORACE=atexit_sleep_ms=0") // the race detector waits for a second otherwise
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }) // it may have ended
		defer timer.Stop()
	}
	err = cmd.Wait()
	_, ended := errors.AsType[*exec.ExitError](err)
	if err != nil && (kill == 0 || !ended) {
		t.Fatal(err)
	}
	return time.Since(begin), err != nil
}

// rounds returns how many of n imports a test kills. With the race detector it kills fewer: that
// looks at the same steps in each, and makes them slow.
func rounds(n int) int {
	if raced {
		return n / 2
	}
	return n
}

// killImport runs an import and kills it at a random time, within the time that such an import
// took. If it ends before that, it took less than was thought.
func killImport(
	t *testing.T, dir, from string, took *time.Duration, rnd *rand.Rand,
) (killed bool) {
	t.Helper()
	kill := *took/16 + time.Duration(rnd.Int64N(int64(*took)))
	ran, killed := runImport(t, dir, from, kill)
	if !killed {
		*took = min(*took, ran)
	}
	return killed
}

// writeAsNDJSON writes all resources of a store to a folder, one file for each type.
func writeAsNDJSON(t *testing.T, s *dataset.Store, dir string) {
	t.Helper()
	patients, err := s.Patients(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, patient := range patients {
		rec, err := s.Open(t.Context(), patient.ID)
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
			files[r.Type] = append(append(files[r.Type], r.Line...), '\n')
			return nil
		})
		if err := errors.Join(err, rec.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for typ, lines := range files {
		if err := os.WriteFile(filepath.Join(dir, typ+".ndjson"), lines, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
