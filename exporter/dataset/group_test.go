package dataset_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// keys lists the resources of a population's export.
func keys(t *testing.T, s *dataset.Store, sel source.Selection) (out []string) {
	t.Helper()
	p, err := s.Freeze(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	parts, err := p.Plan(t.Context(), sel, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		rec, err := p.Open(t.Context(), sel, part)
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
			_, id, _ := strings.Cut(string(r.Line), `"id":"`)
			id, _, _ = strings.Cut(id, `"`)
			out = append(out, r.Type+"/"+id)
			return nil
		})
		if err != nil || rec.Close() != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

// BULK-8: a Group's export contains the records of those who are members at its instant, of the
// Group and of the groups in it.
func TestGroupsAreExportedByMembershipAtTheInstant(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, filepath.Join(records.Cases(t, "group-membership"), "in.ndjson"))
	want := []string{
		"Group/g-inner", "Group/g-outer", "Observation/mo1", "Observation/mo4", "Patient/m1",
		"Patient/m4",
	}
	d := cmp.Diff(want, keys(t, s, source.Selection{Level: ehi.OneGroup, Group: "g-outer"}))
	if d != "" {
		t.Error(d)
	}
}

// A member may be named by an identifier alone, if only one patient has it.
func TestMembersOfAGroupAreFoundByTheirIdentifier(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, write(t, t.TempDir(), "a.ndjson",
		`{"resourceType":"Patient","id":"p1","identifier":[{"system":"urn:mrn","value":"5 & 6"}]}`,
		`{"resourceType":"Patient","id":"p2","identifier":[{"system":"urn:mrn","value":"7"}]}`,
		`{"resourceType":"Patient","id":"p3","identifier":[{"system":"urn:mrn","value":"7"}]}`,
		`{"resourceType":"Group","id":"g","member":[{"entity":{"identifier":{"system":"urn:mrn",`+
			`"value":"5 & 6"}}},`+
			`{"entity":{"identifier":{"system":"urn:mrn","value":"7"}}},`+
			`{"entity":{"identifier":{"system":"urn:other","value":"7"}}}]}`))
	d := cmp.Diff([]string{"Group/g", "Patient/p1"},
		keys(t, s, source.Selection{Level: ehi.OneGroup, Group: "g"}))
	if d != "" {
		t.Error(d)
	}
}

// A resource of several patients is exported with the first one whose Patient exists.
func TestAResourceOfSeveralPatientsSurvivesAnAbsentOne(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, write(t, t.TempDir(), "a.ndjson", `{"resourceType":"Patient","id":"p2"}`,
		`{"resourceType":"Appointment","id":"a1",`+
			`"participant":[{"actor":{"reference":"Patient/p1"}},`+
			`{"actor":{"reference":"Patient/p2"}}]}`))
	want := []string{"Appointment/a1", "Patient/p2"}
	if d := cmp.Diff(want, keys(t, s, source.Selection{Level: ehi.AllPatients})); d != "" {
		t.Error(d)
	}
}
