package bus

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Storage is a bucket in the shape of fiber.Storage, so that Fiber's session, CSRF and limiter middleware keep their state where
// every API process sees it. Its interface has no context; storageTimeout bounds each call.
type Storage struct {
	kv     jetstream.KeyValue
	js     jetstream.JetStream
	prefix string
}

// Within is a part of the bucket with keys of its own, so that what one middleware keeps is never read by another.
func (s *Storage) Within(name string) *Storage {
	return &Storage{kv: s.kv, js: s.js, prefix: s.prefix + name + "."}
}

const storageTimeout = 5 * time.Second

// Get returns the value of a key, nil where there is none.
func (s *Storage) Get(key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	e, err := s.kv.Get(ctx, s.prefix+key)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return e.Value(), nil
}

// Set stores a value; it vanishes after exp, where exp is not zero. Lifetimes are whole seconds, rounded up.
func (s *Storage) Set(key string, val []byte, exp time.Duration) error {
	if key == "" || len(val) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	return putFor(ctx, s.js, s.kv.Bucket(), s.prefix+key, val, exp)
}

// Delete forgets a key; an absent one is no error.
func (s *Storage) Delete(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	err := s.kv.Purge(ctx, s.prefix+key, jetstream.PurgeTTL(markerTTL))
	if errors.Is(err, jetstream.ErrInvalidKey) {
		return nil
	}
	return err
}

// Reset forgets every key of its part.
func (s *Storage) Reset() error {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	keys, err := s.kv.ListKeys(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for k := range keys.Keys() {
		if own, ok := strings.CutPrefix(k, s.prefix); ok {
			errs = append(errs, s.Delete(own))
		}
	}
	return errors.Join(errs...)
}

// Close does nothing: the Bus owns the connection.
func (s *Storage) Close() error { return nil }
