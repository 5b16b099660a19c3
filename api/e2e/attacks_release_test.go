package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/weburl"
)

// withheldMark is in everything of a record that must be withheld, releasedMark in everything
// that must be released.
const withheldMark, releasedMark = "STAYS-HERE", "GOES-OUT"

// releases imports lines as the record of a new patient, who releases everything except
// sensitive data. It requires that nothing the application reads contains the mark or the ids of
// withheld data. It returns what was read.
func (p *target) releases(patient string, ids []string, lines ...string) (seen map[string]string) {
	p.t.Helper()
	self := `{"resourceType":"Patient","id":"` + patient + `","name":[{"family":"` + releasedMark +
		`"}]}`
	p.load(strings.Join(append([]string{self}, lines...), "\n") + "\n")
	account := auth.Account{Name: patient, Patient: patient}
	if _, err := p.admin.AddAccount(p.t.Context(), account, patientPassword); err != nil {
		p.t.Fatal(err)
	}
	web, _ := p.letIn("web", patient)
	j := p.kickOff(web, "", patient, nil)
	b := p.person()
	b.visit(p.open.Base + "/jobs/" + j.ID + "/customize")
	b.submit("username", patient, "password", patientPassword)
	b.sees(200, "Choose what to share")
	var ticks []string
	for _, c := range ehi.Categories() {
		ticks = append(ticks, "p."+string(c.Key), "on")
	}
	b.submit(ticks...)
	p.wait(j.ID, ehi.Retrieved)
	if _, err := p.admin.Act(p.t.Context(), j.ID, "approve"); err != nil {
		p.t.Fatal(err)
	}
	seen = p.reads(web, j, ids)
	b.visit(p.open.Base + "/my/requests/" + j.ID + "/archive")
	seen["the archive"] = unzipped(p, b.page)
	if !strings.Contains(seen["the files"], releasedMark) ||
		!strings.Contains(seen["the archive"], releasedMark) {
		p.t.Errorf("what was released is missing: %.2000v", seen)
	}
	for _, where := range slices.Sorted(maps.Keys(seen)) {
		for _, secret := range append(ids, withheldMark) {
			if strings.Contains(seen[where], secret) {
				p.t.Errorf("%s is in %s:\n%.3000s", secret, where, seen[where])
			}
		}
	}
	return seen
}

// reads reads everything that an application can read about its job, and requests the ids of
// withheld data.
func (p *target) reads(web *client.Client, j client.Job, ids []string) map[string]string {
	p.t.Helper()
	seen := map[string]string{}
	for _, e := range p.manifest(web, j).Output {
		data, err := web.Download(p.t.Context(), e.URL)
		if err != nil {
			p.t.Fatal(err)
		}
		seen["the files"] += string(data)
	}
	for _, path := range []string{
		"/status",
		"/metadata",
		"/download/errors.OperationOutcome.ndjson",
	} {
		a := p.do(web, "GET", "/jobs/"+j.ID+path)
		seen[path] = fmt.Sprint(a.Header) + string(a.Body)
	}
	for _, id := range ids {
		for _, typ := range []string{"Binary", "Condition", "Medication", "Location"} {
			a := p.do(web, "GET", "/fhir/"+typ+"/"+id)
			if a.Status < 400 || strings.Contains(string(a.Body), withheldMark) {
				p.t.Errorf("%s/%s by its id: %d %s", typ, id, a.Status, a.Body)
			}
		}
	}
	return seen
}

// unzipped returns the text of an archive's files.
func unzipped(p *target, archive string) (text string) {
	p.t.Helper()
	z, err := zip.NewReader(strings.NewReader(archive), int64(len(archive)))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range z.File {
		text += f.Name + "\n" + contentsOf(p.t, f)
	}
	return text
}

// about returns a resource about a patient.
func about(typ, id, patient, more string) string {
	subject := "subject"
	switch typ {
	case "Claim":
		subject = "patient"
	case "Task":
		subject = "for"
	}
	return `{"resourceType":"` + typ + `","id":"` + id + `","` + subject +
		`":{"reference":"Patient/` + patient + `"},` +
		more + `}`
}

// hivCode is a code that is withheld, with the mark next to it. hivLabel is a label that
// withholds.
const (
	hivCode = `"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}],` +
		`"text":"` + withheldMark + `"}`
	hivLabel = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode",` +
		`"code":"HIV"}]}`
)

