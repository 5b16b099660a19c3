package deploy_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ehi-server/deploy"
	"ehi-server/shared/built"
	"ehi-server/shared/telemetry"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := deploy.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The image is built from static binaries of existing packages, and its health check is an
// existing command.
func TestDockerfileBuildsWhatIsThere(t *testing.T) {
	file := read(t, "Dockerfile")
	built := regexp.MustCompile(`go build .*-o /out/([\w-]+) (\./\w+)`).FindAllStringSubmatch(file,
		-1)
	if len(built) != 2 {
		t.Fatalf("it builds %v", built)
	}
	dir := t.TempDir()
	for _, m := range built {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o",
			filepath.Join(dir, m[1]), m[2])
		cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	for _, command := range []string{"serve", "ready"} {
		if !strings.Contains(file, `"`+command+`"]`) {
			t.Errorf("it does not run %s", command)
		}
		out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "ehi-server"), command,
			"--help").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "ehi-exporter"),
		"--help").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// The development container has the workspace's version of Go, and forwards the server's port.
func TestTheDevelopmentContainerHasTheGoOfTheWorkspace(t *testing.T) {
	text, err := os.ReadFile("../.devcontainer/devcontainer.json")
	if err != nil {
		t.Fatal(err)
	}
	var container struct {
		Image        string
		ForwardPorts []int
	}
	if err := json.Unmarshal(text, &container); err != nil {
		t.Fatal(err)
	}
	work, err := os.ReadFile("../go.work")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(work)
	if version == nil || container.Image != "golang:"+string(version[1]) {
		t.Errorf("the image is %s, the workspace wants Go %s", container.Image, version)
	}
	if len(container.ForwardPorts) != 1 || container.ForwardPorts[0] != 8888 {
		t.Errorf("it forwards %v", container.ForwardPorts)
	}
}

// Every variable and flag of ours in a file exists in a program.
func TestVariablesAndFlagsAreThoseThatThereAre(t *testing.T) {
	data, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	known, seen := string(data), 0
	err = fs.WalkDir(deploy.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text := read(t, path)
		for _, name := range regexp.MustCompile(`\bEHI_[A-Z_]+`).FindAllString(text, -1) {
			seen++
			if !strings.Contains(known, "`"+name+"`") {
				t.Errorf("%s sets %s, which nobody takes", path, name)
			}
		}
		return nil
	})
	if err != nil || seen < 10 {
		t.Errorf("%d variables, %v", seen, err)
	}
	for _, path := range []string{"kubernetes/server.yaml", "kubernetes/exporter.yaml"} {
		for _, args := range regexp.MustCompile(`(?m)^\s*args: \[(.*)\]$`).FindAllStringSubmatch(
			read(t, path), -1) {
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(args[1], -1) {
				if !strings.Contains(known, "`"+flag+"`") {
					t.Errorf("%s uses %s, which nobody takes", path, flag)
				}
			}
		}
	}
}

// Prometheus scrapes the server's default address.
func TestPrometheusScrapesTheDefaultAddress(t *testing.T) {
	node, err := os.ReadFile("../api/node/node.go")
	if err != nil {
		t.Fatal(err)
	}
	addr := regexp.MustCompile(`default:"([\d.]+:\d+)"`).FindStringSubmatch(string(node))
	if addr == nil || !strings.Contains(read(t, "prometheus/prometheus.yml"), `"`+addr[1]+`"`) {
		t.Errorf("the default address is %v", addr)
	}
}

// Prometheus accepts the configuration and the rules. Each alert fires on its fault and not
// otherwise.
func TestRulesAreRight(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is absent (Debian: prometheus)")
	}
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"}, {"check", "rules", "rules.yml"},
		{"test", "rules", "rules_test.yml", "rules_days_test.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = "prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v: %s", args, err, out)
		}
	}
}

