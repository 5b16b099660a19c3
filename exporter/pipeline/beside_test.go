package pipeline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// EHI-9: what a store holds beside a record keeps what leads to it, however that leads there, in an
// export and in its preview.
func TestEHI9AnExportLooksForWhatItsReferencesMayMeanBesideTheRecord(t *testing.T) {
	const hiv = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}`
	record := []string{
		`{"resourceType":"Patient","id":"p","identifier":[{"system":"urn:m","value":"MRN-1"}]}`,
		`{"resourceType":"Patient","id":"q"}`,
		`{"resourceType":"Medication","id":"drug-a",` + hiv +
			`,"identifier":[{"system":"urn:x","value":"Lot-A77"}]}`,
		`{"resourceType":"Medication","id":"drug-b",` +
			`"ingredient":[{"itemReference":{"reference":"Substance/sub-b"}}]}`,
		`{"resourceType":"Medication","id":"drug-c","identifier":[{"system":"urn:x",` +
			`"value":"lot-c"}]}`,
		`{"resourceType":"Substance","id":"sub-b",` + hiv + `}`,
		`{"resourceType":"Device","id":"dev-a",` + hiv +
			`,"identifier":[{"system":"urn:y","value":"urn:uuid:SERIAL-9"}]}`,
		`{"resourceType":"Questionnaire","id":"form-a",` + hiv +
			`,"url":"https://forms.example/Risk"}`,
		`{"resourceType":"Condition","id":"cond-q",` + hiv +
			`,"subject":{"reference":"Patient/q"}}`,
	}
	leaks := []string{
		`"device":{"reference":"https://other.example/fhir/Medication/drug-a","display":"LEAK"}`,
		`"device":{"reference":"https://other.example/fhir/Medication/drug-b","display":"LEAK"}`,
		`"device":{"identifier":{"value":"lot-a77"},"display":"LEAK"}`,
		`"device":{"identifier":{"value":"SERIAL-9"},"display":"LEAK"}`,
		`"device":{"identifier":{"system":"urn:other","value":"serial-9"},"display":"LEAK"}`,
		`"extension":[{"url":"urn:e","valueReference":{"identifier":{"value":"Lot-A77"},` +
			`"display":"LEAK"}}]`,
		`"extension":[{"url":"urn:e","valueReference":{"identifier":{"system":"urn:x",` +
			`"value":"Lot-A77"},"display":"LEAK"}}]`,
		`"extension":[{"url":"urn:e",` +
			`"valueReference":{"reference":"https://other.example/fhir/Condition/cond-q",` +
			`"display":"LEAK"}}]`,
	}
	goes := `"device":{"reference":"https://other.example/fhir/Medication/drug-c",` +
		`"display":"GOES"},"performer":[{"identifier":{"value":"lot-c"},"display":"GOES"}]`
	for i, field := range append(leaks, goes) {
		record = append(record,
			`{"resourceType":"Observation","id":"o`+string(rune('a'+i))+
				`","subject":{"reference":"Patient/p"},`+field+`}`)
	}
	record = append(record,
		`{"resourceType":"QuestionnaireResponse","id":"q","subject":{"reference":"Patient/p"},`+
			`"questionnaire":"http://forms.example/risk|2","item":[{"text":"LEAK"}]}`)
	record = append(record,
		`{"resourceType":"MedicationRequest","id":"m","subject":{"reference":"Patient/p"},`+
			`"medicationReference":{"reference":"https://other.example/fhir/Medication/drug-b"},`+
			`"note":[{"text":"LEAK"}]}`)
	for name, order := range map[string]bool{"in order": false, "in reverse": true} {
		t.Run(name, func(t *testing.T) {
			open := importOf(t, record, order)
			s := newStore(t)
			task := task(t, s, open, everyCategory())
			res, err := pipeline.Run(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			all := ""
			for _, text := range contents(t, s, res) {
				all += text
			}
			if strings.Contains(all, "LEAK") || strings.Count(all, "GOES") != 2 ||
				strings.Count(all, `"resourceType":"Observation"`) != len(leaks)+1 ||
				strings.Contains(all, `"Medication"`) {
				t.Errorf("%s", all)
			}
			rules, err := release.RulesFromFile("")
			if err != nil {
				t.Fatal(err)
			}
			summary, err := pipeline.Summarize(t.Context(), rules, &ehi.Job{}, open, nil)
			if err != nil {
				t.Fatal(err)
			}
			counts, err := summary.Count(task.Policy)
			want := int64(strings.Count(all, "\n"))
			if err != nil || counts.All.Released != want || counts.All.Stored != want+3 {
				t.Errorf("the preview says %+v (%v), and %d went", counts.All, err, want)
			}
		})
	}
}

// importOf opens the record of Patient p after an import of some lines.
func importOf(t *testing.T, lines []string, reverse bool) source.Record {
	t.Helper()
	text := ""
	for _, l := range lines {
		if reverse {
			text = l + "\n" + text
		} else {
			text += l + "\n"
		}
	}
	file := filepath.Join(t.TempDir(), "all.ndjson")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := dataset.Open(dataset.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := store.Import(t.Context(), []string{file},
		source.ImportOptions{Now: time.Now()}); err != nil || r.Problems > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	record, err := store.Open(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := record.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return record
}

// wide is a record of which each line refers to something else beside it.
type wide struct {
	lines
	mu     sync.Mutex
	sought map[source.Name]bool
	most   int // names at once
}

func (w *wide) Beside(_ context.Context, names []source.Name, _ func([]byte) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most = max(w.most, len(names))
	for _, n := range names {
		w.sought[n] = true
	}
	return nil
}

// What very many references may mean is looked for while they are read, so that they take no
// memory.
func TestManyReferencesOutOfARecordAreLookedForPieceByPiece(t *testing.T) {
	const many = 60_000
	record := &wide{lines: lines{list: []string{`Patient {"resourceType":"Patient","id":"p"}`}}}
	for i := range many {
		record.list = append(record.list, fmt.Sprintf(
			`Observation {"resourceType":"Observation","id":"o%d",`+
				`"subject":{"reference":"Patient/p"},`+
				`"device":{"reference":"https://other.example/fhir/Device/device-%d"},`+
				`"status":"final"}`, i, i))
	}
	check := func(t *testing.T) {
		for i := range many {
			if !record.sought[source.Name{Type: "Device", ID: fmt.Sprintf("device-%d", i)}] {
				t.Fatalf("device %d is not looked for", i)
			}
		}
		if record.most > many/4 {
			t.Errorf("%d names are looked for at once", record.most)
		}
	}
	t.Run("an export", func(t *testing.T) {
		record.sought, record.most = map[source.Name]bool{}, 0
		_, err := pipeline.Run(t.Context(), task(t, newStore(t), record, everyCategory()))
		if err != nil {
			t.Fatal(err)
		}
		check(t)
	})
	t.Run("a preview", func(t *testing.T) {
		record.sought, record.most = map[source.Name]bool{}, 0
		rules, err := release.RulesFromFile("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pipeline.Summarize(t.Context(), rules, &ehi.Job{}, record, nil); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
}
