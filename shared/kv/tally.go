package kv

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/subject"
)

// Tally counts events per key within a window of time. The counts are records that change by
// compare-and-set, so that they are shared by all processes and survive their ends.
type Tally struct {
	Bucket *Bucket
	Now    func() time.Time
}

// Window is a count and the end of its window. The window starts with the first event.
type Window struct {
	Count int64     `json:"n"`
	Until time.Time `json:"until"`
}

// Add adds n to the count of who; a negative n subtracts. If the count would exceed limit, Add
// leaves it unchanged and returns how long the window still lasts. A limit of 0 means no limit.
func (t Tally) Add(
	ctx context.Context, who subject.Subject, n, limit int64, window time.Duration,
) (w Window, wait time.Duration, err error) {
	for {
		e, err := t.Bucket.Get(ctx, who)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return w, 0, err
		}
		w = Window{}
		if err == nil {
			if err := json.Unmarshal(e.Value, &w); err != nil {
				return w, 0, err
			}
		}
		at := t.Now()
		if !at.Before(w.Until) {
			w = Window{Until: at.Add(window)}
		}
		left := w.Until.Sub(at)
		if limit > 0 && w.Count+n > limit {
			return w, left, nil
		}
		w.Count = max(0, w.Count+n)
		data, err := json.Marshal(w)
		if err != nil {
			return w, 0, err
		}
		left = max(left, time.Second)
		if e.Revision == 0 {
			_, err = t.Bucket.CreateFor(ctx, who, data, left)
		} else {
			_, err = t.Bucket.UpdateFor(ctx, who, data, e.Revision, left)
		}
		if !IsConflict(err) {
			return w, 0, err
		}
	}
}
