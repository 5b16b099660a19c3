package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// two returns two demo patients, each with a client.
func (w *world) two() (a, b string, ca, cb *client.Client) {
	w.t.Helper()
	list, err := w.node.Patients(w.t.Context(), 2)
	if err != nil || len(list) != 2 {
		w.t.Fatalf("%v, %v", list, err)
	}
	return list[0].ID, list[1].ID, w.patient(list[0].ID), w.patient(list[1].ID)
}

// SMART-9: a token opens only its own patient's jobs. Jobs of others are 404;
// without a token or with an invalid one the answer is 401.
func TestATokenOpensItsOwnPatientsJobsOnly(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	a, _, mine, other := w.two()
	_, tokens, err := w.open.Authorize(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(token string) *client.Client { c := *w.open; c.Token = token; return &c }
	job := w.kickOff(mine, "/no-form/auto-approve", a, nil)
	w.manifest(mine, job)
	form := w.kickOff(mine, "", a, nil)
	routes := []string{
		"GET /jobs/" + job.ID + "/status",
		"GET /jobs/" + job.ID + "/download/Patient.ndjson",
		"GET /jobs/" + job.ID + "/download/attachments/x",
		"GET /jobs/" + job.ID + "/metadata",
		"DELETE /jobs/" + job.ID + "/status",
		"POST /jobs/" + form.ID,
		"POST /fhir/Patient/" + a + "/$ehi-export",
		"POST /fhir/Patient/" + a + "/%24ehi-export",
		"GET /fhir/Patient/" + a,
	}
	for who, c := range map[string]struct {
		client *client.Client
		status int
	}{
		"nobody":        {w.open, 401},
		"refresh token": {bearer(tokens.RefreshToken), 401},
		"forged":        {bearer(tokens.AccessToken[:len(tokens.AccessToken)-4] + "AAAA"), 401},
		"other patient": {other, 404}, "administrator": {w.admin, 401},
	} {
		t.Run(who, func(t *testing.T) {
			w.t = t
			for _, r := range routes {
				method, path, _ := strings.Cut(r, " ")
				if who == "administrator" && strings.HasSuffix(path, "/metadata") {
					continue // EHI-14: metadata has a test of its own
				}
				ans := w.do(c.client, method, path)
				w.wantOutcome(ans, c.status, "")
				if c.status == 401 &&
					!strings.HasPrefix(ans.Header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s: WWW-Authenticate %q", r, ans.Header.Get("WWW-Authenticate"))
				}
				if ans.Header.Get("Access-Control-Allow-Origin") != "" && who != "nobody" {
					t.Errorf("%s: CORS headers without an Origin", r)
				}
			}
		})
	}
	w.t = t
	w.want(w.do(mine, "GET", job.StatusURL), 200, "")
	w.wantOutcome(w.do(mine, "POST", "/fhir/Patient/nobody/$ehi-export"), 404, "Patient not found")
	w.wantOutcome(w.do(mine, "GET", "/jobs/none/status"), 404, "Export job not found!")
	w.wantOutcome(w.do(mine, "GET", "/fhir/Nothing"), 404, "")
	w.wantOutcome(w.do(mine, "DELETE", "/fhir/metadata"), 405, "")
	w.want(w.do(w.open, "GET", "/fhir/Patient/"+a), 401,
		"Unauthorized! No authorization header provided in request")
	w.want(w.do(bearer("x"), "GET", "/fhir/Patient/"+a), 401, "Invalid token")
}

// EHI-10: the routes of administrators.
func TestEHI10AdministratorsRoutes(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	a, b, mine, other := w.two()
	for _, body := range []string{
		`{"username":"admin","password":"x"}`,
		`{"username":"x","password":"admin-password"}`,
		`{}`,
	} {
		ans, err := w.open.Do(t.Context(), "POST", "/admin/login", strings.NewReader(body),
			"Content-Type", "application/json")
		if err != nil || ans.Status != 401 ||
			string(ans.Body) != `{"error":"Invalid username or password"}` {
			t.Errorf("login with %s: %d %s, %v", body, ans.Status, ans.Body, err)
		}
	}
	form, err := w.open.Do(t.Context(), "POST", "/admin/login",
		strings.NewReader("username=admin&password=admin-password"), "Content-Type",
		"application/x-www-form-urlencoded")
	if err != nil || form.Status != 200 || string(form.Body) != `{"username":"admin"}` {
		t.Errorf("login by a form: %+v, %v", form, err)
	}
	c := strings.ToLower(form.Header.Get("Set-Cookie"))
	if !strings.Contains(c, "httponly") || !strings.Contains(c, "samesite=strict") {
		t.Errorf("cookie %q", c)
	}
	j1 := w.kickOff(mine, "/no-form", a, nil)
	j2 := w.kickOff(other, "", b, nil)
	w.wait(j1.ID, ehi.Retrieved)
	var list []client.AdminJob
	for query, want := range map[string]string{
		"":                  j2.ID + " " + j1.ID,
		"?status=retrieved": j1.ID,
		"?limit=1":          j2.ID,
		"?after=" + j2.ID:   j1.ID,
		"?status=approved":  "",
	} {
		err := json.Unmarshal(w.do(w.admin, "GET", "/admin/jobs"+query).Body, &list)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, j := range list {
			ids = append(ids, j.ID)
		}
		if strings.Join(ids, " ") != want {
			t.Errorf("list%s: %v, want %s", query, ids, want)
		}
	}
	w.want(w.do(w.admin, "GET", "/admin/jobs?status=x"), 400, "Invalid status")
	w.want(w.do(w.admin, "GET", "/admin/jobs?limit=x"), 400, "Invalid limit")
	w.want(w.do(w.admin, "GET", "/admin/jobs/none"), 404, "Export job not found!")
	w.want(w.do(w.admin, "POST", "/admin/jobs/"+j2.ID+"/approve"), 400, "awaiting-input")
	w.want(w.do(w.admin, "POST", "/admin/jobs/"+j2.ID+"/reject"), 400, "awaiting-input")
	ans, err := w.admin.AddFiles(t.Context(), j2.ID, client.File{Name: "x", Data: []byte("x")})
	if err != nil || ans.Status != 400 || !strings.Contains(string(ans.Body), `awaiting-input`) {
		t.Errorf("attachments of an open form: %+v, %v", ans, err)
	}
	if ans, err := w.admin.AddFiles(t.Context(), j1.ID); err != nil || ans.Status != 400 ||
		!strings.Contains(string(ans.Body),
			`Called \"addFiles\" without uploaded \"attachments\"`) {
		t.Errorf("no attachments: %s, %v", ans.Body, err)
	}
	if ans, err := w.admin.AddFiles(t.Context(), j1.ID,
		client.File{Name: "big", Data: make([]byte, 1<<20+1)}); err != nil || ans.Status != 413 {
		t.Errorf("a large attachment: %+v, %v", ans, err)
	}
	// refused before its body is read, with an explanation
	for _, c := range []*client.Client{w.open, mine} {
		ans, err := c.AddFiles(t.Context(), j1.ID, client.File{
			Name: "big",
			Data: make([]byte, 8<<20),
		})
		if err != nil || ans.Status != 401 {
			t.Errorf("a stranger's upload: %+v, %v", ans, err)
		}
	}
	job, err := w.admin.Job(t.Context(), j1.ID)
	if err != nil || len(job.Attachments) != 0 || job.Manifest == nil ||
		job.Counts["Patient"] != 1 {
		t.Errorf("job after refused uploads: %+v, %v", job, err)
	}
	if job, err := w.admin.Act(t.Context(), j1.ID, "reject"); err != nil ||
		job.Status != ehi.Rejected {
		t.Errorf("rejected: %+v, %v", job, err)
	}
	w.want(w.do(w.admin, "POST", "/admin/jobs/"+j1.ID+"/approve"), 400, "rejected")
	w.wantOutcome(w.do(mine, "GET", j1.StatusURL), 403, "rejected")
	w.want(w.do(w.admin, "DELETE", "/admin/jobs/"+j1.ID), 200, "Export deleted")
	w.want(w.do(w.admin, "DELETE", "/admin/jobs/"+j1.ID), 404, "Export job not found!")
	for _, c := range []*client.Client{w.open, mine} {
		for _, r := range []string{
			"GET /admin/jobs", "GET /admin/jobs/x", "POST /admin/jobs/x/approve",
			"POST /admin/jobs/x/reject", "POST /admin/jobs/x/add-files",
			"POST /admin/jobs/x/remove-files", "GET /admin/jobs/x/held",
			"POST /admin/jobs/x/held", "DELETE /admin/jobs/x",
		} {
			method, path, _ := strings.Cut(r, " ")
			w.want(w.do(c, method, path), 401, "Authorization required")
		}
	}
	w.want(w.do(w.admin, "GET", "/admin/logout"), 200, "Logout successful")
	w.want(w.do(w.admin, "GET", "/admin/jobs"), 401, "Authorization required")
}

// SMART-1, BULK-9, REAL-4, EHI-1: discovery works below every base, and the URLs that it names
// work. Paths are case-sensitive, because the path of a request decides which access rules
// apply: another spelling must lead nowhere, neither to a fault nor around the rules.
func TestEHI15RoutesInAnotherCaseAreNotThere(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for _, path := range []string{
		"/FHIR/metadata", "/no-form/FHIR/metadata", "/No-Form/fhir/metadata",
		"/faulty/expired/FHIR/metadata",
		"/Admin/jobs", "/ADMIN/ui/jobs", "/Auth/jwks", "/JOBS/x/status", "/fhir/METADATA",
		"/My/requests",
	} {
		ans := w.do(w.admin, "GET", path, "Origin", "https://app.example.org")
		w.wantOutcome(ans, 404, "Cannot GET "+path)
	}
}

// The server answers unknown HTTP methods itself, not the framework with its own text.
func TestEHI16UnknownMethods(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for _, method := range []string{"BREW", "get", "PROPFIND"} {
		a := w.do(w.open, method, "/fhir/metadata")
		w.wantOutcome(a, 405, "")
		if !strings.Contains(a.Header.Get("Allow"), "GET") {
			t.Errorf("%s: allowed is %q", method, a.Header.Get("Allow"))
		}
	}
}

// Single files of an export are shown only where the files are listed.
func TestStaffFilesNeedAnExportThatHasThem(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	a, _, mine, _ := w.two()
	open, done := w.kickOff(mine, "", a, nil), w.kickOff(mine, "/no-form", a, nil)
	w.wait(done.ID, ehi.Retrieved)
	for _, file := range []string{"", "/Patient.ndjson", "/x"} {
		w.want(w.do(w.admin, "GET", "/admin/ui/jobs/"+open.ID+"/files"+file), 404, "awaiting-input")
	}
	w.want(w.do(w.admin, "GET", "/admin/ui/jobs/"+done.ID+"/files/Patient.ndjson"), 200, a)
	w.want(w.do(w.admin, "GET", "/admin/ui/jobs/"+done.ID+"/files/x"), 404, "no such file")
	w.want(w.do(w.admin, "POST", "/admin/jobs/"+done.ID+"/reject"), 200, "rejected")
	w.want(w.do(w.admin, "GET", "/admin/ui/jobs/"+done.ID+"/files/Patient.ndjson"), 404, "rejected")
}

// EHI-1, SMART-1, REAL-9: discovery works below every base, and the URLs that it names work.
func TestDiscoveryBelowEveryBase(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for _, base := range []string{
		"", "/no-form", "/auto-approve", "/no-form/auto-approve", "/auto-approve/no-form",
	} {
		var smart map[string]any
		err := json.Unmarshal(
			w.do(w.open, "GET", base+"/fhir/.well-known/smart-configuration").Body, &smart)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"jwks_uri", "authorization_endpoint", "token_endpoint"} {
			if a := w.do(w.open, "GET", smart[name].(string)); a.Status == 404 || a.Status >= 500 {
				t.Errorf("%s answers %d", name, a.Status)
			}
		}
		var statement struct {
			FHIRVersion string `json:"fhirVersion"`
			Rest        []struct {
				Resource []struct {
					Operation []struct{ Name, Definition string }
				}
			}
		}
		answer := w.do(w.open, "GET", base+"/fhir/metadata", "Accept", "application/fhir+json")
		err = json.Unmarshal(answer.Body, &statement)
		if err != nil || statement.FHIRVersion != "4.0.1" || len(statement.Rest) != 1 {
			t.Fatalf("%s, %v", answer.Body, err)
		}
		w.want(answer, 200, `"url":"`+w.open.Base+base+`/fhir"`)
		definition := w.do(w.open, "GET", statement.Rest[0].Resource[0].Operation[0].Definition)
		w.want(definition, 200, `"OperationDefinition"`)
		for _, o := range openapi.Operations() {
			for _, name := range o.Query {
				if strings.HasSuffix(o.Path, "$ehi-export") && name != "_format" {
					w.want(definition, 200, `"name":"`+name+`"`)
				}
			}
		}
	}
	w.wantOutcome(w.do(w.open, "GET", "/fhir/metadata?_format=xyz"), 400,
		`Unsupported _format parameter \"xyz\"`)
	w.wantOutcome(w.do(w.open, "GET", "/fhir/metadata", "Accept", "xyz"), 400,
		`Unsupported value \"xyz\" in accept header`)
	w.want(w.do(w.open, "GET", "/fhir/metadata?_format=application/fhir+json"), 200,
		"CapabilityStatement")
	w.want(w.do(w.open, "GET", "/docs/ehi", "Accept", "text/html"), 200, "What an export contains")
	w.want(w.do(w.open, "GET", "/metrics"), 200, "ehi_http_requests_total")
	w.want(w.do(w.open, "GET", "/healthz"), 200, "")
	w.want(w.do(w.open, "GET", "/readyz"), 200, "")
	w.want(w.do(w.open, "GET", "/assets/style.css"), 200, "")
}