// releaseAttacks are attempts of a sender of records, or of an application, to get data that the
// patient has not released.
var releaseAttacks = []attack{
	{"keys of a resource in another order or spelling", "EHI-9, RFC 8259 7", func(p *target) {
		subject := `"subject":{"reference":"Patient/order"}`
		document := `"content":[{"attachment":{"data":"U1RBWVMtSEVSRQ==","title":"` + withheldMark +
			`"}}]`
		escaped :=
			`"c\u006fde":{"c\u006fding":[{"syst\u0065m":"http://hl7.org/fhir/sid/icd-10-cm",` +
				`"cod\u0065":"B\u00320"}],"text":"` + withheldMark + `"}`
		p.releases("order", []string{"order-last", "order-escaped", "order-note"},
			`{`+hivCode+`,`+subject+`,"id":"order-last","resourceType":"Condition"}`,
			`{"resourceType":"Condition","id":"order-escaped",`+subject+`,`+escaped+`}`,
			`{`+document+`,`+subject+`,"m\u0065ta"`+strings.TrimPrefix(hivLabel, `"meta"`)+
				`,"id":"order-note","resourceType":"DocumentReference"}`,
		)
	}},
	{"a Reference of another shape", "EHI-9, FHIR R4 2.3", func(p *target) {
		lines := []string{about("Condition", "shape-withheld", "shape",
			`"identifier":[{"system":"https://h.example/ids","value":"`+withheldMark+`-number"}],`+
				hivCode)}
		for i, reference := range []string{
			`"reference":"Condition/shape-withheld"`,
			`"reference":"/fhir/Condition/shape-withheld"`,
			`"reference":"https://h.example/fhir/Condition/shape-withheld"`,
			`"reference":"Condition/shape-withheld/_history/2"`,
			`"reference":"Condition/shape%2Dwithheld"`,
			`"refer\u0065nce":"Condition/shape-withheld"`,
			`"identifier":{"system":"https://h.example/ids","value":"` + withheldMark + `-number"}`,
			`"reference":"https://h.example/fhir/Condition?identifier=` + withheldMark + `-number"`,
		} {
			lines = append(lines, about("Procedure", fmt.Sprintf("shape-%d", i), "shape",
				`"code":{"text":"`+releasedMark+`"},"reasonReference":[{`+reference+`,"display":"`+
					withheldMark+`"}]`))
		}
		lines = append(lines, about("Procedure", "shape-inner", "shape",
			`"contained":[{"resourceType":"Condition","id":"in",`+hivCode+`}],`+
				`"reasonReference":[{"reference":"#in","display":"`+withheldMark+`"}]`))
		p.releases("shape", []string{"shape-withheld", "shape%2Dwithheld"}, lines...)
	}},
	{"what supports the withheld alone: a drug, a clinic, a Binary", "EHI-9", func(p *target) {
		p.releases("props",
			[]string{"props-drug", "props-clinic", "props-file", "props-order", "props-note"},
			`{"resourceType":"Medication","id":"props-drug","code":{"text":"`+withheldMark+`"}}`,
			`{"resourceType":"Location","id":"props-clinic","name":"`+withheldMark+`"}`,
			`{"resourceType":"Binary","id":"props-file","contentType":"text/plain",`+
				`"data":"U1RBWVMtSEVSRQ==",`+
				`"securityContext":{"reference":"Patient/props"}}`,
			about("MedicationRequest", "props-order", "props",
				hivLabel+`,"medicationReference":{"reference":"Medication/props-drug"}`),
			about("Encounter", "props-visit", "props",
				hivLabel+`,"location":[{"location":{"reference":"Location/props-clinic"}}]`),
			about("DocumentReference", "props-note", "props",
				hivLabel+`,"content":[{"attachment":{"url":"Binary/props-file","title":"`+
					withheldMark+`"}}]`),
		)
	}},
	{"resources about the withheld", "EHI-9", func(p *target) {
		withheld := `{"reference":"Condition/wholly-withheld"}`
		p.releases("wholly", []string{"wholly-withheld"},
			about("Condition", "wholly-withheld", "wholly", hivCode),
			`{"resourceType":"Provenance","id":"wholly-p","target":[`+withheld+`],"policy":["urn:`+
				withheldMark+`"]}`,
			about("List", "wholly-l", "wholly",
				`"entry":[{"flag":{"text":"`+withheldMark+`"},"item":`+withheld+`},`+
					`{"item":{"display":"`+releasedMark+`"}}]`),
			about("Task", "wholly-t", "wholly",
				`"description":"`+withheldMark+`","focus":`+withheld),
			about("Composition", "wholly-c", "wholly",
				`"title":"x","section":[{"title":"`+withheldMark+`","entry":[`+withheld+`]}]`),
			about("Claim", "wholly-b", "wholly",
				`"diagnosis":[{"sequence":1,"diagnosisReference":`+withheld+`}],`+
					`"item":[{"sequence":1,"diagnosisSequence":[1],"productOrService":{"text":"`+
					withheldMark+`"}}]`),
		)
	}},
	{"Bundles within a Bundle, and within a resource", "EHI-9, FHIR R4 2.36", func(p *target) {
		bundle := func(id string, resources ...string) string {
			entry := `{"resource":` + strings.Join(resources, `},{"resource":`) + `}`
			return `{"resourceType":"Bundle","id":"` + id + `","type":"collection","entry":[` +
				entry + `]}`
		}
		problem := func(id, code string) string { return about("Condition", id, "within", code) }
		const goes = `"code":{"text":"` + releasedMark + `"}`
		in := bundle("within-2", problem("within-withheld", hivCode), problem("within-goes", goes),
			`{"resourceType":"Provenance","id":"within-p",`+
				`"target":[{"reference":"Condition/within-withheld"}],`+
				`"policy":["urn:`+withheldMark+`"]}`)
		message := func(id string, resources ...string) string {
			return about("Communication", id, "within",
				`"contained":[`+bundle("in", resources...)+`]`)
		}
		seen := p.releases("within", []string{"within-withheld", "within-message"},
			bundle("within-0", bundle("within-1", in)), message("within-other", problem("a", goes)),
			message("within-message", problem("a", goes), bundle("b", problem("c", hivCode))))
		for _, id := range []string{"within-goes", "within-other"} {
			if !strings.Contains(seen["the files"], `"id":"`+id+`"`) {
				p.t.Errorf("%s was released and is missing: %.3000s", id, seen["the files"])
			}
		}
	}},
	{
		"what follows a sensitive form or plan by its canonical URL",
		"EHI-9, FHIR R4 2.3.0.2",
		func(p *target) {
			const forms = `http://forms.example/follows-`
			form := func(id, more string) string {
				return `{"resourceType":"Questionnaire","id":"follows-` + id + `","url":"` + forms +
					id + `",` + more + `}`
			}
			answers := func(id, form, more string) string {
				return about("QuestionnaireResponse", "follows-"+id, "follows",
					`"questionnaire":"`+forms+form+`|2"`+more)
			}
			seen := p.releases("follows", []string{"follows-withheld", "follows-answers"},
				form("withheld", hivLabel+`,"title":"`+withheldMark+`"`),
				form("form", `"title":"`+releasedMark+`"`),
				answers("answers", "withheld",
					`,"item":[{"linkId":"1","text":"`+withheldMark+`"}]`),
				answers("other", "form", ""), about("CarePlan", "follows-plan", "follows",
					`"instantiatesCanonical":["`+forms+`withheld","`+forms+`form"]`))
			for _, id := range []string{"follows-form", "follows-other", "follows-plan"} {
				if !strings.Contains(seen["the files"], `"id":"`+id+`"`) {
					p.t.Errorf("%s was released and is missing: %.3000s", id, seen["the files"])
				}
			}
		},
	},
	{"a sensitive code in another spelling", "EHI-9", func(p *target) {
		var lines, ids []string
		for i, coding := range []string{
			`"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"b20"`,
			`"system":"urn:oid:2.16.840.1.113883.6.90","code":"B20."`,
			`"system":"http://hl7.org/fhir/sid/icd-10-cm|2026","code":"B20"`,
			`"system":"HTTP://HL7.ORG/fhir/sid/icd-10-cm/","code":" B20 "`,
			`"system":"http://hl7.org/fhir/sid/icd-9-cm","code":"04200"`,
			`"system":"http://snomed.info/sct","code":"86406008 |HIV|"`,
			`"system":"http://snomed.info/sct/731000124108","code":"086406008"`, `"code":"B20"`,
		} {
			id := fmt.Sprintf("spelling-%d", i)
			ids = append(ids, id)
			lines = append(lines, about("Condition", id, "spelling",
				`"code":{"coding":[{`+coding+`,"display":"`+withheldMark+`"}]}`))
		}
		for i, label := range []string{
			`"system":"http://hl7.org/fhir/v3/ActCode","code":"HIV"`,
			`"system":"urn:oid:2.16.840.1.113883.5.4","code":"hiv"`, `"code":"HIV"`,
			`"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"`,
			`"code":"42CFRPart2"`,
		} {
			id := fmt.Sprintf("labelled-%d", i)
			ids = append(ids, id)
			lines = append(lines, about("Condition", id, "spelling",
				`"meta":{"security":[{`+label+`}]},"code":{"text":"`+withheldMark+`"}`))
		}
		p.releases("spelling", ids, lines...)
	}},
	{"what is stored, read from the public documentation", "REAL-15", func(p *target) {
		pages := func() (text string) {
			for _, path := range []string{
				"/docs/ehi", "/docs/ehi?lang=es", "/docs/api", "/openapi.json", "/fhir/metadata",
				"/",
			} {
				for _, accept := range []string{"text/html", "application/json"} {
					a := p.do(p.open, "GET", path, "Accept", accept)
					text += path + accept + string(a.Body)
				}
			}
			return text
		}
		before := pages()
		p.load(`{"resourceType":"Patient","id":"public"}` + "\n" +
			about("Condition", "public-c", "public",
				`"meta":{"profile":["https://clinic.example/`+withheldMark+`"]},`+
					`"code":{"coding":[{"system":"https://clinic.example/`+withheldMark+
					`","code":"x"}]}`) + "\n")
		if after := pages(); after != before || strings.Contains(after, withheldMark) {
			p.t.Error("what is public changes with the records")
		}
	}},
}

