package e2e

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/shared/built"
)

// fullPipe returns a full pipe that nobody reads.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // partly closed before
	if err := w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err == nil {
		t.Fatal("the pipe does not fill up")
	}
	return r, w
}

// unheard starts the program with a log that goes to a file, and waits until it is ready.
func unheard(t *testing.T, binary string, log *os.File, args ...string) (p *program) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"serve", "--addr", addr, "--data", t.TempDir()}, args...)
	p = &program{t: t, url: "http://" + addr, cmd: exec.Command(binary, args...)}
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// both fail if the test has ended it
	t.Cleanup(func() { _, _ = p.cmd.Process.Kill(), p.cmd.Wait() })
	(&world{t: t}).until("the server is ready", p.ready)
	return p
}

// ready asks the program itself, on a new connection.
func (p *program) ready() bool {
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	resp, err := client.Get(p.url + "/readyz")
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// If the reader of the log hangs or dies, the server still works and still ends.
func TestALogThatNobodyTakesStopsNothing(t *testing.T) {
	t.Parallel()
	binary := built.Command(t, "ehi-server/api")
	for name, dies := range map[string]bool{"hangs": false, "dies": true} {
		t.Run(name, func(t *testing.T) {
			r, w := fullPipe(t)
			p := unheard(t, binary, w, "--log-level", "debug")
			if dies {
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 50 {
				if !p.ready() {
					t.Fatalf("it has not answered request %d", n)
				}
			}
			p.terminate()
			if how := p.ended(stopWithin); how != "exit status 0" {
				t.Errorf("it has ended with %s", how)
			}
		})
	}
}

// A signal in the middle of a start ends the process in order. A closed terminal is such a
// signal too.
func TestASignalDuringAStartIsAnOrderlyEnd(t *testing.T) {
	t.Parallel()
	binary := built.Command(t, "ehi-server/api")
	signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	for n, signal := range append(signals, signals...) {
		var said lastWords
		data := t.TempDir()
		cmd := exec.Command(binary, "serve", "--addr", "127.0.0.1:0", "--data", data,
			"--source", "synthetic:patients=10,seed=1")
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		streams := filepath.Join(data, "nats", "jetstream", "$G", "streams", "*")
		// it gets further each time
		(&world{t: t}).until("it is in the middle of its start", func() bool {
			_, err := os.Stat(filepath.Join(data, "nats", "lock"))
			made, e := filepath.Glob(streams)
			return err == nil && e == nil && len(made) >= n
		})
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its state has the result
		how := cmd.ProcessState.String()
		if how != "exit status 0" || strings.Contains(said.String(), "context canceled") {
			t.Errorf("%v with %d streams: %s, and it said\n%s", signal, n, how, &said)
		}
	}
}