// BULK-9: bulk clients such as smart-fetch request only the listed types.
func TestBULK9CapabilityListsEveryExportedType(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	var statement struct {
		Rest []struct {
			Resource []struct{ Type string }
		}
	}
	if err := json.Unmarshal(w.do(w.open, "GET", "/fhir/metadata").Body, &statement); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, r := range statement.Rest[0].Resource {
		listed = append(listed, r.Type)
	}
	slices.Sort(listed)
	want := slices.DeleteFunc(fhir.Types(), func(typ string) bool { return typ == "Parameters" })
	if d := cmp.Diff(want, listed); d != "" {
		t.Error(d)
	}
}

// BULK-8: only the token's patient is visible.
func TestBULK8PatientReadAndSearch(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	a, b, mine, _ := w.two()
	w.want(w.do(mine, "GET", "/fhir/Patient/"+a), 200, `"id":"`+a+`"`)
	w.wantOutcome(w.do(mine, "GET", "/fhir/Patient/"+b), 404, "Patient not found")
	w.want(w.do(mine, "GET", "/fhir/Patient?_id="+a), 200, `"total":1`)
	w.want(w.do(mine, "GET", "/fhir/Patient"), 200, `"total":1`)
	w.want(w.do(mine, "GET", "/fhir/Patient?_id="+b), 200, `"total":0`)
	w.wantOutcome(w.do(mine, "POST", "/fhir/Group/_search"), 403, "scope")
}

