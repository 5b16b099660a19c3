package e2e

import (
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/exporter/release/adversarial"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
	"ehi-server/shared/tracing"
)

// Records have the seeds from adversary.seed on.
var (
	adversaryExports = flag.Int("adversary.exports", 10,
		"how many adversarial records are exported by a whole server, each once by its patient "+
			"and once with all others")
	adversarySeed = flag.Int("adversary.seed", 1, "the seed of the first of them")
)

// adversary is an export of an adversarial record: the patient's choices and the client's
// request.
type adversary struct {
	*adversarial.Record
	choices  adversarial.Choices
	asked    adversarial.Asked
	noForm   bool
	decision *adversarial.Decision
	account  string
	told     told
	early    told // what the application reads before the approval or after a rejection
}

// told is everything that a reader read, by place.
type told map[string]string

// read records a response, including its headers.
func (t told) read(where string, a *client.Answer) {
	var header strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.Header)) {
		fmt.Fprintf(&header, "%s: %s\n", name, a.Header.Values(name))
	}
	t[where] += header.String() + string(a.Body) + "\n"
}

// EHI-9, EHI-14: adversarial records pass through every output of a server in production mode:
// the form, its preview, the status with its progress, metadata, errors, the manifest, files,
// the archive, pages of administrators, an export of the population, the log, metrics, traces
// and the audit trail. No output contains a marker of withheld data, in any spelling, and
// nothing that was released is missing.
func TestEHI9NoMarkerOfTheWithheldLeavesTheServer(t *testing.T) {
	t.Parallel()
	began := time.Now()
	var all []*adversary
	for k := range *adversaryExports {
		all = append(all, drawAdversary(k))
	}
	collector, url := collect(t)
	var log buffer
	logger, level := debugLog(t, &log)
	operators, rejected := told{}, []told(nil)
	t.Run("exports", func(t *testing.T) { // stopping the server sends its last spans
		p := startOnAdversaries(t, all, url, logger, level)
		records := all
		for _, a := range records {
			narrow, noForm := a.narrowed(false), a.narrowed(true)
			for _, a := range []*adversary{a, narrow, noForm} {
				p.exportAdversary(a)
			}
			all = append(all, narrow, noForm)
			rejected = append(rejected, p.rejectAdversary(a))
		}
		p.exportPopulation(records, nil, "everything")
		p.exportPopulation(records, []ehi.Category{ehi.Visits, ehi.Labs}, "visits and lab results")
		operators.read("metrics", p.do(p.open, "GET", "/metrics"))
		trail := p.do(p.admin, "GET", "/admin/audit?limit=0")
		p.want(trail, 200, "AuditEvent")
		operators.read("audit trail", trail)
		operators.read("jobs", p.do(p.admin, "GET", "/admin/jobs"))
		operators.read("page of jobs", p.do(p.admin, "GET", "/admin/ui/jobs"))
		operators.read("system", p.do(p.admin, "GET", "/admin/ui/system"))
		operators.read("format", p.do(p.open, "GET", "/docs/ehi"))
	})
	operators["log"] = log.String()
	collector.mu.Lock()
	for _, span := range collector.all {
		operators["traces"] += span.String() + "\n"
	}
	collector.mu.Unlock()
	markers, released, texts := 0, 0, 0
	// content of all records, and whose it is
	content, whose := map[string]bool{}, map[string]bool{}
	for _, a := range all {
		withheld, goes := a.decision.Markers(), a.decision.Released()
		markers, released = markers+len(withheld), released+len(goes)
		whose[goes[0]] = true
		for _, marker := range slices.Concat(withheld, goes[1:]) {
			content[marker] = true
		}
		for where, text := range a.told {
			texts++
			leaks := adversarial.Find(slices.Concat(withheld, a.Never(a.choices)), text)
			if len(leaks) > 0 {
				t.Errorf("record %s: %v in %s:\n%.3000s", a.account, leaks, where, text)
			}
		}
		for where, text := range a.early {
			texts++
			if leaks := adversarial.Find(slices.Concat(withheld, goes[1:]), text); len(leaks) > 0 {
				t.Errorf("record %s: %v in %s, where nothing is released:\n%.3000s", a.account,
					leaks, where, text)
			}
		}
	}
	for where, text := range operators {
		sign := map[string]string{"log": `"msg":"form submitted"`, "traces": "write Patient"}[where]
		if !strings.Contains(text, sign) {
			t.Fatalf("there is no %s: %.300s", where, text)
		}
		// Operators read no content at all: also no marker of released data. They may read the
		// patient's id where a message is about it.
		secret := slices.Collect(maps.Keys(content))
		if where == "log" || where == "traces" || where == "metrics" || where == "format" {
			secret = slices.AppendSeq(secret, maps.Keys(whose))
		}
		if leaks := adversarial.Find(secret, text); len(leaks) > 0 {
			t.Errorf("%v in the %s", leaks, where)
		}
	}
	for i, r := range rejected {
		for where, text := range r {
			if text != rejected[0][where] {
				t.Errorf("%s of record %d:\n%s\nof the first one:\n%s", where, i, text,
					rejected[0][where])
			}
		}
	}
	exports, took := len(all)+len(rejected)+2, time.Since(began).Round(time.Millisecond)
	t.Logf("%d records, %d exports, %d markers withheld, %d released, looked for in %d texts; %v",
		len(rejected), exports, markers, released, texts+len(operators), took)
}

