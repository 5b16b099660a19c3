package e2e

import (
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
)

// The session of the configured administrator ends when the server comes back with another password,
// name or mode, also when the first ones come back, and goes on when it comes back with the same ones.
func TestSessionsOfTheConfiguredAdministratorEndWithTheConfiguration(t *testing.T) {
	data := t.TempDir()
	first := config()
	first.AdminUser, first.AdminPassword = "root", adminPassword
	var cookie string
	t.Run("at first", func(t *testing.T) {
		w := start(t, data, first, node.Options{})
		a, err := w.open.Do(t.Context(), "POST", "/admin/login", strings.NewReader(`{"username":"root","password":"`+adminPassword+`"}`), "Content-Type", "application/json")
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		for _, set := range a.Header.Values("Set-Cookie") {
			if name, rest, _ := strings.Cut(set, "="); strings.HasSuffix(name, "sid") {
				id, _, _ := strings.Cut(rest, ";")
				cookie = "sid=" + id + "; __Host-sid=" + id
			}
		}
	})
	password, name, production := first, first, productionConfig(t)
	password.AdminPassword += " by another"
	name.AdminUser = "admin"
	for _, c := range []struct {
		what   string
		cfg    node.Config
		status int
	}{
		{"the same", first, 200}, {"another password", password, 401}, {"another name", name, 401},
		{"another mode", production, 401}, {"the first again", first, 401},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := start(t, data, c.cfg, node.Options{})
			jobs := func(c *client.Client, header ...string) *client.Answer {
				return w.do(c, "GET", "/admin/jobs", header...)
			}
			if a := jobs(w.open, "Cookie", cookie); a.Status != c.status {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			w.want(jobs(w.admin), 200, "[")
		})
	}
}
