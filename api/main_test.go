package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// binEnv makes the test binary the command itself.
const binEnv = "EHI_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(binEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// run is one call of the command line: its output and exit code.
func run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	return runWith(t, "", args...)
}

// An import into a store that a server uses goes through that server.
func TestImportThroughAServer(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	url := serve(t, data)
	good, bad := filepath.Join(dir, "a.ndjson"), filepath.Join(dir, "b.ndjson")
	bundle := filepath.Join(dir, "c.json")
	write(t, map[string]string{
		good: `{"resourceType":"Patient","id":"p1"}` + "\n",
		bad:  `{"resourceType":` + "\n" + `{"resourceType":"Patient","id":"p3"}` + "\n",
		bundle: `{"resourceType":"Bundle","type":"collection",` +
			`"entry":[{"resource":{"resourceType":"Patient","id":"p4"}}]}`,
	})
	for _, c := range []struct {
		args []string
		code int
		text []string
	}{
		{[]string{"--data", data, good}, 1, []string{"held by another process", "import --url"}},
		{
			[]string{"--url", url, good, bundle},
			0,
			[]string{"2 resources read from 2 files", "0 problems"},
		},
		{
			[]string{"--url", url, dir},
			1,
			[]string{
				bad + ":1:",
				"3 resources read from 3 files",
				"1 problems",
				"some input could not be imported",
			},
		},
		{[]string{"--url", url, "--strict", bad}, 1, []string{bad + ":1:", "bad input"}},
		{
			[]string{"--url", url, "--admin-password", "wrong", good},
			1,
			[]string{"Invalid username or password"},
		},
	} {
		out, code := run(t, append([]string{"import"}, c.args...)...)
		if code != c.code {
			t.Errorf("%v exits with %d", c.args, code)
		}
		for _, text := range c.text {
			if !strings.Contains(out, text) {
				t.Errorf("%v does not say %q:\n%s", c.args, text, out)
			}
		}
	}
}

// write writes files by their paths.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serve runs the server until the test ends and returns its URL.
func serve(t *testing.T, data string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "serve", "--addr", "127.0.0.1:0", "--data", data, "--no-demo")
	cmd.Env = append(os.Environ(), binEnv+"=1")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, url, found := strings.Cut(lines.Text(), "msg=serving url="); found {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			return url
		}
	}
	t.Fatal("the server does not say where it answers")
	return ""
}

func TestImportSaysWhatItDid(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	good, bad := filepath.Join(dir, "good.ndjson"), filepath.Join(dir, "bad.ndjson")
	write(t, map[string]string{
		good: `{"resourceType":"Patient","id":"p1"}` + "\n",
		bad: `{"resourceType":"Patient","id":"p2"}` + "\n" + `{"resourceType":` + "\n" +
			`{"resourceType":"Patient","id":"p3"}` + "\n",
	})
	for _, c := range []struct {
		args []string
		code int
		text []string
	}{
		{
			[]string{"import", good},
			0,
			[]string{"Patient", "1 resources read from 1 files", "0 problems"},
		},
		{[]string{"import", good}, 0, []string{"0 files; 1 files unchanged"}},
		{
			[]string{"import", dir},
			1,
			[]string{
				bad + ":2:",
				"2 resources read",
				"1 problems",
				"some input could not be imported",
			},
		},
		{[]string{"import", "--strict", bad}, 1, []string{bad + ":2:", "1 problems"}},
		{[]string{"import", filepath.Join(dir, "absent")}, 1, []string{"absent"}},
		{[]string{"import", t.TempDir()}, 1, []string{"holds nothing to import"}},
		{[]string{"generate", "--patients", "2"}, 0, []string{"generating"}},
		{
			[]string{"serve", "--mode", "production"},
			1,
			[]string{
				"not fit for production mode", "--base-url", "--tls-cert",
				"--admin-password is the default", "there is no administrator",
			},
		},
		{[]string{"serve", "--mode", "nonsense"}, 1, []string{"--mode"}},
	} {
		out, code := run(t, append(c.args, "--data", data)...)
		if code != c.code && !(c.code == 1 && code > 1) {
			t.Errorf("%v exits with %d:\n%s", c.args, code, out)
		}
		for _, text := range c.text {
			if !strings.Contains(out, text) {
				t.Errorf("%v does not say %q:\n%s", c.args, text, out)
			}
		}
	}
}

// doctor accepts a valid configuration, and names the problems of others.
func TestDoctor(t *testing.T) {
	data := t.TempDir()
	out, code := run(t, "doctor", "--data", data, "--addr", "127.0.0.1:0")
	if code != 0 || strings.Contains(out, "FAULT") || strings.Count(out, "\n") != 13 ||
		!strings.Contains(out, "MB/s") {
		t.Errorf("%d: %s", code, out)
	}
	left, err := os.ReadDir(data)
	if err != nil || len(left) > 1 { // the empty record store
		t.Errorf("it left %v, %v", left, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, code = run(t, "doctor", "--data", data, "--addr", ln.Addr().String(), "--nats",
		"nats://127.0.0.1:1", "--min-free-bytes", "9000000000000000000", "--mode", "production",
		"--tls-cert", filepath.Join(data, "none.pem"), "--tls-key", "none.pem", "--trace-endpoint",
		"http://127.0.0.1:1")
	for _, want := range []string{
		"is in use", "cannot connect to", "less than --min-free-bytes", "--base-url must be",
		"none.pem", "no collector answers",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q: %s", want, out)
		}
	}
	if code != 1 || strings.Count(out, "FAULT") != 5 {
		t.Errorf("%d: %s", code, out)
	}
}

// A container checks its server with the binary itself.
func TestReady(t *testing.T) {
	url := serve(t, t.TempDir())
	addr := strings.TrimPrefix(url, "http://")
	for _, args := range [][]string{
		{"ready", "--addr", addr},
		{"ready", "--live", "--addr", addr},
	} {
		if out, code := run(t, args...); code != 0 {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"ready", "--addr", nobody},
		{"ready", "--addr", "no address"},
		{"ready", "--addr", addr, "--tls-cert", "none.pem"},
	} {
		if out, code := run(t, args...); code == 0 {
			t.Errorf("%v: exit 0: %s", args, out)
		}
	}
}
