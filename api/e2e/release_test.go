package e2e

import (
	"testing"

	"ehi-server/api/node"
	"ehi-server/shared/records"
)

const alfredo = "538a9a4e-8437-47d3-8c01-1a17dca8f0be"

// demoPatient returns the first patient of the sandbox's demo population.
func (w *world) demoPatient() string {
	w.t.Helper()
	list, err := w.node.Patients(w.t.Context(), 1)
	if err != nil || len(list) != 1 {
		w.t.Fatalf("demo patients: %v, %v", list, err)
	}
	return list[0].ID
}

// EHI-8, EHI-9: each line of the form alone, and everything except that line, compared with the
// oracle. The demo patient has data for every line; the test fails if a line makes no
// difference.
func TestEHI8And9EachLineOfTheFormReleasesExactlyWhatItSays(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	full, _ := w.export(p, nil)
	none, text := w.export(p, newForm())
	checkReleased(t, full, none, text, newForm())
	for _, key := range keys() {
		t.Run("only "+key, func(t *testing.T) {
			w.t = t
			f := newForm(key)
			got, text := w.export(p, f)
			checkReleased(t, full, got, text, f)
			if key[:2] != "a:" && len(got) == len(none) {
				t.Errorf("%s releases nothing", key)
			}
		})
		t.Run("all but "+key, func(t *testing.T) {
			w.t = t
			f := everything(key)
			got, text := w.export(p, f)
			checkReleased(t, full, got, text, f)
			if len(got) == len(full) {
				t.Errorf("%s withholds nothing", key)
			}
		})
	}
	w.t = t
	all, text := w.export(p, everything())
	checkReleased(t, full, all, text, everything())
	if len(all) != len(full) {
		t.Errorf("everything is %d of %d resources", len(all), len(full))
	}
}

// The same on a real record, for the lines for which it has data.
func TestEHI8And9OnARealRecord(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	for _, b := range records.Bundles(t, records.Dir(t)) {
		if b.Patient == "" {
			continue
		}
		full, _ := w.export(b.Patient, nil)
		for _, f := range []form{
			newForm(),
			newForm("visits"),
			newForm("labs", "a:mentalHealth"),
			newForm("billing"),
			newForm("medicalRecord"),
			everything("a:mentalHealth", "a:alcoholAndDrug", "billing"),
		} {
			got, text := w.export(b.Patient, f)
			checkReleased(t, full, got, text, f)
		}
	}
}

// EHI-8: dates limit by actual times; partial dates are widened.
func TestEHI8DatesLimitWhatHappened(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	full, _ := w.export(alfredo, nil)
	for _, span := range [][2]string{
		{"2015", "2016"}, {"2015-03", "2015-03"}, {"", "2012-06-30"},
		{"2018-01-01T00:00:00-05:00", ""}, {"1800", "1801"},
	} {
		got, _ := w.export(alfredo, newForm("visits", "labs").dates("visits", span[0], span[1]))
		for key, r := range full {
			period, _ := r["period"].(map[string]any)
			if r["resourceType"] != "Encounter" {
				continue
			}
			if in := within(t, period, span); in != (got[key] != nil) {
				t.Errorf("%v: %s of %v released: %v", span, key, period, got[key] != nil)
			}
		}
	}
}
