package pipeline_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// everyCategory is a form that releases all categories and no sensitive ones.
func everyCategory() *ehi.ReleaseForm {
	form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, c := range ehi.Categories() {
		form.Parameters[c.Key] = ehi.Choice{}
	}
	return form
}

// What JSON can say in several ways leaves as it was written, by a form and without one, also
// where a reference beside it is masked.
func TestLinesLeaveAsTheyWereWritten(t *testing.T) {
	exact := `"valueQuantity":{"value":1.00,"unit":"\u00b5g\/l <&> \ud83d\ude00 \u2028"},` +
		`"component":[{"valueInteger":123456789012345678901234567890},{"valueDecimal":-0.0},` +
		`{"valueDecimal":1.0E+2}]`
	observation := `{"id":"o1","resourceType":"Observation","status":"final",` + exact +
		`,"subject":{"reference":"Patient/p1"},"code":{"text":"x"}}`
	dangling := strings.Replace(strings.Replace(observation, "o1", "o2", 1), `"code"`,
		`"encounter":{"reference":"Encounter/none"},"code"`, 1)
	record := lines{list: []string{`Patient {"id":"p1","resourceType":"Patient"}`,
		"Observation " + observation, "Observation " + dangling}}
	for name, form := range map[string]*ehi.ReleaseForm{"no form": nil, "form": everyCategory()} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			res, err := pipeline.Run(t.Context(), task(t, s, record, form))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(contents(t, s, res)["Observation"], "\n")
			if len(got) < 2 || got[0] != observation ||
				strings.Count(strings.Join(got, "\n"), exact) != 2 {
				t.Errorf("%q", got)
			}
		})
	}
}

// big is a record of large resources. It notes how much memory is in use while it is read.
type big struct {
	lines
	n, size int
	peak    *uint64
}

func (b big) Scan(_ context.Context, _ source.Query, visit func(source.Resource) error) error {
	fill := strings.Repeat("x", b.size)
	for i := range b.n {
		line := fmt.Appendf(nil,
			`{"resourceType":"DocumentReference","id":"d%d","subject":{"reference":"Patient/p1"},`+
				`"content":[{"attachment":{"data":"%s"}}]}`, i, fill)
		err := visit(source.Resource{Type: "DocumentReference", Line: line, Patient: "p1"})
		if err != nil {
			return err
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		*b.peak = max(*b.peak, m.HeapAlloc)
	}
	return nil
}

// What is held of large resources does not grow with their number, by type and organized by
// patient.
func TestAFractionOfLargeResourcesIsHeld(t *testing.T) {
	const size, n = 2 << 20, 24
	for name, set := range map[string]func(*pipeline.Task){
		"by type":    func(*pipeline.Task) {},
		"by patient": func(t *pipeline.Task) { t.Population, t.ByPatient = true, true },
	} {
		for _, form := range []*ehi.ReleaseForm{nil, everyCategory()} {
			t.Run(fmt.Sprintf("%s, form %v", name, form != nil), func(t *testing.T) {
				var before runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				var peak uint64
				s := newStore(t)
				do := task(t, s, big{n: n, size: size, peak: &peak}, form)
				set(&do)
				res, err := pipeline.Run(t.Context(), do)
				if err != nil {
					t.Fatal(err)
				}
				if len(res.Files) != 1 || res.Files[0].Bytes < n*size {
					t.Fatalf("%+v", res.Files)
				}
				// One document is held as it is read, in a slab, to decide by, and as it is
				// written; with what was not collected yet that is far from half of all.
				if held := int64(peak) - int64(before.HeapAlloc); held > n*size/2 {
					t.Errorf("%d MiB are held", held>>20)
				}
			})
		}
	}
}
