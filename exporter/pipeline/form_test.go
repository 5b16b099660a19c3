package pipeline_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/release/expected"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files/local"
	"ehi-server/shared/records"
)

const alfredo = "538a9a4e-8437-47d3-8c01-1a17dca8f0be"

// house has records, and exports them as a worker does.
type house struct {
	t       *testing.T
	records *dataset.Store
	rules   *release.Rules
	files   *local.Store
	exports int
}

func newHouse(t *testing.T) *house {
	t.Helper()
	store, err := dataset.Open(dataset.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	return &house{t: t, records: store, rules: rules, files: newStore(t)}
}

// load imports files or folders.
func (h *house) load(paths ...string) {
	h.t.Helper()
	now := source.ImportOptions{Now: time.Now()}
	if _, err := h.records.Import(h.t.Context(), paths, now); err != nil {
		h.t.Fatal(err)
	}
}

// export exports the record of a patient by a form; nil exports everything. text is all that the
// export has.
func (h *house) export(
	patient string, form *ehi.ReleaseForm,
) (out map[string]records.Resource, text string) {
	h.t.Helper()
	record, err := h.records.Open(h.t.Context(), patient)
	if err != nil {
		h.t.Fatal(err)
	}
	defer record.Close() // read only
	policy, err := h.rules.Policy(form, ehi.KickOff{})
	if err != nil {
		h.t.Fatal(err)
	}
	job := &ehi.Job{ID: "job", Tasks: 1, Patient: ehi.Patient{ID: patient}, Form: form}
	work := pipeline.NewTask(job, policy, record)
	if work.Batch, err = h.files.NewBatch(job.ID, h.exports, 1); err != nil {
		h.t.Fatal(err)
	}
	h.exports++
	res, err := pipeline.Run(h.t.Context(), work)
	if err != nil {
		h.t.Fatal(err)
	}
	out = map[string]records.Resource{}
	for typ, lines := range contents(h.t, h.files, res) {
		text += lines
		for line := range strings.Lines(lines) {
			var r records.Resource
			if err := json.Unmarshal([]byte(line), &r); err != nil || r["resourceType"] != typ {
				h.t.Fatalf("a file of %s has %.200s: %v", typ, line, err)
			}
			if out[records.Key(r)] != nil {
				h.t.Errorf("%s is there twice", records.Key(r))
			}
			out[records.Key(r)] = r
		}
	}
	return out, text
}

// lineKeys returns all lines of the form, as newForm expects them.
func lineKeys() (out []string) {
	for _, c := range ehi.Categories() {
		out = append(out, string(c.Key))
	}
	for _, a := range ehi.Authorizations() {
		out = append(out, "a:"+string(a.Key))
	}
	return out
}

// newForm selects categories and authorizations: "labs", "a:hiv".
func newForm(on ...string) *ehi.ReleaseForm {
	f := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, key := range on {
		if a, ok := strings.CutPrefix(key, "a:"); ok {
			f.Authorize(ehi.Authorization(a))
			continue
		}
		f.Parameters[ehi.Category(key)] = ehi.Choice{}
	}
	return f
}

// everything selects all lines except the given ones.
func everything(but ...string) *ehi.ReleaseForm {
	return newForm(slices.DeleteFunc(lineKeys(), func(key string) bool {
		return slices.Contains(but, key)
	})...)
}

// EHI-8, EHI-9: each line of the form alone, and everything except that line, compared with the
// oracle. The generated patient has data for every line; the test fails if a line makes no
// difference.
func TestEHI8And9EachLineOfTheFormReleasesExactlyWhatItSays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one := synthetic.Config{Patients: 1, Seed: 1}
	if err := h.records.Generate(t.Context(), one, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	patients, err := h.records.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := patients[0].ID
	full, _ := h.export(p, nil)
	none, text := h.export(p, newForm())
	expected.Check(t, full, none, text, newForm())
	for _, key := range lineKeys() {
		t.Run("only "+key, func(t *testing.T) {
			f := newForm(key)
			got, text := h.export(p, f)
			expected.Check(t, full, got, text, f)
			if key[:2] != "a:" && len(got) == len(none) {
				t.Errorf("%s releases nothing", key)
			}
		})
		t.Run("all but "+key, func(t *testing.T) {
			f := everything(key)
			got, text := h.export(p, f)
			expected.Check(t, full, got, text, f)
			if len(got) == len(full) {
				t.Errorf("%s withholds nothing", key)
			}
		})
	}
	all, text := h.export(p, everything())
	expected.Check(t, full, all, text, everything())
	if len(all) != len(full) {
		t.Errorf("everything is %d of %d resources", len(all), len(full))
	}
}

// The same on a real record, for the lines for which it has data.
func TestEHI8And9OnARealRecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.load(records.Dir(t))
	for _, b := range records.Bundles(t, records.Dir(t)) {
		if b.Patient == "" {
			continue
		}
		full, _ := h.export(b.Patient, nil)
		for _, f := range []*ehi.ReleaseForm{
			newForm(),
			newForm("visits"),
			newForm("labs", "a:mentalHealth"),
			newForm("billing"),
			newForm("medicalRecord"),
			everything("a:mentalHealth", "a:alcoholAndDrug", "billing"),
		} {
			got, text := h.export(b.Patient, f)
			expected.Check(t, full, got, text, f)
		}
	}
}

// EHI-8: dates limit by actual times; partial dates are widened.
func TestEHI8DatesLimitWhatHappened(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, b := range records.Bundles(t, records.Dir(t)) {
		if b.Patient == alfredo {
			h.load(b.Path)
		}
	}
	full, _ := h.export(alfredo, nil)
	encounters := 0
	for _, span := range [][2]string{
		{"2015", "2016"}, {"2015-03", "2015-03"}, {"", "2012-06-30"},
		{"2018-01-01T00:00:00-05:00", ""}, {"1800", "1801"},
	} {
		f := newForm("visits", "labs")
		f.Parameters[ehi.Visits] = ehi.Choice{From: span[0], To: span[1]}
		got, _ := h.export(alfredo, f)
		for key, r := range full {
			period, _ := r["period"].(map[string]any)
			if r["resourceType"] != "Encounter" {
				continue
			}
			encounters++
			if in := within(t, period, span); in != (got[key] != nil) {
				t.Errorf("%v: %s of %v released: %v", span, key, period, got[key] != nil)
			}
		}
	}
	if encounters == 0 {
		t.Error("the record has no encounters")
	}
}

// within is the oracle of date limits: a Period with both ends overlaps [from, to], each widened
// by its precision.
func within(t *testing.T, period map[string]any, span [2]string) bool {
	t.Helper()
	parse := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	begin, end := parse(period["start"].(string)), parse(period["end"].(string))
	limit := func(s string, last bool) time.Time {
		for layout, width := range map[string][3]int{
			"2006":       {1, 0, 0},
			"2006-01":    {0, 1, 0},
			"2006-01-02": {0, 0, 1},
		} {
			if at, err := time.Parse(layout, s); err == nil {
				if last {
					return at.AddDate(width[0], width[1], width[2]).Add(-time.Nanosecond)
				}
				return at
			}
		}
		return parse(s)
	}
	return (span[0] == "" || !end.Before(limit(span[0], false))) &&
		(span[1] == "" || !begin.After(limit(span[1], true)))
}