// backupWith returns the server's backup with one more file in it, before all others.
func (p *target) backupWith(name string, kind byte) []byte {
	p.t.Helper()
	a := p.do(p.admin, "GET", "/admin/backup")
	p.want(a, 200, "")
	in, err := zstd.NewReader(bytes.NewReader(a.Body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer in.Close()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out)
	if err != nil {
		p.t.Fatal(err)
	}
	files, into := tar.NewReader(in), tar.NewWriter(packed)
	put := func(h *tar.Header, body io.Reader) {
		if err := into.WriteHeader(h); err != nil {
			p.t.Fatal(err)
		}
		if _, err := io.Copy(into, body); err != nil {
			p.t.Fatal(err)
		}
	}
	if name != "" {
		h := &tar.Header{Name: name, Typeflag: kind, Mode: 0o600, Linkname: "/etc/passwd"}
		if kind == tar.TypeReg {
			h.Size, h.Linkname = 4, ""
		}
		put(h, strings.NewReader("evil"[:h.Size]))
	}
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.t.Fatal(err)
		}
		put(h, files)
	}
	if err := errors.Join(into.Close(), packed.Close()); err != nil {
		p.t.Fatal(err)
	}
	return out.Bytes()
}

// restored restores an archive below a folder, as the command does.
func (p *target) restored(archive []byte, dir string) error {
	p.t.Helper()
	reading := func(f func(io.Reader) error) error { return f(bytes.NewReader(archive)) }
	_, err := backup.Restore(p.t.Context(), reading, backup.To{
		Data: filepath.Join(dir, "parent", "data"),
	})
	return err
}

