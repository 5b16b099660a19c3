// Package ending bounds how long a process takes to end that was told to. The commands use it; what they
// start never knows of it.
package ending

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Grace is in what time a process ends that was told to, beside what it drains. Whatever it waits for is
// given up then: what was answered is stored, and the next start finds it as after a kill.
const Grace = 9 * time.Second

// OnSignal is a context that ends with the first SIGTERM or SIGINT; a second one ends the process at once.
func OnSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Within ends the process with status 1 when ctx has ended and drain and Grace are over, unless it has ended
// by itself.
func Within(ctx context.Context, drain time.Duration) {
	context.AfterFunc(ctx, func() {
		time.Sleep(drain + Grace)
		fmt.Fprintf(os.Stderr, "not ended %v after the signal: what this process waits for is given up\n", drain+Grace)
		os.Exit(1)
	})
}
