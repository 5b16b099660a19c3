package kv

import (
	"context"
	"errors"
	"time"

	"ehi-server/shared/subject"
)

// Storage is a part of a bucket in the shape of fiber.Storage, so that Fiber's session, CSRF and
// limiter middleware keep their state where every API process sees it. Its keys may be anything
// that a request brings. Its interface has no context: storageTimeout bounds each call, and the
// context of In all of them.
type Storage struct {
	bucket *Bucket
	kind   subject.Kind
	within context.Context //nolint:containedctx // of one request
}

// Part is a part of the bucket with keys of its own, so that what one middleware keeps is never
// read by another. The records of different kinds are different.
func (b *Bucket) Part(kind subject.Kind) *Storage { return &Storage{b, kind, context.Background()} }

// In is the same part within the time of ctx, as one request uses it.
func (s *Storage) In(ctx context.Context) *Storage { return &Storage{s.bucket, s.kind, ctx} }

const storageTimeout = 5 * time.Second

func (s *Storage) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.within, storageTimeout)
}

// Get returns the value of a key, nil where there is none.
func (s *Storage) Get(key string) ([]byte, error) {
	ctx, cancel := s.context()
	defer cancel()
	e, err := s.bucket.Get(ctx, s.kind.Of(key))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return e.Value, err
}

// Set stores a value; it vanishes after exp, where exp is not zero. Lifetimes are whole seconds,
// rounded up.
func (s *Storage) Set(key string, val []byte, exp time.Duration) error {
	if key == "" || len(val) == 0 {
		return nil
	}
	ctx, cancel := s.context()
	defer cancel()
	return s.bucket.PutFor(ctx, s.kind.Of(key), val, exp)
}

// Delete forgets a key; an absent one is no error.
func (s *Storage) Delete(key string) error {
	ctx, cancel := s.context()
	defer cancel()
	return s.bucket.Forget(ctx, s.kind.Of(key))
}

// Reset forgets every key of its part.
func (s *Storage) Reset() error {
	ctx, cancel := s.context()
	defer cancel()
	keys, err := s.bucket.Keys(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range keys {
		if s.kind.Parts(key) != nil {
			errs = append(errs, s.bucket.Forget(ctx, key))
		}
	}
	return errors.Join(errs...)
}

// Close does nothing: whoever opened the connection closes it.
func (s *Storage) Close() error { return nil }
