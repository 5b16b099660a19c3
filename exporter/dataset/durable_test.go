package dataset_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/synthetic"
)

// Everything that a call has imported is on the disk when it returns. If the process dies then,
// the store has all of it.
func TestWhatWasWrittenSurvivesTheProcess(t *testing.T) {
	for _, patients := range []int{1, 3} {
		dir, left := t.TempDir(), t.TempDir()
		store, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		err = store.Generate(t.Context(),
			synthetic.Config{Patients: patients, Resources: 40, Seed: 1}, time.Now(),
			func(int, int) {})
		if err := errors.Join(err, os.CopyFS(left, os.DirFS(dir)), store.Close()); err != nil {
			t.Fatal(err)
		}
		again, err := dataset.Open(dataset.Config{Dir: left})
		if err != nil {
			t.Fatal(err)
		}
		list, err := again.Patients(t.Context(), 10)
		if err := errors.Join(err, again.Close()); err != nil {
			t.Fatal(err)
		}
		if len(list) != patients {
			t.Errorf("%d of %d patients are there after the death of the process", len(list),
				patients)
		}
	}
}
