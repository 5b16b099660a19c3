package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ehi-server/api/client"
)

// process is one member of a fleet. Its supervisor starts it again whenever it has ended, as an
// init system does.
type process struct {
	name string
	path string
	args []string
	log  string // file
	url  string // of an API, "" for others
	// fault is held by whoever is at fault with it: one at a time.
	fault sync.Mutex

	pid    atomic.Int64 // 0 while it is down
	starts atomic.Int64
	exits  *atomic.Int64 // counts the times that it ended by itself
	ending chan ending   // told to the supervisor before the process is ended
	revive chan struct{} // told to the supervisor to start the process again before its time
}

// ending is how a process is to end, and what comes then.
type ending struct {
	signal syscall.Signal
	down   time.Duration // until it is started again
	last   bool          // it is not
	clean  bool          // its exit status has to be 0
}

// restartPause is how long a supervisor waits before it starts a process that has ended by itself.
const restartPause = 200 * time.Millisecond

// supervise keeps the process running until it is told the last ending. Errors: a start that
// failed, an exit status that should be 0.
func (p *process) supervise(ctx context.Context) error {
	for {
		cmd, err := p.start()
		if err != nil {
			return err
		}
		exit := make(chan error, 1)
		go func() { exit <- cmd.Wait() }()
		end := ending{down: restartPause}
		select {
		case err = <-exit:
			p.exits.Add(1)
		case end = <-p.ending:
			if err := cmd.Process.Signal(end.signal); err != nil &&
				!errors.Is(err, os.ErrProcessDone) {
				return err
			}
			err = p.await(exit, cmd)
		}
		p.pid.Store(0)
		if errors.Is(err, errStuck) || end.clean && err != nil {
			return fmt.Errorf("%s was told to stop and ended by: %w", p.name, err)
		}
		if end.last {
			return nil
		}
		if !p.rest(ctx, end.down) {
			return nil
		}
	}
}

// rest waits until an ended process is to be started again. It reports false where it is not.
func (p *process) rest(ctx context.Context, down time.Duration) bool {
	again := time.NewTimer(down)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			return true
		case <-p.revive:
			return true
		case end := <-p.ending:
			if end.last {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

// stopTime is how long a process may take to end: --drain and --shutdown of the servers, and some.
const stopTime = 45 * time.Second

func (p *process) await(exit <-chan error, cmd *exec.Cmd) error {
	select {
	case err := <-exit:
		return err
	case <-time.After(stopTime):
		_ = cmd.Process.Kill() // it may end at this very moment
		<-exit
		return errStuck
	}
}

var errStuck = errors.New("it had to be killed after " + stopTime.String())

func (p *process) start() (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// an interrupt of the terminal is the harness's to pass on
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = []string{"HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.starts.Add(1)
	p.pid.Store(int64(cmd.Process.Pid))
	return cmd, nil
}

// end ends the process if it runs, and reports whether it did.
func (p *process) end(ctx context.Context, e ending) bool {
	if p.pid.Load() == 0 && !e.last {
		return false
	}
	limit, cancel := context.WithTimeout(ctx, 2*stopTime) // its supervisor may wait for its end
	defer cancel()
	select {
	case p.ending <- e:
		return true
	case <-limit.Done():
		return false
	}
}

// gone waits until a process that was killed has ended. It reports whether it has.
func (p *process) gone(ctx context.Context) bool {
	limit, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	for p.pid.Load() != 0 {
		if client.Sleep(limit, time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// freeze stops the process where it is for d. It reports whether it ran.
func (p *process) freeze(d time.Duration) bool {
	pid := int(p.pid.Load())
	if pid == 0 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return false
	}
	time.Sleep(d)
	return syscall.Kill(pid, syscall.SIGCONT) == nil
}

// worker is what the process calls itself in the records of tasks.
func (p *process) worker() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, p.pid.Load())
}

// tail is the end of the process's log, for a report.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return filepath.Base(p.log) + ":\n  " + strings.Join(lines[max(0, len(lines)-15):], "\n  ")
}
