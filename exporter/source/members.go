package source

import (
	"fmt"
	"slices"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Membership is the members of a Group at one instant.
type Membership struct {
	Patients []string // IDs, sorted; the patients need not exist
	Groups   []string // the Group and the Groups nested in it, sorted
}

// Groups provides what Members needs from a source.
type Groups struct {
	// Read reads a Group as a line of JSON. Errors: ehi.NotFound.
	Read func(id string) ([]byte, error)
	// Identified returns the ID of the patient with an identifier, or "". It may be nil.
	Identified func(fhir.Identifier) (string, error)
}

// Members returns the patients of a Group at an instant, including those of nested Groups. A
// nested Group that does not exist, is inactive or has no patients adds nobody. Cycles are
// allowed. Errors: ehi.NotFound for a Group that does not exist; ehi.Invalid, with the reason,
// for one whose members cannot be determined, such as one that is or contains a Group defined by
// characteristics.
func Members(from Groups, id string, at time.Time) (Membership, error) {
	m := Membership{}
	seen := map[string]bool{id: true}
	for next := []string{id}; len(next) > 0; next = next[1:] {
		line, err := from.Read(next[0])
		if next[0] != id && ehi.CodeOf(err) == ehi.NotFound {
			continue
		}
		if err != nil {
			return m, err
		}
		g, err := fhir.ReadGroup(line, at)
		if err != nil {
			return m, fmt.Errorf("read Group/%s: %w", next[0], err)
		}
		m.Groups = append(m.Groups, next[0])
		if nested := next[0] != id; nested && (g.Inactive || !g.OfPatients()) {
			continue
		}
		if why := g.Unusable(); why != "" {
			return m,
				ehi.Errorf(ehi.Invalid, "The members of Group/%s cannot be determined: %s", next[0],
					why)
		}
		for _, member := range g.Members {
			if member, err = from.find(member); err != nil {
				return m, err
			}
			switch {
			case member.Type == "Patient":
				m.Patients = append(m.Patients, member.ID)
			case member.Type == "Group" && !seen[member.ID]:
				seen[member.ID] = true
				next = append(next, member.ID)
			}
		}
	}
	slices.Sort(m.Groups)
	slices.Sort(m.Patients)
	m.Patients = slices.Compact(m.Patients)
	return m, nil
}

// find resolves a member that is given by an identifier to the patient with this identifier.
func (from Groups) find(m fhir.Member) (fhir.Member, error) {
	if m.Identifier.Value == "" || from.Identified == nil {
		return m, nil
	}
	id, err := from.Identified(m.Identifier)
	if err == nil && id != "" {
		m.Type, m.ID = "Patient", id
	}
	return m, err
}
