package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mimepkg "mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/api/openid/openidtest"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// witness compares the traffic that it sees with the server's own OpenAPI document.
type witness struct {
	t        *testing.T
	document validator.Validator
	mu       sync.Mutex
	answers  map[string]map[int]int // by operation and status
	invalid  map[string]int         // complaints about wrong responses
}

// fhirVariant matches a prefix of the FHIR base, which the document lists as servers of its
// paths.
var fhirVariant = regexp.MustCompile(`^(/faulty/[^/]+)?(/no-form|/auto-approve)*/fhir`)

// newWitness reads the document from the server.
func newWitness(w *world) *witness {
	w.t.Helper()
	a := w.do(w.open, "GET", "/openapi.json")
	w.want(a, 200, `"openapi":"3.1.0"`)
	document, err := libopenapi.NewDocument(a.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		w.t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		w.t.Fatalf("the document is not OpenAPI 3.1: %+v", errs)
	}
	return &witness{
		t:        w.t,
		document: v,
		answers:  map[string]map[int]int{},
		invalid:  map[string]int{},
	}
}

// through returns a client whose requests are checked.
func (x *witness) through(c *client.Client) *client.Client {
	return c.Through(x.over)
}

// over checks what passes a transport to the server.
func (x *witness) over(next http.RoundTripper) http.RoundTripper { return witnessed{x, next} }

