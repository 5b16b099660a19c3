package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ehi-server/shared/telemetry"
)

// Connections that clients reset leave no line in the log: they are counted.
func TestBrokenConnectionsLeaveNoLine(t *testing.T) {
	s := routed(t)
	s.app.Server().MaxIdleWorkerDuration = time.Millisecond // its keeper sleeps so long
	var lines bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&lines, nil))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	before := testutil.ToFloat64(telemetry.HTTPBroken)
	for i := range 10 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET / HT"[:i%8]); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	broken := func() float64 { return testutil.ToFloat64(telemetry.HTTPBroken) - before }
	for late := time.Now().Add(30 * time.Second); broken() < 10; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatalf("%v of 10 are counted", broken())
		}
	}
	if err := errors.Join(s.Shutdown(30*time.Second), <-done); err != nil {
		t.Fatal(err)
	}
	if lines.Len() > 0 {
		t.Errorf("the log says %s", lines.String())
	}
}

// Loopback and trusted proxies, in whatever spelling, have no limit of connections for each
// address.
func TestLoopbackAndTrustedProxiesHaveNoShareOfConnections(t *testing.T) {
	s := routed(t, func(c *Config) {
		c.Origins.TrustedProxies = []string{"192.0.2.7", "10.0.0.0/8"}
	})
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "192.0.2.7": true, "10.1.2.3": true,
		"192.0.2.8": false, "2001:db8::1": false,
	} {
		if got := s.conns.Exempt(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s has no limit: %v", address, got)
		}
	}
}
