package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns the logger of the process. level may be a *slog.LevelVar, which can be
// changed later. format is "text" or "json"; any other value is an error.
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
