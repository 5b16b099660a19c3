package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"ehi-server/api/client"
)

// Each start notes who the configured administrator is: a session does not come back with a
// password that was configured before.
func TestASessionDoesNotComeBackWithAnEarlierPassword(t *testing.T) {
	cfg, err := Defaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr, cfg.Demo, cfg.Worker.Workers = "127.0.0.1:0", false, 0
	data := t.TempDir()
	var session *client.Client
	for _, c := range []struct {
		password string
		status   int
	}{
		{"four plain words here", 200},
		{"four plain words here", 200},
		{"four other words here", 401},
		{"four plain words here", 401},
	} {
		cfg.Admin.Password = c.password
		serving(t, cfg, data, func(n *Node) {
			open := client.New(n.URL)
			defer open.Close()
			if session == nil {
				if session, err = open.AdminLogin(t.Context(), cfg.Admin.User,
					c.password); err != nil {
					t.Fatal(err)
				}
			}
			session.Base = n.URL
			a, err := session.Do(t.Context(), "GET", "/admin/jobs", nil)
			if err != nil || a.Status != c.status {
				t.Errorf("with the password %q: %+v, %v", c.password, a, err)
			}
		})
	}
	session.Close()
}

// serving calls ask while a node serves.
func serving(t *testing.T, cfg Config, data string, ask func(*Node)) {
	t.Helper()
	n, err := Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	}()
	ask(n)
}
