package sourcetest

import (
	"slices"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/find"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// searches checks that a search returns exactly the patients whose Patient resource matches.
func searches(t *testing.T, s source.Source, want Expect) {
	lines, entries := map[string]string{}, map[string][]string{}
	for _, p := range want.Patients {
		line := recordOf(t, s, p)["Patient/"+p]
		e, err := find.Entries("Patient", []byte(line))
		if err != nil {
			t.Fatal(err)
		}
		lines[p], entries[p] = line, e
	}
	for _, pairs := range questions(t, lines[want.Patient]) {
		var q source.Search
		for _, pair := range pairs {
			c, known, err := find.Parse("Patient", pair[0], pair[1])
			if err != nil || !known {
				t.Fatalf("%v: %t, %v", pair, known, err)
			}
			q.Criteria = append(q.Criteria, c)
		}
		var expected []string
		for _, p := range want.Patients {
			if find.Matches(q.Criteria, entries[p]) {
				expected = append(expected, p)
			}
		}
		pages(t, s, q, expected, lines)
		q.IDs = []string{want.Patients[len(want.Patients)-1], "nobody", want.Patient, want.Patient}
		pages(t, s, q,
			slices.DeleteFunc(slices.Clone(expected), func(p string) bool {
				return !slices.Contains(q.IDs, p)
			}), lines)
	}
	pages(t, s, source.Search{IDs: []string{}}, nil, lines)
	pages(t, s, source.Search{IDs: []string{"nobody", "../x", "a\x00b", ""}}, nil, lines)
}

// questions returns searches that match the patient of a line, and some that barely do not.
func questions(t *testing.T, line string) (out [][][2]string) {
	var p struct {
		BirthDate  string
		Identifier []struct{ System, Value string }
		Name       []struct {
			Family string
			Given  []string
		}
	}
	if err := json.Unmarshal([]byte(line), &p); err != nil {
		t.Fatal(err)
	}
	one := func(name, value string) { out = append(out, [][2]string{{name, value}}) }
	out = append(out, nil)
	for _, i := range p.Identifier {
		one("identifier", i.Value)
		one("identifier", i.System+"|"+i.Value)
		one("identifier", "|"+i.Value)
		one("identifier", i.Value+"x")
		if i.System != "" {
			one("identifier", i.System+"|")
		}
	}
	for _, n := range p.Name {
		one("family", n.Family[:2])
		one("family", n.Family[1:])
		one("name", n.Given[0]+" "+n.Family)
		out = append(out, [][2]string{{"given", n.Given[0]}, {"name", n.Family}}, [][2]string{
			{"given", n.Given[0]}, {"family", "nobody"},
		})
	}
	if p.BirthDate != "" {
		for _, prefix := range []string{"", "eq", "ne", "gt", "ge", "lt", "le", "sa", "eb"} {
			one("birthdate", prefix+p.BirthDate)
			one("birthdate", prefix+p.BirthDate[:4])
		}
	}
	one("name", "a,e,i,o,u,j,d")
	return out
}

// pages runs a search page by page, with several page sizes.
func pages(t *testing.T, s source.Source, q source.Search, want []string, lines map[string]string) {
	t.Helper()
	for _, q.Limit = range []int{1, 2, 1000} {
		q.After = ""
		var got []string
		for {
			f, err := s.FindPatients(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if f.Total != len(want) || len(f.Matches) > q.Limit {
				t.Errorf("%d of %d patients, want %d", len(f.Matches), f.Total, len(want))
			}
			for _, p := range f.Matches {
				if got = append(got, p.ID); string(p.Line) != lines[p.ID] {
					t.Errorf("Patient/%s is %s", p.ID, p.Line)
				}
			}
			if q.After = f.Next; q.After == "" {
				break
			}
			if len(f.Matches) == 0 {
				t.Fatal("an empty page leads to another")
			}
		}
		if !slices.Equal(want, got) {
			t.Errorf("found %v, want %v", got, want)
		}
	}
	q.After, q.Limit = "", 0
	f, err := s.FindPatients(t.Context(), q)
	if err != nil || f.Total != len(want) || len(f.Matches) > 0 || f.Next != "" {
		t.Errorf("counted %+v, %v", f, err)
	}
	if q.After = "no/id"; len(want) > 0 {
		if _, err := s.FindPatients(t.Context(), q); err != nil && ehi.CodeOf(err) != ehi.NotFound {
			t.Error(err)
		}
	}
}
