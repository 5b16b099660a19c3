package sourcetest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// small is a target size that gives one part per patient.
const small = 1

func populations(t *testing.T, s source.Source, want Expect) {
	all := freeze(t, s, "all")
	defer closing(t, all)

	t.Run("the parts of all patients are their records, each resource once", func(t *testing.T) {
		got := read(t, all, source.Selection{Level: ehi.AllPatients}, small)
		lines := map[string]string{}
		for _, p := range want.Patients {
			maps.Copy(lines, recordOf(t, s, p))
		}
		for key, line := range lines {
			if got[key] != line {
				t.Errorf("%s: %q in the population, %q in a patient's record", key, got[key], line)
			}
		}
		for key := range got {
			typ, _, _ := strings.Cut(key, "/")
			if lines[key] == "" && (fhir.CompartmentPaths(typ) != nil || typ == "Group") {
				t.Errorf("%s is in no patient's record", key)
			}
		}
	})
	t.Run("one large part holds the same as many small ones", func(t *testing.T) {
		sel := source.Selection{Level: ehi.System}
		if d := cmp.Diff(read(t, all, sel, 1<<40), read(t, all, sel, small)); d != "" {
			t.Error(d)
		}
	})
	t.Run("a group's patients and no others", func(t *testing.T) {
		got := read(t, all, source.Selection{Level: ehi.OneGroup, Group: want.Group}, small)
		if d := cmp.Diff(want.Members, idsOf(got, "Patient")); d != "" {
			t.Error(d)
		}
		if got["Group/"+want.Group] == "" {
			t.Error("the Group is not there")
		}
	})
	t.Run("the patients that are asked for and no others", func(t *testing.T) {
		sel := source.Selection{Level: ehi.AllPatients, Patients: []string{want.Patient, "nobody"}}
		if d := cmp.Diff(recordOf(t, s, want.Patient), read(t, all, sel, small)); d != "" {
			t.Error(d)
		}
	})
	t.Run("the patients that are not there are told", func(t *testing.T) { absent(t, all, want) })
	t.Run("what is exported is found from every part", func(t *testing.T) { finding(t, all, want) })
	t.Run("by patient", func(t *testing.T) { byPatient(t, s, all, want) })
	t.Run("a group that is not there", func(t *testing.T) {
		_, err := all.Plan(t.Context(), source.Selection{Level: ehi.OneGroup, Group: "nobody"},
			small)
		if ehi.CodeOf(err) != ehi.NotFound {
			t.Errorf("Plan: %v", err)
		}
	})
	names(t, s, all)
}

