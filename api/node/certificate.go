package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"ehi-server/shared/telemetry"
)

// TLSFlags are the certificate of the server, and its key.
type TLSFlags struct {
	Cert string `name:"tls-cert" help:"PEM file with the server's certificate and its chain, for HTTPS. The server reloads it when it changes." env:"EHI_TLS_CERT" form:"text"`
	Key  string `name:"tls-key" help:"PEM file with the private key of --tls-cert." env:"EHI_TLS_KEY" form:"text"`
}

// certificate is the pair of --tls-cert and --tls-key. It is read anew when one of the files has
// changed, so that a renewal needs no restart; files that do not fit, because only one of them
// has been renewed so far, change nothing.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	state   string // of the files, when they were looked at last
	checked time.Time
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// newCertificate reads the files. Errors: one is absent or they do not fit.
func newCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	if cert == "" || key == "" {
		return nil, errors.New("TLS needs both a certificate (--tls-cert) and its key (--tls-key)")
	}
	c := &certificate{cert: cert, key: key, log: log}
	return c, c.load()
}

// config is that of a listener; nil where there is no certificate.
func (c *certificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.refresh()
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.pair, nil
		},
	}
}

// refresh reads the files where they have changed.
func (c *certificate) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < lookEvery {
		return
	}
	c.checked = time.Now()
	if state := stateOf(c.cert) + stateOf(c.key); state != c.state {
		if err := c.load(); err != nil {
			c.log.Warn("the certificate has changed and cannot be used: the one before is kept",
				"err", err)
			return
		}
		c.log.Info("the certificate was read anew", "expires", c.pair.Leaf.NotAfter)
	}
}

func (c *certificate) load() error {
	c.state = stateOf(c.cert) + stateOf(c.key)
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	c.pair = &pair
	telemetry.CertificateExpiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	return nil
}

// stateOf tells one version of a file from another.
func stateOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size())
}
