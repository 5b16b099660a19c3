package pipeline_test

import (
	"maps"
	"slices"
	"testing"

	"ehi-server/exporter/native"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// preview counts what a form would release of the patient's record, with or without native
// content.
func (c *clinic) preview(operation ehi.Operation) func(form *ehi.ReleaseForm) release.Counts {
	c.t.Helper()
	record, err := c.source.Open(c.t.Context(), c.patient)
	if err != nil {
		c.t.Fatal(err)
	}
	defer record.Close() // read only
	rules, err := release.RulesFromFile("")
	if err != nil {
		c.t.Fatal(err)
	}
	job := &ehi.Job{Operation: operation, Patient: ehi.Patient{ID: c.patient}}
	summary, err := pipeline.Summarize(c.t.Context(), rules, job, record, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return func(form *ehi.ReleaseForm) release.Counts {
		policy, err := rules.Policy(form, ehi.KickOff{})
		if err != nil {
			c.t.Fatal(err)
		}
		n, err := summary.Count(policy)
		if err != nil {
			c.t.Fatal(err)
		}
		return n
	}
}

// lines returns how many documents and rows of a patient's export fall under each line of the
// form.
func (c *clinic) lines(tables *datapackage.Package, of chart, papers []source.Document) (
	out map[ehi.Category]int64,
) {
	out = map[ehi.Category]int64{}
	for _, t := range tables.Resources {
		switch {
		case t.Lookup:
		case t.Category == datapackage.Always:
			out[""] += int64(len(of.rows[t.Name]))
		default:
			out[ehi.Category(t.Category)] += int64(len(of.rows[t.Name]))
		}
	}
	for name := range of.documents {
		i := slices.IndexFunc(papers, func(d source.Document) bool { return d.Name == name })
		out[papers[i].Category]++
	}
	return out
}

// EHI-8, EHI-9, NAT-4: a preview counts documents and rows under the lines and authorizations
// under which exports release them. It never says that more stays than does, that there is nothing
// where there is something, or that everything leaves where something stays.
func TestAPreviewCountsNativeContentAsExportsReleaseIt(t *testing.T) {
	for _, shape := range []string{"csv-zip", "ccda", "ndjson-files", "mixed"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, shape)
			with, without := c.preview(ehi.EHIExport), c.preview(ehi.BulkExport)
			tables, papers := c.contents()
			all := forms()
			exact, most := 0, 0
			for _, name := range slices.Sorted(maps.Keys(all)) {
				got := c.export(all[name])
				said, fhir := with(all[name]), without(all[name])
				leaves := c.lines(tables, got, papers)
				for key, tally := range said.Categories {
					tally.Stored -= fhir.Categories[key].Stored
					tally.Released -= fhir.Categories[key].Released
					switch {
					case !tally.AtMost && tally.Released == leaves[key]:
						exact++
					case tally.AtMost && tally.Released >= leaves[key]:
						most++
					default:
						t.Errorf("%s: %q: the preview says %+v, %d leave", name, key, tally,
							leaves[key])
					}
				}
				for key, n := range leaves {
					if n > 0 && said.Categories[key].Released == 0 {
						t.Errorf("%s: %q: %d leave, the preview says none", name, key, n)
					}
				}
				for _, a := range ehi.Authorizations() {
					n := got.withheld["sensitive."+string(a.Key)]
					if n > 0 && said.Authorizations[a.Key].Stored == 0 && !said.Unread {
						t.Errorf("%s: %q: %d stay, the preview says that there is nothing",
							name, a.Key, n)
					}
				}
				if n := got.withheld[native.Unclassified]; n > said.Waiting {
					t.Errorf("%s: %d wait, the preview says %d", name, n, said.Waiting)
				}
			}
			t.Logf("%d numbers are exact, %d are upper limits", exact, most)
		})
	}
}
