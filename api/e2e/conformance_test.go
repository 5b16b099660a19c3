package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// kickedOff returns the raw response to a kick-off.
func (w *world) kickedOff(c *client.Client, base, patient string) *client.Answer {
	w.t.Helper()
	a := w.do(c, http.MethodPost, base+"/fhir/Patient/"+patient+"/$ehi-export", "Prefer",
		"respond-async")
	if a.Status != http.StatusAccepted {
		w.t.Fatalf("a kick-off is answered %d %.300s", a.Status, a.Body)
	}
	return a
}

// EHI-2, EHI-3: the link to the form comes with the kick-off and with each status while the form
// is open, and no longer. It is bare for the sandbox's client, and as in RFC 8288 for all
// others.
func TestEHI2TheLinkLeadsToTheOpenForm(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	const back = "https://app.example/cb"
	_, _, err := w.admin.AddClient(t.Context(), auth.Client{
		ID:           "other",
		Name:         "Another application",
		RedirectURIs: []string{back},
		Scope:        "patient/$ehi-export",
	})
	if err != nil {
		t.Fatal(err)
	}
	other := w.open.WithToken(w.tokenFor("other", back, p))
	for name, as := range map[string]struct {
		c    *client.Client
		link *regexp.Regexp
	}{
		"the sandbox's client": {
			w.patient(p),
			regexp.MustCompile(`^(http[^<>;]+); rel="patient-interaction"$`),
		},
		"another client": {
			other,
			regexp.MustCompile(`^<(http[^<>;]+)>; rel="patient-interaction"$`),
		},
	} {
		a := w.kickedOff(as.c, "", p)
		status, link := a.Header.Get("Content-Location"), a.Header.Get("Link")
		found := as.link.FindStringSubmatch(link)
		if found == nil || found[1] != strings.TrimSuffix(status, "/status")+"/customize" {
			t.Errorf("%s: Link %q", name, link)
		}
		if a := w.do(as.c, http.MethodGet, status); a.Status != http.StatusAccepted ||
			a.Header.Get("Link") != link {
			t.Errorf("%s: a status is answered %d, Link %q", name, a.Status, a.Header.Get("Link"))
		}
		id := strings.TrimSuffix(status[strings.LastIndex(status, "/jobs/")+len("/jobs/"):],
			"/status")
		w.submit(as.c, id, newForm("labs"))
		w.wait(id, ehi.Retrieved)
		if a := w.do(as.c, http.MethodGet, status); a.Status != http.StatusAccepted ||
			a.Header.Get("Link") != "" {
			t.Errorf("%s: behind the form, a status is answered %d, Link %q", name, a.Status,
				a.Header.Get("Link"))
		}
	}
}

// tokenFor returns an access token of an application for a patient of the sandbox.
func (w *world) tokenFor(id, back, patient string) string {
	w.t.Helper()
	verifier := strings.Repeat("v", 43)
	q := url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {back}, "state": {"s"},
		"scope":          {"patient/$ehi-export"},
		"aud":            {w.open.Base + "/fhir"},
		"_patient":       {patient},
		"_auth_success":  {"1"},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"},
	}
	u, err := url.Parse(
		w.do(w.open, http.MethodGet, "/auth/authorize?"+q.Encode()).Header.Get("Location"))
	if err != nil || u.Query().Get("code") == "" {
		w.t.Fatalf("authorize: %s, %v", u, err)
	}
	form := url.Values{
		"grant_type":   {"authorization_code"},
		"code":         {u.Query().Get("code")},
		"redirect_uri": {back},
		"client_id":    {id}, "code_verifier": {verifier},
	}
	a, err := w.open.Do(w.t.Context(), http.MethodPost, "/auth/token",
		strings.NewReader(form.Encode()),
		"Content-Type", "application/x-www-form-urlencoded")
	if err != nil {
		w.t.Fatal(err)
	}
	var out struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil || out.Token == "" {
		w.t.Fatalf("token: %d %s", a.Status, a.Body)
	}
	return out.Token
}

