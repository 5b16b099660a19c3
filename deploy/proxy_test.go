package deploy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/built"
	"ehi-server/shared/certtest"
)

// A full load of verified exports passes through a real nginx with the shipped configuration;
// only its names and ports are changed. Internal pages are reached from this machine, which
// counts as internal.
func TestExportsGoThroughNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is absent (Debian: nginx-light)")
	}
	dir := t.TempDir()
	public, cert := behindNginx(t, nginx, dir)
	load := built.Command(t, "ehi-server/bench/load")
	cmd := exec.CommandContext(t.Context(), load, "--url", "https://"+public, "--duration", "3s",
		"--concurrency", "4", "--quiet", "--slo", "errors=0")
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+cert)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 wrong;") {
		t.Fatalf("%v: %s", err, out)
	}
	// the test's own certificate
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		Timeout:   10 * time.Second,
	}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/metrics", "/readyz"} {
		resp, err := client.Get("https://" + public + path)
		if err != nil {
			t.Fatal(err)
		}
		err = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK ||
			resp.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s answers %d, %v, %v", path, resp.StatusCode, resp.Header, err)
		}
	}
}

// behindNginx starts a server behind a real nginx with the shipped configuration; only its names
// and ports are changed. It returns the public address and its certificate.
func behindNginx(t *testing.T, nginx, dir string) (public, cert string) {
	t.Helper()
	cert, key := certtest.SelfSigned(t, t.TempDir(), time.Now().Add(24*time.Hour))
	public = freeAddr(t)
	server := serveBehind(t, dir, public)
	conf := strings.NewReplacer(
		"server 127.0.0.1:8888;", "server "+server+";", "listen 443 ssl;", "listen "+public+" ssl;",
		"ehi.example.org;", "127.0.0.1;",
		"/etc/ssl/ehi.example.org/fullchain.pem", cert, "/etc/ssl/ehi.example.org/privkey.pem", key,
	).Replace(read(t, "proxy/nginx.conf"))
	if old := nginxVersion(t, nginx); old < 125 { // http2 was a parameter of listen
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
	main := fmt.Sprintf("daemon off;\npid %s/nginx.pid;\nerror_log stderr notice;\nevents "+
		"{}\nhttp {\n  access_log off;\n%s  include %s/ehi.conf;\n}\n", dir, temporary, dir)
	if os.Geteuid() == 0 {
		main = "user root;\n" + main // its files are in a folder of this test
	}
	if err := os.WriteFile(path, []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, "start worker process ", nginx, "-c", path, "-p", dir, "-e", "stderr")
	return public, cert
}

// serveBehind starts a server that a proxy on this machine exposes at a public address. It
// returns the server's own address.
func serveBehind(t *testing.T, dir, public string) string {
	t.Helper()
	api := built.Command(t, "ehi-server/api")
	url := launch(t, "msg=serving url=", api, "serve", "--addr", "127.0.0.1:0", "--data",
		filepath.Join(dir, "data"), "--base-url", "https://"+public, "--trusted-proxies",
		"127.0.0.1")
	return strings.TrimPrefix(url, "http://")
}

// behindCaddy is behindNginx for Caddy. Of this machine's addresses, only 127.0.0.1 is internal.
func behindCaddy(t *testing.T, caddy, dir string) (public string) {
	t.Helper()
	cert, key := certtest.SelfSigned(t, t.TempDir(), time.Now().Add(24*time.Hour))
	public = freeAddr(t)
	conf := strings.NewReplacer(
		"127.0.0.1:8888 {", serveBehind(t, dir, public)+" {", "private_ranges", "127.0.0.1/32",
		"ehi.example.org {",
		"{\n\tadmin off\n\tauto_https off\n}\nhttps://"+public+" {\n\ttls "+cert+" "+key,
	).Replace(read(t, "proxy/Caddyfile"))
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	launch(t, "serving initial configuration", caddy, "run", "--adapter", "caddyfile", "--config",
		path)
	return public
}

// The shipped configurations hide internal pages from external clients, in every spelling that
// nginx, Caddy or the server could accept.
func TestProxiesHideInternalPagesInEverySpelling(t *testing.T) {
	t.Run("nginx", func(t *testing.T) {
		nginx, err := exec.LookPath("nginx")
		if err != nil {
			t.Skip("nginx is absent (Debian: nginx-light)")
		}
		public, _ := behindNginx(t, nginx, t.TempDir())
		keepsTheInside(t, public)
	})
	t.Run("Caddy", func(t *testing.T) {
		caddy, err := exec.LookPath("caddy")
		if err != nil {
			t.Skip("caddy is absent (Debian: caddy)")
		}
		keepsTheInside(t, behindCaddy(t, caddy, t.TempDir()))
	})
}

func keepsTheInside(t *testing.T, public string) {
	t.Helper()
	tried := 0
	for _, path := range []string{
		"/metrics", "/admin", "/admin/jobs", "/admin/ui/login", "/admin/debug/pprof/",
		"/admin/accounts/x/y",
	} {
		for _, target := range append(spellings(path), "https://"+public+path,
			"https://"+public+"//x"+path) {
			tried++
			status, byServer := askFrom(t, "127.0.0.2", public, target)
			if byServer && status != http.StatusNotFound && status != http.StatusBadRequest {
				t.Errorf("from the outside %q answers %d", target, status)
			}
		}
	}
	t.Logf("%d spellings", tried)
	for target, want := range map[string]int{
		"/metrics":        200,
		"/admin/ui/login": 200,
		"/admin/jobs":     401,
	} {
		status, byServer := askFrom(t, "127.0.0.1", public, target)
		if status != want || !byServer {
			t.Errorf("from the inside %q answers %d", target, status)
		}
	}
	if status, _ := askFrom(t, "127.0.0.2", public, "/fhir/metadata"); status != http.StatusOK {
		t.Errorf("from the outside /fhir/metadata answers %d", status)
	}
}

// spellings returns spellings of a path, including the path itself, that a proxy or server may
// accept.
func spellings(path string) []string {
	first, rest, _ := strings.Cut(path[1:], "/")
	if rest != "" {
		rest = "/" + rest
	}
	out := []string{
		path,
		path + "?x",
		path + "/",
		path + "//",
		path + "/.",
		path + "/x/..",
		path + "/../" + first + rest,
		path + "%2F",
		path + "%2f..",
		path + ";",
		path + ";x=/",
		path + "%20",
		path + "%00",
		path + "#",
		"/" + path,
		"//x" + path,
		"//x" + path + "?a=://",
		"///" + path,
		"/." + path,
		"/x/.." + path,
		"/x/../.." + path,
		"/%2e" + path,
		"/%2e%2e" + path,
		"/x/%2E." + path,
		"/x%2F.." + path,
		"/%2F" + first + rest,
		`/\` + first + rest,
		`/x\..` + path,
		"/" + strings.ToUpper(first) + rest,
		"/" + strings.ToUpper(first[:1]) + first[1:] + rest,
		strings.ToUpper(path),
		fmt.Sprintf("/%%%02x%s%s", first[0], first[1:], rest),
		fmt.Sprintf("/%%25%02x%s%s", first[0], first[1:], rest),
		"https://x" + path,
		"https://x//" + first + rest,
		"https://x//y" + path,
		"x://y" + path,
		path + "/../../../x",
		path + "/%2e%2e/%2e%2e/%2e%2e/x",
		path + "/../..",
		"/" + first + "/" + rest,
		"/" + first + "/." + rest,
		"/" + first + "/x/.." + rest,
		"/" + first + "%2f" + strings.TrimPrefix(rest, "/"),
		"/fhir/.." + path, "/fhir/%2e%2e" + path, "/auth/..;" + path, "/assets/../" + first + rest,
	}
	return out
}

// askFrom sends an unmodified target over TLS from an address of this machine. It returns the
// status, and whether the answer came from the server, which names each request, or from the
// proxy.
func askFrom(t *testing.T, from, public, target string) (status int, byServer bool) {
	t.Helper()
	local := &net.TCPAddr{IP: net.ParseIP(from)}
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: local, Timeout: 10 * time.Second},
		Config:    &tls.Config{InsecureSkipVerify: true}, // the test's own certificate
	}
	conn, err := dialer.DialContext(t.Context(), "tcp", public)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // read to its end, or unusable
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
		target, public); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", target, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("X-Request-Id") != ""
}

// nginxVersion returns 122 for 1.22.
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

// Caddy accepts its file.
func TestCaddyfileIsRight(t *testing.T) {
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is absent (Debian: caddy)")
	}
	cmd := exec.CommandContext(t.Context(), caddy, "validate", "--adapter", "caddyfile", "--config",
		"proxy/Caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Goreleaser accepts the release configuration.
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
