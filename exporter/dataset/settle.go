package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// Settle makes what is derived from the resources true again for every patient that changed, and tries again to
// resolve what was left unresolved. It is safe to interrupt and to repeat; the store is durable when it returns.
func (w *Writer) Settle(ctx context.Context, progress func(done, total int)) error {
	if err := w.flush(pebble.NoSync); err != nil {
		return err
	}
	if err := w.settleShared(); err != nil {
		return err
	}
	if err := w.adopt(); err != nil {
		return err
	}
	patients, err := w.unsettled()
	if err != nil {
		return err
	}
	for i, p := range patients {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.settlePatient(p); err != nil {
			return fmt.Errorf("settle patient %s: %w", p, err)
		}
		if w.batch.Len() >= batchBytes {
			if err := w.flush(pebble.NoSync); err != nil {
				return err
			}
		}
		progress(i+1, len(patients))
	}
	return w.flush(pebble.Sync)
}

func (w *Writer) settleShared() error {
	var lines [][]byte
	err := each(w.store.db, []byte{kPending}, func(k, _ []byte) error {
		v, err := w.store.get(w.store.db, append([]byte{kShared}, k[1:]...))
		if v != nil {
			_, line := decodeValue(v)
			lines = append(lines, line)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, line := range lines {
		f, err := w.examine(line)
		if err != nil {
			return err
		}
		resolved, changed := w.resolve(line, f.refs, nil)
		if changed {
			if f, err = w.examine(resolved); err != nil {
				return err
			}
			if err := w.batch.Set(key(kShared, f.typ, f.id), encodeValue(w.now, false, resolved), nil); err != nil {
				return err
			}
		}
		if err := w.linkShared(f); err != nil {
			return err
		}
	}
	return w.flush(pebble.NoSync)
}

// adopt gives orphans to the patients of what they are about, as far as those are known by now. One orphan can be about
// another: it goes on until no more finds a home.
func (w *Writer) adopt() error {
	for again := true; again; {
		again = false
		var orphans [][]byte
		err := each(w.store.db, []byte{kOrphan}, func(k, _ []byte) error {
			orphans = append(orphans, bytes.Clone(k[1:]))
			return nil
		})
		if err != nil {
			return err
		}
		for _, o := range orphans {
			found, err := w.adoptOne(o)
			if err != nil {
				return err
			}
			again = again || found
		}
		if err := w.flush(pebble.NoSync); err != nil {
			return err
		}
	}
	return nil
}

// adoptOne moves an orphan from the shared resources to its patient's.
func (w *Writer) adoptOne(target []byte) (found bool, err error) {
	k := append([]byte{kShared}, target...)
	v, err := w.store.get(w.batch, k)
	if err != nil || v == nil {
		return false, err
	}
	_, line := decodeValue(v)
	f, err := w.examine(line)
	if err != nil {
		return false, err
	}
	owners, err := w.owners(f, "")
	if err != nil || len(owners) == 0 {
		return false, err
	}
	err = errors.Join(w.putOwned(f, line, owners), w.batch.Set(key(kGeneration), w.gen, nil), w.clear(key(kSharedLink, f.typ, f.id, "")),
		w.batch.Delete(k, nil), w.batch.Delete(append([]byte{kOrphan}, target...), nil), w.batch.Delete(append([]byte{kPending}, target...), nil))
	return err == nil, err
}

// unsettled lists the patients that changed, and those who have something unresolved.
func (w *Writer) unsettled() ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, kind := range []byte{kTouched, kDangling} {
		err := each(w.store.db, []byte{kind}, func(k, _ []byte) error {
			if p := string(k[1:]); !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// settling is the work on one patient.
type settling struct {
	own      map[string]bool // type/id of the compartment
	links    map[string]bool // type/id of everything else that is referred to
	strange  bool            // some reference is neither local nor external
	name     string
	hasSelf  bool
	total    int64
	bytes    int64
	resolved []keyValue
}

type keyValue struct{ key, value []byte }

func (w *Writer) settlePatient(patient string) error {
	s := settling{own: map[string]bool{}, links: map[string]bool{}}
	prefix := key(kCompartment, patient, "")
	err := each(w.store.db, prefix, func(k, _ []byte) error {
		typ, id, _ := bytes.Cut(k[len(prefix):], []byte{0})
		s.own[string(typ)+"/"+string(id)] = true
		return nil
	})
	if err != nil {
		return err
	}
	if err := each(w.store.db, prefix, func(k, v []byte) error { return w.settleResource(&s, patient, k, v) }); err != nil {
		return err
	}
	return w.writeSettled(&s, patient)
}

func (w *Writer) settleResource(s *settling, patient string, k, v []byte) error {
	_, line := decodeValue(v)
	f, err := w.examine(line)
	if err != nil {
		return err
	}
	if resolved, changed := w.resolve(line, f.refs, nil); changed {
		if f, err = w.examine(resolved); err != nil {
			return err
		}
		s.resolved = append(s.resolved, keyValue{bytes.Clone(k), encodeValue(w.now, several(v), resolved)})
		line = resolved
	}
	s.total++
	s.bytes += int64(len(line)) + 1
	for _, r := range f.refs {
		typ, id, ok := fhir.Local([]byte(r.text))
		switch {
		case !ok:
			s.strange = s.strange || !fhir.External([]byte(r.text))
		case !s.own[string(typ)+"/"+string(id)]:
			s.links[string(typ)+"\x00"+string(id)] = true
		}
	}
	if f.typ == "Patient" && f.id == patient {
		s.hasSelf, s.name = true, strings.TrimSpace(strings.Join(f.name, " "))
	}
	return nil
}

func (w *Writer) writeSettled(s *settling, patient string) error {
	for _, r := range s.resolved {
		if err := w.batch.Set(r.key, r.value, nil); err != nil {
			return err
		}
	}
	prefix := key(kLink, patient, "")
	if err := w.clear(prefix); err != nil {
		return err
	}
	dangling := s.strange
	for target := range s.links {
		if err := w.batch.Set(append(append([]byte{}, prefix...), target...), nil, nil); err != nil {
			return err
		}
		absent, err := missing(w.store.db, append([]byte{kShared}, target...))
		if err != nil {
			return err
		}
		dangling = dangling || absent
	}
	if err := w.setIf(dangling, key(kDangling, patient)); err != nil {
		return err
	}
	if err := w.batch.Delete(key(kTouched, patient), nil); err != nil {
		return err
	}
	if !s.hasSelf { // resources came before their Patient: not in the directory yet
		return nil
	}
	shared, whole, err := closure(w.batch, patient)
	if err != nil {
		return err
	}
	gen, err := w.store.get(w.batch, key(kGeneration))
	if err != nil {
		return err
	}
	entry, err := json.Marshal(patientEntry{
		Name: s.name, Total: s.total + int64(len(shared)), Own: s.total, Bytes: s.bytes, Whole: whole && !dangling, Generation: string(gen),
	})
	if err != nil {
		return err
	}
	keys, err := json.Marshal(shared)
	if err != nil {
		return err
	}
	return errors.Join(w.batch.Set(key(kPatient, patient), entry, nil), w.batch.Set(key(kSharedOf, patient), keys, nil))
}

func (w *Writer) setIf(on bool, k []byte) error {
	if on {
		return w.batch.Set(k, nil, nil)
	}
	return w.batch.Delete(k, nil)
}
