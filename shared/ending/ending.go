// Package ending bounds how long a process takes to stop after a signal. The commands use it;
// the packages that they start do not know it.
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

// Grace is how long a process may take to stop, in addition to draining. Then it abandons all
// waits: everything acknowledged is stored, and the next start recovers as after a crash.
const Grace = 9 * time.Second

// OnSignal returns a context that ends with the first SIGTERM, SIGINT or SIGHUP. A second signal
// ends the process immediately. An ignored SIGHUP, as with nohup, stays ignored.
func OnSignal() context.Context {
	signals := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Within exits with status 1 if the process has not stopped by itself within drain plus Grace
// after the end of ctx.
func Within(ctx context.Context, drain time.Duration) {
	context.AfterFunc(ctx, func() {
		time.Sleep(drain + Grace)
		fmt.Fprintf(telemetry.Stderr,
			"not ended %v after the signal: what this process waits for is given up\n",
			drain+Grace)
		telemetry.Exit(1)
	})
}

// Orderly returns the error of a process that runs until it is stopped. The stop itself is not
// an error, not even during the start; any other error is.
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

// joined returns the errors that errors.Join has joined. An error that wraps others with its own
// text counts as one.
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

// Unheard lets the process continue when the reader of its output has gone.
func Unheard() { signal.Ignore(syscall.SIGPIPE) }
