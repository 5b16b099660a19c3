package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
)

// refusal is one kind of invalid request, for any operation.
type refusal struct {
	name, query, mime, body string
	headers                 []string
}

// refusals returns an invalid request of each kind for which HTTP has a status.
func refusals(largest int) []refusal {
	return []refusal{
		{name: "nothing"},
		{name: "a form of nothing", mime: "application/x-www-form-urlencoded", body: "a=b"},
		{name: "broken JSON", mime: "application/json", body: `{"a":`},
		{name: "JSON of another kind", mime: "application/json", body: `[1]`},
		{name: "a name twice", mime: "application/json", body: `{"params":["a"],"params":[]}`},
		{name: "no text", mime: "application/json", body: "{\"a\":\"\xff\"}"},
		{name: "a media type that nobody takes", mime: "text/x-unknown", body: "a"},
		{
			name: "a body that is too large",
			mime: "application/json",
			body: `"` + strings.Repeat("a", largest) + `"`,
		},
		{name: "an answer that nobody has", headers: []string{"Accept", "application/fhir+xml"}},
		{name: "another site", headers: []string{
			"Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site",
		}},
		{
			name:  "a wrong query",
			query: "?_since=never&limit=x&after=%00&lang=%ff&client_id=%00&_patient=%00",
		},
		{name: "a part that there is not", headers: []string{"Range", "bytes=99999999999-"}},
		{
			name:    "a condition that does not hold",
			headers: []string{"If-Match", `"another"`, "If-None-Match", "*"},
		},
	}
}

// streams reports whether the body of an operation is a file of any size or has its own limits.
func streams(o openapi.Operation) bool {
	return o.Path == "/admin/import" || o.Path == "/admin/jobs/{id}/add-files"
}

// startRegistering starts a server with dynamic registration, a patient and a client for the
// patient.
func startRegistering(t *testing.T) (w *world, patient string, own *client.Client) {
	cfg := config()
	cfg.Registration.Token = registrationToken
	w = start(t, t.TempDir(), cfg, node.Options{})
	patient = w.demoPatient()
	return w, patient, w.patient(patient)
}

