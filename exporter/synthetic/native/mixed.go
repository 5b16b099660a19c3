package native

import (
	"slices"

	"ehi-server/shared/ehi"
)

// mixedShape is a little of everything: some tables, and a document of each format. Demo patients
// have it. All of it is classified: otherwise, an export by a form would wait for an administrator
// even where nobody reviews it.
func mixedShape() shape {
	s := shape{name: "mixed", tables: newMixed}
	classified := letter
	classified.category = ehi.OtherDocuments
	s.once = append([]kind{classified, summary, photograph, diagram, scan, operation, continuity},
		slices3...)
	return s
}

// newMixed returns some of the tables of tsv-tables, with what they refer to.
func newMixed(ids *sharedIDs) *schema {
	s := newTSV(ids)
	s.name, s.title = "synthetic-mixed", "Some tables of a synthetic record system"
	s.about = "Tab-separated tables of a record system that does not exist."
	s.only("patient", "patient_address", "problem", "visit", "visit_diagnosis", "vital_sign",
		"lab_order", "specimen", "lab_result", "message", "claim")
	return s
}

// only removes all other tables, and the look-up tables that nothing refers to any more.
func (s *schema) only(names ...string) {
	s.tables = slices.DeleteFunc(s.tables, func(t table) bool {
		return !slices.Contains(names, t.name)
	})
	used := map[string]bool{}
	for _, r := range s.descriptor().Resources {
		for _, key := range r.Fields.ForeignKeys {
			used[key.Reference.Resource] = used[key.Reference.Resource] || !r.Lookup
		}
	}
	// Look-up tables refer to those before them only, and each of them keeps what it refers to.
	for i := len(s.lookups) - 1; i >= 0; i-- {
		for _, c := range s.lookups[i].fields {
			if used[s.lookups[i].name] && c.refers != "" {
				used[s.foreignKey(&c).Reference.Resource] = true
			}
		}
	}
	s.lookups = slices.DeleteFunc(s.lookups, func(l lookup) bool { return !used[l.name] })
}
