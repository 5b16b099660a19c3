package condition

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

// sound is a state that works.
type sound struct{}

func (sound) Check(context.Context) error   { return nil }
func (sound) Broken() error                 { return nil }
func (sound) Restart(context.Context) error { return nil }

// A process in rescue mode ends when there is room, and is never ready before that.
func TestAProcessOpenedInRescueModeIsNeverReady(t *testing.T) {
	w := New(Parts{
		State:  sound{},
		Opened: ErrShort,
		Room:   Room{Folders: []string{t.TempDir()}},
		Log:    slog.New(slog.DiscardHandler),
	})
	if err := w.Run(t.Context()); !errors.Is(err, ErrRoom) {
		t.Errorf("with room again: %v", err)
	}
	if err := w.Ready(); !errors.Is(err, ErrShort) {
		t.Errorf("before it is opened anew: %v", err)
	}
}
