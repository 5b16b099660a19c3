// Package outside tests the server with programs of other projects: clients from npm, PyPI and
// Maven, unmodified and for whole flows, and validators of the server's responses. The server is
// a separate process, without the race detector. Tests skip packages that are not available,
// with the reason.
package outside

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/shared/built"
	"ehi-server/shared/ehi"
)

// folder is shared by the tests, for example for installed packages. TestMain removes it.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "outside"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := built.Main(m)
	if err := os.RemoveAll(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server is a running server process.
type server struct {
	t     *testing.T
	url   string
	data  string
	open  *client.Client // without credentials
	admin *client.Client
}

// serve runs a server in sandbox mode on a free port and an empty data folder until the test ends.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	return serveOn(t, t.TempDir(), args...)
}

// serveOn is serve with an existing data folder.
func serveOn(t *testing.T, data string, args ...string) *server {
	t.Helper()
	path := built.Command(t, "ehi-server/api")
	s := &server{t: t, data: data}
	run := exec.Command(path,
		append([]string{"serve", "--addr", "127.0.0.1:0", "--data", s.data}, args...)...)
	log, err := run.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1)
	ended := make(chan struct{})
	go func() { // until the process ends
		defer close(ended)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if _, url, ok := strings.Cut(lines.Text(), "msg=serving url="); ok {
				told <- url
			}
		}
		close(told)
	}()
	t.Cleanup(func() {
		if err := run.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-ended
		if err := run.Wait(); err != nil {
			t.Errorf("the server ends by %v", err)
		}
	})
	if s.url = <-told; s.url == "" {
		t.Fatal("the server does not start")
	}
	s.open = client.New(s.url)
	t.Cleanup(s.open.Close)
	if s.admin, err = s.open.AdminLogin(t.Context(), "admin", "admin-password"); err != nil {
		t.Fatal(err)
	}
	return s
}

// population is a small synthetic population. The same seed generates the same patients.
const population = "synthetic:patients=4,seed=7,resources=60"

// slowly is the population from a source that is slow enough for several polls of one export.
const slowly = population + ",delay=1200ms"