// startAttacks are attempts by somebody who can make the operator restore, or start the server
// with, foreign data.
var startAttacks = []attack{
	{"a backup that writes outside of the data folder", "CWE-22", func(p *target) {
		if err := p.restored(p.backupWith("", 0), p.t.TempDir()); err != nil {
			p.t.Fatalf("the backup as it is: %v", err)
		}
		for _, name := range []string{
			"files/../.ssh/authorized_keys", "files/../../evil", "records/../../evil",
			"/tmp/evil-of-a-backup",
			"exports/job/../../../evil",
		} {
			dir := p.t.TempDir()
			err := p.restored(p.backupWith(name, tar.TypeReg), dir)
			if !errors.Is(err, backup.ErrForeign) {
				p.t.Errorf("%s: %v", name, err)
			}
			p.leaves(dir)
		}
		dir := p.t.TempDir()
		err := p.restored(p.backupWith("records/link", tar.TypeSymlink), dir)
		if !errors.Is(err, backup.ErrForeign) {
			p.t.Errorf("a link: %v", err)
		}
		p.leaves(dir)
	}},
	{"a configured administrator's session from before a change", "CWE-613", func(p *target) {
		data := p.t.TempDir()
		first := productionConfig(p.t)
		sandbox, password, name := first, first, first
		sandbox.Mode, password.Admin.Password, name.Admin.User = "sandbox", adminPassword+
			" by another", "other"
		session := func(cfg node.Config) (sid string) {
			p.serving(data, cfg, func(w *world) {
				body := strings.NewReader(`{"username":"root","password":"` + adminPassword + `"}`)
				a, err := w.open.Do(w.t.Context(), "POST", "/admin/login", body, "Content-Type",
					"application/json")
				if err != nil || a.Status != http.StatusOK {
					w.t.Fatalf("%+v, %v", a, err)
				}
				sid, _, _ = strings.Cut(a.Header.Get("Set-Cookie"), ";")
			})
			return sid
		}
		ofSandbox, old := session(sandbox), session(first)
		for _, c := range []struct {
			cfg    node.Config
			cookie string
			status int
		}{
			{first, old, 200}, {password, old, 401}, {first, old, 401}, {name, old, 401},
			{first, ofSandbox, 401},
		} {
			p.serving(data, c.cfg, func(w *world) {
				w.want(w.do(w.open, "GET", "/admin/jobs", "Cookie", c.cookie), c.status, "")
			})
		}
	}},
	{"a sandbox that other machines reach", "CWE-1188", func(p *target) {
		for _, addr := range []string{
			":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:0.0.0.0]:0",
		} {
			cfg := config()
			cfg.Addr = addr
			p.doesNotStart(cfg, addr)
		}
		cfg := config()
		cfg.BaseURL = "https://ehi.example"
		p.doesNotStart(cfg, cfg.BaseURL)
	}},
	{"what the sandbox lets everybody do", "SMART-10", func(p *target) {
		q := p.request("app", "_patient", p.production.ann, "_auth_success", "1")
		if a := p.authorize(q); strings.Contains(a.Header.Get("Location"), "code=") {
			p.t.Errorf("a code without a log-in: %s", a.Header.Get("Location"))
		}
		for _, account := range []string{"admin", "root"} {
			_, err := p.open.AdminLogin(p.t.Context(), account, "admin-password")
			p.refused(err, 401)
		}
		p.want(p.do(p.ann, "GET", "/faulty/500/fhir/metadata"), 404, "")
	}},
	{
		"sandbox to production: what was let in without a log-in",
		"SMART-10, CWE-613",
		(*target).sandboxToProduction,
	},
}

