package dataset

import (
	"bytes"

	"ehi-server/exporter/source"
)

// unplaced counts what is in nobody's record although its type belongs to patients: what names no patient, and what names one who is
// not there.
func (s *Store) unplaced() (source.Unplaced, error) {
	out := source.Unplaced{}
	count := func(typ, id []byte) {
		u := out[string(typ)]
		if u.Count++; u.Count == 1 {
			u.Example = string(typ) + "/" + string(id)
		}
		out[string(typ)] = u
	}
	err := each(s.db, []byte{kUnplaced}, func(k, _ []byte) error {
		typ, id, _ := bytes.Cut(k[1:], []byte{0})
		count(typ, id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	strays, err := below(s.db, []byte{kStray})
	for _, patient := range strays {
		prefix := key(kCompartment, patient, "")
		if err == nil {
			err = each(s.db, prefix, func(k, _ []byte) error {
				typ, id, _ := bytes.Cut(k[len(prefix):], []byte{0})
				count(typ, id)
				return nil
			})
		}
	}
	return out, err
}