// Every alert links to a section of the runbook and is tested, every section belongs to an
// alert, and each metric in a rule is one that the server exposes.
func TestAlertsLeadToTheRunbookAndReadMetricsThatThereAre(t *testing.T) {
	rules := read(t, "prometheus/rules.yml")
	tests := read(t, "prometheus/rules_test.yml") + read(t, "prometheus/rules_days_test.yml")
	data, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	runbook := string(data)
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("only %d alerts", len(alerts))
	}
	for _, a := range alerts {
		if !strings.Contains(rules, "runbook_url: docs/runbook.md#"+strings.ToLower(a[1])) ||
			!strings.Contains(runbook, "\n## "+a[1]+"\n") {
			t.Errorf("%s leads nowhere", a[1])
		}
		if strings.Count(tests, "alertname: "+a[1]+"\n")+
			strings.Count(tests, "alertname: "+a[1]+",") < 2 {
			t.Errorf("%s is not tested with its fault and without", a[1])
		}
	}
	if n := strings.Count(runbook, "\n## "); n != len(alerts) {
		t.Errorf("%d sections of the runbook, %d alerts", n, len(alerts))
	}
	known := map[string]bool{}
	for _, d := range telemetry.Definitions() {
		known[d.Name] = true
	}
	for _, name := range regexp.MustCompile(`\behi_\w+`).FindAllString(rules, -1) {
		if !known[name] && !known[strings.TrimSuffix(name, "_bucket")] {
			t.Errorf("a rule reads %s, which nobody tells", name)
		}
	}
}

// systemd accepts the unit and rates it as well confined. The server accepts its command line.
func TestServiceUnitIsRightAndConfined(t *testing.T) {
	const installed = "/usr/local/bin/ehi-server"
	unit := read(t, "systemd/ehi-server.service")
	binary := built.Command(t, "ehi-server/api")
	command := regexp.MustCompile(`ExecStart=(.*)`).FindStringSubmatch(unit)
	if command == nil || !strings.HasPrefix(command[1], installed+" serve ") {
		t.Fatalf("it starts %v", command)
	}
	help, err := exec.CommandContext(t.Context(), binary, "serve", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, help)
	}
	for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(command[1], -1) {
		if !strings.Contains(string(help), flag+"=") {
			t.Errorf("the server takes no %s", flag)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is absent")
	}
	path := filepath.Join(t.TempDir(), "ehi-server.service")
	err = os.WriteFile(path, []byte(strings.ReplaceAll(unit, installed, binary)), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// an exposure of at most 1.5 out of 10
	for _, args := range [][]string{
		{"verify", path},
		{"security", "--offline=yes", "--threshold=15", path},
	} {
		out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze %v: %v: %s", args, err, out)
		}
	}
}

// Everything that is shipped for servers runs in production mode, and reports what is missing
// instead of serving a sandbox. The image serves a sandbox on a network only on request.
func TestShippedDeploymentsServeNoSandbox(t *testing.T) {
	dir := t.TempDir()
	api := built.Command(t, "ehi-server/api")
	serve := func(env ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), launchTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, api, "serve", "--data", filepath.Join(dir, "data"),
			"--no-demo")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Errorf("with %v it serves: %s", env, out)
		}
		return string(out)
	}
	unit := regexp.MustCompile(`(?m)^Environment=(.*)$`).FindStringSubmatch(
		read(t, "systemd/ehi-server.service"))
	if unit == nil {
		t.Fatal("the unit sets nothing")
	}
	if out := serve(unit[1]); !strings.Contains(out, "not fit for production mode") {
		t.Errorf("the unit: %s", out)
	}
	image := regexp.MustCompile(`EHI_ADDR=\S+`).FindString(read(t, "Dockerfile"))
	for _, addr := range []string{image, "EHI_ADDR=:0", "EHI_ADDR=[::]:0", "EHI_ADDR=192.0.2.1:0"} {
		if out := serve(addr); !strings.Contains(out, "--sandbox-on-network") {
			t.Errorf("%s: %s", addr, out)
		}
	}
	launch(t, "msg=serving url=", api, "serve", "--data", filepath.Join(dir, "asked"), "--no-demo",
		"--addr", "0.0.0.0:0", "--sandbox-on-network")
	launch(t, "msg=serving url=", api, "serve", "--data", filepath.Join(dir, "here"), "--no-demo",
		"--addr", "[::1]:0")
}
