package dataset_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/find"
	"ehi-server/exporter/source"
)

// criterion parses name=value.
func criterion(t interface{ Fatalf(string, ...any) }, pair string) find.Criterion {
	name, value, _ := strings.Cut(pair, "=")
	c, known, err := find.Parse("Patient", name, value)
	if err != nil || !known {
		t.Fatalf("%s: known %t, %v", pair, known, err)
	}
	return c
}

// found returns the ids that a search finds, read in pages of three.
func found(t *testing.T, s *dataset.Store, pairs ...string) (ids []string) {
	t.Helper()
	q := source.Search{Limit: 3}
	for _, pair := range pairs {
		q.Criteria = append(q.Criteria, criterion(t, pair))
	}
	for {
		f, err := s.FindPatients(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Matches {
			ids = append(ids, p.ID)
		}
		if q.After = f.Next; q.After == "" {
			if f.Total != len(ids) {
				t.Errorf("%v: total %d, found %v", pairs, f.Total, ids)
			}
			return ids
		}
	}
}

// BULK-8: the index follows the patients through any imports, and a search finds the same as a
// scan of all patients.
func TestBULK8TheIndexFollowsTheImports(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		s := openStore(t, filepath.Join(dir, fmt.Sprint("store", n)))
		now := map[string][]string{}
		pick := func(label string, from ...string) string {
			return rapid.SampledFrom(from).Draw(rt, label)
		}
		for version := range rapid.IntRange(1, 3).Draw(rt, "imports") {
			var lines []string
			for range rapid.IntRange(1, 6).Draw(rt, "patients") {
				id := pick("id", "a", "b", "c", "d", "aa")
				line := fmt.Sprintf(`{"resourceType":"Patient","id":%q,`+
					`"meta":{"lastUpdated":"2020-01-0%dT00:00:00Z"},"birthDate":%q,`+
					`"name":[{"family":%q,"given":[%q]}],"identifier":[{"system":%q,"value":%q}]}`,
					id, version+1, pick("born", "1970", "1970-05", "1970-05-17", "1980-01-01", ""),
					pick("family", "Smith", "Smythe", "van Dyk", ""),
					pick("given", "Ann", "Änne", "Bo"), pick("system", "", "urn:a", "urn:ab"),
					pick("value", "1", "12", ""))
				lines = slices.DeleteFunc(lines, func(l string) bool {
					return strings.Contains(l, fmt.Sprintf(`"id":%q`, id))
				})
				lines = append(lines, line)
			}
			for _, line := range lines {
				var p struct{ ID string }
				if err := json.Unmarshal([]byte(line), &p); err != nil {
					rt.Fatal(err)
				}
				var err error
				if now[p.ID], err = find.Entries("Patient", []byte(line)); err != nil {
					rt.Fatal(err)
				}
			}
			load(t, s, write(t, dir, fmt.Sprintf("%d.%d.ndjson", n, version), lines...))
		}
		for _, pairs := range [][]string{
			nil,
			{"name=s"},
			{"name=dyk"},
			{"family=smi,van"},
			{"given=ann"},
			{"identifier=1"},
			{"identifier=urn:a|"},
			{"identifier=urn:a|1"},
			{"identifier=|12"},
			{"birthdate=1970"},
			{"birthdate=gt1970-05"},
			{"birthdate=le1970-05"},
			{"birthdate=ne1970-05-17"},
			{"name=s", "birthdate=ge1970", "identifier=1,12"},
		} {
			var criteria []find.Criterion
			for _, pair := range pairs {
				criteria = append(criteria, criterion(rt, pair))
			}
			var want []string
			for _, id := range slices.Sorted(maps.Keys(now)) {
				if find.Matches(criteria, now[id]) {
					want = append(want, id)
				}
			}
			if got := found(t, s, pairs...); !slices.Equal(got, want) {
				rt.Fatalf("%v: found %v, want %v", pairs, got, want)
			}
		}
	})
}

// hundredThousand returns a store with 100,000 patients.
func hundredThousand(b *testing.B) *dataset.Store {
	b.Helper()
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "patients.ndjson"))
	if err != nil {
		b.Fatal(err)
	}
	for n := range 100_000 {
		fmt.Fprintf(f,
			`{"resourceType":"Patient","id":"p%06d","birthDate":"%d-%02d-%02d",`+
				`"name":[{"family":"Family%d","given":["Given%d","Second"]}],`+
				`"identifier":[{"system":"urn:mrn","value":"MRN%d"}]}`+"\n",
			n, 1930+n%80, 1+n%12, 1+n%28, n%5000, n%300, n)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	s, err := dataset.Open(dataset.Config{Dir: filepath.Join(dir, "records")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	load(b, s, f.Name())
	return s
}

// BenchmarkFindPatients: the cost of a search does not depend on the size of the store. The scan
// shows the cost of reading all patients.
func BenchmarkFindPatients(b *testing.B) {
	s := hundredThousand(b)
	for _, pairs := range []string{
		"identifier=urn:mrn|MRN77777",
		"name=family4999",
		"family=family49&birthdate=ge1970",
		"birthdate=1975-06-14",
		"name=given29",
		"birthdate=ge1930",
		"",
	} {
		b.Run("search="+pairs, func(b *testing.B) {
			q := source.Search{Limit: 50}
			for _, pair := range strings.FieldsFunc(pairs, func(r rune) bool { return r == '&' }) {
				q.Criteria = append(q.Criteria, criterion(b, pair))
			}
			total := 0
			for b.Loop() {
				f, err := s.FindPatients(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				total = f.Total
			}
			b.ReportMetric(float64(total), "found")
		})
	}
	b.Run("scan", func(b *testing.B) {
		c := criterion(b, "identifier=urn:mrn|MRN77777")
		for b.Loop() {
			q := source.Search{Limit: 1000}
			for {
				f, err := s.FindPatients(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				for _, p := range f.Matches {
					entries, err := find.Entries("Patient", p.Line)
					if err != nil {
						b.Fatal(err)
					}
					find.Matches([]find.Criterion{c}, entries)
				}
				if q.After = f.Next; q.After == "" {
					break
				}
			}
		}
	})
}
