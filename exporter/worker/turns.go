package worker

import "context"

// turns lets a number of tasks do something at once. Its capacity is that number.
type turns chan struct{}

// take waits for a turn. The caller must call done. Errors: those of ctx.
func (t turns) take(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
