package listener

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// connections returns both ends of a connection over loopback. The server's end comes from a
// listener of this package, with TLS if config is not nil.
func connections(t *testing.T, config *tls.Config) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ln, _ = New(Config{Flags: Flags{Stall: time.Minute}, TLS: config}).Listen(ln)
	dialled := make(chan net.Conn, 1)
	go func() {
		defer close(dialled)
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		if config != nil {
			// Its certificate is generated below.
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		if _, err := c.Write([]byte("GET")); err != nil {
			t.Error(err)
		}
		dialled <- c
	}()
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if _, err := io.ReadFull(server, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	client, ok := <-dialled
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { client.Close() })
	return server, client
}

// secured returns a configuration with a self-signed certificate.
func secured(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

func watching(t *testing.T) *HangUps {
	t.Helper()
	h, err := NewHangUps()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func wantGone(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody noticed that the client hung up")
	}
}

func wantThere(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
		t.Error("a client that is there seems gone")
	default:
	}
}

// A client that closes its connection is noticed, with and without TLS, even if it did so before
// Watch. Data that it sends meanwhile does not count as closing.
func TestAClientThatHangsUpIsNoticed(t *testing.T) {
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": secured(t)} {
		t.Run(name, func(t *testing.T) {
			h := watching(t)
			server, client := connections(t, config)
			gone, forget := h.Watch(server)
			if _, err := client.Write([]byte("more")); err != nil {
				t.Fatal(err)
			}
			other, leaves := connections(t, config)
			otherGone, forgetOther := h.Watch(other)
			leaves.Close()
			wantGone(t, otherGone)
			forgetOther()
			wantThere(t, gone)
			client.Close()
			wantGone(t, gone)
			forget()
			late, forget := h.Watch(server)
			wantGone(t, late)
			forget()
		})
	}
}

// A connection that is no longer watched is not reported, and can be watched again. One that was
// closed on this side counts as gone.
func TestAConnectionThatIsForgottenIsNotWatched(t *testing.T) {
	h := watching(t)
	server, client := connections(t, nil)
	gone, forget := h.Watch(server)
	forget()
	again, forget := h.Watch(server)
	client.Close()
	wantGone(t, again)
	wantThere(t, gone)
	forget()
	server.Close()
	closed, forget := h.Watch(server)
	wantGone(t, closed)
	forget()
	if len(h.gone) != 0 {
		t.Errorf("%d connections are still watched", len(h.gone))
	}
}

// Many connections come and go at once, and descriptors are reused.
func TestManyConnectionsAreWatchedAtOnce(t *testing.T) {
	h := watching(t)
	stays, _ := connections(t, nil)
	gone, forget := h.Watch(stays)
	defer forget()
	t.Run("at once", func(t *testing.T) {
		for range 8 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for range 20 {
					server, client := connections(t, nil)
					gone, forget := h.Watch(server)
					client.Close()
					wantGone(t, gone)
					forget()
					server.Close()
				}
			})
		}
	})
	wantThere(t, gone)
}
