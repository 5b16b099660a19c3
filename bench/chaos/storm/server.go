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
	exit   chan error // told once, when it has ended
	log    string     // file
	client *client.Client
}

// serve starts a server; its standard error goes into a file beside the data folder.
func (s *storm) serve(data, log string) (*served, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	cmd := exec.Command(s.binary, "serve", "--data", data, "--addr", s.addr, "--keeper-every",
		"200ms", "--drain", "2s", "--spill-bytes", "20000", "--min-free-bytes", "0")
	cmd.Stdout, cmd.Stderr = out, out
	// an interrupt of the terminal is the storm's to pass on
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

// state is what became of a start.
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

// endTime is how long a server that has answered everything is watched for its end.
const endTime = 100 * time.Millisecond

// hasEnded reports whether the server has ended by itself.
func (p *served) hasEnded(wait time.Duration) bool {
	select {
	case err := <-p.exit:
		p.exit <- err // for whoever asks next
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
		_ = p.cmd.Process.Kill() // it may end at this very moment
		<-p.exit
		return errHangs
	}
}

// said is what the server has written.
func (p *served) said() (string, error) {
	text, err := os.ReadFile(p.log)
	return string(text), err
}

// crashed finds the words of Go's runtime in what a server has written.
func crashed(said string) string {
	for _, words := range []string{"panic:", "fatal error:", "goroutine 1 [", "SIGSEGV"} {
		if at := strings.Index(said, words); at >= 0 {
			return said[at:min(len(said), at+300)]
		}
	}
	return ""
}

// complains reports whether a server has said that something is wrong.
func complains(said string) bool {
	return strings.Contains(said, "level=ERROR") || strings.Contains(said, "level=WARN")
}
