package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/certtest"
	"ehi-server/shared/ehi"
)

// Clients and users that are registered at a production server of tests.
const (
	adminPassword   = "the administrator's own"
	staffPassword   = "a password of the staff"
	patientPassword = "a password of a patient"
	appRedirect     = "https://app.example/cb"
	webRedirect     = "https://web.example/cb"
	appScope        = "patient/$ehi-export patient/*.rs launch/patient openid fhirUser " +
		"offline_access"
	verifier = "a-verifier-of-at-least-forty-three-characters-x"
)

// production is a server in production mode, over TLS. It has a public application (app), one
// with a secret (web), a backend service with keys (svc), a resource server (gate), two patients
// with accounts (ann, bob) and an administrator of each role.
type production struct {
	*world
	ann, bob string            // ids of the patients
	secrets  map[string]string // by client id
	svcKeys  []byte            // private JWKS
	clock    *stoppedClock
}

// freeAddr returns a loopback address on which nobody listens at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // only its port was wanted
	return ln.Addr().String()
}

// productionConfig returns a configuration that is valid in production mode.
func productionConfig(t *testing.T) node.Config {
	cfg := config()
	cfg.Mode, cfg.Admin.User, cfg.Admin.Password, cfg.Auth.SandboxSecret =
		"production", "root", adminPassword, ""
	cfg.Admin.SecondFactor = new(false) // the tests of second factors set it
	cfg.TLS.Cert, cfg.TLS.Key = certtest.SelfSigned(t, t.TempDir(), time.Now().Add(24*time.Hour))
	cfg.Addr = freeAddr(t)
	cfg.BaseURL = "https://" + cfg.Addr
	return cfg
}

// stoppedClock is the clock of sign-ins. Tests may stop it, because the pause after five wrong
// passwords is a second, in which a slow machine may not be able to test a refusal.
type stoppedClock struct{ at atomic.Pointer[time.Time] }

func (c *stoppedClock) now() time.Time {
	if at := c.at.Load(); at != nil {
		return *at
	}
	return time.Now()
}

// stop stops the clock until goOn is called.
func (c *stoppedClock) stop() (goOn func()) {
	at := time.Now()
	c.at.Store(&at)
	return func() { c.at.Store(nil) }
}

