package dictionary_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/api/console/dictionary"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/shared/datapackage"
)

// drawn checks that the boxes of a drawing lie within it and apart, and returns what they link to.
func drawn(t rapid.TB, d *dictionary.Diagram) (links []string) {
	t.Helper()
	for i, a := range d.Boxes {
		if a.X < 0 || a.Y < 0 || a.X+a.Width > d.Width || a.Y+a.Height > d.Height {
			t.Errorf("%s lies outside of %d x %d: %+v", a.Name, d.Width, d.Height, a)
		}
		for _, b := range d.Boxes[:i] {
			if a.X < b.X+b.Width && b.X < a.X+a.Width && a.Y < b.Y+b.Height && b.Y < a.Y+a.Height {
				t.Errorf("%s lies on %s", a.Name, b.Name)
			}
		}
		if a.Link != "" {
			links = append(links, a.Link)
		}
	}
	slices.Sort(links)
	return links
}

// pages returns the paths of all tables' pages.
func pages(p *datapackage.Package) (out []string) {
	for _, r := range p.Resources {
		out = append(out, "/docs/ehi/tables/"+r.Name)
	}
	slices.Sort(out)
	return out
}

// random draws tables that lead to the patient directly, through others, or not at all.
func random(t *rapid.T) *datapackage.Package {
	p := &datapackage.Package{}
	for i := range rapid.IntRange(1, 60).Draw(t, "tables") {
		r := datapackage.Resource{Name: fmt.Sprintf("t%d%s", i, strings.Repeat("x", i))}
		r.Fields.Fields = []datapackage.Field{{Name: "id"}, {Name: "up"}, {Name: "code"}}
		r.Fields.PrimaryKey = datapackage.Names{"id"}
		refer := func(field string, to int) {
			r.Fields.ForeignKeys = append(r.Fields.ForeignKeys, datapackage.ForeignKey{
				Fields: datapackage.Names{field},
				Reference: datapackage.Reference{
					Resource: p.Resources[to].Name, Fields: datapackage.Names{"id"},
				},
			})
		}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			r.Lookup = true
		case 1:
			r.Patient = []string{"up"}
		case 2:
			if i == 0 {
				break
			}
			up := rapid.IntRange(0, i-1).Draw(t, "up")
			if of := p.Resources[up]; len(of.Patient) > 0 {
				refer("up", up)
				r.Patient = append([]string{"up"}, of.Patient...)
			}
		}
		if i > 0 && rapid.Bool().Draw(t, "refers") {
			refer("code", rapid.IntRange(0, i-1).Draw(t, "code"))
		}
		p.Resources = append(p.Resources, r)
	}
	return p
}

// The diagram of all tables has each once, and that of a table the tables beside it.
func TestDiagramsShowEachTableOnce(t *testing.T) {
	check := func(t rapid.TB, p *datapackage.Package) {
		b := dictionary.New(p)
		if links := drawn(t, b.Overview()); !slices.Equal(links, pages(p)) {
			t.Errorf("the diagram has %v", links)
		}
		for _, of := range b.Tables {
			d := of.Neighbours()
			if d == nil {
				if len(of.To)+len(of.From) > 0 {
					t.Errorf("%s has no diagram", of.Name)
				}
				continue
			}
			links := drawn(t, d)
			for _, k := range of.To {
				if !slices.Contains(links, "/docs/ehi/tables/"+k.To.Name) && len(of.To) < 12 {
					t.Errorf("the diagram of %s lacks %s", of.Name, k.To.Name)
				}
			}
		}
	}
	for _, shape := range native.Shapes() {
		if p := native.New(native.Config{Shape: shape}).Tables(); p != nil {
			check(t, p)
		}
	}
	rapid.Check(t, func(t *rapid.T) { check(t, random(t)) })
}

// Tables that lead to each other and never to the patient do not keep a diagram from ending: the
// checks of descriptors refuse them, but this package does not rely on that.
func TestADiagramOfTablesInACircleEnds(t *testing.T) {
	p := &datapackage.Package{}
	for i, name := range []string{"a", "b"} {
		r := datapackage.Resource{Name: name, Patient: []string{"up", "up", "up"}}
		r.Fields.Fields = []datapackage.Field{{Name: "up"}}
		r.Fields.ForeignKeys = []datapackage.ForeignKey{{
			Fields: datapackage.Names{"up"},
			Reference: datapackage.Reference{
				Resource: []string{"b", "a"}[i], Fields: datapackage.Names{"up"},
			},
		}}
		p.Resources = append(p.Resources, r)
	}
	drawn(t, dictionary.New(p).Overview())
}

// Of thousands of tables, the diagram shows those that others lead through.
func TestTheDiagramOfManyTablesStaysSmall(t *testing.T) {
	p := &datapackage.Package{}
	for i := range 5000 {
		r := datapackage.Resource{Name: fmt.Sprintf("t%d", i), Patient: []string{"patient"}}
		if i%10 != 0 {
			r.Patient = []string{"up", "patient"}
			r.Fields.ForeignKeys = []datapackage.ForeignKey{{
				Fields: datapackage.Names{"up"}, Reference: datapackage.Reference{
					Resource: fmt.Sprintf("t%d", i%100/10*10), Fields: datapackage.Names{"patient"},
				},
			}}
		}
		p.Resources = append(p.Resources, r)
	}
	d := dictionary.New(p).Overview()
	if drawn(t, d); len(d.Boxes) > 50 {
		t.Errorf("it has %d boxes", len(d.Boxes))
	}
}
