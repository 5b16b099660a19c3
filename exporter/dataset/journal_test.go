package dataset

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// If the folder of a store cannot be synced, Pebble panics in a goroutine of its own. The
// process ends with a message before that.
func TestAFolderThatCannotBeSyncedIsSaid(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	fails := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync {
			return broken
		}
		return nil
	})
	memory := vfs.NewMem()
	for _, dir := range []string{"store", "other"} {
		if err := memory.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	said := ""
	j := &journal{
		FS: errorfs.Wrap(memory, fails), dir: "store", armed: new(atomic.Bool),
		fatal: func(format string, a ...any) { said = fmt.Sprintf(format, a...) },
	}
	for _, c := range []struct {
		dir, want string
	}{
		{"other", ""},
		{"store", "folder: input/output error"},
	} {
		said = ""
		f, err := j.OpenDir(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); !errors.Is(err, broken) || said != c.want {
			t.Errorf("%+v: %v, and it says %q", c, err, said)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
