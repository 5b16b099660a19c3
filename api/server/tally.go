package server

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// tally counts what somebody does within a window of time. The counts are records of a bucket, changed
// by compare-and-set, so that they are right for all processes together and outlive each.
type tally struct {
	kv  *kv.Bucket
	now func() time.Time
}

// windowed is a count, and when its window ends. The window begins with the first that is counted.
type windowed struct {
	Count int64     `json:"n"`
	Until time.Time `json:"until"`
}

// add counts n more of who's; a negative n takes back. Where there would be more than limit, nothing is
// counted, and wait is how long the window lasts still. 0 sets no limit.
func (t tally) add(
	ctx context.Context, who subject.Subject, n, limit int64, window time.Duration,
) (w windowed, wait time.Duration, err error) {
	for {
		e, err := t.kv.Get(ctx, who)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return w, 0, err
		}
		w = windowed{}
		if err == nil {
			if err := json.Unmarshal(e.Value, &w); err != nil {
				return w, 0, err
			}
		}
		at := t.now()
		if !at.Before(w.Until) {
			w = windowed{Until: at.Add(window)}
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
			_, err = t.kv.CreateFor(ctx, who, data, left)
		} else {
			_, err = t.kv.UpdateFor(ctx, who, data, e.Revision, left)
		}
		if !kv.IsConflict(err) {
			return w, 0, err
		}
	}
}
