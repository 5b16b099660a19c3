package e2e

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/certtest"
)

// With a certificate, the server speaks HTTPS: a whole export uses it. A renewed certificate is
// used without a restart, a broken one is not, and the metrics have its expiry.
func TestTheServerSpeaksHTTPS(t *testing.T) {
	dir := t.TempDir()
	cfg := config()
	first, second := time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	cfg.TLS.Cert, cfg.TLS.Key = certtest.SelfSigned(t, dir, first)
	var log buffer
	w := startLogging(t, t.TempDir(), cfg, node.Options{}, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.HasPrefix(w.node.URL, "https://") {
		t.Fatalf("it answers at %s", w.node.URL)
	}
	if got, _ := w.export(w.demoPatient(), nil); len(got) == 0 {
		t.Error("nothing was exported")
	}
	if a := w.do(w.open, "GET", "/"); a.Header.Get("Strict-Transport-Security") == "" {
		t.Error("a browser may come back by HTTP")
	}
	told := func(expires time.Time) string {
		return fmt.Sprintf("ehi_certificate_expiry_timestamp_seconds %g", float64(expires.Unix()))
	}
	w.want(w.do(w.open, "GET", "/metrics"), 200, told(first))
	certtest.SelfSigned(t, dir, second)
	await(t, "the new certificate", func() bool {
		renewed := client.NewSecured(w.node.URL, roots(t, cfg.TLS.Cert))
		defer renewed.Close()
		a, err := renewed.Do(t.Context(), "GET", "/metrics", nil)
		return err == nil && strings.Contains(string(a.Body), told(second))
	})
	trusting := roots(t, cfg.TLS.Cert)
	if err := os.WriteFile(cfg.TLS.Key, []byte("half a renewal"), 0o600); err != nil {
		t.Fatal(err)
	}
	still := client.NewSecured(w.node.URL, trusting)
	defer still.Close()
	await(t, "a look at the broken pair", func() bool {
		a, err := still.Do(t.Context(), "GET", "/metrics", nil) // requests the certificate too
		if err != nil || a.Status != 200 {
			t.Fatalf("a broken certificate has ended the service: %+v, %v", a, err)
		}
		return strings.Contains(log.String(), "the one before is kept")
	})
	a, err := still.Do(t.Context(), "GET", "/metrics", nil)
	if err != nil || !strings.Contains(string(a.Body), told(second)) {
		t.Errorf("%v", err)
	}
}

// An unusable certificate is reported at the start.
func TestACertificateThatCannotBeUsedIsToldOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range [][2]string{
		{filepath.Join(dir, "absent"), filepath.Join(dir, "absent")},
		{"some", ""},
		{"", "some"},
	} {
		cfg := config()
		cfg.TLS.Cert, cfg.TLS.Key = c[0], c[1]
		n, err := node.Open(t.Context(), cfg, t.TempDir(), slog.New(slog.DiscardHandler),
			node.Options{})
		if err == nil {
			t.Errorf("%v is taken: %v", c, n.Close())
		}
	}
}
