package dataset

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// unplaced counts what is in no record although its type belongs to patients: it names no
// patient, or one who does not exist. A resource that a patient's record references, directly or
// through shared resources, is in that record.
func (s *Store) unplaced() (source.Unplaced, error) {
	c := census{store: s, out: source.Unplaced{}}
	err := each(s.db, []byte{kUnplaced}, func(k, _ []byte) error {
		typ, id, _ := strings.Cut(string(k[1:]), "\x00")
		return c.loose(target{typ, id})
	})
	if err = errors.Join(err, c.decide()); err != nil {
		return nil, err
	}
	return c.out, c.strays()
}

// census counts what is in no record.
type census struct {
	store *Store
	out   source.Unplaced
	// goes maps a patient to the patients whose records include his; nil until needed.
	goes map[string][]string

	open     []target         // they are in a record if one of their carriers is
	found    []bool           // whether they are
	carriers map[target][]int // shared resources that lead to open ones, whose indexes are sorted
}

// openAtOnce is how many open resources are collected for one decision, which reads all links.
const openAtOnce = 50_000

func (c *census) count(typ, id string) {
	u := c.out[typ]
	if u.Count++; u.Count == 1 || typ+"/"+id < u.Example {
		u.Example = typ + "/" + id
	}
	c.out[typ] = u
}

// known reports whether a patient's record exists: there is the Patient, or one into whose
// record it was merged.
func (c *census) known(patient string) (bool, error) {
	if there, err := has(c.store.db, key(kPatient, patient)); err != nil || there {
		return there, err
	}
	if c.goes == nil {
		c.goes = map[string][]string{}
		err := each(c.store.db, []byte{kMerged}, func(k, _ []byte) error {
			parts := split(k)
			replaced := string(parts[1])
			c.goes[replaced] = append(c.goes[replaced], string(parts[0]))
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	if len(c.goes[patient]) == 0 {
		return false, nil
	}
	for other := range reachable(c.goes, patient) {
		if there, err := has(c.store.db, key(kPatient, other)); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// strays counts the resources of patients who do not exist, except for those with another
// patient.
func (c *census) strays() error {
	strays, err := below(c.store.db, []byte{kStray})
	if err != nil {
		return err
	}
	for _, patient := range strays {
		if known, err := c.known(patient); err != nil {
			return err
		} else if known {
			continue
		}
		prefix := key(kCompartment, patient, "")
		err := each(c.store.db, prefix, func(k, v []byte) error {
			typ, id, _ := strings.Cut(string(k[len(prefix):]), "\x00")
			if stored := decode(v); stored.several {
				if first, err := c.firstOf(patient, typ, id); err != nil || !first {
					return err
				}
			}
			c.count(typ, id)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// firstOf reports whether a resource has no known patient, and the given one is the first that
// it names.
func (c *census) firstOf(patient, typ, id string) (bool, error) {
	owners, _, err := ownersIn(c.store.db, typ, id)
	if err != nil || len(owners) > 0 && owners[0] != patient {
		return false, err
	}
	for _, o := range owners {
		if known, err := c.known(o); err != nil || known {
			return false, err
		}
	}
	return true, nil
}

// loose processes a resource outside of all compartments. Whatever references it depends on it
// (w keys), directly or not; but nothing waits for an existing resource of a type without
// patients. The references through those are followed for many resources at once.
func (c *census) loose(t target) error {
	seen := []target{t}
	var carriers []target
	for at := 0; at < len(seen); at++ {
		in, from, err := c.refer(seen[at])
		if err != nil || in {
			return err
		}
		for _, f := range from {
			if slices.Contains(seen, f) {
				continue
			}
			seen = append(seen, f)
			if fhir.CompartmentPaths(f.typ) == nil {
				carriers = append(carriers, f)
			}
		}
		if len(seen) > longestChain {
			break
		}
	}
	if len(carriers) == 0 {
		c.count(t.typ, t.id)
		return nil
	}
	if c.carriers == nil {
		c.carriers = map[target][]int{}
	}
	for _, f := range carriers {
		c.carriers[f] = append(c.carriers[f], len(c.open))
	}
	if c.open = append(c.open, t); len(c.open) < openAtOnce {
		return nil
	}
	return c.decide()
}

// longestChain is how many referencing resources are followed for one resource.
const longestChain = 1000

// refer returns what references a resource. in is true if the record of a known patient does.
func (c *census) refer(t target) (in bool, from []target, err error) {
	d := literalDigest(t.typ, t.id)
	if c.store.waiting.lacks(d[:]) {
		return false, nil, nil
	}
	prefix := digestKey(kWaiting, d)
	err = each(c.store.db, prefix, func(k, _ []byte) error {
		patient, id, shared := bytes.Cut(k[len(prefix):], []byte{0})
		who := string(patient)
		if shared {
			f := target{who, string(id)}
			refers, err := has(c.store.db, key(kSharedLink, f.typ, f.id, t.typ, t.id))
			if refers && f.typ != "Group" { // whose members are not exported through it
				from = append(from, f)
			}
			return err
		}
		refers, err := has(c.store.db, key(kLink, who, t.typ, t.id))
		if err == nil && refers {
			in, err = c.known(who)
		}
		if in && err == nil {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return in, from, err
}

// decide counts the open resources without a carrier in a record.
func (c *census) decide() error {
	if len(c.open) == 0 {
		return nil
	}
	c.found = make([]bool, len(c.open))
	if err := c.widen(); err != nil {
		return err
	}
	err := each(c.store.db, []byte{kLink}, func(k, _ []byte) error {
		patient, to := cutLink(k)
		open := c.carriers[to]
		if !slices.ContainsFunc(open, func(i int) bool { return !c.found[i] }) {
			return nil
		}
		known, err := c.known(patient)
		for _, i := range open {
			c.found[i] = c.found[i] || known
		}
		return err
	})
	for i, t := range c.open {
		if err == nil && !c.found[i] {
			c.count(t.typ, t.id)
		}
	}
	c.open, c.found, c.carriers = nil, nil, nil
	return err
}

// widen adds all shared resources that reference carriers to the carriers.
func (c *census) widen() error {
	for more := true; more; {
		more = false
		err := each(c.store.db, []byte{kSharedLink}, func(k, _ []byte) error {
			parts := split(k)
			open := c.carriers[target{string(parts[2]), string(parts[3])}]
			if len(open) == 0 || string(parts[0]) == "Group" {
				return nil
			}
			from := target{string(parts[0]), string(parts[1])}
			before := c.carriers[from]
			all := slices.Concat(before, open)
			slices.Sort(all)
			if all = slices.Compact(all); len(all) > len(before) {
				c.carriers[from], more = all, true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cutLink parses a key of a patient's link.
func cutLink(k []byte) (patient string, to target) {
	parts := split(k)
	return string(parts[0]), target{string(parts[1]), string(parts[2])}
}
