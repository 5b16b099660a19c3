package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/shared/built"
	"ehi-server/shared/certtest"
)

// endless creates a file that never ends: its reader hangs. read waits for a reader.
func endless(t *testing.T, path string) (read func()) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		var held *os.File
		(&world{t: t}).until("somebody reads "+path, func() bool {
			f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			held = f
			return err == nil
		})
		t.Cleanup(func() { _ = held.Close() }) // nothing was written
	}
}

// graceAfterDrain is the time in which every process ends after it has drained
// (docs/operations.md).
const graceAfterDrain = 10 * time.Second

// busy is the additional time on a busy machine.
const busy = 10 * time.Second

// A process that is told to stop ends within --drain and 10 s, whatever it waits for. It logs
// that it gave up something, and its exit code is 1.
func TestWhateverHangsAProcessEndsAfterItsSignal(t *testing.T) {
	t.Parallel()
	server, exporter := built.Command(t, "ehi-server/api"), built.Command(t, "ehi-server/exporter")
	dir := t.TempDir()
	for name, c := range map[string]struct {
		file    string
		drain   time.Duration
		command []string
	}{
		"a server": {filepath.Join(dir, "cert.pem"), time.Second, []string{
			server, "serve", "--drain", "1s", "--data", filepath.Join(dir, "server"), "--addr",
			"127.0.0.1:0",
			"--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key",
			filepath.Join(dir, "cert.pem"),
		}},
		"an exporter": {filepath.Join(dir, "table.csv"), time.Second, []string{
			exporter, "--drain", "1s", "--data", filepath.Join(dir, "exporter"), "--nats",
			"nats://127.0.0.1:1",
			"--sensitive-table", filepath.Join(dir, "table.csv"),
		}},
		"the verification of a backup": {filepath.Join(dir, "backup"), 0, []string{
			server, "backup", "verify", filepath.Join(dir, "backup"),
		}},
		"a restore": {filepath.Join(dir, "archive"), 0, []string{
			server, "restore", "--data", filepath.Join(dir, "restored"),
			filepath.Join(dir, "archive"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := endless(t, c.file)
			var out bytes.Buffer
			cmd := exec.Command(c.command[0], c.command[1:]...)
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			most := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // it has ended
			defer most.Stop()
			read()
			begun := time.Now()
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its state has the result
			if took := time.Since(begun); took > c.drain+graceAfterDrain+busy {
				t.Errorf("it took %v", took)
			}
			code := cmd.ProcessState.ExitCode()
			if code != 1 || !strings.Contains(out.String(), "is given up") {
				t.Errorf("status %d: %s", code, &out)
			}
		})
	}
}

// A check of doctor that hangs is reported as a fault, and the other checks run.
func TestDoctorNamesWhatHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, key := certtest.SelfSigned(t, dir, time.Now().Add(time.Hour))
	cert := filepath.Join(dir, "endless.pem")
	read := endless(t, cert)
	binary := built.Command(t, "ehi-server/api")
	cmd := exec.CommandContext(t.Context(), binary, "doctor", "--data", filepath.Join(dir, "data"),
		"--tls-cert", cert, "--tls-key", key)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read()
	begun := time.Now()
	err := cmd.Wait()
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	text := out.String()
	if err == nil || strings.Count(text, "did not answer within 15s") != 1 ||
		strings.Count(text, "\n") < 8 {
		t.Errorf("%v: %s", err, text)
	}
}
