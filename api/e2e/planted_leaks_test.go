package e2e

import (
	"archive/zip"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/release/adversarial"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/tracing"
)

// EHI-9, EHI-14, NAT-4: nothing that leaves the server by the patient's form, as files or in
// archives, has a word of a withheld document, row or look-up row, in its content, names, titles,
// types or labels. What waits leaves only if an administrator releases it, also from the manifest,
// lists, headers, errors, pages and the archive of the patient. A population has nothing that it
// did not ask for. Operators read no content at all. Whatever may leave, leaves.
func TestEHI9NoMarkerOfWithheldNativeContentLeavesTheServer(t *testing.T) {
	t.Parallel()
	p := plant(t)
	collector, traces := collect(t)
	var log buffer
	logger, level := debugLog(t, &log)
	l := &leaks{t: t, planted: p}
	t.Run("exports", func(sub *testing.T) { // stopping the server sends its last spans
		l.t = sub
		defer func() { l.t = t }()
		cfg := config()
		cfg.Trace = tracing.Config{Endpoint: traces, Ratio: 1}
		l.world = startLogging(sub, p.load(sub), cfg, node.Options{Level: level}, logger)
		for _, way := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
			l.byForm(way, false)
			l.byForm(way, true)
			l.everything(way)
		}
		l.population("", func(word) bool { return true })
		l.population("category=visits,medicalRecord,labs&from=2020-01-01&to=2022-12-31",
			func(w word) bool { return w.fate.narrow })
		l.operators()
	})
	collector.mu.Lock()
	spans := ""
	for _, span := range collector.all {
		spans += span.String() + "\n"
	}
	collector.mu.Unlock()
	l.none("the log", log.String(), nobody)
	l.none("traces", spans, nobody)
	if !strings.Contains(log.String(), `"msg":"form submitted"`) || spans == "" {
		t.Error("there is no log, or there are no traces")
	}
	t.Logf("%d markers, %d texts of %d bytes, %d searches for one in a text, %d of them found",
		len(p.words), l.texts, l.bytes, l.searches, l.found)
}

// leaks looks for planted words in what leaves a server.
type leaks struct {
	*planted
	*world
	t                             *testing.T
	texts, bytes, searches, found int
}

// nobody may read any word.
func nobody(word) bool { return false }

// none reports words in a text whose reader may not have them.
func (l *leaks) none(where, text string, may func(word) bool) {
	l.t.Helper()
	var banned []string
	for _, w := range l.words {
		if !may(w) {
			banned = append(banned, w.text)
		}
	}
	l.texts, l.bytes, l.searches = l.texts+1, l.bytes+len(text), l.searches+len(banned)
	for _, text := range []string{text, strings.ReplaceAll(text, "\x00", "")} {
		for _, leak := range adversarial.Find(banned, text) {
			i := slices.IndexFunc(l.words, func(w word) bool { return w.text == leak })
			l.t.Errorf("%s has %s, which is in %s:\n%.2000s", where, leak, l.words[i].where, text)
		}
	}
}

// all reports words that are in none of some texts, and should be.
func (l *leaks) all(where string, texts told, must func(word) bool) {
	l.t.Helper()
	text := strings.ReplaceAll(strings.Join(slices.Collect(maps.Values(texts)), "\n"), "\x00", "")
	for _, w := range l.words {
		if !must(w) {
			continue
		}
		l.searches++
		if len(adversarial.Find([]string{w.text}, text)) == 0 {
			l.t.Errorf("%s lacks %s, which is in %s", where, w.text, w.where)
			continue
		}
		l.found++
	}
}

