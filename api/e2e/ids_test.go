package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// The importer accepts every resource that the server writes itself: its id, if it has one, is a
// FHIR id.
func TestWhatTheServerWritesCanBeImported(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat, all := w.patient(p), w.service("system/*.rs system/$ehi-export")
	var written [][]byte
	keep := func(body []byte) {
		for line := range bytes.Lines(body) {
			written = append(written, line)
		}
	}
	compact := func(body []byte) {
		var out bytes.Buffer
		if err := json.Compact(&out, body); err != nil {
			t.Fatal(err)
		}
		written = append(written, append(out.Bytes(), '\n'))
	}
	subjects := map[string]string{}
	reviewed := func(c *client.Client, j client.Job) {
		w.wait(j.ID, ehi.Retrieved)
		a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{Name: "a.txt", Data: []byte("a")},
			client.File{Name: "b.txt", Data: []byte("b")})
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
			t.Fatal(err)
		}
		m := w.manifest(c, j)
		for _, e := range append(m.Output, m.Error...) {
			data, err := c.Download(t.Context(), e.URL)
			if err != nil {
				t.Fatal(err)
			}
			keep(data)
			if strings.Contains(e.URL, "attachments") {
				subjects[j.ID] = string(data)
			}
		}
	}
	one := w.kickOff(pat, "/no-form", p, nil)
	reviewed(pat, one)
	group, err := all.Start(t.Context(), "POST",
		"/fhir/Group/cohort/$ehi-export?_until=2100-01-01T00:00:00Z&what=ever", nil, "Prefer",
		"respond-async, handling=lenient")
	if err != nil {
		t.Fatal(err)
	}
	reviewed(all, group)
	everybody, err := all.Start(t.Context(), "POST", "/fhir/$ehi-export", nil)
	if err != nil {
		t.Fatal(err)
	}
	reviewed(all, everybody)
	for path, c := range map[string]*client.Client{
		"/fhir/metadata":                       pat,
		"/fhir/OperationDefinition/ehi-export": pat,
		"/fhir/Patient/" + p:                   pat,
		"/fhir/Group/cohort":                   all,
		"/fhir/Patient/none":                   all,
		"/fhir/Nothing":                        all,
	} {
		compact(w.do(c, "GET", path).Body)
	}
	audit := w.do(w.admin, "GET", "/admin/audit")
	w.want(audit, 200, "AuditEvent")
	keep(audit.Body)

	for id, about := range map[string]string{
		one.ID:       "Patient/" + p,
		group.ID:     "Group/cohort",
		everybody.ID: "",
	} {
		documents, want, n := subjects[id], `"subject":{"reference":"`+about+`"}`, 2
		if about == "" {
			want, n = `"subject"`, 0
		}
		if strings.Count(documents, "\n") != 2 || strings.Count(documents, want) != n {
			t.Errorf("the documents of %s are not about %q: %s", id, about, documents)
		}
	}
	importWritten(t, written)
}

// importWritten imports lines into an empty store. Each type has its own ids.
func importWritten(t *testing.T, written [][]byte) {
	t.Helper()
	types := map[string]int{}
	var file bytes.Buffer
	for i, line := range written {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		id, has := r["id"].(string)
		types[r["resourceType"].(string)]++
		if has && !fhir.ValidID(id) {
			t.Errorf("no FHIR id: %.200s", line)
		}
		if !has { // resources outside of stores may have none
			line = append([]byte(`{"id":"made-`+strconv.Itoa(i)+`",`), line[1:]...)
		}
		file.Write(line)
	}
	dir, data := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "written.ndjson"), file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	report, err := store.Import(t.Context(), []string{dir}, source.ImportOptions{Now: time.Now()})
	if err != nil || report.Problems != 0 || report.Resources() == 0 {
		t.Errorf("%d resources, %d problems: %+v, %v", report.Resources(), report.Problems,
			report.Bad, err)
	}
	for _, typ := range []string{
		"AuditEvent", "CapabilityStatement", "DocumentReference", "Group", "OperationDefinition",
		"OperationOutcome", "Patient",
	} {
		if types[typ] == 0 {
			t.Errorf("no %s was written: %v", typ, types)
		}
	}
	t.Logf("imported %v", types)
}