type witnessed struct {
	*witness
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (x witnessed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := x.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") { // it has no end
		x.hold(r,
			&http.Response{
				StatusCode: resp.StatusCode,
				Header:     resp.Header,
				Body:       http.NoBody,
				Request:    r,
			}, nil)
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	asked := *r
	asked.URL = &url.URL{
		Scheme:   r.URL.Scheme,
		Host:     r.URL.Host,
		Path:     fhirVariant.ReplaceAllString(r.URL.Path, "/fhir"),
		RawQuery: r.URL.RawQuery,
	}
	asked.Body = http.NoBody
	seen := *resp
	seen.Body = io.NopCloser(bytes.NewReader(body))
	x.hold(&asked, &seen, body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// hold compares a response with the document.
func (x *witness) hold(r *http.Request, resp *http.Response, body []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	operation := operationOf(r.Method, r.URL.Path)
	if operation == "" { // a route that does not exist
		if resp.StatusCode != http.StatusNotFound &&
			resp.StatusCode != http.StatusMethodNotAllowed {
			x.invalid[fmt.Sprintf("%s %s, which the document lacks, answers %d", r.Method, r.URL.Path, resp.StatusCode)]++
		}
		return
	}
	if x.answers[operation] == nil {
		x.answers[operation] = map[int]int{}
	}
	x.answers[operation][resp.StatusCode]++
	if resp.Header.Get("X-Request-Id") == "" {
		x.invalid[operation+" has no X-Request-Id"]++
	}
	if r.Method == http.MethodHead {
		if len(body) > 0 {
			x.invalid[operation+" answers HEAD with a body"]++
		}
		return
	}
	if said := misannounced(operation, r, resp, body); said != "" {
		x.invalid[fmt.Sprintf("%s answers %d: %s: %.100s", operation, resp.StatusCode, said, body)]++
	}
	if len(body) == 0 || resp.Header.Get("Content-Encoding") != "" {
		return
	}
	if ok, errs := x.document.ValidateHttpResponse(r, resp); !ok {
		for _, e := range errs {
			said := fmt.Sprintf("%s answers %d: %s: %s", operation, resp.StatusCode, e.Message,
				e.Reason)
			for _, s := range e.SchemaValidationErrors {
				said += "; " + s.Reason
			}
			x.invalid[fmt.Sprintf("%s: %.300s", said, body)]++
		}
	}
}

// misannounced returns how a response's body differs from its Content-Type, the document and the
// request's Accept; "" if it does not.
func misannounced(operation string, r *http.Request, resp *http.Response, body []byte) string {
	media, known := operationNamed(operation).Media(resp.StatusCode)
	mime, _, err := mimepkg.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case !known:
		return "a status that the document lacks"
	case len(body) == 0 && len(media) > 0 && !slices.Contains(media, "*/*") &&
		resp.Header.Get("Content-Type") != "text/event-stream":
		return "no body, where the document has " + strings.Join(media, " or ")
	case len(body) == 0:
		return ""
	case err != nil:
		return "a body without a Content-Type"
	case len(media) == 0:
		return "a body, where the document has none"
	case !slices.Contains(media, mime) && !slices.Contains(media, "*/*"):
		return "a body of " + mime + ", where the document has " + strings.Join(media, " or ")
	case strings.HasSuffix(mime, "json") && mime != "application/fhir+ndjson" &&
		resp.Header.Get("Content-Encoding") == "" && !json.Valid(body):
		return "a body of " + mime + " that is no JSON"
	}
	// Files are sent whatever Accept says (REAL-7), and so are responses with only one format.
	accept := r.Header.Get("Accept")
	if resp.StatusCode >= 400 && strings.Contains(accept, "json") &&
		!strings.Contains(accept, "html") &&
		!strings.Contains(accept, "*/*") && !strings.HasSuffix(mime, "json") {
		return "a body of " + mime + " for who accepts " + accept
	}
	return ""
}

// documentedRoute is an operation of the document with a pattern of its paths.
type documentedRoute struct {
	openapi.Operation
	form       *regexp.Regexp
	parameters int
}

// documentedRoutes are built once, because some tests look one up for each of thousands of
// responses.
var documentedRoutes = sync.OnceValue(func() (routes []documentedRoute) {
	parameter := regexp.MustCompile(`\\\{\w+\\\}`)
	for _, o := range openapi.Operations() {
		form := parameter.ReplaceAllString(regexp.QuoteMeta(o.Path), `[^/]+`)
		routes = append(routes, documentedRoute{
			o,
			regexp.MustCompile("^" + form + "$"),
			strings.Count(o.Path, "{"),
		})
	}
	return routes
})

// operationNamed returns the operation with a name; the zero value for none.
func operationNamed(operation string) openapi.Operation {
	for _, r := range documentedRoutes() {
		if r.String() == operation {
			return r.Operation
		}
	}
	return openapi.Operation{}
}

// operationOf finds the operation of a request. One without parameters takes precedence over one
// with them.
func operationOf(method, path string) (best string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	fewest := 100
	for _, r := range documentedRoutes() {
		if r.Method == method && r.parameters < fewest && r.form.MatchString(path) {
			best, fewest = r.String(), r.parameters
		}
	}
	return best
}

// A whole flow with errors calls every operation of the OpenAPI document. Every response is as
// the document says, and every operation succeeds once.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	level := new(slog.LevelVar)
	cfg := config()
	cfg.Proxies.TrustedProxies = []string{"10.0.0.1"}
	cfg.Registration.Token = registrationToken
	provider := openidtest.Open(t)
	cfg.StaffOIDC = provider.Config()
	native := nativetest.NewRecord(t,
		nativetest.Document(t, "", "scan.pdf", ehi.MedicalRecord, []byte("a scan")),
		nativetest.Document(t, "", "letter.pdf", "", []byte("a letter")))
	w := start(t, t.TempDir(), cfg, node.Options{
		Level: level,
		WrapSource: func(s source.Source) source.Source {
			return nativeStore{s.(*dataset.Store), native}
		},
	})
	x := newWitness(w)
	w.open, w.admin = x.through(w.open), x.through(w.admin)
	w.flowWithErrors()
	w.everyRoute(x)
	nativeRoutes(t, x)
	dataRoutes(t, x)
	b := newBrowser(t)
	b.http.Transport = x.over(http.DefaultTransport)
	for name, status := range map[string]int{"nora": 200, "nina": 403} {
		b.visit(provider.SignsIn(name, w.toProvider(b)))
		b.sees(status, "signed in")
	}
	b.visit(w.open.Base + "/admin/ui/login/openid/callback")
	b.sees(401, "begun in another browser")
	x.mu.Lock()
	defer x.mu.Unlock()
	for said, n := range x.invalid {
		t.Errorf("%d times: %s", n, said)
	}
	answers, statuses := 0, 0
	for _, o := range openapi.Operations() {
		operation, well := o.String(), 0
		for status, n := range x.answers[operation] {
			answers += n
			statuses++
			if status < 400 {
				well += n
			}
		}
		if well == 0 {
			t.Errorf("%s was not answered well: %v", operation, x.answers[operation])
		}
	}
	t.Logf("%d answers of %d operations with %d statuses were held to the document", answers,
		len(openapi.Operations()), statuses)
}

// nativeRoutes calls what only a source with tables answers well.
func nativeRoutes(t *testing.T, x *witness) {
	t.Helper()
	cfg := config()
	cfg.Source.Spec = "synthetic:patients=2,resources=50,native=tsv-tables"
	w := start(t, t.TempDir(), cfg, node.Options{})
	w.open = x.through(w.open)
	w.want(w.do(w.open, "GET", "/docs/ehi/datapackage.json"), 200, `"visit"`)
	w.want(w.do(w.open, "GET", "/docs/ehi/tables/visit", "Accept", "text/html"), 200, "Visits")
}

// dataRoutes calls what only an export with large data of an attachment answers well.
func dataRoutes(t *testing.T, x *witness) {
	t.Helper()
	w := start(t, t.TempDir(), config(), node.Options{})
	w.open, w.admin = x.through(w.open), x.through(w.admin)
	w.load(`{"resourceType":"Patient","id":"pa"}
{"resourceType":"DocumentReference","id":"d","status":"current",` +
		`"subject":{"reference":"Patient/pa"},"content":[{"attachment":{` +
		`"contentType":"application/pdf","data":"` + strings.Repeat("c2Nh", 1<<19) + `"}}]}
`)
	owner := w.patient("pa")
	j := w.kickOff(owner, "/no-form", "pa", nil)
	w.wait(j.ID, ehi.Retrieved)
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	all, _ := w.download(owner, w.manifest(owner, j))
	url := attachedTo(t, all["DocumentReference/d"]).URL
	w.want(w.do(owner, "GET", url), 200, "sca")
	_, file, _ := strings.Cut(url, "/download/")
	b := newBrowser(t)
	b.http.Transport = x.over(http.DefaultTransport)
	defer b.http.CloseIdleConnections()
	b.visit(w.node.URL + "/my/requests")
	b.submit("patient", "pa", "password", "any")
	b.sees(200, "Your requests")
	b.visit(w.node.URL + "/my/requests/" + j.ID + "/native/" + file)
	b.sees(200, "sca")
}

// nativeStore is a record store of which every patient has documents and tables.
type nativeStore struct {
	*dataset.Store
	native source.Native
}

func (s nativeStore) Open(ctx context.Context, patient string) (source.Record, error) {
	return nativetest.Source{Source: s.Store, Native: s.native}.Open(ctx, patient)
}

func (s nativeStore) Tables(context.Context) (*datapackage.Package, error) {
	return s.native.Tables(), nil
}

// registrationToken is the initial access token of tests.
const registrationToken = "an-initial-access-token"

// everyRoute calls what flowWithErrors does not.
func (w *world) everyRoute(x *witness) {
	t := w.t
	t.Helper()
	p := w.demoPatient()
	pat := w.patient(p)
	ctx := t.Context()
	send := func(c *client.Client, method, target, mime, body string) *client.Answer {
		t.Helper()
		a, err := c.Do(ctx, method, target, strings.NewReader(body), "Content-Type", mime)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const form, plain = "application/x-www-form-urlencoded", "application/json"

	// One patient: reads, form, the other decision, removed documents, deletion by the
	// administrator.
	w.do(pat, "GET", "/fhir/Patient")
	w.do(pat, "GET", "/fhir/Patient/"+p)
	j := w.kickOff(pat, "", p, nil)
	w.want(w.do(w.open, "GET", "/jobs/"+j.ID+"/customize?_patient="+p, "Accept", "text/html"), 200,
		"<form")
	w.submit(pat, j.ID, everything())
	w.want(send(pat, "POST", "/jobs/"+j.ID, plain, `{"parameters":{},"authorizations":{}}`), 400,
		"already customized")
	w.wait(j.ID, ehi.Retrieved)
	w.do(pat, "GET", "/jobs/"+j.ID+"/metadata")
	w.do(w.admin, "GET", "/admin/jobs/"+j.ID)
	w.do(w.admin, "GET", "/admin/jobs?limit=5")
	w.do(w.admin, "GET", "/admin/jobs?status=none")
	if a, err := w.admin.AddFiles(ctx, j.ID,
		client.File{Name: "a.txt", Data: []byte("text")}); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	w.want(send(w.admin, "POST", "/admin/jobs/"+j.ID+"/remove-files", plain,
		`{"params":["a.txt"]}`), 200, "")
	if _, err := w.admin.Act(ctx, j.ID, "reject"); err != nil {
		t.Fatal(err)
	}
	w.want(w.do(pat, "GET", j.StatusURL), 403, "rejected")
	w.want(w.do(w.admin, "DELETE", "/admin/jobs/"+j.ID), 200, "deleted")

	// Files: ranges, cached copies, files that do not exist.
	j = w.kickOff(pat, "/no-form/auto-approve", p, nil)
	m := w.manifest(pat, j)
	file := m.Output[0].URL
	a := w.do(pat, "GET", file)
	w.want(w.do(pat, "GET", file, "Range", "bytes=0-9"), 206, "")
	w.want(w.do(pat, "GET", file, "Range", "bytes=999999999-"), 416, "")
	w.want(w.do(pat, "GET", file, "If-None-Match", a.Header.Get("ETag")), 304, "")
	w.want(w.do(pat, "GET", file, "If-Match", `"another"`), 412, "")
	w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/download/None.ndjson"), 404, "")

	w.heldRoutes(pat, p)

	// Populations, with each operation.
	all, err := w.open.Service(ctx, "test_client_secret", "system/*.rs system/$ehi-export")
	if err != nil {
		t.Fatal(err)
	}
	var groups struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	err = json.Unmarshal(w.do(all, "GET", "/fhir/Group").Body, &groups)
	if err != nil || len(groups.Entry) == 0 {
		t.Fatalf("there is no group: %v", err)
	}
	group := groups.Entry[0].Resource.ID
	w.do(all, "GET", "/fhir/Group/"+group)
	w.do(all, "GET", "/fhir/Patient?_id="+p)
	w.load(`{"resourceType":"Binary","id":"note","contentType":"text/plain","data":"YSBub3Rl"}` +
		"\n" +
		`{"resourceType":"DocumentReference","id":"d","status":"current",` +
		`"subject":{"reference":"Patient/` + p +
		`"},"content":[{"attachment":{"url":"Binary/note"}}]}`)
	w.want(w.do(all, "GET", "/fhir/Binary/note"), 200, "a note")
	w.want(w.do(pat, "GET", "/fhir/Binary/note", "Accept", "application/fhir+json"), 200,
		"YSBub3Rl")
	w.want(send(all, "POST", "/fhir/Patient/_search", form, "name=a&birthdate=ge1900"), 200,
		"searchset")
	w.want(send(all, "POST", "/fhir/Group/_search?_count=1", form, ""), 200, "searchset")
	w.want(send(all, "POST", "/fhir/Patient/_search", plain, "{}"), 400, form)
	w.want(w.do(all, "GET", "/fhir/Patient?name:exact=a"), 400, "modifier")
	for _, o := range openapi.Operations() {
		method, path := o.Method, o.Path
		if strings.Contains(path, "export") && strings.Contains(path, "$") {
			path = strings.NewReplacer("/Group/{id}", "/Group/"+group, "/Patient/{id}",
				"/Patient/"+p).Replace(path)
			a := w.do(all, method, path+"?_type=Patient")
			w.want(a, 202, "")
			w.do(all, "GET", a.Header.Get("Content-Location"))
			w.do(all, method, path+"?_since=never")
			if err := all.Delete(ctx, a.Header.Get("Content-Location")); err != nil {
				t.Fatal(err)
			}
		}
	}

	// Discovery, pages, authorization.
	for _, path := range []string{
		"/.well-known/openid-configuration",
		"/.well-known/oauth-authorization-server",
		"/fhir/metadata",
		"/fhir/OperationDefinition/ehi-export",
		"/fhir/OperationDefinition/none",
		"/fhir/.well-known/smart-configuration",
		"/auth/jwks",
		"/",
		"/docs/ehi",
		"/docs/ehi/datapackage.json",
		"/docs/ehi/tables/patient",
		"/docs/ehi/tables/visit",
		"/assets/style.css",
		"/healthz",
		"/readyz",
		"/metrics",
		"/openapi.json",
		"/nothing",
	} {
		w.do(w.open, "GET", path)
	}
	request := url.Values{
		"response_type":         {"code"},
		"client_id":             {client.ClientID},
		"redirect_uri":          {client.RedirectURI},
		"scope":                 {client.Scope},
		"state":                 {"1"},
		"aud":                   {w.node.URL + "/fhir"},
		"code_challenge":        {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"},
		"code_challenge_method": {"S256"},
	}
	w.want(send(w.open, "POST", "/auth/authorize", form, request.Encode()), 302, "")
	w.do(w.open, "GET", "/auth/authorize?response_type=token")
	w.want(send(w.open, "POST", "/auth/token", form,
		"grant_type=refresh_token&refresh_token=guessed"), 400, "")
	ofService := "client_id=test_client_id&client_secret=test_client_secret&token="
	w.want(send(w.open, "POST", "/auth/introspect", form, ofService+pat.Token), 200,
		`"active":true`)
	w.want(send(w.open, "POST", "/auth/introspect", form, "token="+pat.Token), 401,
		"invalid_client")
	w.want(send(w.open, "POST", "/auth/revoke", form, "client_id=test_client_id&token="+pat.Token),
		200, "")
	w.want(w.do(pat, "GET", j.StatusURL), 401, "")
	w.want(send(w.open, "POST", "/auth/introspect", form, ofService+pat.Token), 200,
		`{"active":false}`)
	b := newBrowser(t)
	b.http.Transport = x.over(http.DefaultTransport)
	defer b.http.CloseIdleConnections()
	request.Set("redirect_uri", "http://app.example/done")
	b.visit(w.node.URL + "/auth/authorize?" + request.Encode())
	b.submit("patient", p, "password", "any")
	b.sees(200, "Allow access?")
	b.submit("decision", "deny")

	// Operation.
	w.want(send(w.open, "POST", "/admin/login", plain,
		`{"username":"admin","password":"admin-password"}`), 200, "admin")
	w.do(w.open, "GET", "/admin/jobs")
	w.do(w.admin, "GET", "/admin/sweep")
	w.want(send(w.admin, "POST", "/admin/sweep", plain, ""), 200, "files")
	w.do(w.admin, "GET", "/admin/log-level")
	w.want(send(w.admin, "PUT", "/admin/log-level", plain, `{"level":"warn"}`), 200, "WARN")
	page := w.do(w.admin, "GET", "/admin/debug")
	w.want(page, 200, "What this process is doing")
	text := string(page.Body)
	if strings.Contains(text, "admin-password</td>") ||
		strings.Contains(text, "test_client_secret") ||
		!strings.Contains(text, "<code>--admin-password</code></td><td>(set)") {
		t.Errorf("the page shows secrets, or not that they are set: %s", text)
	}
	w.want(w.do(w.open, "GET", "/admin/debug"), 401, "")
	w.registries(x, send)
	w.staffPages(x)
	w.do(w.open, "GET", "/docs/api")
	w.do(w.admin, "GET", "/admin/debug/pprof/goroutine?debug=1")
	w.want(w.do(w.admin, "GET", "/admin/backup"), 200, "")
	w.do(w.admin, "GET", "/admin/logout")
}

// registries calls the routes of clients, accounts, keys and the audit trail, and the patient's
// own pages.
func (w *world) registries(
	x *witness, send func(c *client.Client, method, target, mime, body string) *client.Answer,
) {
	t := w.t
	t.Helper()
	const plain = "application/json"
	w.want(send(w.admin, "POST", "/admin/clients", plain,
		`{"client_name":"An app","scope":"patient/$ehi-export","kind":"confidential-symmetric",`+
			`"client_id":"an-app","redirect_uris":["https://app.example/cb"]}`), 201,
		"client_secret")
	w.want(send(w.admin, "POST", "/admin/clients", plain,
		`{"client_name":"An app","scope":"patient/$ehi-export","client_id":"an-app",`+
			`"redirect_uris":["https://app.example/cb"]}`), 400, "There is a client of this id")
	w.want(send(w.admin, "POST", "/admin/clients", plain,
		`{"client_name":"An app","scopes":"patient/$ehi-export"}`), 400, "unknown field")
	w.want(w.do(w.admin, "GET", "/admin/clients"), 200, "an-app")
	w.want(w.do(w.admin, "GET", "/admin/clients/an-app"), 200, "An app")
	w.want(w.do(w.admin, "POST", "/admin/clients/an-app/rotate"), 200, "client_secret")
	w.want(w.do(w.admin, "DELETE", "/admin/clients/an-app"), 200, "removed")
	w.want(w.do(w.admin, "GET", "/admin/clients/an-app"), 404, "no such client")
	w.want(send(w.admin, "POST", "/admin/accounts", plain,
		`{"username":"ann","role":"viewer","password":"four plain words here"}`), 201, "ann")
	w.want(send(w.admin, "POST", "/admin/accounts", plain,
		`{"username":"bob","role":"viewer","password":"short"}`), 400, "at least 12")
	w.want(w.do(w.admin, "GET", "/admin/accounts"), 200, "viewer")
	w.want(send(w.admin, "PUT", "/admin/accounts/admin/ann", plain,
		`{"password":"another plain password of hers"}`), 200, "set")
	w.want(w.do(w.admin, "DELETE", "/admin/accounts/admin/ann"), 200, "removed")
	w.want(w.do(w.admin, "DELETE", "/admin/accounts/admin/ann"), 404, "no such account")
	w.want(w.do(w.admin, "GET", "/admin/keys"), 200, "ES256")
	w.want(w.do(w.admin, "POST", "/admin/keys/rotate"), 200, "retired")
	w.want(w.do(w.admin, "GET", "/admin/audit?limit=5"), 200, "AuditEvent")
	w.want(w.do(w.admin, "GET", "/admin/audit?who=me"), 400, "no such parameter")
	bearer := w.open.WithToken(registrationToken)
	w.want(send(bearer, "POST", "/auth/register", plain,
		`{"client_name":"Registered","redirect_uris":["https://app.example/cb"],`+
			`"scope":"patient/$ehi-export","token_endpoint_auth_method":"none"}`), 201, "client_id")
	w.want(send(bearer, "POST", "/auth/register", plain,
		`{"client_name":"Registered","redirect_uris":["http://app.example/cb"],`+
			`"scope":"patient/$ehi-export","token_endpoint_auth_method":"none"}`), 400,
		"invalid_redirect_uri")
	w.want(send(w.open.WithToken("guessed"), "POST", "/auth/register", plain, `{}`), 401,
		"invalid_token")
	b := newBrowser(t)
	b.http.Transport = x.over(http.DefaultTransport)
	defer b.http.CloseIdleConnections()
	b.visit(w.node.URL + "/my/applications")
	b.sees(200, "Sign in")
	w.patient(w.demoPatient())
	b.submit("patient", w.demoPatient(), "password", "any")
	b.sees(200, "Apps with access")
	for strings.Contains(b.page, "End access") {
		b.submit()
		b.sees(200, "Apps with access")
	}
	b.sees(200, "No apps have access")
	patient := w.demoPatient()
	j := w.kickOff(w.patient(patient), "/no-form", patient, nil)
	w.wait(j.ID, ehi.Retrieved)
	a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{Name: "a.txt", Data: []byte("text")})
	if err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"/files/Patient.ndjson", "/documents/a.txt", "/native/documents/000001-scan.pdf",
		"/native/tables/visit.csv", "/archive", "",
	} {
		b.visit(w.node.URL + "/my/requests/" + j.ID + part)
		b.sees(200, "")
	}
	cancelled := w.kickOff(w.patient(patient), "", patient, nil)
	b.visit(w.node.URL + "/my/requests/" + cancelled.ID)
	b.submit()
	b.sees(200, "cancelled")
	b.visit(w.node.URL + "/my/applications")
	for strings.Contains(b.page, "End access") {
		b.submit()
	}
	b.visit(w.node.URL + "/my/requests")
	b.sees(200, "Your requests")
	b.submitTo("/patient-logout")
	b.sees(200, "Sign in")
	b.visit(w.node.URL + "/my/applications")
	b.sees(200, "Sign in")
}

// staffPages visits the pages of administrators.
func (w *world) staffPages(x *witness) {
	t := w.t
	b := newBrowser(t)
	b.http.Transport = x.over(http.DefaultTransport)
	b.visit(w.node.URL + "/admin")
	b.submit("username", "admin", "password", "wrong")
	b.sees(401, "Invalid username or password")
	b.submit("username", "admin", "password", "admin-password")
	b.sees(200, "Exports")
	b.visit(w.node.URL + "/admin")
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, "GET", w.node.URL+"/admin/ui/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := b.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Body.Close(); err != nil {
		t.Error(err)
	}
	patient := w.demoPatient()
	pat := w.patient(patient)
	j := w.kickOff(pat, "", patient, nil)
	w.submit(pat, j.ID, everything("billing"))
	w.wait(j.ID, ehi.Retrieved)
	page := w.node.URL + "/admin/ui/jobs/" + j.ID
	b.visit(page + "/files")
	b.sees(200, "Files of an export")
	b.visit(page)
	b.upload("/admin/jobs/"+j.ID+"/add-files", "a.txt", "text")
	b.visit(page + "/documents/a.txt")
	b.sees(200, "text")
	b.visit(page)
	b.submitTo("/admin/ui/jobs/" + j.ID + "/remove-file")
	b.visit(page)
	b.submitTo("/admin/ui/jobs/"+j.ID+"/held", "do", "release")
	b.sees(200, "1 withheld, 1 released")
	b.visit(page + "/held/documents/r000001-letter.pdf")
	b.sees(200, "a letter")
	b.visit(page + "/held/tables/oddity.csv")
	b.sees(200, "alert(1)")
	b.visit(page + "/files/Patient.ndjson")
	b.visit(w.node.URL + "/admin/ui/jobs")
	b.submitTo("/admin/ui/jobs", "do", "approve", "job", j.ID)
	b.sees(200, "Approve 1 export?")
	b.visit(page)
	b.submit("do", "reject", "reason", "a test")
	b.sees(200, "a test")
	b.submitTo("/admin/ui/jobs/" + j.ID + "/delete")
	for _, path := range []string{"/system", "/audit"} {
		b.visit(w.node.URL + "/admin/ui" + path)
		b.sees(200, "</main>")
	}
	b.visit(w.node.URL + "/admin/ui/clients")
	b.submit("do", "add", "id", "staff-app", "name", "An app", "kind", "public", "redirects",
		"https://app.example.org/cb", "scope", "patient/$ehi-export")
	b.sees(200, "An app")
	b.visit(w.node.URL + "/admin/ui/accounts")
	b.submit("username", "vera", "password", "four plain words here", "role", "viewer")
	b.sees(200, "The account was added")
	w.secondFactorPages(b)
}

