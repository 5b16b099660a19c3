package dataset

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// recordOf lists the patients whose compartments make up a patient's record: the patient first,
// then all patients that were merged into that patient (Patient.link, replaced-by and replaces),
// directly or through others. A replaced patient's record contains only that patient's
// compartment, so a token for that patient grants no access to another one's data. Cycles are
// harmless.
func recordOf(r pebble.Reader, patient string) ([]string, error) {
	all := []string{patient}
	for at := 0; at < len(all); at++ {
		prefix := key(kMerged, all[at], "")
		err := each(r, prefix, func(k, _ []byte) error {
			replaced := string(split(k)[1])
			if !slices.Contains(all, replaced) {
				all = append(all, replaced)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(all[1:])
	return all, nil
}

// linksOf returns what the compartments of several patients refer to outside all of these,
// sorted. whole is false if a reference has no target.
func linksOf(r pebble.Reader, patients []string) (links []string, whole bool, err error) {
	whole = true
	for _, p := range patients {
		dangling, err := has(r, key(kDangling, p))
		if err != nil {
			return nil, false, err
		}
		whole = whole && !dangling
		of, err := below(r, key(kLink, p, ""))
		if err != nil {
			return nil, false, err
		}
		for _, target := range of {
			inside := false
			if len(patients) > 1 {
				if inside, err = ownedByOne(r, target, patients); err != nil {
					return nil, false, err
				}
			}
			if !inside {
				links = append(links, target)
			}
		}
	}
	slices.Sort(links)
	return slices.Compact(links), whole, nil
}

// ownedByOne reports whether a resource, given as type and id in a key, is in the compartment of
// one of the patients.
func ownedByOne(r pebble.Reader, target string, patients []string) (bool, error) {
	for _, p := range patients {
		if there, err := has(r, key(kCompartment, p, target)); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// has reports whether a key exists.
func has(r pebble.Reader, k []byte) (bool, error) {
	absent, err := missing(r, k)
	return !absent, err
}
