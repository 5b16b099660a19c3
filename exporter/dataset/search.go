package dataset

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/find"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// The search index is stored beside the directory of patients. Whoever writes an entry of the
// directory calls reindex.
//
//	S <entry> <patient>   ->              the patient is found by the entry, see package find
//	K <patient>           -> JSON         the entries of a patient, so that they can be deleted
//	I                     -> version      the index holds every patient of the directory
const (
	kEntry   = 'S'
	kEntries = 'K'
	kIndex   = 'I'

	indexVersion = "2"
)

// maxFound is how many patients a search sorts in memory: about 15 MB.
const maxFound = 250_000

// reindex updates the entries of a patient. line is the Patient resource, or nil if it was
// removed; indexed is the current value of the patient's K key, or nil.
func reindex(batch *pebble.Batch, patient string, indexed, line []byte) error {
	var before, now []string
	if line != nil {
		var err error
		if now, err = find.Entries("Patient", line); err != nil {
			return err
		}
	}
	if indexed != nil {
		if err := json.Unmarshal(indexed, &before); err != nil {
			return err
		}
	}
	if slices.Equal(before, now) {
		return nil
	}
	var err error
	for _, e := range before {
		err = errors.Join(err, batch.Delete(key(kEntry, e, patient), nil))
	}
	for _, e := range now {
		err = errors.Join(err, batch.Set(key(kEntry, e, patient), nil, nil))
	}
	if len(now) == 0 {
		return errors.Join(err, batch.Delete(key(kEntries, patient), nil))
	}
	list, errList := json.Marshal(now)
	return errors.Join(err, errList, batch.Set(key(kEntries, patient), list, nil))
}

// completeIndex builds the index of a store without one, or with one of another version.
func (s *Store) completeIndex() (err error) {
	v, err := get(s.db, key(kIndex))
	if err != nil || string(v) == indexVersion {
		return err
	}
	batch := s.newBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	err = each(s.db, []byte{kPatient}, func(k, _ []byte) error {
		id := string(k[1:])
		line, err := s.patientLine(s.db, id)
		if err != nil {
			return err
		}
		indexed, err := get(s.db, key(kEntries, id))
		if err != nil {
			return err
		}
		if err := reindex(batch, id, indexed, line); err != nil {
			return err
		}
		if batch.Len() < batchBytes {
			return nil
		}
		err = batch.Commit(pebble.NoSync)
		batch.Reset()
		return err
	})
	err = errors.Join(err, batch.Set(key(kIndex), []byte(indexVersion), nil))
	if err != nil {
		return err
	}
	return batch.Commit(&pebble.WriteOptions{Sync: !s.bulk})
}

// patientLine returns a Patient resource, or nil.
func (s *Store) patientLine(r pebble.Reader, id string) (line []byte, err error) {
	err = view(r, key(kCompartment, id, "Patient", id), func(v []byte) error {
		_, l := decodeValue(v)
		line = bytes.Clone(l)
		return nil
	})
	if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	return line, err
}

// FindPatients implements source.Source.
func (s *Store) FindPatients(ctx context.Context, q source.Search) (out source.Found, err error) {
	snap := s.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	if q.IDs == nil && len(q.Criteria) == 0 {
		return s.everyPatient(ctx, snap, q)
	}
	ids, err := s.matching(ctx, snap, q)
	if err != nil {
		return out, err
	}
	out.Total = len(ids)
	from, found := slices.BinarySearch(ids, q.After)
	if found {
		from++
	}
	to := min(from+q.Limit, len(ids))
	if to < len(ids) && to > from {
		out.Next = ids[to-1]
	}
	return out, s.readPatients(snap, ids[from:to], &out)
}

