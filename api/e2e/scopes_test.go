package e2e

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// typesOf returns the types that a manifest lists.
func typesOf(m *ehi.Manifest) []string {
	types := map[string]bool{}
	for _, e := range m.Output {
		types[e.Type] = true
	}
	return slices.Sorted(maps.Keys(types))
}

// SMART-7: a patient's application whose narrowed token lacks the export's scope cannot read the
// export; one that kept the scope can read everything.
func TestSMART7ANarrowedTokenOfAPatientKeepsOut(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	c, tokens, err := w.open.AuthorizeFor(t.Context(), p,
		"patient/$ehi-export patient/*.rs offline_access")
	if err != nil {
		t.Fatal(err)
	}
	j := w.kickOff(c, "/no-form/auto-approve", p, nil)
	file := w.manifest(c, j).Output[0].URL
	narrow := func(scope string) *client.Client {
		t.Helper()
		a, err := w.open.Do(t.Context(), "POST", "/auth/token",
			strings.NewReader(url.Values{
				"grant_type":    {"refresh_token"},
				"refresh_token": {tokens.RefreshToken},
				"client_id":     {client.ClientID},
				"scope":         {scope},
			}.Encode()),
			"Content-Type", "application/x-www-form-urlencoded")
		if err != nil || a.Status != 200 || json.Unmarshal(a.Body, &tokens) != nil ||
			tokens.Scope != scope {
			t.Fatalf("%d %s, %v", a.Status, a.Body, err)
		}
		return w.open.WithToken(tokens.AccessToken)
	}
	readOnly := narrow("patient/Patient.rs patient/Condition.read")
	for _, route := range []string{
		"GET " + j.StatusURL, "GET " + file, "GET /jobs/" + j.ID + "/metadata",
		"DELETE " + j.StatusURL, "POST /jobs/" + j.ID,
	} {
		method, target, _ := strings.Cut(route, " ")
		a := w.do(readOnly, method, target)
		w.wantOutcome(a, 403, "scope")
		if !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
			t.Errorf("%s: %v", route, a.Header)
		}
	}
	w.want(w.do(readOnly, "GET", "/fhir/Patient/"+p), 200, `"Patient"`)
	search := narrow("patient/Patient.s")
	w.wantOutcome(w.do(search, "GET", "/fhir/Patient/"+p), 403, "patient/Patient.r")
	w.want(w.do(search, "GET", "/fhir/Patient"), 200, `"total":1`)
	kept := narrow("patient/$ehi-export")
	w.wantOutcome(w.do(kept, "GET", "/fhir/Patient/"+p), 403, "scope")
	w.want(w.do(kept, "GET", file), 200, "")
	w.want(w.do(kept, "DELETE", j.StatusURL), 202, "")
}

// told returns the lines of a manifest's error files.
func (w *world) told(c *client.Client, m *ehi.Manifest) (out []string) {
	w.t.Helper()
	for _, e := range m.Error {
		data, err := c.Download(w.t.Context(), e.URL)
		if err != nil {
			w.t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		if int64(len(lines)) != e.Count || !strings.HasSuffix(string(data), "\n") {
			w.t.Errorf("%s has %d lines, the manifest says %d", e.URL, len(lines), e.Count)
		}
		for _, line := range lines {
			var o struct {
				ResourceType string `json:"resourceType"`
				Issue        []struct{ Severity, Code, Diagnostics string }
			}
			err := json.Unmarshal([]byte(line), &o)
			if err != nil || o.ResourceType != "OperationOutcome" || len(o.Issue) != 1 ||
				o.Issue[0].Severity != "warning" {
				w.t.Errorf("%s, %v", line, err)
				continue
			}
			out = append(out, o.Issue[0].Code+" "+o.Issue[0].Diagnostics)
		}
	}
	return out
}

// BULK-1: types beyond the token's scopes, unknown patients and what lenient handling ignores
// are left out, and reported in error[].
func TestBULK1WhatIsLeftOutOfARequestIsTold(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	all, p := w.service("system/*.rs"), w.demoPatient()
	patients := func(refs ...string) []byte {
		list := make([]string, len(refs))
		for i, ref := range refs {
			list[i] = `{"name":"patient","valueReference":{"reference":"` + ref + `"}}`
		}
		return []byte(`{"resourceType":"Parameters","parameter":[` + strings.Join(list, ",") + `]}`)
	}
	for name, c := range map[string]struct {
		c            *client.Client
		method, path string
		body         []byte
		prefer       string
		types, told  []string
	}{
		"types beyond the scopes": {
			w.service("system/Patient.rs system/Condition.rs"),
			"GET",
			"/fhir/$export?_type=Patient,Claim,Device",
			nil,
			"",
			[]string{"Patient"},
			[]string{"suppressed", "Claim, Device"},
		},
		"an unknown type": {
			all,
			"GET",
			"/fhir/$export?_type=Patient,Nope",
			nil,
			"handling=lenient",
			[]string{"Patient"},
			[]string{"not-supported", "Nope"},
		},
		"absent patients": {
			all,
			"POST",
			"/fhir/Patient/$export?_type=Patient",
			patients("Patient/"+p, "Patient/nobody", "Patient/"+p),
			"",
			[]string{"Patient"},
			[]string{"not-found", "Patient/nobody"},
		},
		"own absolute references": {
			all,
			"POST",
			"/fhir/Patient/$export?_type=Patient",
			patients(w.node.URL+"/fhir/Patient/"+p,
				w.node.URL+"/no-form/fhir/Patient/absent/_history/1"),
			"",
			[]string{"Patient"},
			[]string{"not-found", "Patient/absent"},
		},
		"patients that must not be told": {
			w.service("system/Condition.rs"),
			"POST",
			"/fhir/Patient/$export",
			patients("Patient/"+p, "Patient/nobody"),
			"",
			[]string{"Condition"},
			[]string{"suppressed", "Only a token that may read Patient"},
		},
		"only absent ones": {
			all,
			"POST",
			"/fhir/Patient/$export",
			patients("Patient/nobody"),
			"",
			nil,
			[]string{"not-found", "Patient/nobody"},
		},
	} {
		_, m := w.bulkKept(c.c, c.method, c.path, c.body, "Prefer", c.prefer)
		told := w.told(c.c, m)
		if !slices.Equal(typesOf(m), c.types) || len(told) != 1 ||
			!strings.HasPrefix(told[0], c.told[0]+" ") || !strings.Contains(told[0], c.told[1]) {
			t.Errorf("%s: exported %v, told %q", name, typesOf(m), told)
		}
	}
	for name, body := range map[string][]byte{
		"another server's": patients("http://other.test/fhir/Patient/" + p),
		"of another type":  patients("Observation/" + p),
	} {
		a, err := all.Do(t.Context(), "POST", "/fhir/Patient/$export",
			strings.NewReader(string(body)), "Content-Type", "application/fhir+json")
		if err != nil || a.Status != 400 {
			t.Errorf("%s: %d %s, %v", name, a.Status, a.Body, err)
		}
	}
}

// bulkKept runs a population's export and keeps its files.
func (w *world) bulkKept(
	c *client.Client, method, target string, body []byte, header ...string,
) (client.Job, *ehi.Manifest) {
	w.t.Helper()
	j, err := c.Start(w.t.Context(), method, target, body, header...)
	if err != nil {
		w.t.Fatal(err)
	}
	return j, w.manifest(c, j)
}
