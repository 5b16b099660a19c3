package fhirapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"ehi-server/exporter/jobs"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/shared/ehi"
)

// nativeScan is the content of a document that is an object of its own.
var nativeScan = strings.Repeat("scan ", 40_000)

// exportNative exports documents and tables for a job of the patient, releases some of what waits,
// and approves it.
func (e *exports) exportNative(token, query string, release ...string) (path string) {
	e.t.Helper()
	path = e.kickOff(token, "/no-form/fhir/Patient/"+e.patient+"/$ehi-export"+query)
	j := nativetest.Export(e.t, e.bus, e.files, e.jobAt(path), nativetest.NewRecord(e.t,
		nativetest.Document(e.t, e.t.TempDir(), "scan.pdf", ehi.MedicalRecord, []byte(nativeScan)),
		nativetest.Document(e.t, "", "a letter.pdf", "", []byte("a letter"))))
	by := ehi.Actor{Kind: ehi.ActorStaff, Name: "rita", Duty: ehi.DutyReview}
	var err error
	if len(release) > 0 {
		j, err = e.jobs.DecideHeld(e.t.Context(), by, j, jobs.HeldDecision{Release: release})
	}
	if err == nil {
		_, err = e.jobs.Approve(e.t.Context(), by, j, jobs.Decision{})
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return path
}

// NAT-1: a document or table is downloaded as every file of an export is: in parts, if it has
// changed, without its body, and a table compressed.
func TestNAT1DocumentsAndTablesAreDownloadedAsFilesAre(t *testing.T) {
	e := newExports(t, func(*Flags) {})
	token := e.serviceFor("system/$ehi-export")
	at := e.exportNative(token, "") + "/download/"
	scan := at + "documents/000001-scan.pdf"
	a := e.ask(token, "GET", scan)
	tag, changed := string(a.Header.Peek("ETag")), string(a.Header.Peek("Last-Modified"))
	if string(a.Body()) != nativeScan || string(a.Header.ContentType()) != "application/pdf" ||
		!strings.HasPrefix(string(a.Header.Peek("Content-Disposition")), "attachment") ||
		!strings.Contains(string(a.Header.Peek("Content-Security-Policy")), "sandbox") ||
		tag == "" || changed == "" || string(a.Header.Peek("Accept-Ranges")) != "bytes" {
		t.Errorf("%d %s", a.StatusCode(), &a.Header)
	}
	a = e.ask(token, "GET", scan, "Range", "bytes=199995-")
	if a.StatusCode() != 206 || string(a.Body()) != "scan " ||
		string(a.Header.Peek("Content-Range")) != "bytes 199995-199999/200000" {
		t.Errorf("%d %s %q", a.StatusCode(), &a.Header, a.Body())
	}
	e.want(e.ask(token, "GET", scan, "Range", "bytes=5-8", "If-Range", tag), 206, "scan")
	e.want(e.ask(token, "GET", scan, "Range", "bytes=5-8", "If-Range", `"x"`), 200, nativeScan[:9])
	e.want(e.ask(token, "GET", scan, "Range", "bytes=200000-"), 416, "")
	e.want(e.ask(token, "GET", scan, "If-None-Match", tag), 304, "")
	e.want(e.ask(token, "GET", scan, "If-Modified-Since", changed), 304, "")
	e.want(e.ask(token, "GET", scan, "If-Match", `"x"`), 412, "")
	a = e.ask(token, "HEAD", scan)
	if a.StatusCode() != 200 || a.Header.ContentLength() != len(nativeScan) {
		t.Errorf("HEAD: %d %s", a.StatusCode(), &a.Header)
	}

	table := e.ask(token, "GET", at+"tables/visit.csv", "Accept-Encoding", "gzip")
	r, err := gzip.NewReader(bytes.NewReader(table.Body()))
	if err != nil {
		t.Fatalf("%s: %v", &table.Header, err)
	}
	text, err := io.ReadAll(r)
	if err != nil || string(text) != "id,patient,ward\r\n"+nativetest.Rows["visit"] ||
		string(table.Header.ContentType()) != "text/csv; charset=utf-8" ||
		string(table.Header.Peek("Vary")) != "Accept-Encoding" {
		t.Errorf("%s %q, %v", &table.Header, text, err)
	}
	plain := e.ask(token, "GET", scan, "Accept-Encoding", "gzip")
	if coding := plain.Header.Peek("Content-Encoding"); len(coding) > 0 {
		t.Errorf("a document is sent as %s", coding)
	}
}

// NAT-1, NAT-4: under other names there is nothing, also not what waits for a decision. Another
// client has nothing at all, and a token that is narrower than the kick-off's opens nothing.
func TestNAT1OnlyWhatTheListNamesIsDownloaded(t *testing.T) {
	e := newExports(t, func(*Flags) {})
	token := e.serviceFor("system/$ehi-export")
	const letter = "documents/r000001-a letter.pdf"
	job := e.exportNative(token, "", letter)
	at := job + "/download/"
	e.want(e.ask(token, "GET", at+strings.ReplaceAll(letter, " ", "%20")), 200, "a letter")
	list := e.ask(token, "GET", at+"released.DocumentReference.ndjson")
	e.want(list, 200, origin+at+"documents/r000001-a%20letter.pdf")
	e.want(list, 200, "About a letter.pdf")
	for _, name := range []string{
		"tables/oddity.csv", "documents/000002-a%20letter.pdf", "documents/visit.csv",
		"tables/000001-scan.pdf", "documents/%2E%2E%2Ftables%2Fvisit.csv",
		"documents/..%2F..%2F..%2Fetc%2Fpasswd", "documents/000001-SCAN.pdf", "tables/",
		"documents/000001-scan.pdf%00", "pack.0.2", "index.0.1", "heldIndex.0.4",
	} {
		if a := e.ask(token, "GET", at+name); a.StatusCode() != 404 {
			t.Errorf("%s: %d %.100s", name, a.StatusCode(), a.Body())
		}
	}
	if token, ok := e.service("system/DocumentReference.rs"); !ok {
		t.Error("there is no narrower token")
	} else {
		for _, name := range []string{
			"documents/000001-scan.pdf", "documents/none", "tables/visit.csv",
			"documents.DocumentReference.ndjson", "released.DocumentReference.ndjson",
		} {
			e.wantOutcome(e.ask(token, "GET", at+name), 403, "scope")
		}
	}
	e.change(job, func(j *ehi.Job) error { j.ClientID = "another"; return nil })
	e.want(e.ask(token, "GET", at+"documents/000001-scan.pdf"), 404, "")
	e.want(e.ask(token, "GET", at+"documents/none"), 404, "")
}

// NAT-2, NAT-4: an archive is downloaded in parts and never compressed again. What was released of
// what waited is beside it.
func TestNAT2ArchivesAreDownloaded(t *testing.T) {
	e := newExports(t, func(*Flags) {})
	token := e.serviceFor("system/$ehi-export")
	const letter = "documents/r000001-a letter.pdf"
	at := e.exportNative(token, "?_package=zip", letter) + "/download/"
	whole := e.ask(token, "GET", at+"native-1.zip", "Accept-Encoding", "gzip")
	if whole.StatusCode() != 200 || string(whole.Header.ContentType()) != "application/zip" ||
		len(whole.Header.Peek("Content-Encoding")) > 0 {
		t.Fatalf("%d %s", whole.StatusCode(), &whole.Header)
	}
	rest := e.ask(token, "GET", at+"native-1.zip", "Range", "bytes=1000-", "If-Range",
		string(whole.Header.Peek("ETag")))
	if rest.StatusCode() != 206 || !bytes.Equal(rest.Body(), whole.Body()[1000:]) {
		t.Errorf("%d %s", rest.StatusCode(), &rest.Header)
	}
	e.want(e.ask(token, "GET", at+"documents/000001-scan.pdf"), 404, "")
	e.want(e.ask(token, "GET", at+strings.ReplaceAll(letter, " ", "%20")), 200, "a letter")
}
