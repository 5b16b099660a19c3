package outside

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/shared/ehi"
)

// asker is an identity that schemathesis uses.
type asker struct {
	name    string
	header  string // "" for none
	paths   string // regular expression for the paths of the operations
	without string // operations that are left out
	ids     [][2]string
}

// schemathesis from PyPI sends valid and invalid requests to each operation of /openapi.json:
// without credentials, as a patient's application, as a backend service and as an administrator.
// No response is a 500, and the document lists the status, content type, headers and body of
// each.
func TestSchemathesisFindsTheServerAsItsDocumentSays(t *testing.T) {
	t.Parallel()
	python().or(t)
	s := serve(t, "--source", population, "--poll-burst", "0", "--registration-token",
		"an-initial-access-token")
	for _, a := range s.askers() {
		config := filepath.Join(t.TempDir(), "schemathesis.toml")
		if err := os.WriteFile(config, []byte(a.config()), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{
			"--config-file", config, "run", s.url + "/openapi.json", "--origin", s.url,
			"--include-path-regex", a.paths, "--checks", checks, "--phases", "coverage,fuzzing",
			"--max-examples", "6", "--seed", "18", "--no-shrink", "--warnings", "off",
		}
		if a.without != "" {
			args = append(args, "--exclude-path-regex", a.without)
		}
		if a.header != "" {
			args = append(args, "--header", a.header)
		}
		p := s.python([]string{"NO_COLOR=1"}, "schemathesis", args...)
		if err := p.Wait(); err != nil {
			t.Errorf("as %s: %v\n%s", a.name, err, failures(p.out.String()))
			continue
		}
		t.Logf("as %s: %s", a.name, cases(p.out.String()))
	}
}

// checks are schemathesis's checks of responses.
const checks = "not_a_server_error,status_code_conformance,content_type_conformance," +
	"response_headers_conformance,response_schema_conformance"

// failures returns the failures in schemathesis's output.
func failures(said string) string {
	_, told, found := strings.Cut(said, "FAILURES")
	if !found {
		return tail(said)
	}
	return told[:min(len(told), 20_000)]
}

// cases returns how many requests schemathesis made.
func cases(said string) string {
	for line := range strings.Lines(said) {
		if strings.Contains(line, " generated") {
			return strings.TrimSpace(line)
		}
	}
	return "no cases"
}

// config makes schemathesis use ids that exist.
func (a asker) config() string {
	var out strings.Builder
	for _, id := range a.ids {
		fmt.Fprintf(&out, "[[operations]]\ninclude-path-regex = %q\nparameters = { %q = %q }\n",
			id[0], "path.id", id[1])
	}
	return out.String()
}

// askers returns the identities, each with a job of its own, and another one to delete.
func (s *server) askers() []asker {
	t, ctx := s.t, s.t.Context()
	patient, system := s.patient(), s.system()
	own, _, err := s.open.Authorize(ctx, patient)
	if err != nil {
		t.Fatal(err)
	}
	job := func(c *client.Client, method, target string) string {
		j, err := c.Start(ctx, method, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		return j.ID
	}
	done, open := job(own, "POST", "/no-form/auto-approve/fhir/Patient/"+patient+"/$ehi-export"),
		job(own, "POST", "/fhir/Patient/"+patient+"/$ehi-export")
	bulk := job(system, "GET", "/fhir/$export")
	reviewed := job(own, "POST", "/no-form/fhir/Patient/"+patient+"/$ehi-export")
	if _, err := s.admin.WaitJob(ctx, reviewed, ehi.Retrieved); err != nil {
		t.Fatal(err)
	}
	login, err := s.open.Do(ctx, "POST", "/admin/login",
		strings.NewReader(`{"username":"admin","password":"admin-password"}`), "Content-Type",
		"application/json")
	if err != nil || login.Status != 200 {
		t.Fatalf("%+v, %v", login, err)
	}
	session, _, _ := strings.Cut(login.Header.Get("Set-Cookie"), ";")
	return []asker{
		{
			"nobody",
			"",
			`^/($|\.well-known|auth|docs|my/|patient-|assets|healthz|readyz|fhir/(metadata|\.well-known))`,
			"",
			nil,
		},
		{
			"a patient's application",
			"Authorization: Bearer " + own.Token,
			"^/(fhir/Patient|fhir/metadata|jobs)",
			"",
			[][2]string{
				{"^/fhir/Patient", patient},
				{"^/jobs/{id}/(status|metadata|download)", done},
				{"^/jobs/{id}($|/customize)", open},
			},
		},
		{"a backend service", "Authorization: Bearer " + system.Token, "^/(fhir|jobs)", "",
			[][2]string{{"^/fhir/Patient", patient}, {"^/jobs", bulk}}},
		{
			"an administrator",
			"Cookie: " + session,
			"^/admin",
			"^/admin/(logout|ui/logout|backup|debug/pprof|ui/events)",
			[][2]string{{"^/admin/jobs/|^/admin/ui/jobs/", reviewed}},
		},
	}
}
