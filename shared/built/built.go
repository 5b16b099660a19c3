// Package built makes commands of the project for tests. Linking one costs seconds of processor
// time, so a command is linked once for all tests of a process, or once for a whole run of CI.
package built

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"testing"
)

// folderEnv names a folder whose commands are up to date already.
const folderEnv = "EHI_TEST_BUILT"

// maker builds commands into a temporary folder.
type maker struct {
	mu     sync.Mutex
	folder string            // "" until a command is built
	paths  map[string]string // by package
}

var process maker

// Command is the path of the command that a package makes. The test binary has to call Remove.
func Command(tb testing.TB, of string) string {
	tb.Helper()
	file, err := process.command(tb.Context(), os.Getenv(folderEnv), of)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

// Remove deletes what Command has built.
func Remove() error { return process.remove() }

// Main runs the tests of a package and removes what they have built. It gives the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if err := Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (m *maker) command(ctx context.Context, ready, of string) (string, error) {
	if ready != "" {
		file := filepath.Join(ready, name(of))
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if file := m.paths[of]; file != "" {
		return file, nil
	}
	if m.folder == "" {
		folder, err := os.MkdirTemp("", "built")
		if err != nil {
			return "", err
		}
		m.folder, m.paths = folder, map[string]string{}
	}
	file := filepath.Join(m.folder, name(of))
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", file, of)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", of, err, out)
	}
	m.paths[of] = file
	return file, nil
}

func (m *maker) remove() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := os.RemoveAll(m.folder) // of "" it removes nothing
	m.folder, m.paths = "", nil
	return err
}

// name is the file that go build names after a package: a major version is no name.
func name(of string) string {
	last := path.Base(of)
	if len(last) > 1 && last[0] == 'v' && last[1] >= '2' && last[1] <= '9' {
		return path.Base(path.Dir(of))
	}
	return last
}
