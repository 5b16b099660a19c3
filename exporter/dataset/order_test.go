package dataset_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
)

// ownBases are the base URLs that count as own in these tests.
var ownBases = []string{"https://ehr.example.org/r4", "https://ehi.example.org/fhir"}

// event is a new state, or the deletion, of a resource.
type event struct {
	typ, id string
	at      string // lastUpdated, or the time of the deletion
	line    string // "" for a deletion
	bare    bool   // only the entry states at, not the line
}

// told reports whether only an entry can state the event.
func (e event) told() bool { return e.line == "" || e.bare }

// history makes random states of random resources that refer to each other in every way. Each
// state has its own version.
func history(t *rapid.T) []event {
	g := maker{T: t, tick: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, typ := range []string{
		"Patient", "Practitioner", "Organization", "Encounter", "Observation",
		"DocumentReference", "Binary", "Provenance", "Appointment", "Questionnaire",
		"QuestionnaireResponse",
	} {
		for i := range rapid.IntRange(1, 3).Draw(t, typ) {
			g.known = append(g.known, [2]string{
				typ,
				fmt.Sprintf("%08x-0000-4000-8000-%012x", len(g.known)+1, i),
			})
		}
	}
	var events []event
	for _, r := range g.known {
		for range rapid.IntRange(1, 3).Draw(t, "states") {
			events = append(events, g.event(r[0], r[1]))
		}
	}
	return events
}

type maker struct {
	*rapid.T
	tick  time.Time
	known [][2]string
}

func (g *maker) event(typ, id string) event {
	g.tick = g.tick.Add(time.Hour)
	e := event{typ: typ, id: id, at: g.tick.Format(time.RFC3339)}
	if rapid.IntRange(0, 7).Draw(g.T, "deleted") == 0 {
		return e
	}
	meta := `,"meta":{"lastUpdated":"` + e.at + `"}`
	if e.bare = rapid.IntRange(0, 2).Draw(g.T, "bare") == 0; e.bare {
		meta = ""
	}
	e.line = `{"id":"` + id + `","resourceType":"` + typ + `"` + meta + g.identifier() +
		g.content(typ) + `}`
	return e
}

// identifier gives some resources one of a few identifiers, so that names are sometimes
// ambiguous.
func (g *maker) identifier() string {
	switch n := rapid.IntRange(0, 5).Draw(g.T, "identifier"); n {
	case 0, 1, 2:
		return fmt.Sprintf(`,"identifier":[{"system":"urn:ids","value":"%d"}]`, n)
	case 3:
		return `,"identifier":[{"value":"1"}]`
	}
	return ""
}

func (g *maker) content(typ string) string {
	field := func(name string, types ...string) string {
		if rapid.IntRange(0, 3).Draw(g.T, name) == 0 {
			return ""
		}
		return `,"` + name + `":{"reference":"` + g.reference(types...) + `"}`
	}
	switch typ {
	case "Patient":
		link := rapid.SampledFrom([]string{
			"", "", "replaced-by", "replaces", "seealso",
		}).Draw(g.T, "link")
		if link != "" {
			link = `,"link":[{"type":"` + link + `","other":{"reference":"` +
				g.reference("Patient") + `"}}]`
		}
		return link + field("managingOrganization", "Organization")
	case "Organization":
		return field("partOf", "Organization")
	case "Encounter":
		return field("subject", "Patient") + field("serviceProvider", "Organization")
	case "Observation":
		return field("subject", "Patient") + field("encounter", "Encounter") +
			`,"performer":[{"reference":"` + g.reference("Practitioner") + `"}]`
	case "DocumentReference":
		return field("subject", "Patient") + `,"content":[{"attachment":{"url":"` +
			g.reference("Binary") + `"}}]`
	case "Binary":
		return field("securityContext", "DocumentReference", "Patient")
	case "Provenance":
		return `,"target":[{"reference":"` + g.reference("Observation", "Provenance", "Encounter") +
			`"},{"reference":"` + g.reference("Observation", "Provenance") + `"}]`
	case "Questionnaire":
		url, version :=
			rapid.IntRange(0, 1).Draw(g.T, "url"), rapid.IntRange(1, 3).Draw(g.T, "version")
		return fmt.Sprintf(`,"url":"http://q.org/%d","version":"%d"`, url, version) +
			`,"derivedFrom":["` + g.canonical() + `"]`
	case "QuestionnaireResponse":
		return field("subject", "Patient") + `,"questionnaire":"` + g.canonical() + `"`
	case "Appointment":
		return `,"participant":[{"actor":{"reference":"` + g.reference("Patient") +
			`"}},{"actor":{"reference":"` + g.reference("Patient", "Practitioner") + `"}}]`
	}
	return ""
}

// canonical names a Questionnaire in a random way.
func (g *maker) canonical() string {
	return rapid.SampledFrom([]string{
		"http://q.org/0", "http://q.org/1", "http://q.org/0|1", "http://q.org/1|2#x",
		"http://q.org/2",
		g.reference("Questionnaire"),
	}).Draw(g.T, "canonical")
}

// reference refers to a random resource in a random way.
func (g *maker) reference(types ...string) string {
	var some [][2]string
	for _, r := range g.known {
		if slices.Contains(types, r[0]) {
			some = append(some, r)
		}
	}
	to := rapid.SampledFrom(some).Draw(g.T, "target")
	self := to[0] + "/" + to[1]
	return rapid.SampledFrom([]string{
		self,
		self,
		self + "/_history/1",
		ownBases[0] + "/" + self,
		ownBases[1] + "/" + self + "/_history/2",
		"urn:uuid:" + to[1],
		to[0] + "?identifier=urn:ids|0",
		to[0] + "?identifier=urn%3Aids%7C1",
		to[0] + "?identifier=%7C1",
		to[0] + "?identifier=2",
		ownBases[1] + "/" + to[0] + "?identifier=urn:ids|2",
		"https://foreign.example.org/" + self,
		"urn:uuid:99999999-0000-4000-8000-000000000000",
	}).Draw(g.T, "reference")
}

// deal writes the events in random order to random files of random kinds, and imports them in
// several steps.
func deal(t *rapid.T, events []event) (s *dataset.Store, clean func()) {
	dir, err := os.MkdirTemp("", "order")
	if err != nil {
		t.Fatal(err)
	}
	s = storeOfAnyKind(t, dataset.Config{Dir: filepath.Join(dir, "records"), OwnBases: ownBases})
	clean = func() {
		if err := errors.Join(s.Close(), os.RemoveAll(dir)); err != nil {
			t.Fatal(err)
		}
	}
	order := rapid.Permutation(events).Draw(t, "order")
	var paths []string
	for n := 0; len(order) > 0; n++ {
		count := min(rapid.IntRange(1, 8).Draw(t, "events of a file"), len(order))
		paths = append(paths, file(t, filepath.Join(dir, fmt.Sprint(n)), order[:count]))
		if order = order[count:]; len(order) > 0 && rapid.Bool().Draw(t, "together with the next") {
			continue
		}
		_, err := s.Import(t.Context(), paths, source.ImportOptions{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		paths = nil
	}
	return s, clean
}

// inMemory is the folder of a file system in memory, or "" for none. The tests open thousands of
// stores, and their syncs to a disk would take most of the time. A process that is killed leaves
// the same files there as on a disk.
func inMemory() string {
	const shm = "/dev/shm"
	if dir, err := os.MkdirTemp(shm, "probe"); err == nil && os.Remove(dir) == nil {
		return shm
	}
	return ""
}

// storeOfAnyKind opens a store that may import in bulk, with a random number of pieces.
func storeOfAnyKind(t *rapid.T, c dataset.Config) *dataset.Store {
	c.Bulk = rapid.Bool().Draw(t, "bulk")
	s, err := dataset.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	pile := rapid.SampledFrom([]int{100, 1000, 10_000}).Draw(t, "bytes sorted at once")
	all := rapid.SampledFrom([]int64{1000, 1 << 20}).Draw(t, "bytes sorted in all")
	dataset.SortInPieces(s, pile, all,
		rapid.SampledFrom([]int{0, 10, 1000}).Draw(t, "resources looked up"))
	return s
}

// file writes one file of a random kind.
func file(t *rapid.T, path string, events []event) string {
	var text bytes.Buffer
	lines := !slices.ContainsFunc(events, event.told) && rapid.Bool().Draw(t, "lines")
	if lines {
		for _, e := range events {
			fmt.Fprintln(&text, e.line)
		}
		path += ".ndjson"
	} else {
		bundle := bundleOf(t, events)
		if path += ".json"; rapid.Bool().Draw(t, "spaced") {
			if err := json.Indent(&text, []byte(bundle), "", " "); err != nil {
				t.Fatal(err)
			}
		} else {
			text.WriteString(bundle)
		}
	}
	if rapid.Bool().Draw(t, "gzipped") {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := text.WriteTo(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text, path = packed, path+".gz"
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bundleOf makes a Bundle of a random type. Deletions need a type that has them, and states that
// only entries state need one whose entries are responses. It has two Patients of its own: in a
// Bundle with one Patient, resources without a patient would belong to that one, so that the
// distribution of events would matter.
func bundleOf(t *rapid.T, events []event) string {
	types := []string{"history"}
	if !slices.ContainsFunc(events, func(e event) bool { return e.bare }) {
		types = append(types, "transaction", "batch")
	} else if !slices.ContainsFunc(events, func(e event) bool { return e.line == "" }) {
		types = append(types, "batch-response", "transaction-response")
	}
	if !slices.ContainsFunc(events, event.told) {
		types = append(types, "searchset", "collection", "document", "message", "batch-response",
			"transaction-response")
	}
	typ := rapid.SampledFrom(types).Draw(t, "type of bundle")
	entries := []string{
		`{"resource":{"id":"bundled-1","resourceType":"Patient"},"request":{"method":"PUT",` +
			`"url":"Patient/bundled-1"}}`,
		`{"resource":{"id":"bundled-2","resourceType":"Patient"},"request":{"method":"PUT",` +
			`"url":"Patient/bundled-2"}}`,
	}
	for _, e := range events {
		self := e.typ + "/" + e.id
		if e.line == "" {
			entries = append(entries,
				`{"request":{"method":"DELETE","url":"`+self+
					`"},"response":{"status":"204","lastModified":"`+e.at+`"}}`)
			continue
		}
		line := e.line
		named := rapid.SampledFrom([]string{
			"",
			`"fullUrl":"urn:uuid:` + e.id + `",`,
			`"fullUrl":"` + ownBases[0] + "/" + self + `",`,
			`"fullUrl":"` + ownBases[1] + "/" + self + `",`,
		}).Draw(t, "fullUrl")
		asked := `,"request":{"method":"PUT","url":"` + self + `"}`
		if strings.Contains("history transaction batch", typ) &&
			rapid.Bool().Draw(t, "id in the url alone") {
			line = strings.Replace(line, `"id":"`+e.id+`",`, "", 1)
		}
		answer := ""
		if e.bare {
			answer = `,"response":{"status":"200","lastModified":"` + e.at + `"}`
		}
		entries = append(entries, `{`+named+`"resource":`+line+asked+answer+`}`)
	}
	return `{"resourceType":"Bundle","type":"` + typ + `","entry":[` + strings.Join(entries, ",") +
		`]}`
}

// recordOf returns whether a patient's record is complete, and its lines, sorted.
func recordOf(ctx context.Context, s *dataset.Store, patient string) ([]string, error) {
	rec, err := s.Open(ctx, patient)
	if err != nil {
		return nil, err
	}
	out := []string{fmt.Sprintf("complete: %v", rec.Complete())}
	err = rec.Scan(ctx, source.Query{}, func(r source.Resource) error {
		out = append(out, string(r.Line))
		return nil
	})
	slices.Sort(out[1:])
	return out, errors.Join(err, rec.Close())
}

// all returns all outputs of a store: each patient's record, the whole population, and what
// belongs to nobody.
func all(t *rapid.T, s *dataset.Store) map[string][]string {
	out := map[string][]string{}
	patients, err := s.Patients(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range patients {
		if out["Patient/"+p.ID], err = recordOf(t.Context(), s, p.ID); err != nil {
			t.Fatal(err)
		}
	}
	nothing, err := s.ImportFrom(t.Context(), "nothing", strings.NewReader(""),
		source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	out["unplaced"] = []string{nothing.Unplaced.String()}
	p, err := s.Freeze(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	out["population"] = linesOf(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// IN-3: for any order of events, and any kinds of files, the store gives the same exports.
func TestIN3TheOrderOfAnImportDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := history(t)
		one, close1 := deal(t, events)
		defer close1()
		two, close2 := deal(t, events)
		defer close2()
		if d := cmp.Diff(all(t, one), all(t, two)); d != "" {
			t.Fatalf("the exports differ:\n%s", d)
		}
	})
}

// IN-3: a version that only an entry stated stays with its resource when the resource's
// references are resolved later. With -race the store overwrites what some of its iterators
// returned as soon as they advance, so that an import of many resources shows what is kept too
// long.
func TestIN3TheVersionThatAnEntryToldOutlivesTheResolvingOfReferences(t *testing.T) {
	const n, imports = 200, 40
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	entry := func(i int, method, resource, at string) string {
		self := fmt.Sprintf("Observation/o%03d", i)
		return fmt.Sprintf(`{%s"request":{"method":"%s","url":"%s"},"response":{"status":"200",`+
			`"lastModified":"%s"}}`, resource, method, self, at)
	}
	history := func(entries []string) string {
		return `{"resourceType":"Bundle","type":"history","entry":[` + strings.Join(entries, ",") +
			`]}`
	}
	var states, deletes []string
	for i := range n {
		states = append(states, entry(i, "PUT", fmt.Sprintf(
			`"resource":{"resourceType":"Observation","id":"o%03d",`+
				`"subject":{"reference":"Patient/p1"},`+
				`"performer":[{"reference":"Practitioner?identifier=urn:ids|%d"}]},`, i, i%imports),
			"2024-01-02T00:00:00Z"))
		deletes = append(deletes, entry(i, "DELETE", "", "2024-01-01T00:00:00Z"))
	}
	load(t, s, write(t, dir, "1.json", history(states)))
	load(t, s, write(t, dir, "patient.ndjson", `{"resourceType":"Patient","id":"p1"}`))
	for i := range imports {
		load(t, s,
			write(t, dir, fmt.Sprintf("%d.ndjson", i),
				fmt.Sprintf(`{"resourceType":"Practitioner","id":"d%d",`+
					`"identifier":[{"system":"urn:ids","value":"%d"}]}`, i, i)))
	}
	load(t, s, write(t, dir, "deletes.json", history(deletes)))
	if got, want := len(export(t, s, "p1")), 1+n+imports; got != want {
		t.Errorf("%d resources are left of %d: deletes of before took them", got, want)
	}
}
