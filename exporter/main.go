// Command exporter is an export worker alone.
package main

import (
	"context"

	"github.com/alecthomas/kong"

	"ehi-server/exporter/standalone"
	"ehi-server/shared/ending"
)

func main() {
	ctx := ending.OnSignal()
	var c standalone.Command
	k := kong.Parse(&c, kong.Name("exporter"), kong.Description("EHI export worker"), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	ending.Within(ctx, c.Drain)
	k.FatalIfErrorf(k.Run())
}