// byForm exports the record by a form, with what waits released or not.
func (l *leaks) byForm(way ehi.Packaging, release bool) {
	l.t.Helper()
	app := l.patient(plantedPatient)
	j := l.kickOff(app, "", plantedPatient, kickOffWith(way))
	may := func(w word) bool { return w.fate.form || release && w.fate.freed }
	early := told{}
	l.look(early, app, j)
	b := newBrowser(l.t)
	b.visit(l.open.Base + "/jobs/" + j.ID + "/customize")
	b.submit("patient", plantedPatient, "password", "any")
	b.counted()
	early["the form"] = b.page
	fill := []string{
		"p.visits", "on", "p.visits.from", "2020-01-01", "p.visits.to", "2022-12-31",
		"p.labs", "on", "p.labs.from", "2020-01-01", "p.labs.to", "2022-12-31",
		"p.medicalRecord", "on",
	}
	b.submit(append(fill, "do", "preview")...)
	b.counted()
	early["the preview"] = b.page
	b.submit(fill...)
	l.wait(j.ID, ehi.Retrieved)
	l.look(early, app, j)
	for where, text := range early {
		l.none("before the approval, "+where, text, nobody)
	}
	l.staff(j, release)
	if _, err := l.admin.Act(l.t.Context(), j.ID, "approve"); err != nil {
		l.t.Fatal(err)
	}
	told := told{}
	l.look(told, app, j)
	l.files(told, app, j)
	b.visit(l.open.Base + "/my/requests/" + j.ID)
	told["the request's page"] = b.page
	b.visit(l.open.Base + "/my/requests/" + j.ID + "/archive")
	l.unpack(told, "the patient's archive", b.page)
	for where, text := range told {
		l.none(string(way)+", "+where, text, may)
	}
	l.all(string(way), told, may)
}

// kickOffWith returns the body of a kick-off.
func kickOffWith(way ehi.Packaging) []byte {
	return []byte(`{"resourceType":"Parameters","parameter":[{"name":"_package","valueString":"` +
		string(way) + `"}]}`)
}

// staff reads what reviewers see of an export, who know the names and titles of what waits, and
// releases what is named so.
func (l *leaks) staff(j client.Job, release bool) {
	l.t.Helper()
	reviewer := told{}
	for _, at := range []string{
		"/admin/jobs/" + j.ID, "/jobs/" + j.ID + "/metadata", "/admin/ui/jobs/" + j.ID,
		"/admin/ui/jobs/" + j.ID + "/files", "/admin/jobs/" + j.ID + "/held",
	} {
		reviewer.read(at, l.do(l.admin, "GET", at))
	}
	var names []string
	var held []jobs.Held
	a := l.do(l.admin, "GET", "/admin/jobs/"+j.ID+"/held")
	if err := json.Unmarshal(a.Body, &held); err != nil || len(held) != 5 {
		l.t.Fatalf("%v, %d wait: %s", err, len(held), a.Body)
	}
	for _, f := range held {
		folder, name, _ := strings.Cut(f.Name, "/")
		at := "/admin/ui/jobs/" + j.ID + "/held/" + folder + "/" + url.PathEscape(name)
		reviewer.read("what waits", l.do(l.admin, "GET", at))
		if strings.Contains(f.Name, "freed") {
			names = append(names, f.Name)
		}
	}
	if release {
		seen, err := l.admin.Job(l.t.Context(), j.ID)
		if err != nil {
			l.t.Fatal(err)
		}
		a, err := l.admin.DecideHeld(l.t.Context(), seen, names, nil)
		if err != nil || a.Status != 200 {
			l.t.Fatalf("%+v, %v", a, err)
		}
	}
	for where, text := range reviewer {
		l.none("a reviewer, "+where, text, func(w word) bool {
			return w.fate == waits || w.fate == freed
		})
	}
}

// look reads what an application can ask for about an export and its patient. It also guesses the
// names of files, and reads the errors.
func (l *leaks) look(told told, app *client.Client, j client.Job) {
	l.t.Helper()
	job := "/jobs/" + j.ID
	paths := []string{
		job + "/metadata", job + "/status", job + "/customize", "/my/requests/" + j.ID,
		"/my/requests/" + j.ID + "/archive", "/admin/jobs/" + j.ID, "/admin/jobs/" + j.ID + "/held",
		"/admin/ui/jobs/" + j.ID, "/fhir/Patient/" + plantedPatient,
	}
	for _, file := range []string{
		"errors.OperationOutcome.ndjson", "Condition.ndjson", "documents.DocumentReference.ndjson",
		"released.DocumentReference.ndjson", "native-1.zip", "native-2.zip",
		"documents/000001-letter.txt", "documents/r000001-strange.txt", "documents/r000001",
		"documents/..%2Ftables%2Foddity.csv", "tables/oddity.csv", "tables/study.csv",
		"tables/freed.csv", "tables/kind.csv", "tables/term.csv", "tables/datapackage.json",
		"tables/released.datapackage.json",
	} {
		paths = append(paths, job+"/download/"+file)
	}
	for _, path := range paths {
		told.read("GET "+path, l.do(app, "GET", path, "Accept", "application/json"))
		told.read("HEAD "+path, l.do(app, "HEAD", path))
	}
}

