package source

import (
	"fmt"
	"slices"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Membership is who belongs to a Group at one instant.
type Membership struct {
	Patients []string // ids, sorted; some may not be there
	Groups   []string // the Group itself and those nested in it, sorted
}

// Groups reads what Members needs from a source.
type Groups struct {
	// Read reads a Group as a line of JSON. Errors: ehi.NotFound.
	Read func(id string) ([]byte, error)
	// Identified finds the id of the patient that has an identifier; "" for none. It may be nil.
	Identified func(fhir.Identifier) (string, error)
}

// Members tells who belongs to a Group at an instant: the patients that it and the groups within
// it name as members then. A nested group that is absent, inactive or has no patients adds
// nobody; groups that contain one another are read once. Errors: ehi.NotFound for a Group that
// is absent, ehi.Invalid for one whose members cannot be told, with the reason: such as one that
// is, or contains, a group defined by characteristics.
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
				ehi.Errorf(ehi.Invalid, "The members of Group/%s cannot be told: %s", next[0], why)
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

// find turns a member that is named by an identifier alone into the patient that has it.
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
