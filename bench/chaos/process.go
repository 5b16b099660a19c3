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

// process is one member of a fleet. Its supervisor restarts it whenever it has ended, as an init
// system does.
type process struct {
	name string
	path string
	args []string
	log  string // path of the log file
	url  string // of an API; "" for others
	// fault is held while a fault happens to the process: only one at a time.
	fault sync.Mutex

	pid    atomic.Int64 // 0 while it is down
	starts atomic.Int64
	exits  *atomic.Int64 // counts the times that it ended by itself
	ending chan ending   // tells the supervisor how the process is about to end
	revive chan struct{} // tells the supervisor to restart the process early
}

// ending is how a process ends, and what follows.
type ending struct {
	signal syscall.Signal
	down   time.Duration // until it is restarted
	last   bool          // it is not restarted
	clean  bool          // its exit status must be 0
}

// restartPause is how long a supervisor waits before it restarts a process that has ended by
// itself.
const restartPause = 200 * time.Millisecond

// supervise keeps the process running until it receives the last ending. Errors: a start that
// failed; an exit status that should be 0.
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

// rest waits until an ended process may restart. It returns false if it must not.
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

// stopTime bounds the end of a process: --drain and --shutdown of the servers, plus a margin.
const stopTime = 45 * time.Second

func (p *process) await(exit <-chan error, cmd *exec.Cmd) error {
	select {
	case err := <-exit:
		return err
	case <-time.After(stopTime):
		_ = cmd.Process.Kill() // it may have just ended
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
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// the harness itself passes on the terminal's interrupts
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
	// its supervisor may be waiting for its end
	limit, cancel := context.WithTimeout(ctx, 2*stopTime)
	defer cancel()
	select {
	case p.ending <- e:
		return true
	case <-limit.Done():
		return false
	}
}

// gone waits until a killed process has ended, and reports whether it has.
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

// freeze stops the process for d, and reports whether it was running.
func (p *process) freeze(d time.Duration) bool {
	pid := int(p.pid.Load())
	if pid == 0 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return false
	}
	time.Sleep(d)
	return syscall.Kill(pid, syscall.SIGCONT) == nil
}

// worker returns the process's name in the records of tasks.
func (p *process) worker() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, p.pid.Load())
}

// tail returns the end of the process's log for an error message.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return filepath.Base(p.log) + ":\n  " + strings.Join(lines[max(0, len(lines)-15):], "\n  ")
}
