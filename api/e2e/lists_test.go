package e2e

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// population writes an export with tasks tasks of each files, as its workers would.
func (w *world) population(id string, tasks, each int) {
	w.t.Helper()
	ctx, jobs, at := w.t.Context(), w.node.Bus.Jobs, time.Now().UTC()
	j := &ehi.Job{
		Version:     ehi.RecordVersion,
		ID:          id,
		Level:       ehi.AllPatients,
		ClientID:    "test_client_id",
		ByService:   true,
		Lane:        ehi.Bulk,
		Status:      ehi.Requested,
		Tasks:       tasks,
		CreatedAt:   at,
		RequestedAt: at,
		ExpiresAt:   at.Add(time.Hour),
	}
	if err := jobs.Create(ctx, j); err != nil {
		w.t.Fatal(err)
	}
	for n := range tasks {
		if err := w.node.Bus.Tasks.Plan(ctx, id, n, ehi.Part{}); err != nil {
			w.t.Fatal(err)
		}
		t, err := w.node.Bus.Tasks.TakePlanned(ctx, id, n, 0, "test", at)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range each {
			typ := "Observation"
			if i == 0 {
				typ = "Patient"
			}
			t.Files = append(t.Files, ehi.File{Type: typ, Count: 10, Bytes: 1000})
		}
		if err := w.node.Bus.Tasks.Commit(ctx, t, at); err != nil {
			w.t.Fatal(err)
		}
		_, err = jobs.Update(ctx, id, func(j *ehi.Job) error {
			return j.Complete(t.Task, at, time.Hour)
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

var fileLink = regexp.MustCompile(`/files/([A-Za-z]+\.\d+\.\d+\.ndjson)"`)

// follow visits the pages of a list through a link relation, and returns the matches of a
// pattern.
func (b *browser) follow(rel string, pattern *regexp.Regexp) (found []string) {
	b.t.Helper()
	link := regexp.MustCompile(`<a (?:class="[^"]*" )?href="([^"]*)" rel="` + rel + `"`)
	for range 1000 {
		for _, m := range pattern.FindAllStringSubmatch(b.page, -1) {
			found = append(found, m[1])
		}
		next := link.FindStringSubmatch(b.page)
		if next == nil {
			return found
		}
		b.visit(b.at.ResolveReference(&url.URL{}).Scheme + "://" + b.at.Host +
			strings.ReplaceAll(next[1], "&amp;", "&"))
		b.sees(200, "")
	}
	b.t.Fatal("the list has no end")
	return nil
}

// A page that shows only part of something says so, with the total number, and links to the
// rest.
func TestPartialListsShowTheTotal(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	b := staffIn(w, "admin", "admin-password")

	// The files of a population.
	w.population("population", 100, 80)
	page := w.open.Base + "/admin/ui/jobs/population"
	b.visit(page)
	b.sees(200, "the first 240 files of 8,000", `href="/admin/ui/jobs/population/files"`)
	b.visit(page + "/files")
	b.sees(200, "8,000 files in 100 parts", "240 files of parts 1 to 3 of 100")
	forward := b.follow("next", fileLink)
	backward := b.follow("prev", fileLink)
	seen := map[string]bool{}
	for _, name := range forward {
		seen[name] = true
	}
	if len(forward) != 8000 || len(seen) != 8000 || len(backward) < 8000 {
		t.Errorf("over its pages %d files, %d of them different; back again %d", len(forward),
			len(seen), len(backward))
	}
	b.visit(page + "/files?q=patient")
	b.sees(200, "100 files with “patient” of parts 1 to 100 of 100")
	b.visit(page + "/files?q=Observation.99.7.ndjson")
	b.sees(200, "1 files with", "/files/Observation.99.7.ndjson")
	b.visit(page + "/files?part=99")
	b.sees(200, "160 files of parts 99 to 100 of 100")
	for _, bad := range []string{"?part=0", "?part=102", "?before=102", "?part=-1"} {
		b.visit(page + "/files" + bad)
		b.sees(400, "Invalid part")
	}

	// Clients and accounts.
	for i := range 130 {
		c := auth.Client{
			ID:           fmt.Sprintf("client-%03d", i),
			Name:         fmt.Sprintf("Aplicación %d", i),
			RedirectURIs: []string{"https://app.example.org/cb"},
			Scope:        "patient/$ehi-export",
		}
		if _, _, err := w.admin.AddClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	b.visit(w.open.Base + "/admin/ui/clients")
	b.sees(200, "1 to 100 of 130")
	ids := b.follow("next", regexp.MustCompile(`<span class="hint"><code>(client-\d+)</code>`))
	if len(ids) != 130 {
		t.Errorf("over its pages %d clients", len(ids))
	}
	b.visit(w.open.Base + "/admin/ui/clients?q=aplicacion+129")
	b.sees(200, "1 to 1 of 1 (130 in total)", "client-129")
	b.visit(w.open.Base + "/admin/ui/clients?q=client-12")
	b.sees(200, "1 to 10 of 10 (130 in total)")
	b.visit(w.open.Base + "/admin/ui/clients?q=nothing")
	b.sees(200, "None (130 in total)", "No matching clients")
	b.visit(w.open.Base + "/admin/ui/accounts?q=x")
	b.sees(200, "No accounts")

	// The trail: each visit is an event, and so is each new client.
	for range 120 { // each visit is an event, and so is each new client
		b.visit(w.open.Base + "/admin/ui/audit?job=population")
	}
	events := regexp.MustCompile(`<tr><td><time datetime="([^"]*)"`)
	b.visit(w.open.Base + "/admin/ui/audit")
	b.sees(200, "The latest 200 of")
	b.visit(w.open.Base + "/admin/ui/audit?day=" + time.Now().UTC().Format(time.DateOnly))
	b.sees(200, "200 events, oldest first; more follow")
	if n := len(b.follow("next", events)); n < 250 {
		t.Errorf("over its pages %d events", n)
	}
	b.visit(w.open.Base + "/admin/ui/audit?q=log-in+admin")
	b.sees(200, "events, oldest first", "log-in")
	b.visit(w.open.Base + "/admin/ui/audit?day=yesterday")
	b.sees(400, "Invalid day")

	// A patient's requests.
	p := w.demoPatient()
	at := time.Now().UTC()
	for i := range 120 {
		j := &ehi.Job{
			Version:   ehi.RecordVersion,
			ID:        fmt.Sprintf("request-%03d", i),
			ClientID:  "test_client_id",
			Lane:      ehi.Interactive,
			Status:    ehi.AwaitingInput,
			Patient:   ehi.Patient{ID: p, Name: "José Núñez"},
			CreatedAt: at.Add(time.Duration(i) * time.Second),
			ExpiresAt: at.Add(time.Hour),
		}
		if err := w.node.Bus.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	person := newBrowser(t)
	person.visit(w.open.Base + "/my/requests")
	person.submit("patient", p, "password", "any")
	person.sees(200, "1 to 50 of 120")
	n := len(person.follow("next", regexp.MustCompile(`<a href="/my/requests/(request-\d+)"`)))
	if n != 120 {
		t.Errorf("over its pages %d requests", n)
	}
	person.sees(200, "101 to 120 of 120", "Newer requests")

	// Exports by name and by the beginning of an id.
	for _, q := range []string{"Núñez, José", "nunez jose", p[:len(p)-2], "request-"} {
		b.visit(w.open.Base + "/admin/ui/jobs?q=" + url.QueryEscape(q))
		b.sees(200, "1 to 50 of 120")
	}
	b.visit(w.open.Base + "/admin/ui/jobs?q=nunez+jane")
	b.sees(200, "No matching exports")
}
