package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"ehi-server/api/client"
)

type readyCmd struct {
	Addr    string        `help:"Address of the server on this machine." default:"127.0.0.1:8888" env:"EHI_ADDR" form:"address"`
	TLSCert string        `help:"Certificate of the server, if it uses HTTPS." name:"tls-cert" env:"EHI_TLS_CERT" form:"text"`
	Live    bool          `help:"Check only whether the process responds, and not what it depends on."`
	Timeout time.Duration `help:"Time limit for the response." default:"5s" range:"1ms..1h"`
}

// Run asks the server.
func (r *readyCmd) Run(ctx context.Context) error {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	origin, secured := "http://"+net.JoinHostPort(host, port), (*tls.Config)(nil)
	if r.TLSCert != "" {
		origin = "https" + strings.TrimPrefix(origin, "http")
		if secured, err = trusting(r.TLSCert); err != nil {
			return err
		}
	}
	path := "/readyz"
	if r.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	open := client.NewSecured(origin, secured)
	defer open.Close()
	a, err := open.Do(ctx, "GET", path, nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%s%s answered with status %d", origin, path, a.Status)
	}
	return err
}

// trusting returns a configuration that trusts only the server's own certificate, by one of its
// names.
func trusting(path string) (*tls.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s contains no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	name := ""
	if len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	return &tls.Config{RootCAs: pool, ServerName: name}, nil
}
