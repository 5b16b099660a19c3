package deploy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/deploy/grafana"
	"ehi-server/shared/built"
)

// A real Prometheus that scrapes a real server and its load accepts every rule, and answers
// every query of every panel: without an error, and with data unless the query is marked as
// idle. This holds for native and for classic histograms. The report draws all panels.
func TestARealPrometheusAnswersEveryPanel(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is absent (Debian: prometheus)")
	}
	dir := t.TempDir()
	api, load := built.Command(t, "ehi-server/api"), built.Command(t, "ehi-server/bench/load")
	report := built.Command(t, "ehi-server/deploy/report")
	server := launch(t, "msg=serving url=", api, "serve", "--addr", "127.0.0.1:0", "--data",
		filepath.Join(dir, "data"), "--keeper-every", "1s")
	ofLoad := freeAddr(t)
	targets := map[string]string{"ehi-server": server, "ehi-load": "http://" + ofLoad}
	classic := watch(t, prometheus, filepath.Join(dir, "classic"), targets)
	native := watch(t, prometheus, filepath.Join(dir, "native"), targets,
		"--enable-feature=native-histograms")
	out, err := exec.CommandContext(t.Context(), load, "--url", server, "--duration", "15s",
		"--concurrency", "8", "--quiet", "--run", "one", "--metrics-addr", ofLoad).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := time.Now().Add(-3 * time.Second) // while the load was still scraped
	for name, prom := range map[string]string{"classic": classic, "native": native} {
		asked, filled := 0, 0
		for _, b := range grafana.Boards() {
			for _, p := range b.Panels {
				for _, q := range p.Queries {
					asked++
					n := ask(t, prom, at,
						strings.NewReplacer("$instance", ".+", "$lane", ".+", "$type", ".+", "$run",
							".+", "$__rate_interval", "15s").Replace(q.Expr))
					if n > 0 {
						filled++
					} else if !q.Idle {
						t.Errorf("%s histograms, %s, %s: nothing answers %s", name, b.Title,
							p.Title, q.Expr)
					}
				}
			}
		}
		t.Logf("%s histograms: %d queries of panels, %d with something to show", name, asked,
			filled)
		healthy(t, prom)
		page := filepath.Join(dir, name+".html")
		if out, err := exec.CommandContext(t.Context(), report, "--prometheus", prom, "--last",
			"1m", "--scrape-interval", "1s", "--out", page).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		drawn, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		panels, lines :=
			strings.Count(string(drawn), "<section>"), strings.Count(string(drawn), "<polyline")
		if panels < 60 || lines < 100 || !strings.Contains(string(drawn), "<b>one</b> began") {
			t.Errorf("the report draws %d panels with %d lines", panels, lines)
		}
	}
}

// healthy checks that every rule can be evaluated.
func healthy(t *testing.T, prom string) {
	t.Helper()
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	get(t, prom+"/api/v1/rules", &rules)
	n := 0
	for _, g := range rules.Data.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d rules", n)
	}
}

// freeAddr returns an unused address on loopback.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // it was not used
	return ln.Addr().String()
}

// launchTime bounds the start of a process.
const launchTime = time.Minute

// launch starts a process until the test ends, waits for a mark in its output, and returns the
// text after it.
func launch(t *testing.T, mark, binary string, args ...string) string {
	t.Helper()
	said, _ := launchProcess(t, mark, binary, args...)
	return said
}

// launchProcess is launch for a process that the test controls.
func launchProcess(t *testing.T, mark, binary string, args ...string) (string, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	})
	late := time.AfterFunc(launchTime, func() { _ = cmd.Process.Kill() }) // which also ends the log
	defer late.Stop()
	log := bufio.NewReader(stderr)
	for {
		line, err := log.ReadString('\n')
		if err != nil {
			t.Fatalf("%s ended: %v", filepath.Base(binary), err)
		}
		if _, said, ok := strings.Cut(line, mark); ok {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			return strings.TrimSpace(said), cmd
		}
	}
}

// watch starts a Prometheus in a folder, with the project's rules. It scrapes the URLs of jobs
// every second.
func watch(
	t *testing.T, prometheus, dir string, targets map[string]string, args ...string,
) (url string) {
	t.Helper()
	rules, err := filepath.Abs("prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	return watchWith(t, prometheus, dir, rules, targets, args...)
}

// watchWith is watch with other rules.
func watchWith(
	t *testing.T, prometheus, dir, rules string, targets map[string]string, args ...string,
) (url string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: "+
		"[%q]\nscrape_configs:\n", rules)
	for job, target := range targets {
		scheme, host, _ := strings.Cut(target, "://")
		text += fmt.Sprintf("  - job_name: %s\n    scheme: %s\n    tls_config: "+
			"{insecure_skip_verify: true}\n    static_configs: [{targets: [%q]}]\n", job, scheme,
			host)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	launch(t, "Server is ready to receive web requests", prometheus,
		append(args, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
			"--web.listen-address="+addr)...)
	return "http://" + addr
}

// ask evaluates a query at an instant and returns the number of series with a numeric value.
func ask(t *testing.T, prometheus string, at time.Time, expr string) (n int) {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Value [2]any
			}
		}
	}
	get(t,
		prometheus+"/api/v1/query?time="+at.UTC().Format(time.RFC3339)+"&query="+
			url.QueryEscape(expr), &answer)
	if answer.Status != "success" {
		t.Errorf("%s: %s", expr, answer.Error)
	}
	for _, r := range answer.Data.Result {
		if r.Value[1] != "NaN" {
			n++
		}
	}
	return n
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() // read to its end
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}
