package e2e

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/shared/built"
)

// program is the server, built and run as a process.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	url string
	log lastWords
}

// lastWords keeps the end of a process's output.
type lastWords struct {
	mu   sync.Mutex
	said []byte
}

func (l *lastWords) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, b...)
	if over := len(l.said) - 16<<10; over > 0 {
		l.said = append(l.said[:0], l.said[over:]...)
	}
	return len(b), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.said)
}

// serveProgram starts the program and waits until it serves. If the test fails, it prints the
// end of the program's log.
func serveProgram(t *testing.T, binary string, args ...string) *program {
	t.Helper()
	p := &program{
		t:   t,
		cmd: exec.Command(binary, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...),
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = p.cmd.Process.Kill(), p.cmd.Wait() // both fail if the test has ended it
		if t.Failed() {
			t.Logf("the last that the server said:\n%s", &p.log)
		}
	})
	p.url = announced(t, bufio.NewReader(io.TeeReader(stderr, &p.log)), "msg=serving url=")
	return p
}

// announced waits for what a process logs after a mark, and discards the rest of its log.
func announced(t *testing.T, log *bufio.Reader, mark string) string {
	t.Helper()
	for {
		line, err := log.ReadString('\n')
		if err != nil {
			t.Fatalf("the process ended: %v", err)
		}
		if _, said, ok := strings.Cut(line, mark); ok {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			return strings.TrimSpace(said)
		}
	}
}

// terminate sends SIGTERM.
func (p *program) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// stopWithin is the time in which a server without running exports ends.
const stopWithin = 15 * time.Second

// ended waits for the end of the process and returns how it ended.
func (p *program) ended(within time.Duration) string {
	p.t.Helper()
	begun := time.Now()
	_ = p.cmd.Wait() // its state has the result
	if d := time.Since(begun); d > within {
		p.t.Errorf("it took %v to end, where %v were allowed", d, within)
	}
	return p.cmd.ProcessState.String()
}

// After one SIGTERM, running work continues for --drain, the rest is handed back, and the exit
// code is 0. A second one ends the process immediately.
func TestSIGTERMDrainsAndASecondOneEndsAtOnce(t *testing.T) {
	binary, data := built.Command(t, "ehi-server/api"), t.TempDir()
	begin := func(drain string) (*program, *client.Client, client.Job) {
		p := serveProgram(t, binary, "--data", data, "--source", "synthetic:patients=200000,seed=1",
			"--drain", drain, "--task-bytes", "1000000000000")
		open := client.New(p.url)
		t.Cleanup(open.Close)
		service, err := open.Service(t.Context(), "test_client_secret", "system/*.rs")
		if err != nil {
			t.Fatal(err)
		}
		// one task, which takes a minute
		j, err := service.Start(t.Context(), "GET", "/fhir/Patient/$export", nil)
		if err != nil {
			t.Fatal(err)
		}
		(&world{t: t}).until("the export writes", func() bool {
			a, err := service.Do(t.Context(), "GET", "/metrics", nil)
			return err == nil && strings.Contains(string(a.Body), "ehi_pipeline_resources_total{")
		})
		return p, service, j
	}
	p, service, _ := begin("10m")
	p.terminate()
	(&world{t: t}).until("the server is not ready", func() bool {
		a, err := service.Do(t.Context(), "GET", "/readyz", nil)
		return err == nil && a.Status == 503
	})
	p.terminate()
	if how := p.ended(5 * time.Second); !strings.Contains(how, "terminated") {
		t.Errorf("after the second signal: %s", how)
	}

	p, service, j := begin("100ms")
	p.terminate()
	if how := p.ended(stopWithin); how != "exit status 0" {
		t.Errorf("after one signal: %s", how)
	}
	p = serveProgram(t, binary, "--data", data, "--source", "synthetic:patients=200000,seed=1",
		"--drain", "0s", "--task-bytes", "1000000000000", "--workers", "0")
	_, path, _ := strings.Cut(j.StatusURL, "/jobs/")
	a, err := client.New(p.url).WithToken(service.Token).Do(t.Context(), "GET", "/jobs/"+path, nil)
	if err != nil || a.Status != 202 {
		t.Errorf("the export that was handed back: %+v, %v", a, err)
	}
	p.terminate()
	if how := p.ended(stopWithin); how != "exit status 0" {
		t.Errorf("idle: %s", how)
	}
}