func drawAdversary(k int) *adversary {
	a := &adversary{account: fmt.Sprintf("record-%d", k), told: told{}, early: told{}}
	rapid.Custom(func(t *rapid.T) int {
		a.Record = adversarial.Draw(t, adversarial.Options{
			Prefix:   fmt.Sprint(k),
			Least:    10,
			Imported: true,
		})
		a.choices = adversarial.DrawChoices(t)
		return 0
	}).Example(*adversarySeed + k)
	return a
}

// narrowed returns another export of the record, for which the application requests less than
// everything. The application may be allowed to skip the form.
func (a *adversary) narrowed(noForm bool) *adversary {
	of := &adversary{Record: a.Record, choices: a.choices, noForm: noForm}
	of.account, of.told, of.early = a.account, told{}, told{}
	seed := 2 * *adversarySeed
	if noForm {
		of.choices = adversarial.Everything()
		seed++
	}
	draw := func(t *rapid.T) adversarial.Asked { return adversarial.DrawAsked(t, a.Record) }
	of.asked = rapid.Custom(draw).Example(seed)
	if noForm && len(of.asked.Categories) == 0 {
		// without either there are no choices: all resources of the types are released
		of.asked.Dated = true
	}
	of.choices = of.choices.Within(of.asked)
	of.decision = a.Decide(of.choices).OfTypes(of.asked.Types)
	return of
}

// parameters returns the body of a kick-off.
func parameters(a adversarial.Asked) []byte {
	var asked []string
	add := func(name, value string) {
		asked = append(asked, fmt.Sprintf(`{"name":%q,"valueString":%q}`, name, value))
	}
	for _, c := range a.Categories {
		add("category", string(c))
	}
	for _, typ := range a.Types {
		add("_type", typ)
	}
	if a.Dated {
		add("from", adversarial.From)
		add("to", adversarial.To)
	}
	if len(asked) == 0 {
		return []byte(`{"resourceType":"Parameters"}`)
	}
	return []byte(`{"resourceType":"Parameters","parameter":[` + strings.Join(asked, ",") + `]}`)
}

