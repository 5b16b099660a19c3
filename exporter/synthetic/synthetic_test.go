package synthetic_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"ehi-server/exporter/synthetic"
	"ehi-server/shared/records"
)

func generate(t *testing.T, seed uint64, k int) (lines [][]byte) {
	t.Helper()
	g := synthetic.New(seed)
	keep := func(line []byte) error { lines = append(lines, bytes.Clone(line)); return nil }
	if err := g.Shared(keep); err != nil {
		t.Fatal(err)
	}
	if err := g.Patient(k, keep); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestEachPatientIsLinkedVariedAndOfTheSizePromised(t *testing.T) {
	for k := range 20 {
		own, types, have := 0, map[string]bool{}, map[string]records.Resource{}
		for _, line := range generate(t, 1, k) {
			var r records.Resource
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if have[records.Key(r)] != nil {
				t.Fatalf("%s twice", records.Key(r))
			}
			have[records.Key(r)] = r
			types[r["resourceType"].(string)] = true
			own++
		}
		if own < 300 || own > 900 || len(types) < 20 {
			t.Errorf("patient %d has %d resources of %d types", k, own, len(types))
		}
		for key, r := range have {
			records.References(r, func(ref string) string {
				if have[ref] == nil {
					t.Errorf("%s refers to %s, which is not there", key, ref)
				}
				return ref
			})
		}
	}
}

func TestTheSameSeedAndNumberMakeTheSamePatient(t *testing.T) {
	text := func(seed uint64, k int) string { return string(bytes.Join(generate(t, seed, k), []byte{'\n'})) }
	first, again := text(7, 3), text(7, 3)
	if first != again {
		t.Error("two runs differ")
	}
	if first == text(8, 3) || first == text(7, 4) {
		t.Error("another seed or number made the same patient")
	}
}
