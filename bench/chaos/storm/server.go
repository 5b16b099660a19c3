package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ehi-server/api/client"
)

// served is a server on a data folder.
type served struct {
	cmd    *exec.Cmd
	exit   chan error // receives once, when it has ended
	log    string     // path of the log file
	client *client.Client
}

// serve starts a server. Its standard error goes to a file beside the data folder.
func (s *storm) serve(data, log string) (*served, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own descriptor
	cmd := exec.Command(s.binary, "serve", "--data", data, "--addr", s.addr, "--keeper-every",
		"200ms", "--drain", "2s", "--spill-bytes", "20000", "--min-free-bytes", "0")
	cmd.Stdout, cmd.Stderr = out, out
	// the storm itself passes on the terminal's interrupts
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = []string{"HOME=" + os.Getenv("HOME"), "TMPDIR=" + filepath.Dir(log)}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	p := &served{
		cmd:    cmd,
		exit:   make(chan error, 1),
		log:    log,
		client: client.New("http://" + s.addr),
	}
	go func() { p.exit <- cmd.Wait() }()
	return p, nil
}

// state is the outcome of a start.
type state int

const (
	lives state = iota
	refused
	hangs
)

// await waits until the server answers, or has ended by itself.
func (p *served) await(ctx context.Context, limit time.Duration) state {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		select {
		case <-p.exit:
			p.client.Close()
			return refused
		default:
		}
		a, err := p.client.Do(ctx, http.MethodGet, "/healthz", nil)
		if err == nil && a.Status == http.StatusOK {
			return lives
		}
		if client.Sleep(ctx, 20*time.Millisecond) != nil {
			return hangs
		}
	}
}

// endTime is how long to wait for the end of a server that has answered everything.
const endTime = 100 * time.Millisecond

// hasEnded reports whether the server has ended by itself.
func (p *served) hasEnded(wait time.Duration) bool {
	select {
	case err := <-p.exit:
		p.exit <- err // for the next caller
		p.client.Close()
		return true
	case <-time.After(wait):
		return false
	}
}

var errHangs = errors.New("it does not end")

// end ends the server by a signal and waits. Errors: errHangs, after which it has been killed.
func (p *served) end(signal syscall.Signal, limit time.Duration) error {
	p.client.Close()
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exit:
		return nil
	case <-time.After(limit):
		_ = p.cmd.Process.Kill() // it may have just ended
		<-p.exit
		return errHangs
	}
}

// said returns the server's output.
func (p *served) said() (string, error) {
	text, err := os.ReadFile(p.log)
	return string(text), err
}

// crashed returns a message of Go's runtime in a server's output.
func crashed(said string) string {
	for _, words := range []string{"panic:", "fatal error:", "goroutine 1 [", "SIGSEGV"} {
		if at := strings.Index(said, words); at >= 0 {
			return said[at:min(len(said), at+300)]
		}
	}
	return ""
}

// complains reports whether a server has logged a problem.
func complains(said string) bool {
	return strings.Contains(said, "level=ERROR") || strings.Contains(said, "level=WARN")
}
