package e2e

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/records"
)

// BULK-1: RelevantProvenanceResources are about the resources in the output, after all filters.
func TestBULK1ProvenanceOfWhatIsExported(t *testing.T) {
	t.Parallel()
	more := filepath.Join(t.TempDir(), "more.ndjson")
	err := os.WriteFile(more, []byte(strings.Join([]string{
		`{"resourceType":"Observation","id":"new","meta":{"lastUpdated":"2031-01-01T00:00:00Z"},` +
			`"status":"final","code":{"text":"c"},"subject":{"reference":"Patient/el1"}}`,
		`{"resourceType":"Observation","id":"old","meta":{"lastUpdated":"2001-01-01T00:00:00Z"},` +
			`"status":"final","code":{"text":"c"},"subject":{"reference":"Patient/el1"}}`,
		`{"resourceType":"Provenance","id":"of-new",` +
			`"meta":{"lastUpdated":"2002-01-01T00:00:00Z"},` +
			`"target":[{"reference":"Observation/old"},{"reference":"Observation/new"}],` +
			`"recorded":"2002-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}`,
		`{"resourceType":"Provenance","id":"of-old",` +
			`"meta":{"lastUpdated":"2002-01-01T00:00:00Z"},` +
			`"target":[{"reference":"Observation/old"}],"recorded":"2002-01-01T00:00:00Z",` +
			`"agent":[{"who":{"display":"x"}}]}`,
		`{"resourceType":"Patient","id":"el2"}`,
		`{"resourceType":"Observation","id":"of-el2","status":"final","code":{"text":"c"},` +
			`"subject":{"reference":"Patient/el2"}}`,
		`{"resourceType":"Provenance","id":"of-both","target":[{"reference":"Patient/el1"},` +
			`{"reference":"Observation/of-el2"}],"recorded":"2002-01-01T00:00:00Z",` +
			`"agent":[{"who":{"display":"x"}}]}`,
		`{"resourceType":"Provenance","id":"of-nothing",` +
			`"target":[{"reference":"Observation/nothing"},{"display":"no reference"}],` +
			`"recorded":"2002-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}`,
	}, "\n")+"\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := startOn(t, filepath.Join(records.Cases(t, "relevant-provenance"), "in.ndjson"), more)
	c := w.service("system/*.rs system/$ehi-export")
	final := "_typeFilter=" + url.QueryEscape("Observation?status=final")
	for query, want := range map[string][]string{
		"_type=Observation&" +
			final: {"elp1", "of-both", "of-new", "of-old"},
		"_type=Observation&_since=2030-01-01T00:00:00Z": {"of-new"},
		"_type=Observation&_until=2002-01-01T00:00:00Z": {"of-new", "of-old"},
		"_type=Immunization":                            {"elp3"},
		"_type=MedicationRequest":                       nil,
		"_type=Observation,Provenance&" + final: {
			"elp1", "elp2", "elp3", "of-both", "of-new", "of-nothing", "of-old",
		},
		"_type=Observation,Provenance&_since=2030-01-01T00:00:00Z": {"of-new"},
	} {
		got, _ := w.bulk(c, "GET",
			"/fhir/$export?includeAssociatedData=RelevantProvenanceResources&"+query, nil)
		if d := cmp.Diff(want, provenances(got)); d != "" {
			t.Errorf("%s: %s", query, d)
		}
	}
	// The requested patients limit it, and so do the token's scopes and what an EHI export
	// releases.
	body := []byte(`{"resourceType":"Parameters","parameter":[{"name":"patient",` +
		`"valueReference":{"reference":"Patient/el1"}},` +
		`{"name":"_type","valueString":"Observation"},{"name":"includeAssociatedData",` +
		`"valueCode":"RelevantProvenanceResources"}]}`)
	got, _ := w.bulk(c, "POST", "/fhir/Patient/$export", body, "Content-Type",
		"application/fhir+json")
	if d := cmp.Diff([]string{"elp1", "elp2", "of-new", "of-old"}, provenances(got)); d != "" {
		t.Error(d)
	}
	got, _ = w.bulk(w.service("system/Observation.rs"), "GET",
		"/fhir/$export?includeAssociatedData=RelevantProvenanceResources", nil)
	if d := provenances(got); d != nil || got["Observation/elo1"] == nil {
		t.Errorf("a token for Observation alone: %v", d)
	}
	got, _ = w.bulk(w.service("system/Observation.rs system/Provenance.rs"), "GET",
		"/fhir/$export?_type=Observation,"+
			"Immunization&includeAssociatedData=RelevantProvenanceResources&"+final, nil)
	if d := cmp.Diff([]string{"elp1", "of-both", "of-new", "of-old"}, provenances(got)); d != "" {
		t.Error(d)
	}
	for _, value := range []string{"LatestProvenanceResources", "custom"} {
		a, err := c.Do(t.Context(), "GET",
			"/fhir/$export?_type=Patient&includeAssociatedData="+value, nil)
		if err != nil || a.Status != 400 {
			t.Errorf("%s: %d, %v", value, a.Status, err)
		}
	}
	lenient, m := w.bulk(c, "GET",
		"/fhir/$export?_type=Patient&includeAssociatedData=LatestProvenanceResources", nil,
		"Prefer", "respond-async, handling=lenient")
	if len(lenient) != 2 || len(m.Error) != 1 {
		t.Errorf("lenient: %d resources, errors %v", len(lenient), m.Error)
	}
}

// provenances returns the ids of an export's Provenance.
func provenances(got map[string]records.Resource) (ids []string) {
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if id, found := strings.CutPrefix(key, "Provenance/"); found {
			ids = append(ids, id)
		}
	}
	return ids
}
