package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// variants are the paths without the form, without review, and without both (EHI-1).
var variants = []string{
	"/no-form", "/auto-approve", "/no-form/auto-approve", "/auto-approve/no-form",
}

// stillOpen requires that a job still waits for its patient's choices.
func (p *target) stillOpen(job string) {
	p.t.Helper()
	j, err := p.node.Bus.Jobs.Get(p.t.Context(), job)
	if err != nil || j.Status != ehi.AwaitingInput || j.Form != nil {
		p.t.Errorf("the form is not open any more: %+v, %v", j, err)
	}
}

// openForm returns a job of an application without privileges, whose form the patient has
// opened.
func (p *target) openForm() (web *client.Client, j client.Job, ann *browser) {
	p.t.Helper()
	web, _ = p.letIn("web", "ann")
	j = p.kickOff(web, "", p.production.ann, nil)
	ann = p.loggedIn("ann")
	ann.visit(p.open.Base + "/jobs/" + j.ID + "/customize")
	ann.sees(200, "Choose what to share")
	return web, j, ann
}

// sendForm posts to a form as a program, not as a browser.
func (p *target) sendForm(
	as *client.Client, job, mime, body string, header ...string,
) *client.Answer {
	p.t.Helper()
	a, err := as.Do(p.t.Context(), "POST", "/jobs/"+job, strings.NewReader(body),
		append(slices.Clone(header), "Content-Type", mime)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// registers registers an application with a name, with the initial access token.
func (p *target) registers(name string) *client.Answer {
	p.t.Helper()
	body, err := json.Marshal(map[string]any{
		"client_name":                name,
		"redirect_uris":              []string{"https://sly.example/cb"},
		"token_endpoint_auth_method": "none",
		"scope": "launch/patient patient/$ehi-export patient/*.rs openid " +
			"fhirUser offline_access",
	})
	if err != nil {
		p.t.Fatal(err)
	}
	a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST", "/auth/register",
		bytes.NewReader(body), "Content-Type", "application/json")
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

const (
	formBody = "application/x-www-form-urlencoded"
	jsonForm = `{"parameters":{"labs":{"enabled":true}},"authorizations":{"hiv":{"value":true}}}`
)

// controlAttacks are attempts of an application to choose its own controls, or to act as the
// patient.
var controlAttacks = []attack{
	{"an application reads from metrics how much was withheld", "EHI-14", func(p *target) {
		for _, header := range [][]string{
			{"X-Forwarded-For", "203.0.113.7"},
			{"Forwarded", "for=203.0.113.7"},
			{"X-Real-Ip", "127.0.0.1"},
		} {
			p.want(p.do(p.open, "GET", "/metrics", header...), 403, "--metrics-from")
		}
		p.want(p.do(p.open, "GET", "/metrics"), 200, "ehi_jobs") // from this machine
	}},
	{"an application skips form and review", "EHI-1", func(p *target) {
		web, _ := p.letIn("web", "ann")
		for _, base := range variants {
			for _, dollar := range []string{"$", "%24"} {
				p.want(p.do(web, "POST",
					base+"/fhir/Patient/"+p.production.ann+"/"+dollar+"ehi-export"), 403,
					"may not skip")
			}
		}
	}},
	{"a backend service skips review", "EHI-1", func(p *target) {
		for _, path := range []string{
			"/auto-approve/fhir/$ehi-export",
			"/auto-approve/fhir/Patient/" + p.production.ann + "/$ehi-export",
		} {
			p.want(p.do(p.service, "POST", path), 403, "may not skip review")
		}
	}},
	{
		"an application registers this server's own pages, or what looks like a scheme of browsers",
		"RFC 8252 7.1",
		func(p *target) {
			for _, uri := range []string{
				p.open.Base + "/my/requests",
				p.open.Base,
				strings.ToUpper(p.open.Base) + "/",
				"data.x.y:/cb",
				"javascript.x.y:alert(1)",
				"https.x.y:/cb",
				"javascript:alert(1)", "data:text/html,x", "localhost.x:/cb", "uk.co:/cb",
			} {
				body, err := json.Marshal(map[string]any{
					"client_name":   "Own pages",
					"redirect_uris": []string{uri},
					"scope":         "launch/patient patient/$ehi-export",
				})
				if err != nil {
					p.t.Fatal(err)
				}
				a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST",
					"/auth/register", bytes.NewReader(body), "Content-Type", "application/json")
				if err != nil {
					p.t.Fatal(err)
				}
				p.want(a, 400, "redirect_uri")
			}
		},
	},
	{"an application registers itself with privileges", "EHI-1", func(p *target) {
		body := `{"client_name":"Sly","redirect_uris":["https://sly.example/cb"],` +
			`"scope":"launch/patient patient/$ehi-export","token_endpoint_auth_method":"none",` +
			`"may_skip_form":true,"may_skip_review":true}`
		a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST", "/auth/register",
			strings.NewReader(body), "Content-Type", "application/json")
		if err != nil || a.Status != http.StatusCreated {
			p.t.Fatalf("%+v, %v", a, err)
		}
		list, err := p.admin.Clients(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		for _, c := range list {
			if c.Name == "Sly" && c.Privileges() != "" {
				p.t.Errorf("it %s", c.Privileges())
			}
		}
	}},
	{"who may register applications registers a backend service", "RFC 7591 3", func(p *target) {
		for _, body := range []string{
			`{"client_name":"Sly","scope":"system/*.rs",` +
				`"token_endpoint_auth_method":"client_secret_basic"}`,
			`{"client_name":"Sly","redirect_uris":["https://sly.example/cb"],` +
				`"scope":"launch/patient patient/$ehi-export system/$ehi-export"}`,
			`{"client_name":"Sly","redirect_uris":["https://sly.example/cb"],` +
				`"scope":"launch/patient","grant_types":["client_credentials"]}`,
		} {
			a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST",
				"/auth/register", strings.NewReader(body), "Content-Type", "application/json")
			if err != nil {
				p.t.Fatal(err)
			}
			p.want(a, 400, "The initial access token")
		}
	}},
	{
		"an application registers for what is weaker than what is offered",
		"RFC 7591 3.2.2, RFC 9700 2.1.2",
		func(p *target) {
			for _, member := range []string{
				`"response_types":["token"]`,
				`"response_types":["code","id_token"]`,
				`"grant_types":["implicit"]`,
				`"grant_types":["password"]`,
				`"grant_types":["client_credentials"],"response_types":["code"]`,
				`"token_endpoint_auth_method":"client_secret_jwt"`,
				`"id_token_signed_response_alg":"none"`, `"dpop_bound_access_tokens":true`,
			} {
				body := `{"client_name":"Sly","redirect_uris":["https://sly.example/cb"],` +
					`"scope":"launch/patient patient/$ehi-export",` + member + `}`
				a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST",
					"/auth/register", strings.NewReader(body), "Content-Type", "application/json")
				if err != nil {
					p.t.Fatal(err)
				}
				p.want(a, 400, "invalid_client_metadata")
			}
		},
	},
	{
		"who may register applications has keys fetched from a neighbour",
		"OWASP API7 (SSRF)",
		func(p *target) {
			for _, host := range []string{
				"127.0.0.1", "127.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254",
				"10.0.0.1", "nats.internal",
			} {
				body := `{"client_name":"Sly","redirect_uris":["https://sly.example/cb"],` +
					`"scope":"launch/patient patient/$ehi-export",` +
					`"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://` + host +
					`/keys"}`
				a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST",
					"/auth/register", strings.NewReader(body), "Content-Type", "application/json")
				if err != nil {
					p.t.Fatal(err)
				}
				p.want(a, 400, "jwks_uri must be https on a public host")
			}
		},
	},
	{"an application takes another one's name", "CWE-451, UTS 39", func(p *target) {
		for _, name := range []string{
			"A web site", "A WEB SITE", "A  website", "A-Web Site!", "А wеb sitе", "Ａ ｗｅｂ ｓｉｔｅ",
			"Á web site", "4 web 5it3", "@ w3b $ite", "A vveb site", "Λ шeb sitǝ",
		} {
			p.want(p.registers(name), 400, "easily taken for the name of another client")
		}
		for range 2 { // tools register again for every run
			p.want(p.registers("A web site of somebody else"), 201, "client_id")
		}
	}},
	{"who registers itself passes for one of the hospital's", "CWE-451", func(p *target) {
		var made struct {
			ID string `json:"client_id"`
		}
		if err := json.Unmarshal(p.registers("The hospital's own app").Body, &made); err != nil {
			p.t.Fatal(err)
		}
		ann := p.loggedIn("ann")
		ann.visit(p.open.Base + "/auth/authorize?" +
			p.request("app", "client_id", made.ID, "redirect_uri",
				"https://sly.example/cb").Encode())
		ann.sees(200, "The app is at https://sly.example",
			"The hospital has not checked who runs it")
	}},
	{"guesses at the initial access token go unseen", "CWE-778", (*target).guessRegistrationToken},
	{
		"guesses at a client's secret where tokens are looked up go unseen",
		"CWE-778, RFC 7662 2.1",
		(*target).guessSecretAtIntrospection,
	},
	{"an application fills in the form", "EHI-7", func(p *target) {
		web, j, _ := p.openForm()
		p.want(p.sendForm(web, j.ID, "application/json", jsonForm), 403,
			"Only the patient can send this form")
		p.want(p.sendForm(web, j.ID, formBody, "p.labs=on"), 403, "")
		p.stillOpen(j.ID)
	}},
	{"a no in a tick box of the form is taken for a yes", "EHI-8", func(p *target) {
		_, j, ann := p.openForm()
		ann.submit("p.labs", "on", "p.visits", "no", "a.hiv", "no", "a.mentalHealth", "false",
			"a.genetic", "none")
		got, err := p.node.Bus.Jobs.Get(p.t.Context(), j.ID)
		if err != nil || got.Form == nil || len(got.Form.Parameters) != 1 ||
			len(got.Form.Authorizations) != 0 {
			p.t.Errorf("the form is %+v, %v", got.Form, err)
		}
	}},
	{"an application reads the preview", "EHI-7", func(p *target) {
		web, j, _ := p.openForm()
		for _, do := range []string{"preview", "submit"} {
			a := p.sendForm(web, j.ID, formBody, "a.hiv=on&do="+do, "Accept", "application/json")
			p.want(a, 403, "")
			if strings.Contains(string(a.Body), "counts") {
				p.t.Errorf("%s", a.Body)
			}
		}
		for _, accept := range []string{"text/html", "application/json", "*/*"} {
			a := p.do(web, "GET", "/jobs/"+j.ID+"/customize", "Accept", accept)
			if strings.Contains(string(a.Body), "interaction") || a.Status == 200 {
				p.t.Errorf("%d %s", a.Status, a.Body)
			}
		}
		p.stillOpen(j.ID)
	}},
	{"an application reads what a withheld document holds", "EHI-9", func(p *target) {
		web, _ := p.letIn("web", "ann")
		for _, accept := range []string{"*/*", "application/fhir+json"} {
			p.want(p.do(web, "GET", "/fhir/Binary/of-a-document", "Accept", accept), 403,
				"only with an export")
		}
	}},
	{"an application ticks the patient's form beforehand", "EHI-7", func(p *target) {
		web, j, ann := p.openForm()
		p.want(p.sendForm(web, j.ID, formBody, "a.hiv=on&p.labs=on&do=preview"), 403, "")
		ann.visit(p.open.Base + "/jobs/" + j.ID + "/customize")
		ann.sees(200, "Choose what to share")
		if strings.Contains(ann.page, " checked") {
			p.t.Error("the form is ticked")
		}
	}},
	{"an application uses the page's token", "EHI-7", func(p *target) {
		web, j, ann := p.openForm()
		token := ann.field("interaction")
		for _, as := range []*client.Client{web, p.open, p.bob} {
			p.want(p.sendForm(as, j.ID, "application/json", jsonForm, "X-Interaction-Token", token),
				403, "expired")
			p.want(p.sendForm(as, j.ID, formBody,
				url.Values{"interaction": {token}, "p.labs": {"on"}}.Encode()), 403, "expired")
		}
		p.stillOpen(j.ID)
	}},
	{"the page's token in another patient's session", "EHI-7", func(p *target) {
		_, j, ann := p.openForm()
		bob := p.loggedIn("bob")
		bob.forge(p.open.Base+"/jobs/"+j.ID, p.open.Base+"/jobs/"+j.ID+"/customize",
			url.Values{"interaction": {ann.field("interaction")}, "p.labs": {"on"}}.Encode())
		bob.sees(403, "expired")
		p.stillOpen(j.ID)
	}},
	{
		"another site's page sends the patient's form in the patient's own session",
		"EHI-7",
		func(p *target) {
			_, j, ann := p.openForm()
			token, mine := ann.field("interaction"), []string{"Cookie", ann.cookies()}
			body := url.Values{"interaction": {token}, "p.labs": {"on"}, "a.hiv": {"on"}}.Encode()
			for _, header := range [][]string{
				{"Origin", "https://sly.example"},
				{"Origin", "null"},
				{"Origin", strings.Replace(p.open.Base, "https:", "http:", 1)},
				{"Sec-Fetch-Site", "cross-site"},
				{"Sec-Fetch-Site", "same-site"},
				{"Origin", p.open.Base, "Sec-Fetch-Site", "cross-site"},
			} {
				header = append(slices.Clone(mine), header...)
				for _, do := range []string{"", "&do=preview", "&lang=es"} {
					p.want(p.sendForm(p.open, j.ID, formBody, body+do, header...), 403,
						"another site")
				}
				p.want(p.sendForm(p.open, j.ID, "application/json", jsonForm,
					append(header, "X-Interaction-Token", token)...), 403, "another site")
			}
			p.stillOpen(j.ID)
			ann.visit(p.open.Base + "/jobs/" + j.ID + "/customize")
			if strings.Contains(ann.page, " checked") {
				p.t.Error("the form is ticked")
			}
		},
	},
	{"the form of a patient who has signed out", "EHI-7", func(p *target) {
		_, j, ann := p.openForm()
		open := *ann
		ann.visit(p.open.Base + "/my/requests")
		ann.submitTo("/patient-logout")
		open.submit("p.labs", "on")
		open.sees(200, "Sign in")
		p.stillOpen(j.ID)
	}},
	{"the form of an application whose access was withdrawn", "EHI-7", func(p *target) {
		_, j, ann := p.openForm()
		p.withdraw("ann", j.ID)
		ann.submit("p.labs", "on")
		ann.sees(404, "not found")
		p.gone(j.ID)
	}},
	{"an export of a withdrawn authorization by a new one", "RFC 7009 2.1", func(p *target) {
		app, _ := p.letIn("app", "ann")
		j := p.released(app, p.production.ann, 1)
		p.withdraw("ann", j.ID)
		again, _ := p.letIn("app", "ann")
		p.everyJobRoute(again, j.ID, 404)
	}},
	{"the form of an application that was removed", "EHI-7", func(p *target) {
		_, j, ann := p.openForm()
		registered, err := p.admin.Client(p.t.Context(), "web")
		if err == nil {
			err = p.admin.RemoveClient(p.t.Context(), "web")
		}
		if err != nil {
			p.t.Fatal(err)
		}
		ann.submit("p.labs", "on")
		ann.sees(404, "not found")
		p.gone(j.ID)
		if _, p.secrets["web"], err = p.admin.AddClient(p.t.Context(), registered); err != nil {
			p.t.Fatal(err)
		}
	}},
	{"tokens that an account let in which was removed", "OWASP API2", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(),
			auth.Account{Name: "proxy", Patient: p.production.ann}, patientPassword)
		if err != nil {
			p.t.Fatal(err)
		}
		_, got := p.letIn("app", "proxy")
		if err := p.admin.RemoveAccount(p.t.Context(), "patient", "proxy"); err != nil {
			p.t.Fatal(err)
		}
		p.noBearer(got.AccessToken)
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
		}), 400, "invalid_grant")
	}},
}