// startOnAdversaries starts a server in production mode with the records, each imported as a
// Bundle.
func startOnAdversaries(
	t *testing.T, all []*adversary, collector string, log *slog.Logger, level *slog.LevelVar,
) *production {
	t.Helper()
	data, files := t.TempDir(), t.TempDir()
	read := int64(0)
	for _, a := range all {
		read += int64(len(a.Resources))
		err := os.WriteFile(filepath.Join(files, a.account+".json"), bundleOf(a.Record), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := kinds.Store(kinds.Config{
		Data:  data,
		Bases: kinds.Bases{OwnBase: []string{adversarial.Base}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Import(t.Context(), []string{files}, source.ImportOptions{Now: time.Now()})
	if err != nil || r.Problems > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, n := range r.Counts {
		read -= n
	}
	if read != 0 {
		t.Fatalf("%d resources were not imported: %+v", read, r)
	}
	for _, a := range all {
		a.Keep(inRecord(t, store, a.Patient()))
		a.decision = a.Decide(a.choices)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := productionConfig(t)
	cfg.Trace = tracing.Config{Endpoint: collector, Ratio: 1}
	p := &production{world: startLogging(t, data, cfg, node.Options{Level: level}, log)}
	p.ann, p.bob = all[0].Patient(), all[0].Patient()
	p.register(filepath.Join(data, "svc.json"))
	for _, a := range all {
		_, err := p.admin.AddAccount(t.Context(),
			auth.Account{Name: a.account, Patient: a.Patient()}, patientPassword)
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// bundleOf returns a record as one Bundle. Every third resource is a search result inside it, or
// part of a document that is a Bundle.
func bundleOf(r *adversarial.Record) []byte {
	var entries, found, document []string
	for i, m := range r.Resources {
		switch resource := `"resource":` + m.Line; {
		case i%6 == 2:
			found = append(found, `{"search":{"mode":"match"},`+resource+`}`)
		case i%6 == 5:
			document = append(document, `{`+resource+`}`)
		default:
			entries = append(entries,
				`{"request":{"method":"PUT","url":"`+m.Type+"/"+m.ID+`"},`+resource+`}`)
		}
	}
	bundle := func(typ string, entries []string) string {
		return `{"resourceType":"Bundle","type":"` + typ + `","entry":[` +
			strings.Join(entries, ",") + `]}`
	}
	found = append(found, `{"resource":`+bundle("collection", document)+`}`)
	entries = append(entries, `{"resource":`+bundle("searchset", found)+`}`)
	return []byte(bundle("batch", entries))
}

// inRecord returns what the store has in a patient's record.
func inRecord(t *testing.T, store source.Source, patient string) func(typ, id string) bool {
	t.Helper()
	record, err := store.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	err = record.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
		has[keyOf(t, r.Line)] = true
		return nil
	})
	if err = cmp.Or(err, record.Close()); err != nil {
		t.Fatal(err)
	}
	return func(typ, id string) bool { return has[typ+"/"+id] }
}

// keyOf returns type/id of a resource.
func keyOf(t *testing.T, line []byte) string {
	t.Helper()
	var r struct{ ResourceType, ID string }
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return r.ResourceType + "/" + r.ID
}

// exportAdversary exports one record completely. The application reads everything that it can at
// each step.
func (p *production) exportAdversary(a *adversary) {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	app, _ := p.letIn("app", a.account)
	j, b := p.retrieve(a, app)
	p.look(a, a.early, app, j)
	b.visit(p.open.Base + "/my/requests/" + j.ID)
	a.told["the request's page"] = b.page
	p.lookAsStaff(a, j)
	if _, err := p.admin.Act(ctx, j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	p.look(a, a.told, app, j)

	var lines [][]byte
	for _, e := range p.manifest(app, j).Output {
		data, err := app.Download(ctx, e.URL)
		if err != nil {
			t.Fatal(err)
		}
		a.told["the files"] += string(data)
		lines = append(lines, bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))...)
	}
	p.checkAdversary(a, "files", lines)
	b.visit(p.open.Base + "/my/requests/" + j.ID + "/archive")
	lines = nil
	archive, err := zip.NewReader(strings.NewReader(b.page), int64(len(b.page)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.File {
		data := contentsOf(t, f)
		a.told["the archive"] += f.Name + "\n" + data
		if path.Ext(f.Name) == ".ndjson" { // and not the text for people
			lines = append(lines,
				bytes.Split([]byte(strings.TrimSuffix(data, "\n")), []byte("\n"))...)
		}
	}
	p.checkAdversary(a, "archive", lines)
	p.countsTellTheReleasedAlone(a, app, j, len(lines))
}

// retrieve kicks off an export and takes it to the point where it waits for approval.
func (p *production) retrieve(a *adversary, app *client.Client) (client.Job, *browser) {
	p.t.Helper()
	base, b := "", p.person()
	if a.noForm {
		base = "/no-form"
	}
	j := p.kickOff(app, base, a.Patient(), parameters(a.asked))
	if a.noForm {
		b.visit(p.open.Base + "/my/requests/" + j.ID)
		b.submit("username", a.account, "password", patientPassword)
	} else {
		p.look(a, a.early, app, j)
		b.visit(p.open.Base + "/jobs/" + j.ID + "/customize?_patient=" + a.Patient())
		b.submit("username", a.account, "password", patientPassword)
		b.sees(200, "Choose what to share")
		b.counted()
		a.told["the form"] = b.page
		b.submit(append(ticksOf(a.choices), "do", "preview")...)
		a.told["the preview"] = b.page
		b.submit(ticksOf(a.choices)...)
	}
	p.wait(j.ID, ehi.Retrieved)
	return j, b
}

// ofOneExport matches what responses say about when they were made and for whom.
var ofOneExport = regexp.MustCompile(
	`\d{4}-\d\d-\d\dT[0-9:.]+Z|"request":"[^"]*"|"id":"[0-9a-f-]{32,36}"|` +
		`(?m)^(Date|X-Request-Id|Traceparent|Etag|Content-Length): .*$`)

// rejectAdversary exports a record up to a rejection, with a document of a reviewer. It returns
// what the application then reads, which must be the same for every record.
func (p *production) rejectAdversary(a *adversary) told {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	const secret = "Letter-of-a-reviewer"
	app, _ := p.letIn("app", a.account)
	j, _ := p.retrieve(a, app)
	file := client.File{Name: secret + ".txt", Data: []byte(secret)}
	if added, err := p.admin.AddFiles(ctx, j.ID, file); err != nil || added.Status != 200 {
		t.Fatalf("%+v, %v", added, err)
	}
	p.look(a, a.early, app, j)
	job, err := p.admin.Job(ctx, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	decision := strings.NewReader(
		fmt.Sprintf(`{"contents":%q,"reason":%q}`, job.Contents, "because of "+secret))
	answer, err := p.admin.Do(ctx, "POST", "/admin/jobs/"+j.ID+"/reject", decision, "Content-Type",
		"application/json")
	if err != nil {
		t.Fatal(err)
	}
	p.want(answer, 200, "rejected")
	p.look(a, a.early, app, j)
	rejected := told{}
	files := []string{
		"Patient.ndjson", "Condition.ndjson", "errors.OperationOutcome.ndjson", file.Name,
	}
	for i := range files {
		files[i] = "download/" + files[i]
	}
	for _, path := range append(files, "status", "metadata", "customize") {
		got := p.do(app, "GET", "/jobs/"+j.ID+"/"+path, "Accept", "application/json")
		if path != "metadata" && got.Status < 300 {
			t.Errorf("%s of a rejected export: %d %s", path, got.Status, got.Body)
		}
		rejected.read(path, got)
		text := strings.NewReplacer(j.ID, "JOB", a.Patient(), "PATIENT").Replace(rejected[path])
		rejected[path] = ofOneExport.ReplaceAllString(text, "")
		if strings.Contains(text, secret) && !strings.HasSuffix(path, ".txt") {
			t.Errorf("%s of a rejected export tells of a reviewer's document or reason: %s", path,
				text)
		}
	}
	return rejected
}

// ticksOf returns the form fields of a patient's choices.
func ticksOf(c adversarial.Choices) (fill []string) {
	for key, dated := range c.Ticked {
		fill = append(fill, "p."+string(key), "on")
		if dated {
			fill = append(fill, "p."+string(key)+".from", adversarial.From+"-01-01",
				"p."+string(key)+".to", adversarial.To+"-30")
		}
	}
	for key := range c.Authorized {
		fill = append(fill, "a."+string(key), "on")
	}
	return fill
}

// look requests everything that an application can request about its job and its patient.
func (p *production) look(a *adversary, told told, app *client.Client, j client.Job) {
	p.t.Helper()
	job := "/jobs/" + j.ID
	paths := []string{
		job + "/metadata",
		job + "/status",
		job + "/customize",
		job + "/download/errors.OperationOutcome.ndjson",
		"/my/requests/" + j.ID,
		"/my/requests/" + j.ID + "/archive",
		"/admin/jobs/" + j.ID,
		"/admin/ui/jobs/" + j.ID,
		"/fhir/Patient/" + a.Patient(),
		"/fhir/Patient?_id=" + a.Patient(),
	}
	for _, m := range a.Resources {
		paths = append(paths, job+"/download/"+m.Type+".ndjson")
		if m.Type == "Binary" { // it may know the id from elsewhere
			a := p.do(app, "GET", "/fhir/Binary/"+m.ID)
			p.want(a, 403, "only with an export")
		}
	}
	for _, path := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		// Requests do not contain the markers of withheld data, because an echo would look like
		// a leak.
		told.read("GET "+path, p.do(app, "GET", path, "Accept", "application/json"))
	}
}

// lookAsStaff reads what reviewers see: they know the kinds of withheld data, but no content.
func (p *production) lookAsStaff(a *adversary, j client.Job) {
	p.t.Helper()
	paths := []string{
		"/admin/jobs/" + j.ID,
		"/jobs/" + j.ID + "/metadata",
		"/admin/ui/jobs/" + j.ID,
		"/admin/ui/jobs/" + j.ID + "/files",
	}
	for _, m := range a.Resources {
		paths = append(paths, "/admin/ui/jobs/"+j.ID+"/files/"+m.Type+".ndjson")
	}
	for _, path := range paths {
		a.told.read("staff: GET "+path, p.do(p.admin, "GET", path))
	}
}

// checkAdversary compares the exported lines with what must be exported.
func (p *production) checkAdversary(a *adversary, where string, lines [][]byte) {
	p.t.Helper()
	left := map[string]string{}
	for _, line := range lines {
		left[keyOf(p.t, line)] = string(line)
	}
	out := make([]string, len(a.Resources))
	for i, m := range a.Resources {
		out[i] = left[m.Type+"/"+m.ID]
		delete(left, m.Type+"/"+m.ID)
	}
	err := errors.Join(a.decision.Check(out), a.Judge(a.choices, out))
	if err != nil || len(left) > 0 {
		p.t.Errorf("record %s, %s: %v, others: %v\nof\n%s\nby %+v left\n%s", a.account, where, err,
			left, strings.Join(a.Lines(), "\n"), a.choices, strings.Join(out, "\n"))
	}
}

// countsTellTheReleasedAlone compares the counts in metadata with what was exported.
func (p *production) countsTellTheReleasedAlone(
	a *adversary, app *client.Client, j client.Job, lines int,
) {
	p.t.Helper()
	want := map[string]int64{}
	for i, m := range a.Resources {
		if a.decision.Goes(i) {
			want[m.Type]++
		}
	}
	var got struct{ Counts map[string]int64 }
	answer := p.do(app, "GET", "/jobs/"+j.ID+"/metadata")
	err := json.Unmarshal(answer.Body, &got)
	if err != nil || !maps.Equal(want, got.Counts) ||
		strings.Contains(string(answer.Body), "ithheld") {
		p.t.Errorf("record %s: %s, %v, want %v", a.account, answer.Body, err, want)
	}
}

// exportPopulation exports all records for a service, completely or by categories. Nothing is
// withheld from it, so References stay unchanged.
func (p *production) exportPopulation(all []*adversary, categories []ehi.Category, name string) {
	t := p.t
	t.Helper()
	as := &target{production: p}
	service := p.open.WithToken(p.tokens(p.post("/auth/token", as.asserted(nil))).AccessToken)
	body := parameters(adversarial.Asked{Categories: categories})
	j, err := service.Start(t.Context(), "POST", "/fhir/$ehi-export", body)
	if err != nil {
		t.Fatal(err)
	}
	p.wait(j.ID, ehi.Retrieved)
	if _, err := p.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	got, _ := p.download(service, p.manifest(service, j))
	for _, a := range all {
		for i, m := range a.Resources {
			if want := a.Asked(i, categories); (got[m.Type+"/"+m.ID] != nil) != want {
				t.Errorf("%s: %s/%s went: %v", name, m.Type, m.ID, !want)
			}
		}
	}
}
