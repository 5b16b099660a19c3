package kv

import (
	"context"
	"errors"
	"time"

	"ehi-server/shared/subject"
)

// Storage implements fiber.Storage on a part of a bucket, so that every API process shares the
// state of Fiber's session, CSRF and limiter middleware. Keys may be arbitrary input. The
// interface has no context: each call is bounded by storageTimeout and by the context of In.
type Storage struct {
	bucket *Bucket
	kind   subject.Kind
	within context.Context //nolint:containedctx // of one request
}

// Part returns a part of the bucket with keys of its own kind, so that one middleware never
// reads the records of another.
func (b *Bucket) Part(kind subject.Kind) *Storage { return &Storage{b, kind, context.Background()} }

// In returns the same part for one request: ctx bounds its calls.
func (s *Storage) In(ctx context.Context) *Storage { return &Storage{s.bucket, s.kind, ctx} }

const storageTimeout = 5 * time.Second

func (s *Storage) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.within, storageTimeout)
}

// Get returns the value of a key, or nil if there is none.
func (s *Storage) Get(key string) ([]byte, error) {
	ctx, cancel := s.context()
	defer cancel()
	e, err := s.bucket.Get(ctx, s.kind.Of(key))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return e.Value, err
}

// Set stores a value. It expires after exp, rounded up to whole seconds, unless exp is 0.
func (s *Storage) Set(key string, val []byte, exp time.Duration) error {
	if key == "" || len(val) == 0 {
		return nil
	}
	ctx, cancel := s.context()
	defer cancel()
	return s.bucket.PutFor(ctx, s.kind.Of(key), val, exp)
}

// Delete deletes a key. It succeeds if there is none.
func (s *Storage) Delete(key string) error {
	ctx, cancel := s.context()
	defer cancel()
	return s.bucket.Forget(ctx, s.kind.Of(key))
}

// Reset deletes every key of the part.
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

// Close does nothing. The opener of the connection closes it.
func (s *Storage) Close() error { return nil }