// leaves requires that a folder has no file in it, in the data folder or next to it.
func (p *target) leaves(dir string) {
	p.t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			p.t.Errorf("%s was written", strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// serving runs a server with a configuration while f runs.
func (p *target) serving(data string, cfg node.Config, f func(w *world)) {
	p.t.Helper()
	n, err := node.Open(p.t.Context(), cfg, data, slog.New(slog.DiscardHandler), node.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	w, end := running(p.t, n, cfg)
	defer end()
	f(w)
}

// doesNotStart requires that a configuration is refused.
func (p *target) doesNotStart(cfg node.Config, what string) {
	p.t.Helper()
	n, err := node.Open(p.t.Context(), cfg, p.t.TempDir(), slog.New(slog.DiscardHandler),
		node.Options{})
	if err == nil {
		p.t.Errorf("%s: it starts", what)
		err = n.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "--sandbox-on-network") {
		p.t.Errorf("%s: %v", what, err)
	}
}

// linksStay requires that the links of a page stay on this server.
func (p *target) linksStay(at string) {
	p.t.Helper()
	conn := p.dialTLS()
	defer conn.Close() // the response has been read
	request := "GET " + at +
		" HTTP/1.1\r\nHost: evil.example\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		p.t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		p.t.Fatal(err)
	}
	a := string(answer)
	// these pages are in one language
	has := strings.Contains(a, "hreflang") || strings.HasPrefix(at, "/admin/")
	if !has && !strings.Contains(a, " 302 ") && !strings.Contains(a, " 400 ") {
		p.t.Errorf("%q has no links to other languages: %.300q", at, a)
	}
	for _, part := range strings.Split(a, `href="`)[1:] {
		link, _, _ := strings.Cut(part, `"`)
		if _, ok := weburl.Local(p.open.Base, strings.ReplaceAll(link, "&amp;", "&")); !ok {
			p.t.Errorf("%q has a link to %q", at, link)
		}
	}
}

// sandboxToProduction lets a sandbox authorize an application without a sign-in, and then serves
// its data folder in production mode, where nothing of that authorization may be valid.
func (p *target) sandboxToProduction() {
	data, cfg := threePatients(p.t), productionConfig(p.t)
	sandbox := cfg
	sandbox.Mode = "sandbox"
	var (
		got              tokens
		code             string
		picked           *browser
		open, done       client.Job
		file, form, read string
	)
	renewal := func() url.Values {
		return url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
		}
	}
	p.serving(data, sandbox, func(w *world) {
		s := &production{world: w}
		list, err := w.node.Patients(w.t.Context(), 2)
		if err != nil || len(list) != 2 {
			w.t.Fatalf("%v, %v", list, err)
		}
		s.ann, s.bob = list[0].ID, list[1].ID
		read = "/fhir/Patient/" + s.ann
		s.register(filepath.Join(data, "svc.json"))
		agreed := func() string {
			query := s.request("app", "_patient", s.ann, "_auth_success", "1")
			a := s.do(s.open, "GET", "/auth/authorize?"+query.Encode())
			back, err := url.Parse(a.Header.Get("Location"))
			if err != nil || back.Query().Get("code") == "" {
				w.t.Fatalf("%d, back to %s", a.Status, back)
			}
			return back.Query().Get("code")
		}
		got = s.tokens(s.post("/auth/token", s.redemption("app", agreed())))
		app := s.open.WithToken(got.AccessToken)
		s.want(s.do(app, "GET", read), 200, "")
		picked = s.person()
		picked.visit(s.open.Base + "/patient-login")
		picked.submit("username", "any", "password", "any", "patient", s.ann)
		open = s.kickOff(app, "", s.ann, nil)
		form = s.open.Base + "/jobs/" + open.ID + "/customize"
		picked.visit(form)
		picked.sees(200, open.ID)
		done = s.kickOff(app, "/no-form/auto-approve", s.ann, nil)
		file = s.manifest(app, done).Output[0].URL
		code = agreed()
	})
	p.serving(data, cfg, func(w *world) {
		s := &production{world: w}
		app := s.open.WithToken(got.AccessToken)
		s.want(s.do(app, "GET", read), 401, "Invalid token")
		s.want(s.do(app, "POST", read+"/$ehi-export"), 401, "Invalid token")
		s.want(s.do(app, "GET", done.StatusURL), 401, "Invalid token")
		s.want(s.do(app, "GET", file), 401, "Invalid token")
		s.want(s.post("/auth/token", renewal()), 400, "invalid_grant")
		s.want(s.post("/auth/token", s.redemption("app", code)), 400, "invalid_grant")
		picked.visit(form)
		if !strings.HasPrefix(picked.at.Path, "/patient-login") && picked.code != 404 {
			w.t.Errorf("the picker's session: %d at %s", picked.code, picked.at)
		}
		ann := s.browserOf("ann")
		ann.visit(form)
		ann.sees(404, "")
		ann.visit(s.open.Base + "/my/applications")
		if ann.sees(200, "Apps with access"); strings.Contains(ann.page, "An application") {
			w.t.Error("the sandbox's consent is listed")
		}
		own, _ := s.letIn("app", "ann")
		s.want(s.do(own, "GET", read), 200, "")
		s.want(s.do(own, "GET", open.StatusURL), 404, "")
		s.want(s.do(own, "GET", done.StatusURL), 404, "")
		s.want(s.do(own, "GET", file), 404, "")
	})
	p.serving(data, sandbox, func(w *world) { // in the sandbox it is still valid
		s := &production{world: w}
		s.want(s.do(s.open.WithToken(got.AccessToken), "GET", file), 200, "")
		s.tokens(s.post("/auth/token", renewal()))
	})
}
