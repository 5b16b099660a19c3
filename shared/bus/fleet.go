package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Fleet is what servers and exporters tell each other of themselves. Nothing of it is lasting:
// whoever is there says it again.
//
//	terms                 what the server asks of its exporters
//	servers.<process>     a server that runs; it goes when that has said nothing for PresenceTTL
//	exporters.<process>   an exporter that has joined, in the same way
type Fleet struct{ kv *kv.Bucket }

// The keys of a Fleet.
var (
	termsKey   = subject.KindOf("terms").Of("present")
	serverKeys = subject.KindOf("servers")
	joinedKeys = subject.KindOf("exporters")
)

// PresenceTTL is how long it is believed of a process that it is there since it has said so last.
const PresenceTTL = time.Minute

// SetTerms says what a server asks of its exporters from now on.
func (f *Fleet) SetTerms(ctx context.Context, t ehi.Terms) error {
	data, err := json.Marshal(t)
	if err == nil {
		_, err = f.kv.Put(ctx, termsKey, data)
	}
	if err != nil {
		return fmt.Errorf("say what exporters must have: %w", err)
	}
	return nil
}

// ReplaceTerms is SetTerms of a server that has just come, where they are still those of a
// revision; 0: none. Errors: kv.IsConflict where they are not.
func (f *Fleet) ReplaceTerms(ctx context.Context, t ehi.Terms, revision uint64) error {
	data, err := json.Marshal(t)
	if err == nil && revision == 0 {
		_, err = f.kv.Create(ctx, termsKey, data)
	} else if err == nil {
		_, err = f.kv.Update(ctx, termsKey, data, revision)
	}
	if err != nil {
		return fmt.Errorf("say what exporters must have: %w", err)
	}
	return nil
}

// Terms is what a server has said last, nil where none has.
func (f *Fleet) Terms(ctx context.Context) (*ehi.Terms, error) {
	t, _, err := f.TermsAt(ctx)
	return t, err
}

// TermsAt is Terms with their revision, 0 where there are none.
func (f *Fleet) TermsAt(ctx context.Context) (t *ehi.Terms, revision uint64, err error) {
	e, err := f.kv.Newest(ctx, termsKey)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read what the server asks of its exporters: %w", err)
	}
	t, err = decodeTerms(e.Value)
	return t, e.Revision, err
}

func decodeTerms(data []byte) (*ehi.Terms, error) {
	t := &ehi.Terms{}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("what the server asks of its exporters: %w", err)
	}
	return t, nil
}

// FollowTerms calls f with the terms, nil where there are none (any more), and with each change,
// from one goroutine, until stop is called. It returns when it has told those that are there.
//
// The revision grows with everything that the fleet says, see Join.
func (f *Fleet) FollowTerms(
	ctx context.Context, tell func(t *ehi.Terms, revision uint64),
) (stop func(), err error) {
	return f.kv.Follow(ctx, subject.KindOf("terms").All(), func(e kv.Entry) {
		if e.Key != termsKey {
			return
		}
		if t, err := decodeTerms(e.Value); err == nil && !e.Deleted {
			tell(t, e.Revision)
			return
		}
		tell(nil, e.Revision)
	}, func(keys map[subject.Subject]uint64) {
		if _, there := keys[termsKey]; !there {
			tell(nil, 0)
		}
	})
}

// OnJoin calls f with each exporter that is there and each that says something, from one
// goroutine, until stop is called.
func (f *Fleet) OnJoin(ctx context.Context, tell func(ehi.Exporter)) (stop func(), err error) {
	return f.kv.Follow(ctx, joinedKeys.All(), func(e kv.Entry) {
		var one ehi.Exporter
		if !e.Deleted && json.Unmarshal(e.Value, &one) == nil {
			tell(one)
		}
	}, nil)
}

// ServerIsThere says that a server runs.
func (f *Fleet) ServerIsThere(ctx context.Context, id string) error {
	return f.kv.PutFor(ctx, serverKeys.Of(id), []byte(id), PresenceTTL)
}

// IsServerThere reports whether a server has said so lately.
func (f *Fleet) IsServerThere(ctx context.Context, id string) (bool, error) {
	_, err := f.kv.Newest(ctx, serverKeys.Of(id))
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ServerLeaves says that a server runs no more.
func (f *Fleet) ServerLeaves(ctx context.Context, id string) error {
	return f.kv.Forget(ctx, serverKeys.Of(id))
}

// Join says that an exporter is there, and in what it differs from the server.
func (f *Fleet) Join(ctx context.Context, e ehi.Exporter) (revision uint64, err error) {
	data, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	if err := f.kv.PutFor(ctx, joinedKeys.Of(e.ID), data, PresenceTTL); err != nil {
		return 0, err
	}
	written, err := f.kv.Newest(ctx, joinedKeys.Of(e.ID))
	return written.Revision, err
}

// Leave says that an exporter is there no more.
func (f *Fleet) Leave(ctx context.Context, id string) error {
	return f.kv.Forget(ctx, joinedKeys.Of(id))
}

// Exporters lists those that are there, by their names.
func (f *Fleet) Exporters(ctx context.Context) (out []ehi.Exporter, err error) {
	err = f.kv.Entries(ctx, joinedKeys.All(), func(e kv.Entry) error {
		var one ehi.Exporter
		if json.Unmarshal(e.Value, &one) == nil { // nothing else is written there by this build
			out = append(out, one)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b ehi.Exporter) int {
		return strings.Compare(a.Name+a.ID, b.Name+b.ID)
	})
	return out, err
}