// absent checks Absent.
func absent(t *testing.T, all source.Population, want Expect) {
	for name, c := range map[string]struct {
		sel  source.Selection
		want []string
	}{
		"none asked for": {source.Selection{Level: ehi.AllPatients}, nil},
		"of all": {
			source.Selection{
				Level:    ehi.AllPatients,
				Patients: append([]string{"nobody", "no.body"}, want.Patients...),
			},
			[]string{"nobody", "no.body"},
		},
		"of a group": {
			source.Selection{
				Level:    ehi.OneGroup,
				Group:    want.Group,
				Patients: append([]string{"nobody"}, want.Patients...),
			},
			append([]string{"nobody"},
				slices.DeleteFunc(slices.Clone(want.Patients), func(p string) bool {
					return slices.Contains(want.Members, p)
				})...),
		},
	} {
		if got, err := all.Absent(t.Context(), c.sel); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
	_, err := all.Absent(t.Context(), source.Selection{
		Level:    ehi.OneGroup,
		Group:    "nobody",
		Patients: want.Patients,
	})
	if ehi.CodeOf(err) != ehi.NotFound {
		t.Errorf("a group that is not there: %v", err)
	}
}

// finding checks that Find returns exactly what Scan visits, in any part.
func finding(t *testing.T, all source.Population, want Expect) {
	sel := source.Selection{Level: ehi.OneGroup, Group: want.Group}
	exported := map[string]string{} // one of each type
	for key, line := range read(t, all, sel, small) {
		typ, _, _ := strings.Cut(key, "/")
		exported[typ] = line
	}
	for _, part := range plan(t, all, sel, small) {
		rec, err := all.Open(t.Context(), sel, part)
		if err != nil {
			t.Fatal(err)
		}
		find := func(q source.Query, typ, id string) string {
			line, err := rec.Find(t.Context(), q, typ, id)
			if err != nil {
				t.Errorf("%s/%s: %v", typ, id, err)
			}
			return string(line)
		}
		var c fhir.Cursor
		for typ, line := range exported {
			_, id, err := c.Identify([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			got := find(source.Query{Types: []string{typ}}, typ, id)
			if got != line && typ != "Group" {
				t.Errorf("%s/%s: %q, want %q", typ, id, got, line)
			}
			if got := find(source.Query{Since: time.Now().AddDate(100, 0, 0)}, typ, id); got != "" {
				t.Errorf("%s/%s of the future: %q", typ, id, got)
			}
		}
		for _, p := range want.Patients {
			if !slices.Contains(want.Members, p) && find(source.Query{}, "Patient", p) != "" {
				t.Errorf("Patient/%s is no member of the group", p)
			}
		}
		if find(source.Query{}, "Patient", "nobody") != "" {
			t.Error("Patient/nobody was found")
		}
		if err := rec.Close(); err != nil {
			t.Error(err)
		}
	}
}

// byPatient checks that each patient's block is that patient's record, starting with the
// Patient.
func byPatient(t *testing.T, s source.Source, all source.Population, want Expect) {
	sel := source.Selection{Level: ehi.AllPatients, ByPatient: true}
	blocks := map[string]map[string]string{}
	for _, part := range plan(t, all, sel, small) {
		open(t, all, sel, part, func(key, line, patient string) {
			if blocks[patient] == nil {
				blocks[patient] = map[string]string{}
				if key != "Patient/"+patient {
					t.Errorf("the block of %s begins with %s", patient, key)
				}
			}
			blocks[patient][key] = line
		})
	}
	if d := cmp.Diff(want.Patients, slices.Sorted(maps.Keys(blocks))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(recordOf(t, s, want.Patient), blocks[want.Patient]); d != "" {
		t.Error(d)
	}
}

// names checks how snapshots are stored and deleted.
func names(t *testing.T, s source.Source, all source.Population) {
	again := freeze(t, s, "all")
	sel := source.Selection{Level: ehi.System}
	if d := cmp.Diff(plan(t, all, sel, small), plan(t, again, sel, small)); d != "" {
		t.Errorf("the same population is planned in two ways:\n%s", d)
	}
	closing(t, again)
	for _, name := range []string{"all", "never-frozen"} {
		if err := s.Thaw(name); err != nil {
			t.Errorf("Thaw(%s): %v", name, err)
		}
	}
}

func groups(t *testing.T, s source.Source, want Expect) {
	ids, err := s.Groups(t.Context())
	if err != nil || !slices.Equal(ids, []string{want.Group}) {
		t.Errorf("Groups = %v, %v", ids, err)
	}
	read := source.Groups{Read: func(id string) ([]byte, error) { return s.Group(t.Context(), id) }}
	members, err := source.Members(read, want.Group, time.Now())
	if d := cmp.Diff(want.Members, members.Patients); d != "" || err != nil {
		t.Error(d, err)
	}
	for _, absent := range []string{"nobody", "", "../x"} {
		if _, err := s.Group(t.Context(), absent); ehi.CodeOf(err) != ehi.NotFound {
			t.Errorf("Group(%q): %v", absent, err)
		}
	}
}

func freeze(t *testing.T, s source.Source, name string) source.Population {
	t.Helper()
	p, err := s.Freeze(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func closing(t *testing.T, p source.Population) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func plan(t *testing.T, p source.Population, sel source.Selection, target int64) []ehi.Part {
	t.Helper()
	parts, err := p.Plan(t.Context(), sel, target)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) == 0 {
		t.Error("a plan without parts")
	}
	return parts
}

// open visits the resources of a part and returns "type/id".
func open(
	t *testing.T, p source.Population, sel source.Selection, part ehi.Part,
	visit func(key, line, patient string),
) {
	t.Helper()
	rec, err := p.Open(t.Context(), sel, part)
	if err != nil {
		t.Fatal(err)
	}
	var c fhir.Cursor
	err = rec.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
		typ, id, err := c.Identify(r.Line)
		visit(typ+"/"+id, string(r.Line), r.Patient)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Error(err)
	}
}

// read reads all parts of a plan. No resource may occur twice.
func read(t *testing.T, p source.Population, sel source.Selection, target int64) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, part := range plan(t, p, sel, target) {
		open(t, p, sel, part, func(key, line, _ string) {
			if got[key] != "" {
				t.Errorf("%s is there twice", key)
			}
			got[key] = line
		})
	}
	return got
}

// recordOf reads one patient's record.
func recordOf(t *testing.T, s source.Source, patient string) map[string]string {
	t.Helper()
	lines, _ := scan(t, s, patient, source.Query{})
	got := map[string]string{}
	var c fhir.Cursor
	for _, line := range lines {
		typ, id, err := c.Identify([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		got[typ+"/"+id] = line
	}
	return got
}

func idsOf(lines map[string]string, typ string) (ids []string) {
	for key := range lines {
		if id, found := strings.CutPrefix(key, typ+"/"); found {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