// EHI-5, REAL-2: the manifest is complete, its lists are lists even if they are empty, and
// Expires says when its files are deleted.
func TestEHI5TheManifestIsWhole(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Limits.FileTTL = time.Hour
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	began := time.Now().Add(-time.Second)
	status := w.kickedOff(pat, "/no-form/auto-approve", p).Header.Get("Content-Location")
	w.until("the export is done", func() bool {
		return w.do(pat, http.MethodGet, status).Status == http.StatusOK
	})
	a := w.do(pat, http.MethodGet, status)
	var m map[string]json.RawMessage
	if err := json.Unmarshal(a.Body, &m); err != nil {
		t.Fatal(err)
	}
	text := func(key string) (s string) {
		if err := json.Unmarshal(m[key], &s); err != nil {
			t.Errorf("%s is %s", key, m[key])
		}
		return s
	}
	at, err := time.Parse(time.RFC3339, text("transactionTime"))
	if err != nil || at.Before(began) || at.After(time.Now()) {
		t.Errorf("transactionTime is %s, %v", m["transactionTime"], err)
	}
	want := w.open.Base + "/no-form/auto-approve/fhir/Patient/" + p + "/$ehi-export"
	if text("request") != want {
		t.Errorf("request is %s, want %s", m["request"], want)
	}
	if string(m["requiresAccessToken"]) != "true" || string(m["error"]) != "[]" ||
		string(m["deleted"]) != "[]" {
		t.Errorf("requiresAccessToken %s, error %s, deleted %s", m["requiresAccessToken"],
			m["error"], m["deleted"])
	}
	var output []struct {
		Type, URL string
		Count     int
	}
	if err := json.Unmarshal(m["output"], &output); err != nil || len(output) == 0 {
		t.Errorf("output %s, %v", m["output"], err)
	}
	for _, e := range output {
		if e.Type == "" || e.Count < 1 || !strings.HasPrefix(e.URL, w.open.Base) {
			t.Errorf("an entry is %+v", e)
		}
	}
	var extension struct {
		Docs     string `json:"ehiDocumentationUrl"`
		Metadata string `json:"metadata"`
	}
	if err := json.Unmarshal(m["extension"], &extension); err != nil {
		t.Fatal(err)
	}
	w.want(w.do(w.open, http.MethodGet, extension.Docs), http.StatusOK, "")
	w.want(w.do(pat, http.MethodGet, extension.Metadata), http.StatusOK, "")
	expires, err := http.ParseTime(a.Header.Get("Expires"))
	if left := time.Until(expires); err != nil || left < 50*time.Minute || left > time.Hour {
		t.Errorf("Expires %q", a.Header.Get("Expires"))
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
}

// REAL-11: values that kits put into a URL unescaped need no escaping.
func TestREAL11TokensAndIDsAreSafeInURLs(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	safe := regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)
	for range 20 {
		j := w.kickOff(pat, "", p, nil)
		token := w.tokenFor("test_client_id", "http://app.example/cb", p)
		if !safe.MatchString(j.ID) || !safe.MatchString(token) {
			t.Fatalf("job %q, token %q", j.ID, token)
		}
	}
}

// REAL-10: an export of all demo patients has what kits look for.
func TestREAL10TheDemoPopulationHasWhatKitsLookFor(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	got, _ := w.bulk(w.service("system/*.rs"), http.MethodGet, "/fhir/$export", nil)
	counts := map[string]int{}
	for key := range got {
		typ, _, _ := strings.Cut(key, "/")
		counts[typ]++
	}
	if counts["Patient"] < 2 {
		t.Errorf("%d patients", counts["Patient"])
	}
	for _, typ := range []string{
		"Encounter", "Observation", "DiagnosticReport", "Location", "Practitioner",
	} {
		if counts[typ] == 0 {
			t.Errorf("no %s", typ)
		}
	}
	if counts["Coverage"]+counts["ExplanationOfBenefit"] == 0 {
		t.Error("neither Coverage nor ExplanationOfBenefit")
	}
}

// challengeOf returns the PKCE challenge of a verifier (RFC 7636).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