// files downloads everything that the manifest of an export and its lists name.
func (l *leaks) files(told told, app *client.Client, j client.Job) {
	l.t.Helper()
	for _, e := range l.manifest(app, j).Output {
		a := l.do(app, "GET", e.URL)
		l.want(a, 200, "")
		told.read("the files", a)
		if e.Type != "DocumentReference" {
			continue
		}
		for line := range strings.Lines(string(a.Body)) {
			var d fhir.DocumentReference
			if err := json.Unmarshal([]byte(line), &d); err != nil || len(d.Content) == 0 {
				l.t.Fatalf("%v: %s", err, line)
			}
			at := d.Content[0].Attachment.URL
			file := l.do(app, "GET", at)
			l.want(file, 200, "")
			told.read("native files", l.do(app, "HEAD", at))
			if strings.HasSuffix(at, ".zip") {
				l.unpack(told, at, string(file.Body))
				continue
			}
			told.read("native files", file)
		}
	}
}

// unpack reads an archive, and archives in it.
func (l *leaks) unpack(told told, where, archive string) {
	l.t.Helper()
	told[where] += archive
	z, err := zip.NewReader(strings.NewReader(archive), int64(len(archive)))
	if err != nil {
		l.t.Fatalf("%s: %v", where, err)
	}
	for _, f := range z.File {
		content := contentsOf(l.t, f)
		told["in "+where] += f.Name + "\n" + content + "\n"
		if strings.HasSuffix(f.Name, ".zip") {
			l.unpack(told, f.Name+" in "+where, content)
		}
	}
}

// everything exports the record without a form: every word of the patient's leaves, so each of
// them is where the others are looked for.
func (l *leaks) everything(way ehi.Packaging) {
	l.t.Helper()
	app, told := l.patient(plantedPatient), told{}
	j := l.kickOff(app, "/auto-approve/no-form", plantedPatient, kickOffWith(way))
	l.files(told, app, j)
	mine := func(w word) bool {
		return w.fate != others && !strings.Contains(w.where, "another patient") &&
			!strings.Contains(w.where, "of no visit")
	}
	for where, text := range told {
		l.none("everything, "+where, text, mine)
	}
	l.all("everything as "+string(way), told, mine)
}

// population exports all patients.
func (l *leaks) population(query string, may func(word) bool) {
	l.t.Helper()
	c, told := l.service("system/*.rs system/$ehi-export"), told{}
	j, err := c.Start(l.t.Context(), "POST", "/auto-approve/fhir/$ehi-export?"+query, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.files(told, c, j)
	l.look(told, c, j)
	for where, text := range told {
		l.none("population by "+query+", "+where, text, may)
	}
	l.all("population by "+query, told, may)
}

// operators reads what those see who run the server.
func (l *leaks) operators() {
	l.t.Helper()
	for _, x := range []struct {
		by *client.Client
		at string
	}{
		{l.open, "/metrics"}, {l.admin, "/admin/audit?limit=0"}, {l.admin, "/admin/jobs"},
		{l.admin, "/admin/ui/jobs"}, {l.admin, "/admin/ui/system"}, {l.open, "/docs/ehi"},
		{l.open, "/docs/ehi/datapackage.json"}, {l.open, "/fhir/metadata"},
	} {
		a := told{}
		answer := l.do(x.by, "GET", x.at)
		l.want(answer, 200, "")
		a.read(x.at, answer)
		l.none(x.at, a[x.at], nobody)
	}
}
