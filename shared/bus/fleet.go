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

// Fleet is where servers and exporters announce themselves. Nothing in it is permanent: each
// process repeats its announcement.
//
//	terms                 what the server requires of its exporters
//	servers.<process>     a running server; expires after PresenceTTL without an announcement
//	exporters.<process>   an exporter that has joined, likewise
type Fleet struct{ kv *kv.Bucket }

// The keys of a Fleet.
var (
	termsKey   = subject.KindOf("terms").Of("present")
	serverKeys = subject.KindOf("servers")
	joinedKeys = subject.KindOf("exporters")
)

// PresenceTTL is how long a process counts as present after its last announcement.
const PresenceTTL = time.Minute

// SetTerms publishes what a server requires of its exporters.
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

// ReplaceTerms is SetTerms for a server that has just started. It replaces the terms only if
// they are at the given revision (0: none), and otherwise returns an error of kv.IsConflict.
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

// Terms returns the latest terms, or nil if no server has published any.
func (f *Fleet) Terms(ctx context.Context) (*ehi.Terms, error) {
	t, _, err := f.TermsAt(ctx)
	return t, err
}

// TermsAt returns the latest terms and their revision, 0 if there are none.
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

// FollowTerms calls tell with the current terms, nil if there are none, and with each change,
// from one goroutine, until stop is called. It returns after the first call. The revision grows
// with every announcement in the fleet, see Join.
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

// OnJoin calls tell with each present exporter and with each later announcement of one, from one
// goroutine, until stop is called.
func (f *Fleet) OnJoin(ctx context.Context, tell func(ehi.Exporter)) (stop func(), err error) {
	return f.kv.Follow(ctx, joinedKeys.All(), func(e kv.Entry) {
		var one ehi.Exporter
		if !e.Deleted && json.Unmarshal(e.Value, &one) == nil {
			tell(one)
		}
	}, nil)
}

// ServerIsThere announces a running server.
func (f *Fleet) ServerIsThere(ctx context.Context, id string) error {
	return f.kv.PutFor(ctx, serverKeys.Of(id), []byte(id), PresenceTTL)
}

// IsServerThere reports whether a server has announced itself recently.
func (f *Fleet) IsServerThere(ctx context.Context, id string) (bool, error) {
	_, err := f.kv.Newest(ctx, serverKeys.Of(id))
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ServerLeaves withdraws the announcement of a server.
func (f *Fleet) ServerLeaves(ctx context.Context, id string) error {
	return f.kv.Forget(ctx, serverKeys.Of(id))
}

// Join announces an exporter and its differences from the server.
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

// Leave withdraws the announcement of an exporter.
func (f *Fleet) Leave(ctx context.Context, id string) error {
	return f.kv.Forget(ctx, joinedKeys.Of(id))
}

// Exporters lists the present exporters by name.
func (f *Fleet) Exporters(ctx context.Context) (out []ehi.Exporter, err error) {
	err = f.kv.Entries(ctx, joinedKeys.All(), func(e kv.Entry) error {
		var one ehi.Exporter
		if json.Unmarshal(e.Value, &one) == nil { // this build writes nothing else there
			out = append(out, one)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b ehi.Exporter) int {
		return strings.Compare(a.Name+a.ID, b.Name+b.ID)
	})
	return out, err
}
