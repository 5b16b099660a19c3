package dataset

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// recordOf lists the patients whose compartments make up a patient's record: the patient's own
// first, then those of all patients that were merged into that one (Patient.link, replaced-by
// and replaces), directly or through others. Who was replaced has the own record alone: a token
// for that patient opens nothing that was authorised for another one. Cycles are no harm.
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

// linksOf is what the compartments of several patients refer to outside of them all, sorted.
// whole is false where a reference in them leads nowhere at all.
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

// ownedByOne reports whether a resource, by type and id as in a key, is in the compartment of
// one of the patients.
func ownedByOne(r pebble.Reader, target string, patients []string) (bool, error) {
	for _, p := range patients {
		if there, err := has(r, key(kCompartment, p, target)); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// has reports whether a key is there.
func has(r pebble.Reader, k []byte) (bool, error) {
	absent, err := missing(r, k)
	return !absent, err
}
