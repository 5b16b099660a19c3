package e2e

import (
	"net/url"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
)

// The session of the configured administrator ends when the server restarts with another
// password, name or mode, even if the first ones return later. It continues if the server
// restarts with the same ones.
func TestSessionsOfTheConfiguredAdministratorEndWithTheConfiguration(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := config()
	first.Admin.User, first.Admin.Password = "root", adminPassword
	var cookie string
	t.Run("at first", func(t *testing.T) {
		w := start(t, data, first, node.Options{})
		a, err := w.open.Do(t.Context(), "POST", "/admin/login",
			strings.NewReader(`{"username":"root","password":"`+adminPassword+`"}`), "Content-Type",
			"application/json")
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
	password.Admin.Password += " by another"
	name.Admin.User = "admin"
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

// What a sandbox authorized for a patient, whom anybody could choose, opens nothing once its
// data folder belongs to a server in production mode with the same address.
func TestASandboxLetsNobodyIntoProduction(t *testing.T) {
	t.Parallel()
	data, cfg := t.TempDir(), productionConfig(t)
	sandbox := cfg
	sandbox.Mode = "sandbox"
	var patient string
	var got tokens
	opens := func(p *production) int {
		return p.do(p.open.WithToken(got.AccessToken), "GET", "/fhir/Patient/"+patient).Status
	}
	t.Run("the sandbox", func(t *testing.T) {
		p := &production{world: start(t, data, sandbox, node.Options{})}
		patient = p.demoPatient()
		app := auth.Client{
			ID:           "app",
			Name:         "An app",
			RedirectURIs: []string{appRedirect},
			Scope:        appScope,
		}
		if _, _, err := p.admin.AddClient(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		a := p.do(p.open, "GET",
			"/auth/authorize?"+p.request("app", "_patient", patient, "_auth_success", "1").Encode())
		back, err := url.Parse(a.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		got = p.tokens(p.post("/auth/token", p.redemption("app", back.Query().Get("code"))))
		if status := opens(p); status != 200 {
			t.Errorf("its own token opens %d", status)
		}
	})
	t.Run("production", func(t *testing.T) {
		p := &production{world: start(t, data, cfg, node.Options{})}
		if status := opens(p); status != 401 {
			t.Errorf("the sandbox's token opens %d", status)
		}
		refresh := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
		}
		p.want(p.post("/auth/token", refresh), 400, "invalid_grant")
	})
}
