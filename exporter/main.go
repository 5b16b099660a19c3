// Command exporter is an export worker alone.
package main

import (
	"context"
	"os"

	"github.com/alecthomas/kong"

	"ehi-server/exporter/standalone"
	"ehi-server/shared/ending"
	"ehi-server/shared/telemetry"
)

func main() {
	ctx := ending.OnSignal()
	var c standalone.Command
	k := kong.Parse(&c, kong.Description("EHI export worker"),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Writers(os.Stdout, telemetry.Stderr), kong.Exit(telemetry.Exit))
	ending.Within(ctx, c.Worker.Drain)
	ending.Unheard()
	k.FatalIfErrorf(ending.Orderly(ctx, k.Run()))
	telemetry.Exit(0)
}
