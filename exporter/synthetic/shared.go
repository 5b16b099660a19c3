package synthetic

import (
	"strconv"
	"time"
)

// kind is the range of the shared resources of one type.
type kind struct{ first, count int }

// The shared resources, in the order in which they are emitted.
var (
	organizations = kind{0, 8}
	locations     = kind{8, 8}
	practitioners = kind{16, 24}
	roles         = kind{40, 24}
	medications   = kind{64, len(drugs)}
)

const sharedResources = 72

// sharedSet is a set of shared resources.
type sharedSet [sharedResources]bool

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
type commons struct{ ids [sharedResources][]byte }

func newCommons(seed uint64) *commons {
	c := &commons{}
	for i := range c.ids {
		var id [idSize]byte
		makeID(&id, seed, nobody, uint32(i))
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
	for i := range roles.count {
		if used[roles.first+i] {
			used[practitioners.first+i], used[organizations.first+i%organizations.count] =
				true, true
		}
	}
	for i := range locations.count {
		if used[locations.first+i] {
			used[organizations.first+i] = true
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
	case i < locations.first:
		g.text(city, cities[i])
		return organizationT
	case i < practitioners.first:
		i -= locations.first
		g.text(city, cities[i])
		g.values[organization] = g.shared.ids[organizations.first+i]
		return locationT
	case i < roles.first:
		i -= practitioners.first
		g.values[number] = strconv.AppendInt(g.values[number][:0], 9_990_000_000+int64(i), 10)
		g.text(family, families[i*7%len(families)])
		g.text(given, givens[i*5%len(givens)])
		return practitionerT
	case i < medications.first:
		i -= roles.first
		g.values[practitioner] = g.shared.ids[practitioners.first+i]
		g.values[organization] = g.shared.ids[organizations.first+i%organizations.count]
		return roleT
	}
	return medicationTs[i-medications.first]
}
