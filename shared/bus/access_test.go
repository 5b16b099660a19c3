package bus_test

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"ehi-server/shared/bus"
	"ehi-server/shared/certtest"
)

// The embedded NATS lets in who knows its password, and tells others so at once instead of
// letting them wait.
func TestTheEmbeddedNATSAsksForItsPassword(t *testing.T) {
	b, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags: bus.Flags{
			Listen: "127.0.0.1:0",
			Dial:   bus.Dial{Access: bus.Access{Password: "right"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for _, password := range []string{"", "wrong"} {
		began := time.Now()
		other, err := bus.Open(t.Context(), bus.Config{
			Flags: bus.Flags{
				URL:  b.ClientURL(),
				Dial: bus.Dial{Wait: time.Minute, Access: bus.Access{Password: password}},
			},
		})
		if !errors.Is(err, nats.ErrAuthorization) || time.Since(began) > 10*time.Second {
			t.Errorf("%q: %v after %v", password, err, time.Since(began))
		}
		if err == nil {
			other.Close()
		}
	}
	other, err := bus.Open(t.Context(), bus.Config{
		Flags: bus.Flags{URL: b.ClientURL(), Dial: bus.Dial{Access: bus.Access{Password: "right"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Without a password the embedded NATS listens to this machine only.
func TestTheEmbeddedNATSIsNotOpenToOtherMachines(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		b, err := bus.Open(t.Context(), bus.Config{
			StoreDir: t.TempDir(),
			Flags:    bus.Flags{Listen: listen},
		})
		if !errors.Is(err, bus.ErrOpen) {
			t.Errorf("%s: %v", listen, err)
		}
		if err == nil {
			b.Close()
		}
	}
}

// An external NATS that speaks TLS is joined with the certificate of who has signed its own, and
// not without.
func TestAnExternalNATSIsJoinedOverTLS(t *testing.T) {
	cert, key := certtest.SelfSigned(t, t.TempDir(), time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	external, err := server.NewServer(&server.Options{
		JetStream: true,
		StoreDir:  t.TempDir(),
		Host:      "127.0.0.1",
		Port:      server.RANDOM_PORT,
		NoSigs:    true,
		NoLog:     true,
		Username:  "ehi",
		Password:  "right",
		TLS:       true,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
	})
	if err != nil {
		t.Fatal(err)
	}
	external.Start()
	t.Cleanup(func() { external.Shutdown(); external.WaitForShutdown() })
	if !external.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	b, err := bus.Open(t.Context(), bus.Config{
		Flags: bus.Flags{
			URL:  external.ClientURL(),
			Dial: bus.Dial{Access: bus.Access{Password: "right", CA: cert}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if b, err := bus.Open(t.Context(),
		bus.Config{Flags: bus.Flags{
			URL:  external.ClientURL(),
			Dial: bus.Dial{Access: bus.Access{Password: "right"}},
		}}); err == nil {
		b.Close()
		t.Error("a certificate that nobody vouches for is believed")
	}
}
