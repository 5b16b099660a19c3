package dataset

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/shared/ehi"
)

// lineage identifies the records in a store, as in its V key: identity, version, and whether an
// import is running. A random version is drawn when an import begins to write and when it ends,
// in the batch that it writes. So stores with equal identity and version are copies of each
// other. During an import the content changes under one version. A copy made during that time,
// and a store whose process died, gets a new version when it is opened.
//
//	3.QXK2…  --first batch-->  4.7PLM… changing  --settled-->  5.ZC4D…
//	                           4.7PLM… changing  --opened---->  5.R2AB…
type lineage struct {
	ehi.Records
	changing bool
}

// changing marks, at the end of the V key's value, a store that is being written to.
const changing = "changing"

// encode returns the value of the V key.
func (l lineage) encode() []byte {
	text := l.Identity + " " + l.Version
	if l.changing {
		text += " " + changing
	}
	return []byte(text)
}

// lineageOf reads the V key. A store of an earlier build has none.
func lineageOf(r pebble.Reader) (l lineage, err error) {
	text, err := get(r, key(kRecords))
	if err != nil || text == nil {
		return l, err
	}
	parts := strings.Fields(string(text))
	if len(parts) < 2 {
		return l, fmt.Errorf("the record store says %q of its records", text)
	}
	l.Identity, l.Version = parts[0], parts[1]
	l.changing = len(parts) > 2 && parts[2] == changing
	return l, nil
}

// versionLetters is the length of the random part of a version, after its number.
const versionLetters = 12

// next returns a new version of the same records.
func (l lineage) next(changing bool) lineage {
	number, _, _ := strings.Cut(l.Version, ".")
	n, _ := strconv.Atoi(number) // 0 in a new store
	l.Version = fmt.Sprintf("%d.%s", n+1, rand.Text()[:versionLetters])
	l.changing = changing
	return l
}

// identify reads the lineage of the store. It writes a new one if the store has none, or was
// left during an import.
func (s *Store) identify() error {
	l, err := lineageOf(s.db)
	if err != nil {
		return err
	}
	if (l.Identity == "" || l.changing) && !s.reads {
		if l.Identity == "" {
			l.Identity = rand.Text()
		}
		l = l.next(false)
		err := s.db.Set(key(kRecords), l.encode(), &pebble.WriteOptions{Sync: !s.bulk})
		if err != nil {
			return err
		}
	}
	s.lineage.Store(&l)
	return nil
}

// begins adds to a batch that the records are changing. The caller calls written after writing
// the batch.
func (s *Store) begins(set func(k, v []byte) error) (written func(), err error) {
	l := s.lineage.Load()
	if l.changing {
		return func() {}, nil
	}
	next := l.next(true)
	return func() { s.turn(next) }, set(key(kRecords), next.encode())
}

// ends records that the import has ended. The caller holds s.writing.
func (s *Store) ends() error {
	l := s.lineage.Load()
	if !l.changing {
		return nil
	}
	next := l.next(false)
	err := s.db.Set(key(kRecords), next.encode(), &pebble.WriteOptions{Sync: !s.bulk})
	if err != nil {
		return fmt.Errorf("say which records these are: %w", err)
	}
	s.turn(next)
	return nil
}

// turn publishes a new lineage.
func (s *Store) turn(to lineage) {
	s.lineage.Store(&to)
	s.turning.Lock()
	defer s.turning.Unlock()
	for _, f := range s.watchers {
		f()
	}
}

// Records implements source.Source.
func (s *Store) Records() ehi.Records { return s.lineage.Load().Records }

// OnRecords implements source.Source.
func (s *Store) OnRecords(f func()) (stop func()) {
	s.turning.Lock()
	defer s.turning.Unlock()
	if s.watchers == nil {
		s.watchers = map[int]func(){}
	}
	s.watched++
	n := s.watched
	s.watchers[n] = f
	return func() {
		s.turning.Lock()
		defer s.turning.Unlock()
		delete(s.watchers, n)
	}
}
