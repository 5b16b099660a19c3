package ending_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"ehi-server/shared/ending"
)

// Being told to end is no error; whatever else went wrong then is, also where both are joined.
func TestOnlyTheSignalIsNoError(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	lost, told :=
		errors.New("the trail is lost"), fmt.Errorf("bucket ehi_jobs: %w", context.Canceled)
	if err := ending.Orderly(ctx, told); !errors.Is(err, told) {
		t.Errorf("without a signal: %v", err)
	}
	stop()
	for _, c := range []struct{ err, want error }{
		{nil, nil},
		{told, nil},
		{errors.Join(told, context.Canceled), nil},
		// one thing, which the signal has ended
		{fmt.Errorf("wait: %w: %w", lost, context.Canceled), nil},
		{lost, lost},
		{errors.Join(told, lost), lost},
		{errors.Join(errors.Join(told, lost), nil), lost},
	} {
		got := ending.Orderly(ctx, c.err)
		if !errors.Is(got, c.want) || c.want == nil && got != nil ||
			errors.Is(got, context.Canceled) {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