// patient returns the first patient of the population.
func (s *server) patient() string {
	s.t.Helper()
	a, err := s.open.Do(s.t.Context(), "GET", "/patient-login", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	found := regexp.MustCompile(`option value="([^"]+)"`).FindSubmatch(a.Body)
	if found == nil {
		s.t.Fatalf("no patient on the login page: %s", a.Body)
	}
	return string(found[1])
}

// system returns a client with a backend service's token.
func (s *server) system() *client.Client {
	s.t.Helper()
	c, err := s.open.Service(s.t.Context(), "test_client_secret", "system/*.rs system/$ehi-export")
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// asked is a kind of request with the status of its response.
type asked struct {
	method, route string
	status        int
}

var counted = regexp.MustCompile(
	`(?m)^ehi_http_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\} (\d+)$`)

// answers counts the responses so far.
func (s *server) answers() map[asked]int {
	s.t.Helper()
	a, err := s.open.Do(s.t.Context(), "GET", "/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[asked]int{}
	for _, m := range counted.FindAllStringSubmatch(string(a.Body), -1) {
		status, _ := strconv.Atoi(m[3])
		n, _ := strconv.Atoi(m[4])
		out[asked{m[1], m[2], status}] = n
	}
	return out
}

// elsewhere is a path that the server does not have: fhir-kit-client also looks for OpenID
// Connect's discovery below the FHIR base.
var elsewhere = asked{"GET", "/", 404}

var (
	unfinished = asked{"GET", "/jobs/:id/status", 202}
	finished   = asked{"GET", "/jobs/:id/status", 200}
)

// polled requires that the client has read at least two 202 responses, and that nothing was
// refused.
func (s *server) polled(who string) {
	s.t.Helper()
	answers := s.answers()
	for a, n := range answers {
		if a.status >= 400 && a != elsewhere {
			s.t.Errorf("%d times %s %s was answered %d", n, a.method, a.route, a.status)
		}
	}
	if answers[unfinished] < 2 || answers[finished] < 1 {
		s.t.Errorf("the status was answered 202 %d times and 200 %d times", answers[unfinished],
			answers[finished])
	}
	s.t.Logf("%s: %d polls were answered 202", who, answers[unfinished])
}

// decide acts as the patient and the administrator while a client polls. It sends the form after
// two 202 responses, and approves the export when it is retrieved.
func (s *server) decide(form any) {
	t := s.t
	t.Helper()
	s.await("two polls", func() bool { return s.answers()[unfinished] >= 2 })
	a, err := s.admin.Do(t.Context(), "GET", "/admin/jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []struct {
		ID      string
		Patient struct{ ID string }
	}
	if err := json.Unmarshal(a.Body, &jobs); err != nil || len(jobs) != 1 {
		t.Fatalf("%s, %v", a.Body, err)
	}
	patient, _, err := s.open.Authorize(t.Context(), jobs[0].Patient.ID)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := patient.Submit(t.Context(), jobs[0].ID, form); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := s.admin.WaitJob(t.Context(), jobs[0].ID, ehi.Retrieved); err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin.Act(t.Context(), jobs[0].ID, "approve"); err != nil {
		t.Fatal(err)
	}
}

// await waits until a condition holds.
func (s *server) await(what string, so func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if so() {
			return
		}
	}
	s.t.Fatalf("%s does not come", what)
}

// received is what a client reports that it has downloaded.
type received struct {
	Counts      map[string]int
	Files       int
	Patient     string
	TokenURL    string
	FHIRVersion string
}

// add counts the lines of a file.
func (r *received) add(data []byte) error {
	if r.Counts == nil {
		r.Counts = map[string]int{}
	}
	r.Files++
	for line := range bytes.Lines(data) {
		var res struct{ ResourceType string }
		if err := json.Unmarshal(line, &res); err != nil {
			return err
		}
		r.Counts[res.ResourceType]++
	}
	return nil
}

// everything returns the contents of an export of the population, as our own client gets it from
// a fast source. target is the kick-off, such as /fhir/Patient/$export.
func everything(t *testing.T, method, target string) received {
	t.Helper()
	s := serve(t, "--source", population)
	c := s.system()
	if strings.Contains(target, "%s") {
		target = fmt.Sprintf(target, s.patient())
		var err error
		if c, _, err = s.open.Authorize(t.Context(), s.patient()); err != nil {
			t.Fatal(err)
		}
	}
	j, err := c.Start(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(t.Context(), j.StatusURL, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var out received
	for _, o := range m.Output {
		data, err := c.Download(t.Context(), o.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.add(data); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// program is a program of another project.
type program struct {
	*exec.Cmd
	t      *testing.T
	out    bytes.Buffer
	cancel context.CancelFunc
}

// begin starts a program in a folder, with a time limit of five minutes.
func begin(t *testing.T, dir string, env []string, name string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	p := &program{Cmd: exec.CommandContext(ctx, name, args...), t: t, cancel: cancel}
	p.Dir, p.Env = dir, append(os.Environ(), env...)
	p.Stdout, p.Stderr = &p.out, &p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// end waits until a program succeeds and returns its output.
func (p *program) end() string {
	p.t.Helper()
	defer p.cancel()
	if err := p.Wait(); err != nil {
		p.t.Fatalf("%s: %v\n%s", filepath.Base(p.Path), err, tail(p.out.String()))
	}
	return p.out.String()
}

// report returns the last line of a program's output.
func (p *program) report() (r received) {
	p.t.Helper()
	lines := strings.Split(strings.TrimSpace(p.end()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		p.t.Fatalf("%v in %s", err, tail(p.out.String()))
	}
	return r
}

// tail returns the end of a text, because minified scripts print whole files when they fail.
func tail(s string) string { return s[max(0, len(s)-3000):] }