// Whatever is wrong with a request, and whoever sends it, each operation responds with a status,
// a media type and a body that the document lists for it, and the server continues.
func TestRefusalsAreAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	w, p, pat := startRegistering(t)
	j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.manifest(pat, j)
	service, err := w.open.Service(t.Context(), "test_client_secret",
		"system/*.rs system/$ehi-export")
	if err != nil {
		t.Fatal(err)
	}
	x := newWitness(w)
	callers := map[string]*client.Client{
		"nobody": w.open, "a patient": pat, "a service": service, "an administrator": w.admin,
	}
	known := strings.NewReplacer("/Patient/{id}", "/Patient/"+p, "/jobs/{id}", "/jobs/"+j.ID,
		"{id}", "any",
		"{file}", "Patient.ndjson", "{profile}", "heap", "{kind}", "admin", "{name}", "any")
	unknown := strings.NewReplacer("{id}", "none", "{file}", "None.ndjson", "{profile}", "none",
		"{kind}", "none", "{name}", "none")
	requests := 0
	for _, o := range openapi.Operations() {
		paths := []string{unknown.Replace(o.Path)}
		if o.Method != "DELETE" && !strings.Contains(o.Path, "logout") {
			paths = append(paths, known.Replace(o.Path))
		}
		staff := strings.HasPrefix(o.Path, "/admin")
		for who, c := range callers {
			// a token gives no access here
			if staff && who != "nobody" && who != "an administrator" {
				continue
			}
			unfit := strings.HasSuffix(o.Path, "logout") || strings.HasSuffix(o.Path, "/events")
			if who == "an administrator" && unfit {
				continue // one ends the session, the other does not end
			}
			c := x.through(c)
			asked := paths
			if who == "nobody" {
				asked = paths[len(paths)-1:]
			}
			for _, path := range asked {
				for _, r := range refusals(int(config().HTTP.MaxBodyBytes)) {
					_, bounded := o.Media(http.StatusRequestEntityTooLarge)
					if len(r.body) > 1<<10 &&
						(!bounded || who != "nobody" && who != "an administrator") {
						// the limit is the same for all; /healthz and similar routes read
						// nothing
						continue
					}
					headers := r.headers
					if r.mime != "" {
						headers = append([]string{"Content-Type", r.mime}, headers...)
					}
					_, err := c.Do(t.Context(), o.Method, path+r.query, strings.NewReader(r.body),
						headers...)
					if err != nil {
						t.Fatalf("%s %s with %s by %s: %v", o.Method, path, r.name, who, err)
					}
					requests++
				}
			}
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for said, n := range x.invalid {
		t.Errorf("%d times: %s", n, said)
	}
	seen := 0
	for _, o := range openapi.Operations() {
		got := x.answers[o.String()]
		if got[http.StatusInternalServerError] > 0 {
			t.Errorf("%s broke: %v", o, got)
		}
		if closed := len(o.Security) > 0; closed && got[http.StatusUnauthorized] == 0 {
			t.Errorf("%s opened to everybody: %v", o, got)
		}
		const tooLarge = http.StatusRequestEntityTooLarge
		if _, bounded := o.Media(tooLarge); bounded && !streams(o) && got[tooLarge] == 0 {
			t.Errorf("%s took a body of any size: %v", o, got)
		}
		seen += len(got)
	}
	t.Logf("%d requests to %d operations, answered with %d statuses of theirs",
		requests, len(openapi.Operations()), seen)
	w.want(w.do(w.open, "GET", "/readyz"), 200, "")
}

// REAL-13: HEAD has the status and the redirect of GET, for browsers and programs, whoever asks.
func TestREAL13HEADAnswersAsGETDoes(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.manifest(pat, j)
	fill := strings.NewReplacer("/Patient/{id}", "/Patient/"+p, "/jobs/{id}", "/jobs/"+j.ID,
		"/requests/{id}", "/requests/"+j.ID, "{id}", "any", "{file}", "Patient.ndjson", "{profile}",
		"heap",
		"{kind}", "admin", "{name}", "any")
	compared := 0
	for _, o := range openapi.Operations() {
		starts := strings.HasSuffix(o.Path, "export") || strings.HasSuffix(o.Path, "export-v4")
		endless := strings.HasSuffix(o.Path, "/events") || strings.HasSuffix(o.Path, "/logout")
		if o.Method != http.MethodGet || starts || endless || o.Path == "/admin/backup" {
			continue // their responses differ each time
		}
		for who, c := range map[string]*client.Client{
			"nobody":           w.open,
			"a patient":        pat,
			"an administrator": w.admin,
		} {
			for _, accept := range []string{"text/html", "application/json"} {
				path := fill.Replace(o.Path)
				get, head :=
					w.do(c, "GET", path, "Accept", accept), w.do(c, "HEAD", path, "Accept", accept)
				way, too := get.Header.Get("Location"), head.Header.Get("Location")
				if head.Status != get.Status || too != way || len(head.Body) > 0 {
					t.Errorf("%s for %s by %s: GET answers %d %s, HEAD %d %s with %d bytes",
						path, accept, who, get.Status, way, head.Status, too, len(head.Body))
				}
				compared++
			}
		}
	}
	t.Logf("%d pairs compared", compared)
}

// Readers disagree about JSON with two fields of the same name (RFC 8259 4). Every route refuses
// such a body in its own format.
func TestABodyWithANameTwiceIsRefused(t *testing.T) {
	t.Parallel()
	w, p, pat := startRegistering(t)
	j := w.kickOff(pat, "/no-form", p, nil)
	registrar := w.open.WithToken(registrationToken)
	for _, c := range []struct {
		by                 *client.Client
		method, path, body string
		status             int
		says               string
	}{
		{pat, "POST", "/fhir/Patient/" + p + "/$ehi-export",
			`{"resourceType":"Parameters","parameter":[],"parameter":[]}`,
			400,
			`two fields \"parameter\"`},
		{
			registrar,
			"POST",
			"/auth/register",
			`{"client_name":"a","client_name":"b"}`,
			400,
			"invalid_client_metadata",
		},
		{
			w.admin,
			"POST",
			"/admin/clients",
			`{"client_name":"a","client_name":"b"}`,
			400,
			`two fields \"client_name\"`,
		},
		{
			w.admin, "POST", "/admin/accounts", `{"name":"a","n\u0061me":"b"}`, 400,
			`two fields \"name\"`,
		},
		{
			w.admin,
			"PUT",
			"/admin/log-level",
			`{"level":"info","level":"debug"}`,
			400,
			`two fields \"level\"`,
		},
		{w.admin, "POST", "/admin/jobs/" + j.ID + "/remove-files",
			`{"params":["a"],"params":["b"]}`, 400, `two fields \"params\"`},
		{w.admin, "POST", "/admin/jobs/" + j.ID + "/approve",
			`{"reason":"a","reason":"b"}`, 400, `two fields \"reason\"`},
		{w.open, "POST", "/admin/login",
			`{"username":"nobody","username":"admin","password":"admin-password"}`, 401, ""},
	} {
		a, err := c.by.Do(t.Context(), c.method, c.path, strings.NewReader(c.body), "Content-Type",
			"application/json")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.path, func(t *testing.T) {
			w.t = t
			w.want(a, c.status, c.says)
		})
	}
	w.t = t
}