// EHI-15, REAL-13, REAL-14.
func TestEHI15CrossOriginScripts(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for path, open := range map[string]bool{
		"/fhir/metadata":                        true,
		"/fhir/Patient/x/$ehi-export":           true,
		"/jobs/x/status":                        true,
		"/auth/token":                           true,
		"/fhir/.well-known/smart-configuration": true,
		"/jobs/x/download/Patient.ndjson":       true,
		"/admin/jobs":                           false,
		"/admin/login":                          false,
	} {
		pre := w.do(w.open, "OPTIONS", path, "Origin", "https://app.example",
			"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers",
			"authorization")
		origin, allow := pre.Header.Get("Access-Control-Allow-Origin"),
			pre.Header.Get("Access-Control-Allow-Headers")
		if open != (pre.Status == 204 && origin == "*" &&
			strings.Contains(allow, "Authorization") &&
			pre.Header.Get("Access-Control-Max-Age") != "") {
			t.Errorf("preflight of %s: %d %v", path, pre.Status, pre.Header)
		}
		a := w.do(w.open, "GET", path, "Origin", "https://app.example")
		exposed := a.Header.Get("Access-Control-Expose-Headers")
		if open != (a.Header.Get("Access-Control-Allow-Origin") == "*" &&
			strings.Contains(exposed, "Retry-After") && strings.Contains(exposed, "X-Progress")) ||
			a.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("GET %s (%d): %v", path, a.Status, a.Header)
		}
	}
}

