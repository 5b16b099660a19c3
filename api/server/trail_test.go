package server

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"ehi-server/api/staff"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// Every route of administrators says what it leaves in the audit trail: an event of its
// handler's, a record that it was read, or why nothing. What changes something leaves an event,
// and so does what shows patients' names, choices or withheld counts.
func TestEveryRouteOfAdministratorsLeavesItsTrail(t *testing.T) {
	personal := []string{
		"/admin", "/admin/jobs", "/admin/jobs/:id", "/admin/accounts", "/admin/ui/jobs",
		"/admin/ui/jobs/:id", "/admin/ui/jobs/:id/files", "/admin/ui/accounts",
		"/jobs/:id/metadata",
	}
	used := map[string]bool{}
	for _, r := range routed(t).app.GetRoutes(true) {
		if r.Method == "HEAD" {
			continue
		}
		left, ofStaff, declared := trailOf(r.Method, r.Path)
		if !ofStaff {
			continue
		}
		name := r.Method + " " + r.Path
		used[name] = true
		switch {
		case !declared:
			t.Errorf("%s does not say what it leaves", name)
		case left.nothing != "" && r.Method != "GET" && !strings.HasSuffix(r.Path, "/openid"):
			t.Errorf("%s changes something, and leaves nothing: %s", name, left.nothing)
		case left.nothing == "" && left.action == "":
			t.Errorf("%s leaves an event of no action", name)
		}
	}
	for _, path := range personal {
		if !trails["GET "+path].reads {
			t.Errorf("GET %s shows persons, and nobody hears that it was read", path)
		}
	}
	for name := range trails {
		if !used[name] && name != "GET /admin/debug/pprof" { // of a middleware
			t.Errorf("the trail of %s is of no route", name)
		}
	}
	if trails["GET /admin/jobs"].action != ehi.ActionRead {
		t.Error("reads are not recorded as reads")
	}
}

// Whatever shows an administrator a patient leaves an event: every route that lets
// administrators pass is asked for, and where the answer has the patient's name or id, the trail
// says who has read it and how.
func TestShowingAPatientToAnAdministratorIsAudited(t *testing.T) {
	const name, id = "Zebedee Markworthy", "patient-of-the-trail"
	s := routed(t, func(c *Config) {
		c.Admins.User, c.Admins.Password = "admin", "a long password of a test"
	})
	j := &ehi.Job{
		Version:     ehi.RecordVersion,
		Lane:        ehi.Interactive,
		ID:          "job-of-the-trail",
		Status:      ehi.Retrieved,
		Level:       ehi.OnePatient,
		Patient:     ehi.Patient{ID: id, Name: name},
		ClientID:    "app",
		CreatedAt:   now(),
		CompletedAt: now(),
		Withheld:    map[string]int64{"sensitive.hiv": 1},
	}
	if err := s.Bus.Jobs.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	in := answer(s, "POST", "/admin/login",
		`{"username":"admin","password":"a long password of a test"}`, "Content-Type", asJSON)
	sid := cookieOf(in, "sid")
	asked := 0
	for _, r := range s.app.GetRoutes(true) {
		rule, _ := ruleOf(r.Method, r.Path)
		// a stream without an end, of ids
		if r.Method != "GET" || !rule.staff || r.Path == "/admin/ui/events" {
			continue
		}
		asked++
		path := strings.ReplaceAll(r.Path, ":id", j.ID)
		a := answer(s, "GET", path, "", "Cookie", sid, "Accept", "text/html,application/json")
		body := a.Body()
		shows := bytes.Contains(body, []byte(name)) || bytes.Contains(body, []byte(id))
		left, _, _ := trailOf(r.Method, r.Path)
		switch {
		case shows && left.nothing != "":
			t.Errorf("GET %s shows the patient, and leaves nothing: %s", r.Path, left.nothing)
		case left.reads && a.StatusCode() == http.StatusOK && readsOf(t, s, r.Path) == 0:
			t.Errorf("GET %s was read, and the trail does not say so", r.Path)
		case r.Path == "/jobs/:id/metadata" && (!shows || a.StatusCode() != http.StatusOK):
			t.Errorf("GET %s: %d %s", r.Path, a.StatusCode(), body)
		}
	}
	if asked < 15 {
		t.Errorf("%d routes only", asked)
	}
}

