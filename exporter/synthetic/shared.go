package synthetic

import (
	"strconv"
	"time"

	"ehi-server/exporter/synthetic/outline"
)

// sharedSet is a set of shared resources.
type sharedSet [outline.SharedResources]bool

// whole is the set of all shared resources.
var whole = func() (s sharedSet) {
	for i := range s {
		s[i] = true
	}
	return s
}()

func (s *sharedSet) add(other *sharedSet) {
	for i, in := range other {
		s[i] = s[i] || in
	}
}

// commons holds the IDs of the shared resources.
type commons struct {
	ids [outline.SharedResources][]byte
}

func newCommons(seed uint64) *commons {
	c := &commons{}
	for i := range c.ids {
		id := outline.NewID(seed, outline.Nobody, uint32(i))
		c.ids[i] = id[:]
	}
	return c
}

// founded is the last update of the shared resources.
var founded = time.Date(2010, 1, 4, 9, 0, 0, 0, time.UTC)

// Shared emits the organizations, locations, practitioners, roles and medications that patients
// reference.
func (g *Generator) Shared(emit Emit) error {
	return g.emitShared(whole, func(string) bool { return true }, emit)
}

// emitShared emits the used shared resources, including those that other used ones reference.
func (g *Generator) emitShared(used sharedSet, wants func(typ string) bool, emit Emit) error {
	for i := range outline.Roles.Count {
		if used[outline.Roles.First+i] {
			used[outline.Practitioners.First+i] = true
			used[outline.Organizations.First+i%outline.Organizations.Count] = true
		}
	}
	for i := range outline.Locations.Count {
		if used[outline.Locations.First+i] {
			used[outline.Organizations.First+i] = true
		}
	}
	unlimited := g.cfg
	unlimited.Resources, unlimited.Errors = 0, 0
	s := &Generator{cfg: unlimited, emit: emit, wants: wants, shared: g.shared}
	s.dated(founded)
	for i := range used {
		if used[i] {
			s.values[self] = s.shared.ids[i]
			s.put(s.sharedTemplate(i))
		}
	}
	return s.err
}

// sharedTemplate sets the slots of shared resource i.
func (g *Generator) sharedTemplate(i int) *template {
	switch {
	case i < outline.Locations.First:
		g.text(city, outline.Cities[i])
		return organizationT
	case i < outline.Practitioners.First:
		i -= outline.Locations.First
		g.text(city, outline.Cities[i])
		g.values[organization] = g.shared.ids[outline.Organizations.First+i]
		return locationT
	case i < outline.Roles.First:
		i -= outline.Practitioners.First
		g.values[number] = strconv.AppendInt(g.values[number][:0], 9_990_000_000+int64(i), 10)
		g.text(family, outline.Families[i*7%len(outline.Families)])
		g.text(given, outline.Givens[i*5%len(outline.Givens)])
		return practitionerT
	case i < outline.Medications.First:
		i -= outline.Roles.First
		g.values[practitioner] = g.shared.ids[outline.Practitioners.First+i]
		employer := outline.Organizations.First + i%outline.Organizations.Count
		g.values[organization] = g.shared.ids[employer]
		return roleT
	}
	return medicationTs[i-outline.Medications.First]
}