// heldRoutes releases something that waits for a decision, and downloads it with the other
// documents and tables of the export.
func (w *world) heldRoutes(pat *client.Client, patient string) {
	t := w.t
	t.Helper()
	j := w.kickOff(pat, "", patient, nil)
	w.submit(pat, j.ID, everything("billing"))
	w.wait(j.ID, ehi.Retrieved)
	held, err := w.admin.ListHeld(t.Context(), j.ID, "")
	if err != nil || len(held) != 2 {
		t.Fatalf("%+v wait, %v", held, err)
	}
	w.want(w.do(w.admin, "GET", "/admin/jobs/"+j.ID+"/held?limit=0"), 400, "limit")
	seen, err := w.admin.Job(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.admin.DecideHeld(t.Context(), seen, []string{held[0].Name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.want(a, 200, `"held":{"waiting":1,"released":1}`)
	seen.Contents = ""
	if a, err = w.admin.DecideHeld(t.Context(), seen, nil, []string{"none"}); err != nil {
		t.Fatal(err)
	}
	w.want(a, 404, "needs a decision")
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		held[0].Name: "a letter", "documents/000001-scan.pdf": "a scan",
		"tables/visit.csv": "id,patient,ward", "released.DocumentReference.ndjson": held[0].Name,
	} {
		w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/download/"+name), 200, text)
	}
	w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/download/"+held[1].Name), 404, "")
}

// secondFactorPages visits the pages of the second factor.
func (w *world) secondFactorPages(b *browser) {
	b.submitTo("/admin/ui/logout")
	b.submit("username", "vera", "password", "four plain words here")
	b.visit(w.node.URL + "/admin/ui/prove?next=/admin/ui/second-factor")
	b.submit("password", "wrong")
	b.sees(401, "Invalid username or password")
	b.submit("password", "four plain words here")
	_, recovery := b.setUp()
	b.submitTo("/admin/ui/logout")
	b.submit("username", "vera", "password", "four plain words here")
	b.sees(200, "Enter the six-digit code")
	b.submit("code", "000000")
	b.sees(401, "wrong, or was used before")
	b.submit("code", recovery[0])
	b.submitTo("/admin/ui/logout")
	b.sees(200, "Sign in")
	w.want(w.do(w.admin, "DELETE", "/admin/accounts/admin/vera/second-factor"), 200, "reset")
	w.want(w.do(w.admin, "DELETE", "/admin/accounts/admin/vera/second-factor"), 400,
		"no second factor")
	w.want(w.do(w.admin, "DELETE", "/admin/accounts/patient/vera/second-factor"), 404,
		"no such account")
}

// SMART-9: only the credentials that the document names open a route. Without credentials the
// response is 401, in every spelling of the FHIR base. A token without a matching scope, another
// kind of session and a refresh token open nothing.
func TestRoutesOpenToWhomTheDocumentSays(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Registration.Token = registrationToken
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat, tokens, err := w.open.Authorize(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.manifest(pat, j)
	fill := strings.NewReplacer("/Patient/{id}", "/Patient/"+p, "/jobs/{id}", "/jobs/"+j.ID, "{id}",
		"any", "{file}", "Patient.ndjson", "{profile}", "heap", "{kind}", "admin", "{name}", "any")
	weak, _, err := w.open.AuthorizeFor(t.Context(), p, "launch/patient openid fhirUser")
	if err != nil {
		t.Fatal(err)
	}
	closed, public := 0, 0
	for _, o := range openapi.Operations() {
		paths := []string{fill.Replace(o.Path)}
		if rest, fhir := strings.CutPrefix(paths[0], "/fhir"); fhir {
			for _, base := range []string{
				"/no-form", "/auto-approve", "/no-form/auto-approve", "/auto-approve/no-form",
			} {
				paths = append(paths, base+"/fhir"+rest)
			}
			paths = append(paths, strings.Replace(paths[0], "$", "%24", 1))
		}
		for _, path := range paths {
			a := w.do(pat, o.Method, path)
			if len(o.Security) > 0 && !strings.Contains(path, "/download/") &&
				o.Path != "/jobs/{id}/customize" && a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s may be stored: %q", o.Method, path, a.Header.Get("Cache-Control"))
			}
			if len(o.Security) == 0 {
				public++
				// its own response to a wrong password
				if a := w.do(w.open, o.Method, path); a.Status == 401 && o.Path != "/admin/login" {
					t.Errorf("%s %s asks for credentials", o.Method, path)
				}
				continue
			}
			closed++
			for who, c := range map[string]*client.Client{
				"nobody":          w.open,
				"a refresh token": w.open.WithToken(tokens.RefreshToken),
				"a forged token":  w.open.WithToken(pat.Token[:len(pat.Token)-4] + "AAAA"),
			} {
				if a := w.do(c, o.Method, path); a.Status != 401 {
					t.Errorf("%s %s answers %s %d", o.Method, path, who, a.Status)
				}
			}
			if a := w.do(weak, o.Method, path); a.Status != 401 && a.Status != 403 {
				t.Errorf("%s %s answers a token without a scope for it %d", o.Method, path,
					a.Status)
			}
			if slices.Contains(o.Security, "session") && !slices.Contains(o.Security, "bearer") {
				if a := w.do(pat, o.Method, path); a.Status != 401 {
					t.Errorf("%s %s answers a patient's token %d", o.Method, path, a.Status)
				}
			}
		}
	}
	t.Logf("%d closed routes and %d public ones, spellings counted", closed, public)
}
