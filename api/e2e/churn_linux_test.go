package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/node"
)

// from connects to the server from another address of this machine: on Linux, all of 127.0.0.0/8
// is local.
func (p *production) from(address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return d.Dial("tcp", strings.TrimPrefix(p.open.Base, "https://"))
}

// served sends one request from an address, on a new connection.
func (p *production) served(address string) error {
	plain, err := p.from(address)
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := plain.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	trusts := roots(p.t, p.cert())
	trusts.ServerName = "127.0.0.1"
	conn := tls.Client(plain, trusts)
	if err := conn.HandshakeContext(p.t.Context()); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if _, err := io.WriteString(conn,
		"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	a, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", a.Status)
	}
	return nil
}

// churn opens connections from an address as fast as it can until stop is closed. It sends a few
// bytes or makes a whole handshake, and then resets them or leaves them open.
func (p *production) churn(address string, stop <-chan struct{}) (wait func()) {
	trusts := roots(p.t, p.cert())
	trusts.ServerName = "127.0.0.1"
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			var kept []net.Conn
			defer func() {
				for _, c := range kept {
					_ = c.Close()
				}
			}()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := p.from(address)
				if err != nil {
					continue // the kernel's queue is full
				}
				_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // it was just opened
				if i%8 == 0 {                                       // the server may have closed it
					_ = tls.Client(c, trusts).Handshake()
				} else {
					// the start of a ClientHello
					_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}[:(i+n)%7])
				}
				if kept = append(kept, c); len(kept) > 100 {
					_ = kept[0].(*net.TCPConn).SetLinger(0)
					_ = kept[0].Close()
					kept = kept[1:]
				}
			}
		})
	}
	return all.Wait
}

// While one address opens and resets connections as fast as it can, and more than there is room
// for, the handshakes of clients at other addresses succeed, and they are served.
func TestChurnOfOneAddressCutsNobodyElse(t *testing.T) {
	p := startProduction(t, func(c *node.Config) { c.Connections.Most = 60 })
	stop := make(chan struct{})
	wait := p.churn("127.0.0.2", stop)
	defer func() {
		close(stop)
		wait()
	}()
	var strangers sync.WaitGroup
	for n := range 4 {
		strangers.Go(func() {
			for range 25 {
				if err := p.served(fmt.Sprintf("127.0.1.%d", n+1)); err != nil {
					t.Errorf("a stranger: %v", err)
				}
			}
		})
	}
	strangers.Wait()
}