// matching returns the IDs of the matching patients, sorted.
func (s *Store) matching(
	ctx context.Context, r pebble.Reader, q source.Search,
) (ids []string, err error) {
	if q.IDs != nil {
		for _, id := range q.IDs {
			there, err := s.inDirectory(r, id)
			if err != nil {
				return nil, err
			}
			if there {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	for i, c := range find.NarrowFirst(q.Criteria) {
		if i == 0 && q.IDs == nil {
			ids, err = s.meeting(ctx, r, c, nil)
		} else {
			ids, err = s.meeting(ctx, r, c, ids)
		}
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (s *Store) inDirectory(r pebble.Reader, id string) (bool, error) {
	if !fhir.ValidID(id) {
		return false, nil
	}
	gone, err := missing(r, key(kPatient, id))
	return !gone, err
}

// meeting returns the IDs of the patients that match a criterion, sorted. If among is not nil,
// only those in among, which is sorted.
func (s *Store) meeting(
	ctx context.Context, r pebble.Reader, c find.Criterion, among []string,
) ([]string, error) {
	ids := []string{}
	if among != nil && len(among) <= oneByOne {
		for _, id := range among {
			found, err := s.meets(r, id, c)
			if err != nil {
				return nil, err
			}
			if found {
				ids = append(ids, id)
			}
		}
		return ids, ctx.Err()
	}
	for _, alternative := range c {
		lower, upper :=
			append([]byte{kEntry}, alternative.From...), append([]byte{kEntry}, alternative.To...)
		err := between(r, lower, upper, func(k, _ []byte) error {
			end := bytes.LastIndexByte(k, 0)
			if alternative.Accept != nil && !alternative.Accept(string(k[1:end])) {
				return ctx.Err()
			}
			id := string(k[end+1:])
			if among != nil {
				if _, found := slices.BinarySearch(among, id); !found {
					return ctx.Err()
				}
			}
			if ids = append(ids, id); len(ids) < 2*maxFound {
				return ctx.Err()
			}
			slices.Sort(ids)
			if ids = slices.Compact(ids); len(ids) > maxFound {
				return errTooMany
			}
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) > maxFound {
		return nil, errTooMany
	}
	return ids, nil
}

// oneByOne is up to how many patients are checked individually instead of listing all matches of
// a criterion.
const oneByOne = 5000

// meets reports whether a patient matches a criterion.
func (s *Store) meets(r pebble.Reader, id string, c find.Criterion) (found bool, err error) {
	err = view(r, key(kEntries, id), func(v []byte) error {
		var entries []string
		err := json.Unmarshal(v, &entries)
		found = find.Matches([]find.Criterion{c}, entries)
		return err
	})
	if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	return found, err
}

var errTooMany = ehi.Errorf(ehi.TooCostly, "The search finds more than %d patients; narrow it down",
	maxFound)

// everyPatient lists the directory.
func (s *Store) everyPatient(
	ctx context.Context, r pebble.Reader, q source.Search,
) (out source.Found, err error) {
	var ids []string
	lower := key(kPatient, q.After)
	if q.After != "" {
		lower = append(lower, 0)
	}
	err = between(r, lower, []byte{kPatient + 1}, func(k, _ []byte) error {
		if len(ids) == q.Limit {
			if q.Limit > 0 {
				out.Next = ids[q.Limit-1]
			}
			return errEnough
		}
		ids = append(ids, string(k[1:]))
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return out, err
	}
	if out.Total, err = s.patients(ctx); err != nil {
		return out, err
	}
	return out, s.readPatients(r, ids, &out)
}

// readPatients adds the resources of a page.
func (s *Store) readPatients(r pebble.Reader, ids []string, out *source.Found) error {
	for _, id := range ids {
		line, err := s.patientLine(r, id)
		if err != nil {
			return err
		}
		if line != nil {
			out.Matches = append(out.Matches, source.Match{ID: id, Line: line})
		}
	}
	return nil
}

// patientCount caches the number of patients for one state of the store.
type patientCount struct {
	mu    sync.Mutex
	known bool
	at    uint64
	n     int
}

// patients counts the directory, once for each state of the store.
func (s *Store) patients(ctx context.Context) (int, error) {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	// Read this before counting: concurrent writes give another state.
	at := s.db.Metrics().WAL.BytesIn
	if s.count.known && s.count.at == at {
		return s.count.n, nil
	}
	n := 0
	err := each(s.db, []byte{kPatient}, func(_, _ []byte) error {
		n++
		return ctx.Err()
	})
	if err == nil {
		s.count.known, s.count.at, s.count.n = true, at, n
	}
	return n, err
}
