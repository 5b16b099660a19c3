package dataset

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// sweep reads the keys of one kind in order, one prefix at a time. It keeps its position in each
// table, so that the next prefix needs no search. It sees the store as of its start. It is not
// safe for concurrent use.
type sweep struct {
	it    *pebble.Iterator
	large bool // it has read a large value
}

// newSweep starts a sweep. The caller closes it.
func newSweep(r pebble.Reader, kind byte) (*sweep, error) {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kind},
		UpperBound: []byte{kind + 1},
	})
	if err != nil {
		return nil, readError(err)
	}
	return &sweep{it: it}, nil
}

// each calls f for every key with a prefix. The arguments of f are valid during the call only.
func (s *sweep) each(prefix []byte, f func(k, v []byte) error) error {
	if err := s.release(); err != nil {
		return err
	}
	for s.it.SeekGE(prefix); s.it.Valid() && bytes.HasPrefix(s.it.Key(), prefix); s.it.Next() {
		v, err := s.it.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		s.large = s.large || len(v) >= largeValue
		if err := f(s.it.Key(), v); err != nil {
			return err
		}
	}
	return readError(s.it.Error())
}

// release frees the large values that the iterator holds: it keeps the latest blocks of them
// while it is open.
func (s *sweep) release() error {
	if !s.large {
		return nil
	}
	it, err := s.it.Clone(pebble.CloneOptions{})
	if err != nil {
		return readError(err)
	}
	err = s.it.Close()
	s.it, s.large = it, false
	return err
}

// get returns a copy of a key's value, nil where there is none.
func (s *sweep) get(k []byte) (v []byte, err error) {
	err = s.each(k, func(at, value []byte) error {
		if bytes.Equal(at, k) {
			v = append([]byte{}, value...)
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return v, err
}

func (s *sweep) close() error {
	if s == nil {
		return nil
	}
	return s.it.Close()
}
