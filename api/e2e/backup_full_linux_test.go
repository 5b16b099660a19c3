package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/shared/built"
	"ehi-server/shared/files/filestest"
)

// command runs a command of the program, and returns its exit code and output.
func command(t *testing.T, binary string, args ...string) (code int, said string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0, string(out)
	case !ended:
		t.Fatalf("%v: %v", args, err)
	}
	return exit.ExitCode(), string(out)
}

// F11 of issue 20: a backup that does not fit onto its disk, or whose server has lost something,
// says so and names its archive. A failed backup leaves nothing. The refusal of a truncated
// archive names it too.
func TestABackupThatFailsNamesItsArchiveAndLeavesNothing(t *testing.T) {
	t.Parallel()
	binary, data := built.Command(t, "ehi-server/api"), t.TempDir()
	if code, said := command(t, binary, "generate", "--data", data, "--patients",
		"200"); code != 0 {
		t.Fatal(said)
	}
	p := serveProgram(t, binary, small(data, "--rescue-below", "0")...)
	p.terminate()
	if how := p.ended(stopWithin); how != "exit status 0" {
		t.Fatal(how)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if code, said := command(t, binary, "backup", "--data", data, whole); code != 0 {
		t.Fatal(said)
	}
	archive, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}

	disk := t.TempDir()
	filestest.Mount(t, disk, "64k")
	full := filepath.Join(disk, "full")
	code, said := command(t, binary, "backup", "--data", data, full)
	if code != 1 || !strings.Contains(said, "there is no backup "+full) ||
		!strings.Contains(said, "no space left") {
		t.Errorf("onto a disk without room: exit %d\n%s", code, said)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}

	cut := filepath.Join(t.TempDir(), "cut")
	if err := os.WriteFile(cut, archive[:len(archive)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"backup", "verify", cut},
		{"restore", "--data", filepath.Join(t.TempDir(), "restored"), cut},
	} {
		if code, said := command(t, binary, args...); code != 1 || !strings.Contains(said, cut) {
			t.Errorf("%v of a cut archive: exit %d\n%s", args, code, said)
		}
	}
}
