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
	if want := uint64(c.Connections.Most) + node.SpareFiles; allowed < want {
		return Note,
			fmt.Sprintf("the system allows %d, but --max-connections %d needs %d, so the server "+
				"allows fewer connections: "+
				"raise the limit (ulimit -n, LimitNOFILE)", allowed, c.Connections.Most, want)
	}
	return OK, fmt.Sprintf("the system allows %d", allowed)
}

// clock asks the kernel whether the clock is synchronized. Tokens and expiry depend on it.
func clock(context.Context, node.Config, string) (State, string) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return Note, err.Error()
	}
	if t.Status&unix.STA_UNSYNC != 0 {
		return Note,
			"not synchronized: tokens and expiry depend on it (use chrony or systemd-timesyncd)"
	}
	return OK, "synchronized"
}
