package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

func zipped(t *testing.T, text string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// record returns a patient with observations, as NDJSON.
func record(patient string, observations int) string {
	lines := fmt.Sprintf(`{"resourceType":"Patient","id":%q}`+"\n", patient)
	for i := range observations {
		lines += fmt.Sprintf(`{"resourceType":"Observation","id":"%s-%d",`+
			`"subject":{"reference":"Patient/%s"}}`+"\n", patient, i, patient)
	}
	return lines
}

func TestARunningServerTakesRecords(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	const ndjson, fhirJSON = "application/fhir+ndjson", "application/fhir+json"
	bundle := `{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:b1",` +
		`"resource":{"resourceType":"Patient","id":"b1"}},
		{"resource":{"resourceType":"Condition","id":"c1","subject":{"reference":"urn:uuid:b1"}}}]}`
	for _, c := range []struct {
		name, query, mime, body string
		status                  int
		want                    source.Report
	}{
		{
			"lines",
			"",
			ndjson,
			record("n1", 3),
			200,
			source.Report{Counts: map[string]int64{"Patient": 1, "Observation": 3}},
		},
		{
			"zipped lines",
			"",
			ndjson + "; charset=utf-8",
			zipped(t, record("z1", 2)),
			200,
			source.Report{Counts: map[string]int64{"Patient": 1, "Observation": 2}},
		},
		{
			"a bundle",
			"",
			fhirJSON,
			bundle,
			200,
			source.Report{Counts: map[string]int64{"Patient": 1, "Condition": 1}},
		},
		{
			"a zipped bundle",
			"",
			fhirJSON,
			zipped(t, bundle),
			200,
			source.Report{Counts: map[string]int64{"Patient": 1, "Condition": 1}},
		},
		{
			"a bad line",
			"?name=mine",
			ndjson,
			record("bad1", 0) + "{\n" + record("bad2", 0),
			200,
			source.Report{
				Counts:   map[string]int64{"Patient": 2},
				Problems: 1,
				Bad:      []source.Problem{{File: "mine", Line: 2}}},
		},
		{
			"a bad line, strictly",
			"?strict=true",
			ndjson,
			record("bad3", 0) + "{\n" + record("bad4", 0),
			400,
			source.Report{
				Counts:   map[string]int64{"Patient": 1},
				Problems: 1,
				Bad:      []source.Problem{{File: "body", Line: 2}}},
		},
		{"a zip cut off", "", ndjson, zipped(t, record("cut", 500))[:300], 200, source.Report{
			Counts:   map[string]int64{},
			Problems: 1,
			Bad:      []source.Problem{{File: "body", Line: 1}}}},
	} {
		a, err := w.admin.Do(t.Context(), http.MethodPost, "/admin/import"+c.query,
			strings.NewReader(c.body), "Content-Type", c.mime)
		if err != nil {
			t.Fatal(err)
		}
		var got source.Report
		if err := json.Unmarshal(a.Body, &got); err != nil || a.Status != c.status {
			t.Errorf("%s: %d %s, %v", c.name, a.Status, a.Body, err)
			continue
		}
		for i := range got.Bad {
			if got.Bad[i].Why == "" {
				t.Errorf("%s: a problem without a reason", c.name)
			}
			got.Bad[i].Why = ""
		}
		if c.name == "a zip cut off" { // the number of whole lines depends on the compressor
			got.Counts, got.Bad[0].Line = map[string]int64{}, 1
		}
		c.want.Files = 1
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for _, c := range []struct {
		query, coding string
		status        int
	}{
		{"", "GZIP", 200}, {"", "identity", 200}, {"?strict=0", "", 200}, {"?strict=", "", 200},
		{"", "deflate", 415}, {"", "br", 415}, {"", "gzip, gzip", 415}, {"?strict=yes", "", 400},
		{"?strict=-", "", 400},
	} {
		a, err := w.admin.Do(t.Context(), http.MethodPost, "/admin/import"+c.query,
			strings.NewReader(zipped(t, record("n1", 3))), "Content-Type", ndjson,
			"Content-Encoding", c.coding)
		if err != nil || a.Status != c.status {
			t.Errorf("%s in %q: %d %s, %v", c.query, c.coding, a.Status, a.Body, err)
		}
	}
	m := w.manifest(w.patient("n1"), w.kickOff(w.patient("n1"), "/no-form/auto-approve", "n1", nil))
	if len(m.Output) != 2 {
		t.Errorf("the imported patient's export: %+v", m.Output)
	}

	for name, c := range map[string]struct {
		do     func(context.Context, string, string, io.Reader, ...string) (*client.Answer, error)
		mime   string
		status int
	}{
		"without a session": {w.open.Do, ndjson, 401},
		"another type":      {w.admin.Do, "text/csv", 400},
		"half a document":   {w.admin.Do, fhirJSON, 200},
	} {
		a, err := c.do(t.Context(), http.MethodPost, "/admin/import",
			strings.NewReader(`{"resourceType":`), "Content-Type", c.mime)
		if err != nil || a.Status != c.status {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// While one import runs, another one is refused with Retry-After, and nothing of it is imported.
func TestOneImportAtATime(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	body, feed := io.Pipe()
	first := make(chan *client.Answer, 1)
	go func() {
		a, err := w.admin.Do(t.Context(), http.MethodPost, "/admin/import", body, "Content-Type",
			"application/fhir+ndjson")
		if err != nil {
			t.Error(err)
		}
		first <- a
	}()
	// more than the server reads ahead
	if _, err := io.WriteString(feed, strings.Repeat(record("p", 2000), 3)); err != nil {
		t.Fatal(err)
	}
	var second *client.Answer
	for second == nil || second.Status == 200 { // until the first import has begun
		var err error
		second, err = w.admin.Do(t.Context(), http.MethodPost, "/admin/import",
			strings.NewReader(record("q", 0)), "Content-Type", "application/fhir+ndjson")
		if err != nil {
			t.Fatal(err)
		}
	}
	if second.Status != 503 || second.Header.Get("Retry-After") == "" {
		t.Errorf("a second import meanwhile: %d %s", second.Status, second.Body)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	a := <-first
	if a == nil || a.Status != 200 || !strings.Contains(string(a.Body), `"Observation":6000`) {
		t.Errorf("the first import: %+v", a)
	}
}

// heldBack is a store whose frozen populations can be read only once the gate is open.
type heldBack struct {
	source.Source
	source.Importer
	gate chan struct{}
}

func (h heldBack) Freeze(ctx context.Context, name string) (source.Population, error) {
	p, err := h.Source.Freeze(ctx, name)
	return heldPopulation{p, h.gate}, err
}

type heldPopulation struct {
	source.Population
	gate chan struct{}
}

func (h heldPopulation) Open(
	ctx context.Context, s source.Selection, part ehi.Part,
) (source.Record, error) {
	select {
	case <-h.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.Population.Open(ctx, s, part)
}

// An import during a population's export changes nothing in it, and transactionTime is the time
// of its contents.
func TestAnImportDuringAnExportDoesNotShowInIt(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	w := start(t, t.TempDir(), config(), node.Options{
		WrapSource: func(s source.Source) source.Source {
			return heldBack{s, s.(source.Importer), gate}
		},
	})
	w.load(record("early", 5))
	c := w.service("system/*.rs")
	j, err := c.Start(t.Context(), http.MethodGet, "/fhir/$export", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.planned(j.ID)
	w.load(record("late", 5) +
		`{"resourceType":"Observation","id":"early-0","status":"amended",` +
		`"subject":{"reference":"Patient/early"}}` + "\n")
	close(gate)
	m := w.manifest(c, j)
	got, _ := w.download(c, m)
	early := got["Observation/early-0"]
	if early == nil || early["status"] != nil || got["Patient/late"] != nil {
		t.Error("the export shows what came while it ran")
	}
	after, later := w.bulk(c, http.MethodGet, "/fhir/$export", nil)
	if len(after) != len(got)+6 || after["Observation/early-0"]["status"] != "amended" {
		t.Errorf("the next export holds %d resources, the first %d", len(after), len(got))
	}
	if !at(t, m.TransactionTime).Before(at(t, later.TransactionTime)) {
		t.Errorf("transactionTime %s, then %s", m.TransactionTime, later.TransactionTime)
	}
}

// If a frozen population is lost while its job runs, it is frozen again. The export has
// everything that the manifest's transactionTime promises.
func TestALostFrozenPopulationIsFrozenAnew(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var id string
	var frozen time.Time
	t.Run("planned, and stopped before its first task", func(t *testing.T) {
		w := start(t, data, config(), node.Options{WrapSource: func(s source.Source) source.Source {
			return heldBack{s, s.(source.Importer), nil}
		}})
		w.load(record("early", 5))
		j, err := w.service("system/*.rs").Start(t.Context(), http.MethodGet, "/fhir/$export", nil)
		if err != nil {
			t.Fatal(err)
		}
		id, frozen = j.ID, w.planned(j.ID).TransactionTime
	})
	dir := filepath.Join(data, dataset.Folder+".frozen", id)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the population is not frozen: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w := start(t, data, config(), node.Options{})
	c := w.service("system/*.rs")
	m := w.manifest(c, client.Job{ID: id, StatusURL: w.node.URL + "/jobs/" + id + "/status"})
	got, _ := w.download(c, m)
	for _, key := range []string{"Patient/early", "Observation/early-0", "Observation/early-4"} {
		if got[key] == nil {
			t.Errorf("%s is not in the export", key)
		}
	}
	if !at(t, m.TransactionTime).Equal(frozen.Truncate(time.Millisecond)) {
		t.Errorf("transactionTime %s, planned at %s", m.TransactionTime, frozen)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what was frozen anew stays")
		}
	}
}

// load imports NDJSON through the server.
func (w *world) load(lines string) {
	w.t.Helper()
	a, err := w.admin.Do(w.t.Context(), http.MethodPost, "/admin/import", strings.NewReader(lines),
		"Content-Type", "application/fhir+ndjson")
	if err != nil || a.Status != 200 {
		w.t.Fatalf("import: %+v, %v", a, err)
	}
}

// IN-1: without --base-url, imported references to the server's own address are local, by each
// name of loopback.
func TestIN1AddressesOnTheListenersBaseAreLocal(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, base := w.demoPatient(), w.node.URL+"/fhir/"
	about := func(base string) string {
		return `"subject":{"reference":"` + base + `Patient/` + p + `"}`
	}
	w.load(strings.Join([]string{
		`{"resourceType":"Observation","id":"own-1","status":"final","code":{"text":"t"},` +
			about(base) + `}`,
		`{"resourceType":"Observation","id":"own-2","status":"final","code":{"text":"t"},` +
			about(strings.Replace(base, "127.0.0.1", "localhost", 1)) + `}`,
		`{"resourceType":"Binary","id":"own-b","contentType":"text/plain","data":"aA=="}`,
		`{"resourceType":"DocumentReference","id":"own-d","status":"current",` + about("") +
			`,"content":[{"attachment":{"url":"` + base + `Binary/own-b"}}]}`,
	}, "\n"))
	got, text := w.export(p, nil)
	for _, key := range []string{
		"Observation/own-1", "Observation/own-2", "DocumentReference/own-d", "Binary/own-b",
	} {
		if got[key] == nil {
			t.Errorf("%s is not in the record", key)
		}
	}
	if strings.Contains(text, base+"Patient/") {
		t.Error("a reference to this server stayed absolute")
	}
}

// planned waits until a population's job is planned. The store is then frozen.
func (w *world) planned(id string) *ehi.Job {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		job, err := w.node.Bus.Jobs.Get(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if job.Tasks > 0 {
			return job
		}
	}
	w.t.Fatal("the export is not planned")
	return nil
}