// What an administrator asks for and does not get leaves an event, too, whichever route it is:
// each route that leaves an event when something is done is asked for what it cannot do, of an
// export that is there and of none. What was typed is not in it.
func TestRefusalsOfAdministratorsAreAudited(t *testing.T) {
	const typed = "typed-by-mistake"
	s := routed(t, func(c *Config) {
		c.Admins.User, c.Admins.Password = "admin", "a long password of a test"
	})
	j := &ehi.Job{
		Version:   ehi.RecordVersion,
		Lane:      ehi.Interactive,
		Level:     ehi.OnePatient,
		Status:    ehi.AwaitingInput,
		ID:        "job-of-the-trail",
		Patient:   ehi.Patient{ID: "patient-of-the-trail"},
		ClientID:  "app",
		CreatedAt: now(),
	}
	if err := s.Bus.Jobs.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	login := `{"username":"admin","password":"a long password of a test"}`
	sid := cookieOf(answer(s, "POST", "/admin/login", login, "Content-Type", asJSON), "sid")
	body := `{"level":"` + typed + `","params":["` + typed + `"]}`
	asked := 0
	for _, r := range s.app.GetRoutes(true) {
		rule, _ := ruleOf(r.Method, r.Path)
		left, _, _ := trailOf(r.Method, r.Path)
		if r.Method == "HEAD" || !rule.staff || left.action == "" || left.reads ||
			isStaffForm(r.Method, r.Path) {
			continue
		}
		for _, id := range []string{j.ID, typed} {
			path := strings.NewReplacer(":id", id, ":kind", "admin", ":name", typed, ":file",
				typed).Replace(r.Path)
			before := eventsOf(t, s, typed)
			path += "?limit=" + typed + "&recipient=" + typed
			a := answer(s, r.Method, path, body, "Cookie", sid, "Content-Type", asJSON)
			code := a.StatusCode()
			if code < http.StatusBadRequest || code == http.StatusInternalServerError {
				continue // it is done, or by a part that this server does not have
			}
			asked++
			if eventsOf(t, s, typed) == before {
				t.Errorf("%s %s: %d %s, and the trail does not say so", r.Method, path,
					a.StatusCode(), a.Body())
			}
		}
	}
	if asked < 20 {
		t.Errorf("%d refusals only", asked)
	}
}

// isStaffForm reports whether a route takes a form of administrators' pages, which has a token.
func isStaffForm(method, path string) bool {
	return method != http.MethodGet && strings.HasPrefix(path, staff.Base+"/")
}

// eventsOf counts the refusals in the trail, and holds them not to repeat what was typed.
func eventsOf(t *testing.T, s *Server, typed string) (n int) {
	t.Helper()
	if err := s.Bus.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := s.Bus.Audit.Read(t.Context(), bus.AuditFilter{},
		func(_ uint64, e ehi.Event) (bool, error) {
			if e.Outcome != ehi.Succeeded && e.Agent == "admin admin" {
				n++
			}
			if strings.Contains(e.Detail, typed) || strings.Contains(e.Job, typed) {
				t.Errorf("the trail repeats what was typed: %+v", e)
			}
			return true, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// readsOf counts the events of the trail that say that a route was read.
func readsOf(t *testing.T, s *Server, route string) (n int) {
	t.Helper()
	if err := s.Bus.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	filter := bus.AuditFilter{Action: ehi.ActionRead}
	err := s.Bus.Audit.Read(t.Context(), filter, func(_ uint64, e ehi.Event) (bool, error) {
		if e.Detail == route && e.Agent == "admin admin" {
			n++
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The trail names the accounts, roles and clients that administrators change, and says who has
// read the names, choices and withheld counts of patients, once for each session. For refused
// requests, it does not repeat the input.
func TestTheTrailNamesWhatAdministratorsChangeAndRead(t *testing.T) {
	b, _ := seated(t)
	j := &ehi.Job{
		Version: ehi.RecordVersion, Lane: ehi.Interactive, ID: "j", Level: ehi.OnePatient,
		Status: ehi.AwaitingInput, Patient: ehi.Patient{ID: "ann"}, ClientID: "app",
		CreatedAt: now(), ExpiresAt: now().Add(time.Hour),
	}
	if err := b.s.Bus.Jobs.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	web := auth.Client{
		ID: "web", Name: "A web site", RedirectURIs: []string{"https://web.example/cb"},
		Scope: "patient/$ehi-export",
	}
	if _, _, err := b.s.Auth.AddClient(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.wants("GET", "/admin/jobs/j", "", 200, "")
		b.wants("GET", "/admin/jobs", "", 200, "")
		b.wants("GET", "/admin/accounts", "", 200, "")
	}
	const nora, password = "/admin/accounts/admin/nora", `"password":"four plain words here"}`
	b.wants("POST", "/admin/accounts", `{"username":"nora","role":"reviewer",`+password, 201, "")
	b.wants("PUT", nora, `{"password":"four other words here"}`, 200, "")
	b.wants("DELETE", nora, "", 200, "")
	b.wants("DELETE", "/admin/clients/web", "", 200, "")
	b.wants("POST", "/admin/keys/rotate", "", 200, "")
	const typed = "typed-by-mistake"
	b.wants("DELETE", "/admin/clients/"+typed, "", 404, "")
	b.wants("DELETE", "/admin/accounts/admin/"+typed, "", 404, "")
	b.wants("POST", "/admin/clients",
		`{"client_id":"`+typed+`","client_name":"`+typed+`","scope":"nonsense"}`, 400, "")
	b.wants("POST", "/admin/accounts",
		`{"username":"`+typed+`","role":"nonsense","password":"`+typed+`"}`, 400, "")

	if err := b.s.Bus.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := string(b.wants("GET", "/admin/audit?agent=admin%20admin", "", 200, "").Body())
	for _, want := range []string{
		"add account nora of kind admin, role reviewer",
		"set the password of account nora of kind admin, role reviewer",
		"remove account nora of kind admin, role reviewer",
		"remove client web (A web site)",
		"rotate signing keys",
		"add account of kind",
		"/admin/jobs/:id", "/admin/accounts",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the trail does not say %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, typed) {
		t.Errorf("the trail repeats what was typed:\n%s", all)
	}
	reads := string(b.wants("GET",
		"/admin/audit?action=read&agent=admin%20admin&patient=ann", "", 200, "").Body())
	if n := strings.Count(reads, "\n"); n != 1 {
		t.Errorf("%d events of one job that was read twice:\n%s", n, reads)
	}
}
