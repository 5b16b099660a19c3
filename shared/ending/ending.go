// Package ending bounds how long a process takes to end that was told to. The commands use it;
// what they start never knows of it.
package ending

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ehi-server/shared/telemetry"
)

// Grace is in what time a process ends that was told to, beside what it drains. Whatever it
// waits for is given up then: what was answered is stored, and the next start finds it as after
// a kill.
const Grace = 9 * time.Second

// OnSignal is a context that ends with the first SIGTERM, SIGINT or SIGHUP; a second one ends
// the process at once. A SIGHUP that is ignored, as nohup has it, stays so.
func OnSignal() context.Context {
	signals := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Within ends the process with status 1 when ctx has ended and drain and Grace are over, unless
// it has ended by itself.
func Within(ctx context.Context, drain time.Duration) {
	context.AfterFunc(ctx, func() {
		time.Sleep(drain + Grace)
		fmt.Fprintf(telemetry.Stderr,
			"not ended %v after the signal: what this process waits for is given up\n",
			drain+Grace)
		telemetry.Exit(1)
	})
}

// Orderly is the error of a process that works until it is told to end: being told so is none,
// also where the process had not started in full. What went wrong besides stays an error.
func Orderly(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	var besides []error
	for _, each := range joined(err) {
		if !errors.Is(each, context.Canceled) {
			besides = append(besides, each)
		}
	}
	return errors.Join(besides...)
}

// joined takes apart what errors.Join has put together. An error that wraps others in words of
// its own is one.
func joined(err error) (out []error) {
	several, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // the error itself
	if !ok || err.Error() != errors.Join(several.Unwrap()...).Error() {
		return []error{err}
	}
	for _, each := range several.Unwrap() {
		out = append(out, joined(each)...)
	}
	return out
}

// Unheard lets the process go on where nobody reads what it says any more.
func Unheard() { signal.Ignore(syscall.SIGPIPE) }
