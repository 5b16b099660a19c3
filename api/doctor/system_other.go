//go:build !linux

package doctor

import (
	"context"

	"ehi-server/api/node"
)

func openFiles(context.Context, node.Config, string) (State, string) {
	return Note, "unknown on this system"
}

func clock(context.Context, node.Config, string) (State, string) {
	return Note, "unknown on this system"
}