// URLs use the configured base, whatever the headers of a client say, unless a trusted proxy
// says otherwise.
func TestForwardedHeadersAreBelievedFromProxiesOnly(t *testing.T) {
	t.Parallel()
	forged := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example"}
	w := start(t, t.TempDir(), config(), node.Options{})
	w.want(w.do(w.open, "GET", "/fhir/metadata", forged...), 200, `"url":"`+w.open.Base+`/fhir"`)
	cfg := config()
	cfg.Proxies.TrustedProxies = []string{"127.0.0.1"}
	w = start(t, t.TempDir(), cfg, node.Options{})
	w.want(w.do(w.open, "GET", "/fhir/metadata", forged...), 200,
		`"url":"https://evil.example/fhir"`)
	w.want(w.do(w.open, "GET", "/fhir/metadata"), 200, `"url":"`+w.open.Base+`/fhir"`)
}

// SMART-2, SMART-4, REAL-5: the endpoints, over HTTP.
func TestSMARTEndpoints(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {"test_client_id"},
		"redirect_uri":  {"http://app.example/cb?x=1"},
		"scope":         {"patient/$ehi-export"},
		"state":         {"s t"},
		"aud":           {w.open.Base + "/no-form/fhir"},
		"_patient":      {p},
		"_auth_success": {"0"},
	}
	location := func(a *client.Answer, status int) url.Values {
		t.Helper()
		u, err := url.Parse(a.Header.Get("Location"))
		if err != nil || a.Status != status {
			t.Fatalf("%d %s, %v", a.Status, a.Body, err)
		}
		return u.Query()
	}
	back := location(w.do(w.open, "GET", "/auth/authorize?"+q.Encode()), http.StatusFound)
	if back.Get("error") != "access_denied" || back.Get("state") != "s t" || back.Get("x") != "1" {
		t.Errorf("denied: %v", back)
	}
	q.Set("_auth_success", "1")
	posted, err := w.open.Do(t.Context(), "POST", "/auth/authorize", strings.NewReader(q.Encode()),
		"Content-Type", "application/x-www-form-urlencoded")
	// A form that was posted here is not posted again to the application (RFC 9700 4.12).
	if err != nil || location(posted, http.StatusSeeOther).Get("code") == "" {
		t.Errorf("POST authorize: %+v, %v", posted, err)
	}
	q.Set("aud", "http://other/fhir")
	if back := location(w.do(w.open, "GET", "/auth/authorize?"+q.Encode()),
		http.StatusFound); back.Get("error") != "invalid_request" ||
		!strings.HasPrefix(back.Get("error_description"),
			`Bad audience value "http://other/fhir". Expected "`) {
		t.Errorf("bad aud: %v", back)
	}
	q.Set("redirect_uri", "ftp://x")
	w.want(w.do(w.open, "GET", "/auth/authorize?"+q.Encode()), 400,
		`Invalid \"redirect_uri\" parameter`)
	for _, c := range []struct{ contentType, body, text string }{
		{"application/json", `{}`, "invalid_request"},
		{"application/x-www-form-urlencoded", "grant_type=magic", `"unsupported_grant_type"`},
		{"application/x-www-form-urlencoded", "", "invalid_request"},
	} {
		a, err := w.open.Do(t.Context(), "POST", "/auth/token", strings.NewReader(c.body),
			"Content-Type", c.contentType)
		if err != nil {
			t.Fatal(err)
		}
		w.want(a, 400, c.text)
		if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Pragma") != "no-cache" {
			t.Errorf("token headers %v", a.Header)
		}
	}
}
