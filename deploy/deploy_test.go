package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ehi-server/deploy"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := deploy.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The image is built from static binaries of packages that exist, and its command line is one that the server takes.
func TestDockerfileBuildsWhatIsThere(t *testing.T) {
	file := read(t, "Dockerfile")
	for _, m := range regexp.MustCompile(`go build .* (\./\w+)`).FindAllStringSubmatch(file, -1) {
		out := filepath.Join(t.TempDir(), "binary")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", out, m[1])
		cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		help, err := exec.CommandContext(t.Context(), out, "serve", "--help").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, help)
		}
		for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(file[strings.Index(file, "CMD"):], -1) {
			if !strings.Contains(string(help), flag) {
				t.Errorf("the server takes no %s", flag)
			}
		}
	}
}

// Prometheus looks where the server is by default.
func TestPrometheusScrapesTheDefaultAddress(t *testing.T) {
	node, err := os.ReadFile("../api/node/node.go")
	if err != nil {
		t.Fatal(err)
	}
	addr := regexp.MustCompile(`default:"([\d.]+:\d+)"`).FindStringSubmatch(string(node))
	if addr == nil || !strings.Contains(read(t, "prometheus.yml"), `"`+addr[1]+`"`) {
		t.Errorf("the default address is %v", addr)
	}
}