// The sandbox offers the variants to everybody, and accepts a form from a client, as the
// client's own act.
func TestEHI1TheSandboxKeepsItsAidsForTests(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	for _, base := range variants {
		w.kickOff(pat, base, p, nil)
	}
	j := w.kickOff(pat, "", p, nil)
	w.submit(pat, j.ID, newForm("labs"))
	if got := w.wait(j.ID, ehi.Retrieved); got.ID != j.ID {
		t.Errorf("%+v", got)
	}
	record, err := w.node.Bus.Jobs.Get(t.Context(), j.ID)
	if err != nil || record.RequestedBy != "client "+auth.SandboxClientID {
		t.Errorf("the form was filled in by %q, %v", record.RequestedBy, err)
	}
}

// If two administrators must approve, nobody can skip review.
func TestEHI1FourEyesAreNeverSkipped(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Jobs.FourEyes = true
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	for _, base := range variants {
		a := w.do(pat, "POST", base+"/fhir/Patient/"+p+"/$ehi-export")
		if strings.Contains(base, "auto-approve") {
			w.want(a, 403, "Two administrators")
		} else {
			w.want(a, 202, "")
		}
	}
}

// The consent page says what will really happen for the application.
func TestEHI1TheConsentPageSaysWhatControlsTheApplication(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		client   string
		fourEyes bool
		says     []string
		not      string
	}{
		{"web", false, []string{"you choose what the copy includes",
			"The hospital reviews each copy"}, "does not have to ask you"},
		{"app", false, []string{"does not have to ask you", "nobody at the hospital has reviewed"},
			"ou choose"},
		{"app", true, []string{"does not have to ask you", "The hospital reviews each copy"},
			"ou choose"},
	} {
		p := &target{
			production: startProduction(t, func(cfg *node.Config) { cfg.Jobs.FourEyes = c.fourEyes }),
		}
		b := p.loggedIn("ann")
		b.visit(p.open.Base + "/auth/authorize?" + p.request(c.client).Encode())
		b.sees(200, c.says...)
		if strings.Contains(b.page, c.not) {
			t.Errorf("%s: the consent page says %q: %s", c.client, c.not, b.page)
		}
		// The page does not promise what the application cannot get in production (see
		// TestAttacksAreRefused).
		if body := b.page; strings.Contains(body, "Read the documents") {
			t.Errorf("%s: the consent page promises documents one by one: %s", c.client, body)
		}
		p.letIn(c.client, "ann")
		b.visit(p.open.Base + "/my/applications")
		b.sees(200, c.says...)
		if strings.Contains(b.page, c.not) {
			t.Errorf("%s: the list of applications says %q: %s", c.client, c.not, b.page)
		}
	}
}

