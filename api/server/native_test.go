package server

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/jobs"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
)

// approved approves the export j, after the release of some of what waits.
func (b *seat) approved(release ...string) *ehi.Job {
	b.t.Helper()
	rita := ehi.Actor{Kind: ehi.ActorStaff, Name: "rita", Duty: ehi.DutyReview}
	j, err := b.s.jobs.Record(b.t.Context(), "j")
	if err == nil && len(release) > 0 {
		j, err = b.s.jobs.DecideHeld(b.t.Context(), rita, j, jobs.HeldDecision{Release: release})
	}
	if err == nil {
		j, err = b.s.jobs.Approve(b.t.Context(), rita, j, jobs.Decision{})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

// keeping keeps the files of approved exports.
func keeping(c *Config) { c.FileTTL = time.Hour }

// bySandbox makes the export one of the sandbox's client, which needs no grant of the patient.
func bySandbox(j *ehi.Job) { j.ClientID = "test_client_id" }

// patient is the browser of a patient.
func (b *seat) patient(id string) *seat {
	person := b.another()
	person.cookies["ehi_patient"] = patientSessionOf(b.t, b.s, id)[len("ehi_patient="):]
	return person
}

// NAT-1: the page of a request lists its documents and tables, and the patient downloads each of
// them, and what was released of those that waited. Nobody else does, and there is nothing else.
func TestNAT1PatientsDownloadDocumentsAndTables(t *testing.T) {
	for language, words := range map[string][]string{
		"en": {"Documents and tables", "Document", "Table", "200.0 KB"},
		"es": {"Documentos y tablas", "Documento", "Tabla", "200,0 KB"},
	} {
		t.Run(language, func(t *testing.T) {
			b, _ := seated(t, keeping)
			b.review()
			b.hold(2, bySandbox)
			p := b.patient("p")
			const native = "/my/requests/j/native/"
			scan := native + "documents/000001-scan.pdf"
			if a := p.ask("GET", scan, ""); a.StatusCode() != 404 {
				t.Errorf("before the approval: %d", a.StatusCode())
			}
			b.approved(heldLetter)
			p.sees(p.ask("GET", "/my/requests/j", "", "Accept", "text/html", "Accept-Language",
				language), 200, append(words, `href="`+scan+`"`,
				`href="`+native+`tables/visit.csv"`, `href="`+native+`tables/datapackage.json"`,
				`href="`+native+"documents/r000001-letter%201.html\"")...)
			if strings.Contains(p.page, "oddity") || strings.Contains(p.page, "letter 2") {
				t.Error("the page lists what is withheld")
			}
			a := p.ask("GET", scan, "", "Range", "bytes=5-8")
			if a.StatusCode() != 206 || string(a.Body()) != "scan" ||
				string(a.Header.Peek("Cache-Control")) != "no-store" ||
				!strings.Contains(string(a.Header.Peek("Content-Disposition")), "000001-scan.pdf") ||
				!strings.Contains(string(a.Header.Peek("Content-Security-Policy")), "sandbox") {
				t.Errorf("%d %s %q", a.StatusCode(), &a.Header, a.Body())
			}
			p.wants("GET", native+"documents/r000001-letter%201.html", "", 200,
				"<script>")
			p.wants("GET", native+"tables/visit.csv", "", 200,
				"id,patient,ward\r\n"+nativetest.Rows["visit"])
			for _, name := range []string{
				"documents/r000002-letter%202.html", "tables/oddity.csv",
				"documents/visit.csv", "tables/000001-scan.pdf", "tables/..%2Ftables%2Fvisit.csv",
				"documents/none",
			} {
				p.wants("GET", native+name, "", 404, "")
			}
			b.patient("another").wants("GET", scan, "", 404, "")
			if a := b.another().ask("GET", scan, ""); a.StatusCode() != 302 {
				t.Errorf("without a session: %d", a.StatusCode())
			}
		})
	}
}

// NAT-1: a page lists 200 documents, says how many more there are, and the archive has them all.
func TestNAT1APageListsTheFirstDocuments(t *testing.T) {
	b, _ := seated(t, keeping)
	b.review()
	content := nativetest.NewRecord(t)
	for i := range 210 {
		content.Files = append(content.Files, nativetest.Document(t, "",
			fmt.Sprintf("note %d.txt", i+1), ehi.MedicalRecord, []byte("a note")))
	}
	b.export(content, bySandbox)
	b.approved()
	p := b.patient("p")
	p.visit("/my/requests/j", 200, "000200-note 200.txt",
		"In the ZIP file, but not in this list: 13.") // and three files of tables
	if strings.Contains(p.page, "000201-note") {
		t.Error("the page lists more than 200")
	}
	if n := len(p.archive()); n != 215 { // and the list of them, and the text for people
		t.Errorf("the archive has %d files", n)
	}
}

// export exports native content for the export j.
func (b *seat) export(content *nativetest.Record, change ...func(*ehi.Job)) *ehi.Job {
	b.t.Helper()
	j, err := b.s.Bus.Jobs.Update(b.t.Context(), "j", func(j *ehi.Job) error {
		j.Status, j.Tasks = ehi.Requested, 1
		for _, f := range change {
			f(j)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return nativetest.Export(b.t, b.s.Bus, b.s.jobs.Files.(files.Store), j, content)
}

// archive downloads the archive of the request j.
func (b *seat) archive() map[string]string {
	b.t.Helper()
	a := b.ask("GET", "/my/requests/j/archive", "")
	data := a.Body()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		b.t.Fatalf("%d: %v", a.StatusCode(), err)
	}
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			b.t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if _, twice := out[f.Name]; err != nil || twice {
			b.t.Errorf("%s, which is there before: %t, %v", f.Name, twice, err)
		}
		out[f.Name] = string(content)
	}
	return out
}

// NAT-1, NAT-4: the patient's archive holds linked documents, tables and what was released, or the
// archives of the export. Attachments of the same names have others there.
func TestNAT1ThePatientsArchiveHoldsDocumentsAndTables(t *testing.T) {
	for packaging, want := range map[ehi.Packaging][]string{
		ehi.PackageFiles: {
			"document_reference.ndjson", "documents/000001-scan.pdf",
			"documents/000001-scan-1.pdf", heldLetter, "tables/visit.csv", "tables/ward.csv",
			"tables/datapackage.json", "README.txt",
		},
		ehi.PackageZIP: {
			"document_reference.ndjson", "native-1.zip", heldLetter,
			"documents/000001-scan.pdf", "README.txt",
		},
	} {
		t.Run(string(packaging), func(t *testing.T) {
			b, _ := seated(t, keeping, func(c *Config) {
				c.AttachmentsPerCall, c.AttachmentBytes = 10, 1<<20
			})
			b.review()
			b.hold(1, bySandbox, func(j *ehi.Job) { j.KickOff.Package = packaging })
			reviewer := &reviewed{t: t, seat: b, rita: b}
			reviewer.attach("000001-scan.pdf")
			b.approved(heldLetter)
			got := b.patient("p").archive()
			for _, name := range want {
				if got[name] == "" {
					t.Errorf("the archive lacks %s", name)
				}
			}
			if len(got) != len(want) {
				t.Errorf("the archive has %d files, not %d", len(got), len(want))
			}
			if packaging == ehi.PackageFiles && len(got["documents/000001-scan.pdf"]) != 200_000 {
				t.Errorf("the scan has %d bytes", len(got["documents/000001-scan.pdf"]))
			}
			listsEachOnce(t, got)
		})
	}
}

// listsEachOnce checks that the list of an archive names each other file but the text for people
// once, by a relative URL, with its size and SHA-1 (NAT-2).
func listsEachOnce(t *testing.T, archive map[string]string) {
	t.Helper()
	left := maps.Clone(archive)
	delete(left, "document_reference.ndjson")
	delete(left, "README.txt")
	for line := range strings.Lines(archive["document_reference.ndjson"]) {
		var d fhir.DocumentReference
		if err := json.Unmarshal([]byte(line), &d); err != nil || len(d.Content) != 1 {
			t.Fatalf("%v: %s", err, line)
		}
		a := d.Content[0].Attachment
		name, err := url.PathUnescape(a.URL)
		content, has := left[name]
		sum := sha1.Sum([]byte(content))
		if err != nil || !has || a.Size != int64(len(content)) ||
			a.Hash != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("%q is %t in the archive, with %d bytes: %s", name, has, len(content), line)
		}
		delete(left, name)
	}
	if len(left) > 0 {
		t.Errorf("the list does not name %q", slices.Sorted(maps.Keys(left)))
	}
}

// NAT-1: administrators register how a client gets documents and tables, on the page and by the
// JSON API.
func TestNAT1ClientsAreRegisteredForArchives(t *testing.T) {
	b, _ := seated(t)
	const page = "/admin/ui/clients"
	b.visit(page, 200, "Documents and tables, if a kick-off does not say")
	b.sees(b.submit(page, "name", "An app", "id", "zips", "kind", "public", "redirects",
		"https://app.example.org/cb", "scope", "patient/$ehi-export", "package", "zip"), 200,
		"documents and tables in ZIP archives")
	b.wants("GET", "/admin/clients/zips", "", 200, `"package":"zip"`)
	const add = `{"client_id":"%s","client_name":"An app","kind":"public","package":"%s",` +
		`"redirect_uris":["https://app.example.org/cb"],"scope":"patient/$ehi-export"}`
	admin := b.another()
	admin.program("admin", seatPassword, "")
	admin.wants("POST", "/admin/clients", fmt.Sprintf(add, "a", "files"), 201, `"package":"files"`)
	admin.wants("POST", "/admin/clients", fmt.Sprintf(add, "b", "tar"), 400, "files or zip")
}
