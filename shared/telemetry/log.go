package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger makes the process's logger. level may be a *slog.LevelVar, which can be changed
// later. format is "text" or "json"; anything else is an error.
func NewLogger(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("unknown log format %q: use text or json", format)
}