const strangersGuess = "guessed-by-a-stranger"

func (p *target) guessRegistrationToken() {
	p.t.Helper()
	a, err := p.open.WithToken(strangersGuess).Do(p.t.Context(), "POST", "/auth/register",
		strings.NewReader("{}"), "Content-Type", "application/json")
	if err != nil {
		p.t.Fatal(err)
	}
	p.want(a, 401, "invalid_token")
	p.leavesEvent("register", "invalid_token")
}

func (p *target) guessSecretAtIntrospection() {
	p.t.Helper()
	form := url.Values{
		"client_id":     {"web"},
		"client_secret": {strangersGuess},
		"token":         {strangersGuess},
	}
	p.want(p.post("/auth/introspect", form), 401, "invalid_client")
	p.leavesEvent("token", "introspect: invalid_client")
}

// leavesEvent waits for an event of an action with a text, and requires that the trail repeats
// no guess.
func (p *target) leavesEvent(action, says string) {
	p.t.Helper()
	var all string
	await(p.t, "the refusal in the trail", func() bool {
		all = string(p.do(p.admin, "GET", "/admin/audit?action="+action+"&limit=0").Body)
		return strings.Contains(all, says)
	})
	if strings.Contains(all, strangersGuess) {
		p.t.Errorf("the trail repeats a guess:\n%s", all)
	}
}