func startProduction(
	t *testing.T, change func(*node.Config), options ...func(*node.Options),
) *production {
	t.Helper()
	data := threePatients(t)
	cfg := productionConfig(t)
	if change != nil {
		change(&cfg)
	}
	clock := &stoppedClock{}
	opts := node.Options{Now: clock.now}
	for _, set := range options {
		set(&opts)
	}
	p := &production{world: start(t, data, cfg, opts), clock: clock}
	list, err := p.node.Patients(t.Context(), 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	p.ann, p.bob = list[0].ID, list[1].ID
	p.register(filepath.Join(data, "svc.json"))
	return p
}

// threePatients returns a data folder with the records of three patients.
func threePatients(t *testing.T) (data string) {
	t.Helper()
	return generated(t, synthetic.Config{Patients: 3, Seed: 5})
}

// generated returns a data folder with synthetic records.
func generated(t *testing.T, population synthetic.Config) (data string) {
	t.Helper()
	data = t.TempDir()
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Generate(t.Context(), population, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}

func (p *production) register(keys string) {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	p.secrets = map[string]string{}
	var err error
	if p.svcKeys, err = auth.SandboxKeys(keys); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.admin.AddClient(ctx, auth.Client{
		ID:              "app",
		Name:            "An application",
		RedirectURIs:    []string{appRedirect, "http://127.0.0.1/cb"},
		MaySkipForm:     true,
		MaySkipReview:   true,
		RedirectOrigins: []string{"https://portal.example"},
		Scope:           appScope,
	})
	if err == nil {
		_, p.secrets["web"], err = p.admin.AddClient(ctx, auth.Client{
			ID:           "web",
			Name:         "A web site",
			Kind:         auth.Symmetric,
			RedirectURIs: []string{webRedirect},
			Scope:        appScope,
		})
	}
	if err == nil {
		_, p.secrets["gate"], err = p.admin.AddClient(ctx, auth.Client{
			ID:         "gate",
			Name:       "A gateway",
			Kind:       auth.Symmetric,
			Introspect: true,
		})
	}
	if err == nil {
		_, _, err = p.admin.AddClient(ctx, auth.Client{
			ID:    "svc",
			Name:  "A service",
			Kind:  auth.Asymmetric,
			Scope: "system/*.rs system/$ehi-export",
			JWKS:  publicKeys(t, p.svcKeys),
		})
	}
	for _, a := range []auth.Account{
		{Name: "ann", Patient: p.ann},
		{Name: "bob", Patient: p.bob},
		{Name: "vera", Role: auth.Viewer},
		{Name: "rita", Role: auth.Reviewer},
		{Name: "ada", Role: auth.Admin},
	} {
		password := staffPassword
		if a.Patient != "" {
			password = patientPassword
		}
		if err == nil {
			_, err = p.admin.AddAccount(ctx, a, password)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// person returns a browser that trusts the server.
func (p *production) person() *browser {
	b := newBrowser(p.t)
	transport := &http.Transport{TLSClientConfig: roots(p.t, p.cert())}
	b.http.Transport = transport
	p.t.Cleanup(transport.CloseIdleConnections)
	return b
}

func (p *production) cert() string { return p.node.Config().TLS.Cert }

// request returns an authorization request of a client.
func (p *production) request(id string, change ...string) url.Values {
	h := sha256.Sum256([]byte(verifier))
	redirect := map[string]string{"app": appRedirect, "web": webRedirect}[id]
	q := url.Values{
		"response_type":         {"code"},
		"client_id":             {id},
		"redirect_uri":          {redirect},
		"scope":                 {appScope},
		"state":                 {"a state"},
		"nonce":                 {"a nonce"},
		"aud":                   {p.open.Base + "/fhir"},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(h[:])},
		"code_challenge_method": {"S256"},
	}
	return changed(q, change)
}

// changed sets pairs of name and value; an empty value deletes the name.
func changed(q url.Values, change []string) url.Values {
	for i := 0; i+1 < len(change); i += 2 {
		if q.Set(change[i], change[i+1]); change[i+1] == "" {
			q.Del(change[i])
		}
	}
	return q
}

// code signs a patient in, consents, and returns the application's code.
func (p *production) code(account string, request url.Values) string {
	p.t.Helper()
	b := p.person()
	b.visit(p.open.Base + "/auth/authorize?" + request.Encode())
	b.sees(200, "Sign in")
	b.submit("username", account, "password", patientPassword)
	b.sees(200, "Allow access?")
	b.submit("decision", "allow")
	code := b.at.Query().Get("code")
	if code == "" || b.at.Query().Get("iss") != p.open.Base ||
		b.at.Query().Get("state") != request.Get("state") {
		p.t.Fatalf("back at the application: %s", b.at)
	}
	return code
}

// post sends a form.
func (p *production) post(path string, form url.Values, header ...string) *client.Answer {
	p.t.Helper()
	a, err := p.open.Do(p.t.Context(), "POST", path, strings.NewReader(form.Encode()),
		append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// redemption returns the token request for a code.
func (p *production) redemption(id, code string, change ...string) url.Values {
	redirect := map[string]string{"app": appRedirect, "web": webRedirect}[id]
	f := url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {redirect},
		"client_id":     {id},
		"code_verifier": {verifier},
	}
	if id == "web" {
		f.Set("client_secret", p.secrets["web"])
	}
	return changed(f, change)
}

// publicKeys returns the public half of a JWKS.
func publicKeys(t *testing.T, private []byte) []byte {
	t.Helper()
	set, err := jwk.Parse(private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jwk.PublicSetOf(set)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var discard = slog.New(slog.DiscardHandler)

type tokens struct {
	client.Tokens
	IDToken string `json:"id_token"`
}

// tokens reads a response of the token endpoint.
func (p *production) tokens(a *client.Answer) (out tokens) {
	p.t.Helper()
	p.world.want(a, 200, "access_token")
	if err := json.Unmarshal(a.Body, &out); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// letIn authorizes an application completely and returns its tokens.
func (p *production) letIn(id, account string) (*client.Client, tokens) {
	p.t.Helper()
	got := p.tokens(p.post("/auth/token", p.redemption(id, p.code(account, p.request(id)))))
	return p.open.WithToken(got.AccessToken), got
}

// staff signs an administrator in.
func (p *production) staff(name string) *client.Client {
	p.t.Helper()
	c, err := p.open.AdminLogin(p.t.Context(), name, staffPassword)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// The whole flow in production mode, over TLS: sign-in with an account, consent, tokens, form,
// export, approval by two, download, renewal, and the end at the patient's request, with the
// audit trail of all that.
func TestProductionModeServesTheWholeFlowOverTLS(t *testing.T) {
	t.Parallel()
	p := startProduction(t, func(c *node.Config) { c.Jobs.FourEyes = true })
	for _, id := range []string{"app", "web"} {
		pat, got := p.letIn(id, "ann")
		if got.Patient != p.ann || got.RefreshToken == "" || got.IDToken == "" {
			t.Fatalf("%+v", got)
		}
		p.want(p.do(pat, "GET", "/fhir/Patient/"+p.ann), 200, `"id":"`+p.ann+`"`)
		j := p.kickOff(pat, "", p.ann, nil)
		b := p.person()
		b.visit(p.open.Base + "/jobs/" + j.ID + "/customize?_patient=" + p.ann +
			"&redirect=https%3A%2F%2Fportal.example%2Fdone")
		b.sees(200, "Sign in")
		b.submit("username", "ann", "password", patientPassword)
		b.sees(200, "Choose what to share")
		b.submit("p.labs", "on", "p.visits", "on")
		if id == "app" && b.at.String() != "https://portal.example/done" {
			t.Errorf("behind the form: %s", b.at)
		}
		p.wait(j.ID, ehi.Retrieved)
		rita, ada := p.staff("rita"), p.staff("ada")
		job, err := rita.Act(t.Context(), j.ID, "approve")
		if err != nil || job.Status != ehi.Retrieved {
			t.Fatalf("one approval: %+v, %v", job, err)
		}
		_, err = rita.Act(t.Context(), j.ID, "approve")
		if err == nil || !strings.Contains(err.Error(), "second administrator") {
			t.Errorf("approved twice by one: %v", err)
		}
		if job, err := ada.Act(t.Context(), j.ID, "approve"); err != nil ||
			job.Status != ehi.Approved {
			t.Fatalf("two approvals: %+v, %v", job, err)
		}
		if out, _ := p.download(pat, p.manifest(pat, j)); len(out) == 0 {
			t.Error("nothing was exported")
		}
		form := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {id},
		}
		if id == "web" {
			form.Set("client_secret", p.secrets["web"])
		}
		renewed := p.tokens(p.post("/auth/token", form))
		again := p.open.WithToken(renewed.AccessToken)
		p.want(p.do(again, "GET", j.StatusURL), 200, "")
		b.visit(p.open.Base + "/my/applications")
		b.sees(200, "Apps with access",
			map[string]string{"app": "An application", "web": "A web site"}[id])
		b.submit()
		b.sees(200, "No apps have access")
		p.want(p.do(again, "GET", j.StatusURL), 401, "Invalid token")
		p.want(p.do(pat, "GET", j.StatusURL), 401, "Invalid token")
	}
	p.auditTells()
}

// auditTells reads the trail of the flow. One query returns the accounting of disclosures for a
// patient.
func (p *production) auditTells() {
	t := p.t
	t.Helper()
	read := func(query string) (actions []string) {
		t.Helper()
		a := p.do(p.staff("ada"), "GET", "/admin/audit?"+query)
		p.want(a, 200, "")
		for line := range strings.Lines(string(a.Body)) {
			var e struct {
				ResourceType, Recorded, Outcome string
				Subtype                         []struct{ Code string }
				Agent                           []struct {
					Name    string
					Network struct{ Address string }
				}
			}
			err := json.Unmarshal([]byte(line), &e)
			if err != nil || e.ResourceType != "AuditEvent" ||
				e.Agent[0].Network.Address != "127.0.0.1" {
				t.Fatalf("%s: %v", line, err)
			}
			actions = append(actions, e.Subtype[0].Code+" by "+e.Agent[0].Name)
		}
		return actions
	}
	await(t, "the trail", func() bool { return len(read("action=withdraw")) == 2 })
	told := read("patient=" + p.ann + "&action=disclose")
	if fmt.Sprint(told) != fmt.Sprint([]string{"disclose by patient " +
		p.ann, "disclose by patient " + p.ann}) {
		t.Errorf("the accounting of disclosures: %v", told)
	}
	if told := read("action=disclose&patient=" + p.bob); len(told) != 0 {
		t.Errorf("of another patient: %v", told)
	}
	all := strings.Join(read("limit=0"), "\n")
	for _, want := range []string{
		"log-in by patient " + p.ann, "authorize by patient " + p.ann, "token by client app",
		"token by client web", "kick-off by patient " + p.ann, "form by patient " + p.ann,
		"approve by admin rita", "approve by admin ada", "disclose by patient " + p.ann,
		"withdraw by patient " + p.ann, "read by patient " + p.ann, "administrate by admin root",
		"log-in by admin root",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the trail lacks %q:\n%s", want, all)
		}
	}
	if page := read("limit=3"); len(page) != 3 {
		t.Errorf("a page of three: %v", page)
	}
	if none := read("from=2999-01-01"); len(none) != 0 {
		t.Errorf("of the future: %v", none)
	}
}

// Production mode refuses configurations that are unsafe for patients' records, and lists all
// problems at once.
func TestProductionModeSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Mode, cfg.Tokens.Open, cfg.Patients.Login = "production", true, "picker"
	cfg.Registration.Token, cfg.Source.Spec, cfg.Bus.Listen =
		"short", "synthetic:patients=3", "127.0.0.1:0"
	_, err := node.Open(t.Context(), cfg, t.TempDir(), discard, node.Options{})
	for _, reason := range []string{
		"--base-url", "--tls-cert", "--admin-password is the default", "--open",
		"--patient-login picker", "--registration-token", "--source synthetic", "--nats-listen",
		"there is no administrator",
	} {
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("it does not say %q: %v", reason, err)
		}
	}
	cfg = productionConfig(t)
	cfg.Admin.Password = ""
	_, err = node.Open(t.Context(), cfg, t.TempDir(), discard, node.Options{})
	if err == nil || !strings.Contains(err.Error(), "there is no administrator") ||
		strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("without an administrator: %v", err)
	}
	cfg.Admin.Password = "short"
	_, err = node.Open(t.Context(), cfg, t.TempDir(), discard, node.Options{})
	if err == nil ||
		!strings.Contains(err.Error(), "--admin-password: A password has at least 12") {
		t.Errorf("a short password: %v", err)
	}
}

// Production mode has nothing of the sandbox (SMART-10).
func TestProductionModeHasNothingOfTheSandbox(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	q := p.request("app", "client_id", client.ClientID, "_patient", p.ann, "_auth_success", "1")
	p.want(p.do(p.open, "GET", "/auth/authorize?"+q.Encode()), 400,
		`Invalid \"client_id\" parameter`)
	p.want(p.post("/auth/token", url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {client.ClientID},
		"client_secret": {"test_client_secret"},
		"scope":         {"system/*.rs"},
	}), 401, "invalid_client")
	if _, err := p.open.AdminLogin(t.Context(), "admin", "admin-password"); err == nil {
		t.Error("the sandbox's administrator logs in")
	}
	a := p.do(p.open, "GET",
		"/auth/authorize?"+p.request("app", "_patient", p.ann, "_auth_success", "1").Encode())
	if a.Status != 302 || !strings.HasPrefix(a.Header.Get("Location"), "/authorize-app?") {
		t.Errorf("the shortcut leads to %q", a.Header.Get("Location"))
	}
	b := p.person()
	b.visit(p.open.Base + "/patient-login")
	b.submit("username", p.ann, "password", "any", "patient", p.ann)
	b.sees(401, "wrong password")
	if strings.Contains(b.page, "<select") {
		t.Error("there is a picker")
	}
	p.want(p.do(p.open, "GET", "/"), 200, "")
	if strings.Contains(string(p.do(p.open, "GET", "/").Body), "sandbox") {
		t.Error("the front page speaks of a sandbox")
	}
	for _, path := range []string{"/", "/docs/api"} {
		a := p.do(p.open, "GET", path)
		if strings.Contains(string(a.Body), "test_client") ||
			strings.Contains(string(a.Body), "console.js") {
			t.Errorf("%s offers the sandbox's client", path)
		}
	}
	info, err := os.Stat(filepath.Join(p.data, "test_client_keys.json"))
	if err == nil {
		t.Errorf("the sandbox's keys were made: %v", info)
	}
}
