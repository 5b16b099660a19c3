package node

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
)

// A first start that ends between making the store and its demo patients leaves them to the next
// one. Whoever else writes to the store keeps it as it is, and so does a store that has got
// other patients.
func TestAStartThatWasCutMakesItsDemoPatientsLater(t *testing.T) {
	some := synthetic.Config{Patients: Demo.Patients - 2, Seed: Demo.Seed}
	others := synthetic.Config{Patients: 2, Seed: 7}
	cut := kinds.Config{Demo: true}
	for name, c := range map[string]struct {
		opened []kinds.Config
		filled synthetic.Config // what the last of them makes
		want   int
	}{
		"a new store":         {want: Demo.Patients},
		"before its patients": {opened: []kinds.Config{cut}, want: Demo.Patients},
		"twice":               {opened: []kinds.Config{cut, cut}, want: Demo.Patients},
		"amid its patients":   {opened: []kinds.Config{cut}, filled: some, want: Demo.Patients},
		"an operator's store": {opened: []kinds.Config{{}}},
		"an operator's since": {opened: []kinds.Config{cut, {}}},
		"with others' patients": {
			opened: []kinds.Config{cut},
			filled: others,
			want:   others.Patients,
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			for i, by := range c.opened {
				by.Data = data
				store, err := kinds.Store(by)
				if err != nil {
					t.Fatal(err)
				}
				if i == len(c.opened)-1 && c.filled.Patients > 0 {
					err = store.Generate(t.Context(), c.filled, time.Now(), func(int, int) {})
				}
				if err := errors.Join(err, store.Close()); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // what was made is not made again
				if got := started(t, data); len(got) != c.want {
					t.Errorf("a sandbox has the patients %v, want %d", got, c.want)
				} else if c.want == Demo.Patients && !slices.ContainsFunc(got, isDemo) {
					t.Errorf("patients %v are not those of the demo", got)
				}
			}
			if unfilled, err := kinds.Unfilled(data); err != nil || unfilled {
				t.Errorf("the store is still to be filled: %v, %v", unfilled, err)
			}
		})
	}
}

// started is the patients of a sandbox on a folder.
func started(t *testing.T, data string) (ids []string) {
	t.Helper()
	cfg, err := Defaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr, cfg.Worker.Workers = "127.0.0.1:0", 0
	n, err := Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
	if err != nil {
		t.Fatal(err)
	}
	patients, err := n.Patients(t.Context(), 100)
	if err := errors.Join(err, n.Close()); err != nil {
		t.Fatal(err)
	}
	for _, p := range patients {
		ids = append(ids, p.ID)
	}
	return ids
}
