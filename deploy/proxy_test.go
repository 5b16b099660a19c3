package deploy_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/certtest"
)

// A whole load of verified exports goes through a real nginx with the shipped configuration, whose names and ports alone are changed; what
// is for the inside only is reached from this machine, which is inside.
func TestExportsGoThroughNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is absent (Debian: nginx-light)")
	}
	dir := t.TempDir()
	cert, key := certtest.SelfSigned(t, t.TempDir(), time.Now().Add(24*time.Hour))
	public := freeAddr(t)
	api, load := build(t, dir, "ehi-server/api"), build(t, dir, "ehi-server/bench/load")
	server := launch(t, "msg=serving url=", api, "serve", "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--base-url", "https://"+public, "--trusted-proxies", "127.0.0.1")
	conf := strings.NewReplacer(
		"server 127.0.0.1:8888;", "server "+strings.TrimPrefix(server, "http://")+";", "listen 443 ssl;", "listen "+public+" ssl;", "ehi.example.org;", "127.0.0.1;",
		"/etc/ssl/ehi.example.org/fullchain.pem", cert, "/etc/ssl/ehi.example.org/privkey.pem", key,
	).Replace(read(t, "proxy/nginx.conf"))
	if old := nginxVersion(t, nginx); old < 125 { // http2 was a word of listen
		conf = strings.Replace(strings.Replace(conf, "http2 on;", "", 1), " ssl;", " ssl http2;", 1)
	}
	if err := os.WriteFile(filepath.Join(dir, "ehi.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nginx.conf")
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("  %s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	main := fmt.Sprintf("daemon off;\npid %s/nginx.pid;\nerror_log stderr notice;\nevents {}\nhttp {\n  access_log off;\n%s  include %s/ehi.conf;\n}\n", dir, temporary, dir)
	if os.Geteuid() == 0 {
		main = "user root;\n" + main // its files are in a folder of this test's
	}
	if err := os.WriteFile(path, []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, "start worker process ", nginx, "-c", path, "-p", dir, "-e", "stderr")

	cmd := exec.CommandContext(t.Context(), load, "--url", "https://"+public, "--duration", "3s", "--concurrency", "4", "--quiet", "--slo", "errors=0")
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+cert)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 wrong;") {
		t.Fatalf("%v: %s", err, out)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 10 * time.Second} // the test's own certificate
	defer client.CloseIdleConnections()
	for _, path := range []string{"/metrics", "/readyz"} {
		resp, err := client.Get("https://" + public + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s answers %d, %v, %v", path, resp.StatusCode, resp.Header, err)
		}
	}
}

// nginxVersion is 122 for 1.22.
func nginxVersion(t *testing.T, nginx string) (version int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), nginx, "-v").CombinedOutput()
	m := regexp.MustCompile(`nginx/1\.(\d+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := fmt.Sscan(string(m[1]), &version); err != nil {
		t.Fatal(err)
	}
	return 100 + version
}

// Caddy takes its file.
func TestCaddyfileIsRight(t *testing.T) {
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is absent (Debian: caddy)")
	}
	cmd := exec.CommandContext(t.Context(), caddy, "validate", "--adapter", "caddyfile", "--config", "proxy/Caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// The release is one that goreleaser takes.
func TestReleaseConfigurationIsRight(t *testing.T) {
	goreleaser, err := exec.LookPath("goreleaser")
	if err != nil {
		t.Skip("goreleaser is absent")
	}
	cmd := exec.CommandContext(t.Context(), goreleaser, "check")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
