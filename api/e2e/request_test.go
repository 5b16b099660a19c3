package e2e

import (
	"archive/zip"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// A patient follows a request without scripts: from the form to what is shared and what is not,
// to the files and documents after the hospital has approved them. Or the patient cancels it.
// Requests of others do not exist.
func TestAPatientFollowsARequest(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, other, pat, theirs := w.two()
	b := newBrowser(t)
	j := w.kickOff(pat, "", p, nil)
	page := w.node.URL + "/my/requests/" + j.ID
	b.visit(page)
	b.sees(200, "Sign in")
	b.submit("patient", p, "password", "any")
	b.sees(200, "Your request", "You choose what to share", "Cancel this request")
	b.visit(w.node.URL + "/jobs/" + j.ID + "/customize")
	b.submit("p.labs", "on", "p.labs.from", "2015-01-01", "a.genetic", "on", "a.genetic.text",
		"BRCA", "a.hiv", "on")
	b.sees(200, "Your request", "Lab results, from 2015-01-01", "Genetic tests: BRCA",
		"HIV test results", "test_client_id")
	w.wait(j.ID, ehi.Retrieved)
	b.visit(page)
	b.sees(200, `class="now" aria-current="step">The hospital reviews the copy`,
		"What will not be shared", "Not selected, or outside your dates", "Billing records",
		"Measurements and test results")
	if strings.Contains(b.page, `http-equiv="refresh"`) {
		t.Error("it looks again while a person works")
	}
	b.visit(page + "/files/Patient.ndjson")
	b.sees(404, "no such file")
	if a, err := w.admin.AddFiles(t.Context(), j.ID,
		client.File{Name: "letter.txt", Data: []byte("a letter")}); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	b.visit(page)
	b.sees(200, "Your copy is ready", "You can download these files until",
		"/my/requests/"+j.ID+"/documents/letter.txt")
	for _, link := range downloads(b.page) {
		b.visit(w.node.URL + link)
		b.sees(200, "")
		if !strings.HasPrefix(b.header.Get("Content-Disposition"), "attachment") ||
			b.header.Get("Cache-Control") != "no-store" || b.page == "" {
			t.Errorf("%s: %v", link, b.header)
		}
	}
	b.visit(page + "/archive")
	b.sees(200, "")
	archive, err := zip.NewReader(strings.NewReader(b.page), int64(len(b.page)))
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, f := range archive.File {
		held[f.Name] = contentsOf(t, f)
	}
	if b.header.Get("Cache-Control") != "no-store" || held["documents/letter.txt"] != "a letter" ||
		strings.Count(held["Patient.ndjson"], "\n") != 1 ||
		!strings.Contains(held["document_reference.ndjson"], `"url":"documents/letter.txt"`) ||
		len(held) != len(w.wait(j.ID, ehi.Approved).Manifest.Output)+2 { // the letter and a text
		t.Errorf("the archive holds %d files: %v", len(held), slices.Sorted(maps.Keys(held)))
	}
	b.visit(page + "/files/Observation.ndjson")
	b.sees(200, `"resourceType":"Observation"`)
	b.visit(page + "/files/None.ndjson")
	b.sees(404, "no such file")

	cancelled := w.kickOff(pat, "/no-form", p, nil)
	w.wait(cancelled.ID, ehi.Retrieved)
	b.visit(w.node.URL + "/my/requests/" + cancelled.ID)
	b.sees(200, "Everything in your record: this request did not ask you to choose")
	again := *b
	b.submit()
	b.sees(200, "Your request was cancelled")
	w.want(w.do(pat, "GET", cancelled.StatusURL), 404, "")
	again.submit()
	again.sees(404, "This page may have been deleted, or it may belong to somebody else.")

	rejected := w.kickOff(pat, "/no-form", p, nil)
	w.wait(rejected.ID, ehi.Retrieved)
	if _, err := w.admin.Act(t.Context(), rejected.ID, "reject"); err != nil {
		t.Fatal(err)
	}
	b.visit(w.node.URL + "/my/requests/" + rejected.ID)
	b.sees(200, "did not share this copy")

	foreign := w.kickOff(theirs, "/no-form/auto-approve", other, nil)
	w.manifest(theirs, foreign)
	for _, path := range []string{"", "/archive", "/files/Patient.ndjson", "/documents/x"} {
		b.visit(w.node.URL + "/my/requests/" + foreign.ID + path)
		b.sees(404, "Export job not found!")
	}
	b.forge(w.node.URL+"/my/requests/"+foreign.ID, page, url.Values{"_csrf": {"made-up"}}.Encode())
	b.sees(http.StatusForbidden, "Forbidden")
	w.want(w.do(theirs, "GET", foreign.StatusURL), 200, "")
}

// contentsOf reads a file of an archive.
func contentsOf(t *testing.T, f *zip.File) string {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// downloads returns the download links of a page.
func downloads(page string) (out []string) {
	for _, part := range strings.Split(page, `<a href="`)[1:] {
		link, rest, _ := strings.Cut(part, `"`)
		if strings.HasPrefix(rest, " download") {
			out = append(out, link)
		}
	}
	return out
}
