package server

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// population stores a finished export with tasks of each files, as its workers would.
func (b *seat) population(id string, tasks, each int) {
	b.t.Helper()
	ctx, jobs, at := b.t.Context(), b.s.Bus.Jobs, time.Now().UTC()
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
		b.t.Fatal(err)
	}
	for n := range tasks {
		if err := b.s.Bus.Tasks.Plan(ctx, id, n, ehi.Part{}); err != nil {
			b.t.Fatal(err)
		}
		t, err := b.s.Bus.Tasks.TakePlanned(ctx, id, n, 0, "test", at)
		if err != nil {
			b.t.Fatal(err)
		}
		for i := range each {
			typ := "Observation"
			if i == 0 {
				typ = "Patient"
			}
			t.Files = append(t.Files, ehi.File{Type: typ, Count: 10, Bytes: 1000})
		}
		if err := b.s.Bus.Tasks.Commit(ctx, t, at); err != nil {
			b.t.Fatal(err)
		}
		_, err = jobs.Update(ctx, id, func(j *ehi.Job) error {
			return j.Complete(t.Task, at, time.Hour)
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// follow visits the pages of a list through a link relation, and returns the matches of a
// pattern.
func (b *seat) follow(rel string, pattern *regexp.Regexp) (found []string) {
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
		b.visit(html.UnescapeString(next[1]), 200)
	}
	b.t.Fatal("the list has no end")
	return nil
}

var fileLink = regexp.MustCompile(`/files/([A-Za-z]+\.\d+\.\d+\.ndjson)"`)

// The page of an export that shows only some of its files says so, with the total number, and
// links to the rest.
func TestThePageOfAnExportLinksToAllItsFiles(t *testing.T) {
	b, _ := seated(t)
	b.population("population", 100, 80)
	const page = "/admin/ui/jobs/population"
	b.visit(page, 200, "the first 240 files of 8,000", `href="/admin/ui/jobs/population/files"`)
	b.visit(page+"/files", 200, "8,000 files in 100 parts", "240 files of parts 1 to 3 of 100")
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
	b.visit(page+"/files?q=patient", 200, "100 files with “patient” of parts 1 to 100 of 100")
	b.visit(page+"/files?q=Observation.99.7.ndjson", 200, "1 files with",
		"/files/Observation.99.7.ndjson")
	b.visit(page+"/files?part=99", 200, "160 files of parts 99 to 100 of 100")
	for _, bad := range []string{"?part=0", "?part=102", "?before=102", "?part=-1"} {
		b.visit(page+"/files"+bad, 400, "Invalid part")
	}
}

// The lists of clients and accounts say how many there are, lead through all of them, and are
// narrowed by a search.
func TestListsOfClientsAndAccountsHavePages(t *testing.T) {
	b, _ := seated(t)
	for i := range 130 {
		c := auth.Client{
			ID:           fmt.Sprintf("client-%03d", i),
			Name:         fmt.Sprintf("Aplicación %d", i),
			RedirectURIs: []string{"https://app.example.org/cb"},
			Scope:        "patient/$ehi-export",
		}
		if _, _, err := b.s.Auth.AddClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	b.visit(clientsPage, 200, "1 to 100 of 130")
	ids := b.follow("next", regexp.MustCompile(`<span class="hint"><code>(client-\d+)</code>`))
	if len(ids) != 130 {
		t.Errorf("over its pages %d clients", len(ids))
	}
	b.visit(clientsPage+"?q=aplicacion+129", 200, "1 to 1 of 1 (130 in total)", "client-129")
	b.visit(clientsPage+"?q=client-12", 200, "1 to 10 of 10 (130 in total)")
	b.visit(clientsPage+"?q=nothing", 200, "None (130 in total)", "No matching clients")
	b.visit("/admin/ui/accounts?q=x", 200, "No accounts")
}

// The page of the audit trail says how many events it shows and that more follow, and leads
// through all events of a day.
func TestThePageOfTheTrailLeadsThroughADay(t *testing.T) {
	b, _ := seated(t)
	for range 260 {
		b.s.Bus.Audit.Record(ehi.Event{
			At: now(), Action: ehi.ActionRead, Agent: "admin ada", Outcome: ehi.Succeeded,
		})
	}
	if err := b.s.Bus.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := regexp.MustCompile(`<tr><td><time datetime="([^"]*)"`)
	b.visit("/admin/ui/audit", 200, "The latest 200 of")
	day := time.Now().UTC().Format(time.DateOnly)
	b.visit("/admin/ui/audit?day="+day, 200, "200 events, oldest first; more follow")
	if n := len(b.follow("next", events)); n < 250 {
		t.Errorf("over its pages %d events", n)
	}
	b.visit("/admin/ui/audit?q=log-in+admin", 200, "events, oldest first", "log-in")
	b.visit("/admin/ui/audit?day=yesterday", 400, "Invalid day")
}

// A patient's list of requests leads through all of them. Administrators find them by the
// patient's name in any order and spelling, and by the beginning of an ID.
func TestListsOfRequestsHavePages(t *testing.T) {
	b, _ := seated(t)
	const p = "patient-of-many"
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
		if err := b.s.Bus.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	person := b.another()
	person.cookies["ehi_patient"] = patientSessionOf(t, b.s, p)[len("ehi_patient="):]
	person.visit("/my/requests", 200, "1 to 50 of 120")
	n := len(person.follow("next", regexp.MustCompile(`<a href="/my/requests/(request-\d+)"`)))
	if n != 120 {
		t.Errorf("over its pages %d requests", n)
	}
	for _, text := range []string{"101 to 120 of 120", "Newer requests"} { // on the last page
		if !strings.Contains(person.page, text) {
			t.Errorf("%q is not on the page: %s", text, person.page)
		}
	}
	for _, q := range []string{"Núñez, José", "nunez jose", p[:len(p)-2], "request-"} {
		b.visit("/admin/ui/jobs?q="+url.QueryEscape(q), 200, "1 to 50 of 120")
	}
	b.visit("/admin/ui/jobs?q=nunez+jane", 200, "No matching exports")
}
