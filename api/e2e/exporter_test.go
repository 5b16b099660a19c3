package e2e

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/built"
	"ehi-server/shared/records"
	"ehi-server/shared/tracing"
)

// A worker in its own process joins a server without workers, and exports what the server would
// have exported.
func TestAStandAloneExporterWorksForAnAPIWithoutWorkers(t *testing.T) {
	t.Parallel()
	binary := built.Command(t, "ehi-server/exporter")
	own, data := t.TempDir(), t.TempDir()
	demoRecords(t, own)
	copyRecords(t, own, data)
	seen, collector := collect(t)
	cfg := config()
	cfg.Worker.Workers, cfg.Bus.Listen, cfg.Bus.Access.Password = 0, "127.0.0.1:0", "of the fleet"
	cfg.Trace = tracing.Config{Endpoint: collector, Ratio: 1}
	w := start(t, data, cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	a := w.do(pat, "POST", "/no-form/auto-approve/fhir/Patient/"+p+"/$ehi-export")
	w.want(a, 202, "")
	j := client.Job{StatusURL: a.Header.Get("Content-Location")}
	w.want(w.do(pat, "GET", j.StatusURL), 202, "")

	cmd := exec.Command(binary, "--nats", w.node.Bus.ClientURL(), "--data", own, "--exports",
		filepath.Join(w.data, "exports"), "--metrics-addr", "127.0.0.1:0", "--trace-endpoint",
		collector, "--nats-password", "of the fleet")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// both fail if the test has ended it
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	watched := client.New(announced(t, bufio.NewReader(stderr), "msg=watching url="))
	t.Cleanup(watched.Close)
	got, _ := w.download(pat, w.manifest(pat, j))
	if len(got) < 300 || got["Patient/"+p] == nil {
		t.Errorf("%d resources", len(got))
	}
	for key, r := range got {
		records.References(r, func(ref string) string {
			if got[ref] == nil {
				t.Errorf("%s: %s leads nowhere", key, ref)
			}
			return ref
		})
	}
	w.want(w.do(watched, "GET", "/readyz"), 200, "")
	w.want(w.do(watched, "GET", "/metrics"), 200, `ehi_tasks_ended_total{outcome="committed"} 1`)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	// The exporter's spans, which it sends when it ends, belong to the trace that the API began.
	await(t, "the API's part of the trace", func() bool {
		return seen.has(a.Header.Get("X-Request-Id"),
			"POST /no-form/auto-approve/fhir/Patient/:id/$ehi-export")
	})
	has(t, seen.trace(t, a.Header.Get("X-Request-Id"), ""), "run command", "attempt task",
		"write Patient", "commit files")
}

// An import into a store that a server uses is refused with a message.
func TestImportIntoAHeldStoreSaysSo(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	binary := built.Command(t, "ehi-server/api")
	out, err := exec.CommandContext(t.Context(), binary, "generate", "--data",
		w.data).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "held by another process") {
		t.Errorf("%v: %s", err, out)
	}
}
