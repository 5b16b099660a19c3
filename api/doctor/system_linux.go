package doctor

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"ehi-server/api/node"
)

func openFiles(_ context.Context, c node.Config, _ string) (State, string) {
	allowed, err := node.OpenFiles()
	if err != nil {
		return Note, err.Error()
	}
	if want := uint64(c.MaxConnections) + node.SpareFiles; allowed < want {
		return Note, fmt.Sprintf("the system allows %d; --max-connections %d needs %d, and fewer are served at once: "+
			"raise the limit (ulimit -n, LimitNOFILE)", allowed, c.MaxConnections, want)
	}
	return OK, fmt.Sprintf("the system allows %d", allowed)
}

// clock asks the kernel whether the clock is kept by a time server: tokens and expiry go by it.
func clock(context.Context, node.Config, string) (State, string) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return Note, err.Error()
	}
	if t.Status&unix.STA_UNSYNC != 0 {
		return Note, "kept by no time server: tokens and expiry go by it (chrony, systemd-timesyncd)"
	}
	return OK, "kept by a time server"
}
