package dataset_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
)

// IN-4: a resource that is in any patient's record, for whatever reason, does not count as lost.
func TestIN4WhatIsInSomebodysRecordIsNotCounted(t *testing.T) {
	const (
		a      = `{"resourceType":"Patient","id":"a"}`
		toMary = `"subject":{"reference":"Patient/mary"}`
		about  = `"subject":{"reference":"Patient/a"}`
		goal   = `{"resourceType":"Goal","id":"g","lifecycleStatus":"active",` +
			`"subject":{"display":"x"}}`
		schedule = `{"resourceType":"Schedule","id":"sc","actor":[{"reference":"Practitioner/p"}]}`
		slot     = `{"resourceType":"Slot","id":"sl","schedule":{"reference":"Schedule/sc"}}`
		visit    = `{"resourceType":"Appointment","id":"ap","slot":[{"reference":"Slot/sl"}],` +
			`"participant":[{"actor":{"reference":"Patient/a"}}]}`
		plan = `{"resourceType":"CarePlan","id":"cp",` + about +
			`,"goal":[{"reference":"Goal/g"}]}`
		measured = `{"resourceType":"Observation","id":"o",` + toMary
		basic    = `{"resourceType":"Basic","id":"b",` + about
		unsaid   = `"subject":{"display":"x"}`
		named    = `{"resourceType":"Goal","id":"g","identifier":[{"system":"urn:x","value":"1"}]}`
		byName   = `{"resourceType":"CarePlan","id":"cp",` + about +
			`,"goal":[{"reference":"Goal?identifier=urn:x|1"}]}`
		survivor = `{"resourceType":"Patient","id":"a",` +
			`"link":[{"type":"replaces","other":{"reference":"Patient/mary"}}]}`
	)
	// to returns an extension that refers to a resource.
	to := func(reference string) string {
		return `,"extension":[{"url":"https://x.example.org/","valueReference":{"reference":"` +
			reference + `"}}]}`
	}
	plans := func(id, of string) string {
		return `{"resourceType":"CarePlan","id":"` + id + `",` + unsaid + of
	}
	for name, c := range map[string]struct {
		lines []string
		lost  source.Unplaced
		want  []string
	}{
		"of two patients, one of whom is not there": {
			[]string{a, measured + `,"performer":[{"reference":"Patient/a"}]}`},
			nil, []string{"Observation/o"},
		},
		"of two patients who are not there": {
			[]string{a, measured + `,"performer":[{"reference":"Patient/zoe"}]}`},
			source.Unplaced{"Observation": {Count: 1, Example: "Observation/o"}}, nil,
		},
		"of a replaced patient who is not there": {
			[]string{survivor, measured + `}`},
			nil, []string{"Observation/o"},
		},
		"referred to": {[]string{a, plan, goal}, nil, []string{"CarePlan/cp", "Goal/g"}},
		"referred to by name": {
			[]string{a, byName, named},
			nil, []string{"CarePlan/cp", "Goal/g"},
		},
		"referred to by way of what is nobody's": {
			[]string{a, schedule, slot, visit},
			nil,
			[]string{"Appointment/ap", "Slot/sl", "Schedule/sc"},
		},
		"referred to by way of what is nobody's, twice": {
			[]string{a, schedule, slot, basic + to("Endpoint/e"),
				`{"resourceType":"Endpoint","id":"e"` + to("Slot/sl")},
			nil, []string{"Basic/b", "Endpoint/e", "Slot/sl", "Schedule/sc"},
		},
		"referred to by way of what is lost without that": {
			[]string{
				a,
				goal,
				plans("lost", `,"goal":[{"reference":"Goal/g"}]}`),
				basic + to("CarePlan/lost"),
			},
			nil, []string{"Basic/b", "CarePlan/lost", "Goal/g"},
		},
		"referred to by nobody's": {
			[]string{a, schedule, slot},
			source.Unplaced{"Schedule": {Count: 1, Example: "Schedule/sc"}}, nil,
		},
		"referred to by what is lost": {
			[]string{
				a,
				goal,
				`{"resourceType":"CarePlan","id":"cp",` + toMary +
					`,"goal":[{"reference":"Goal/g"}]}`,
			},
			source.Unplaced{
				"CarePlan": {Count: 1, Example: "CarePlan/cp"},
				"Goal":     {Count: 1, Example: "Goal/g"},
			}, nil,
		},
		"referred to in a circle": {
			[]string{a, plans("1", `,"partOf":[{"reference":"CarePlan/2"}]}`),
				plans("2", `,"partOf":[{"reference":"CarePlan/1"}]}`)},
			source.Unplaced{"CarePlan": {Count: 2, Example: "CarePlan/1"}}, nil,
		},
		"referred to by a group alone": {
			[]string{a,
				`{"resourceType":"Group","id":"gr","member":[{"entity":{"reference":"Patient/a"}}]` +
					to("Goal/g"),
				goal, basic + to("Group/gr")},
			source.Unplaced{"Goal": {Count: 1, Example: "Goal/g"}}, []string{"Basic/b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := make([]string, len(c.lines))
			for i, line := range c.lines {
				files[i] = write(t, dir, string(rune('a'+i))+".ndjson", line)
			}
			last := write(t, dir, "z.ndjson", `{"resourceType":"Organization","id":"z"}`)
			inBoth(t, func(t *testing.T, s *dataset.Store) {
				rep := load(t, s, last)
				if len(rep.Unplaced) > 0 || len(c.lost) > 0 {
					if d := cmp.Diff(c.lost, rep.Unplaced); d != "" {
						t.Error(d)
					}
				}
				wantKeys(t, s, "a", append([]string{"Patient/a"}, c.want...)...)
			}, files...)
			t.Run("at once", func(t *testing.T) {
				s, err := dataset.Open(dataset.Config{Dir: t.TempDir(), Bulk: true})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
				if rep := load(t, s, files...); len(rep.Unplaced) != len(c.lost) {
					t.Errorf("lost: %v, want %v", rep.Unplaced, c.lost)
				}
			})
		})
	}
}
