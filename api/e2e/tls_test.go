package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
)

// selfSigned writes a certificate for loopback that expires at a time, and its key.
func selfSigned(t *testing.T, cert, key string, expires time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(expires.Unix()), NotBefore: time.Now().Add(-time.Hour), NotAfter: expires, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The server speaks HTTPS where it has a certificate: a whole export goes over it. A renewed certificate is used without a restart, a
// broken one is not, and the metrics tell when it expires.
func TestTheServerSpeaksHTTPS(t *testing.T) {
	dir := t.TempDir()
	cfg := config()
	cfg.TLSCert, cfg.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first, second := time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	selfSigned(t, cfg.TLSCert, cfg.TLSKey, first)
	var log buffer
	w := startLogging(t, t.TempDir(), cfg, node.Options{}, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.HasPrefix(w.node.URL, "https://") {
		t.Fatalf("it answers at %s", w.node.URL)
	}
	if got, _ := w.export(w.demoPatient(), nil); len(got) == 0 {
		t.Error("nothing was exported")
	}
	told := func(expires time.Time) string {
		return fmt.Sprintf("ehi_certificate_expiry_timestamp_seconds %g", float64(expires.Unix()))
	}
	w.want(w.do(w.open, "GET", "/metrics"), 200, told(first))
	selfSigned(t, cfg.TLSCert, cfg.TLSKey, second)
	await(t, "the new certificate", func() bool {
		renewed := client.NewSecured(w.node.URL, roots(t, cfg.TLSCert))
		defer renewed.Close()
		a, err := renewed.Do(t.Context(), "GET", "/metrics", nil)
		return err == nil && strings.Contains(string(a.Body), told(second))
	})
	trusting := roots(t, cfg.TLSCert)
	if err := os.WriteFile(cfg.TLSKey, []byte("half a renewal"), 0o600); err != nil {
		t.Fatal(err)
	}
	still := client.NewSecured(w.node.URL, trusting)
	defer still.Close()
	await(t, "a look at the broken pair", func() bool {
		a, err := still.Do(t.Context(), "GET", "/metrics", nil) // asks for the certificate too
		if err != nil || a.Status != 200 {
			t.Fatalf("a broken certificate has ended the service: %+v, %v", a, err)
		}
		return strings.Contains(log.String(), "the one before is kept")
	})
	if a, err := still.Do(t.Context(), "GET", "/metrics", nil); err != nil || !strings.Contains(string(a.Body), told(second)) {
		t.Errorf("%v", err)
	}
}

// A certificate that cannot be used is told of at the start.
func TestACertificateThatCannotBeUsedIsToldOf(t *testing.T) {
	dir := t.TempDir()
	for _, c := range [][2]string{{filepath.Join(dir, "absent"), filepath.Join(dir, "absent")}, {"some", ""}, {"", "some"}} {
		cfg := config()
		cfg.TLSCert, cfg.TLSKey = c[0], c[1]
		if n, err := node.Open(t.Context(), cfg, t.TempDir(), slog.New(slog.DiscardHandler), node.Options{}); err == nil {
			t.Errorf("%v is taken: %v", c, n.Close())
		}
	}
}
