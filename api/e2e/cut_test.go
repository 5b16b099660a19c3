package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files/filestest"
)

// got is a response as it arrived. err is set if it broke off.
type got struct {
	status int
	body   []byte
	err    error
}

// fetched sends a request on a new connection, because a client retries if a reused connection
// breaks off.
func fetched(t *testing.T, address string, header http.Header, jar http.CookieJar) got {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header.Clone()
	c := &http.Client{
		Jar:       jar,
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	}
	resp, err := c.Do(r)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close() // read to its end below
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, body, err}
}

// tellsOfDamage reports whether a backup says that something in it is damaged.
func tellsOfDamage(t *testing.T, archive []byte) bool {
	t.Helper()
	table, err := backup.Verify(bytes.NewReader(archive))
	if err != nil {
		t.Errorf("a backup that is sent to its end is none: %v", err)
	}
	return len(table.Damage) > 0
}

// Issue 20, item 5: something fails while a response is sent: a file cannot be read or is
// shorter than its record says, or a record is missing or invalid. The response then breaks off
// so that its client notices, is an error, or (for a backup) lists the damage. It is never a 200
// that looks complete.
func TestACutAnswerNeverLooksWhole(t *testing.T) {
	t.Parallel()
	faulty, cfg := filestest.NewFaulty(disk.OS()), config()
	cfg.Jobs.AttachmentBytes = 10 << 20
	w := start(t, t.TempDir(), cfg, node.Options{Disk: faulty})
	p := w.demoPatient()
	pat := w.patient(p)
	plain := w.exported(pat, p, "identity")
	packed := map[string]client.Job{
		"gzip": w.exported(pat, p, "gzip"),
		"zstd": w.exported(pat, p, "zstd"),
	}
	w.population("population", 60, 1)
	w.change("population", func(j *ehi.Job) { j.Status, j.Patient.ID = ehi.Approved, p })
	all := w.service("system/*.rs system/$ehi-export")

	b := newBrowser(t)
	b.visit(w.node.URL + "/my/requests/" + plain.ID)
	b.submit("patient", p, "password", "any")
	b.sees(200, "Your copy is ready")
	staff := staffIn(w, "admin", "admin-password")

	with := func(c *client.Client, pairs ...string) http.Header {
		h := http.Header{}
		if c != nil {
			h.Set("Authorization", "Bearer "+c.Token)
		}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	at := func(j client.Job, path string) string { return w.node.URL + "/jobs/" + j.ID + path }
	type route struct {
		name, url string
		header    http.Header
		jar       http.CookieJar
	}
	backups := w.node.URL + "/admin/backup"
	stored := []route{
		{"a file", at(plain, "/download/Observation.ndjson"), with(pat), nil},
		{
			"a range of a file",
			at(plain, "/download/Observation.ndjson"),
			with(pat, "Range", "bytes=10-5000"),
			nil,
		},
		{
			"a file that is compressed on its way",
			at(plain, "/download/Observation.ndjson"),
			with(pat, "Accept-Encoding", "gzip"),
			nil,
		},
		{"a document", at(plain, "/download/attachments/letter.bin"), with(pat), nil},
		{
			"a patient's file",
			w.node.URL + "/my/requests/" + plain.ID + "/files/Observation.ndjson",
			with(nil),
			b.http.Jar,
		},
		{
			"a patient's document",
			w.node.URL + "/my/requests/" + plain.ID + "/documents/letter.bin",
			with(nil),
			b.http.Jar,
		},
		{
			"a patient's archive",
			w.node.URL + "/my/requests/" + plain.ID + "/archive",
			with(nil),
			b.http.Jar,
		},
		{
			"a reviewer's document",
			w.node.URL + "/admin/ui/jobs/" + plain.ID + "/documents/letter.bin",
			with(nil),
			staff.http.Jar,
		},
		{"a backup", backups, with(nil), staff.http.Jar},
	}
	for coding, j := range packed {
		stored = append(stored,
			route{"a file stored as " +
				coding, at(j, "/download/Observation.ndjson"),
				with(pat, "Accept-Encoding", coding),
				nil},
			route{"a file stored as " + coding +
				", unpacked", at(j, "/download/Observation.ndjson"), with(pat), nil},
			route{
				"a patient's archive of " + coding,
				w.node.URL + "/my/requests/" + j.ID + "/archive",
				with(nil),
				b.http.Jar,
			})
	}
	for _, r := range stored {
		whole := fetched(t, r.url, r.header, r.jar)
		if whole.err != nil || whole.status/100 != 2 {
			t.Fatalf("%s: %d %.300s, %v", r.name, whole.status, whole.body, whole.err)
		}
		for name, err := range map[string]error{
			"unreadable":              syscall.EIO,
			"cut off":                 io.EOF,
			"a worse kind of cut off": io.ErrUnexpectedEOF,
		} {
			for calls := range 3 {
				faulty.FailAfter(filestest.Read, err, calls)
				cut := fetched(t, r.url, r.header, r.jar)
				faulty.Fail(filestest.Read, nil, 0)
				if cut.err != nil || cut.status/100 != 2 ||
					r.url == backups && tellsOfDamage(t, cut.body) {
					continue
				}
				if len(cut.body) != len(whole.body) {
					t.Errorf("%s, %s behind %d readings: %d bytes of %d, and it looks whole",
						r.name, name, calls, len(cut.body), len(whole.body))
				}
				if calls == 0 {
					t.Errorf("%s, %s: it is answered though nothing can be read", r.name, name)
				}
			}
		}
	}

	for _, r := range []struct {
		route
		damage func() error
	}{
		{
			route{"a long manifest", at(client.Job{ID: "population"}, "/status"), with(all), nil},
			func() error {
				return w.node.Bus.Tasks.DeleteOne(t.Context(), "population", 59)
			},
		},
		{
			route{
				"the audit trail",
				w.node.URL + "/admin/audit?limit=0",
				with(nil),
				staff.http.Jar,
			},
			func() error {
				broken := bus.Entry{Bucket: bus.AuditRecords, Key: "x.y", Value: []byte(`{"action`)}
				return w.node.Bus.Restore(t.Context(), broken, time.Now())
			},
		},
	} {
		if whole := fetched(t, r.url, r.header, r.jar); whole.err != nil || whole.status != 200 {
			t.Fatalf("%s: %d %.300s, %v", r.name, whole.status, whole.body, whole.err)
		}
		if err := r.damage(); err != nil {
			t.Fatal(err)
		}
		if cut := fetched(t, r.url, r.header, r.jar); cut.err == nil && cut.status == 200 {
			t.Errorf("%s of damaged records: %d bytes, and it looks whole", r.name, len(cut.body))
		}
	}
}

// exported returns a released export of a patient, stored in a coding, with a document.
func (w *world) exported(pat *client.Client, patient, coding string) client.Job {
	w.t.Helper()
	j, err := pat.Start(w.t.Context(), "POST",
		"/no-form/fhir/Patient/"+patient+"/$ehi-export?_compression="+coding, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.wait(j.ID, ehi.Retrieved)
	letter := client.File{
		Name: "letter.bin",
		Data: []byte(strings.Repeat("a letter of many pages", 20_000)),
	}
	a, err := w.admin.AddFiles(w.t.Context(), j.ID, letter)
	if err != nil || a.Status != 200 {
		w.t.Fatal(fmt.Sprint(a), err)
	}
	if _, err = w.admin.Act(w.t.Context(), j.ID, "approve"); err != nil {
		w.t.Fatal(err)
	}
	w.wait(j.ID, ehi.Approved)
	return j
}

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
