package synthetic_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/source/sourcetest"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/shared/records"
)

func config(t *testing.T, text string) synthetic.Config {
	t.Helper()
	c, err := synthetic.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// generate makes a patient and what all share.
func generate(t testing.TB, c synthetic.Config, k int) (lines [][]byte) {
	t.Helper()
	g := synthetic.NewGenerator(c)
	keep := func(r source.Resource) error { lines = append(lines, bytes.Clone(r.Line)); return nil }
	if err := g.Shared(keep); err != nil {
		t.Fatal(err)
	}
	if err := g.Patient(k, keep); err != nil {
		t.Fatal(err)
	}
	return lines
}

// sharedCount is how many resources all patients share.
const sharedCount = 72

func TestEachPatientIsLinkedVariedAndOfTheSizePromised(t *testing.T) {
	for _, settings := range []string{
		"", "resources=40", "resources=200,size=600", "resources=2000", "resources=3",
	} {
		c := config(t, settings)
		for k := range 20 {
			types, have := map[string]bool{}, map[string]records.Resource{}
			lines := generate(t, c, k)
			for _, line := range lines {
				var r records.Resource
				if err := json.Unmarshal(line, &r); err != nil {
					t.Fatalf("%v in %s", err, line)
				}
				if have[records.Key(r)] != nil {
					t.Fatalf("%s twice", records.Key(r))
				}
				have[records.Key(r)] = r
				types[r["resourceType"].(string)] = true
				if len(line) < c.Size {
					t.Errorf("%s has %d bytes", records.Key(r), len(line))
				}
			}
			own := len(lines) - sharedCount
			switch {
			case c.Resources > 0 && own != c.Resources:
				t.Errorf("%s: patient %d has %d resources", settings, k, own)
			case c.Resources == 0 && (own < 300 || own > 900):
				t.Errorf("patient %d has %d resources", k, own)
			case c.Resources != 3 && len(types) < 20:
				t.Errorf("%s: patient %d has %d types", settings, k, len(types))
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
}

func TestTheSameSeedAndNumberMakeTheSamePatient(t *testing.T) {
	text := func(seed string, k int) string {
		return string(bytes.Join(generate(t, config(t, "seed="+seed), k), []byte{'\n'}))
	}
	first, again := text("7", 3), text("7", 3)
	if first != again {
		t.Error("two runs differ")
	}
	if first == text("8", 3) || first == text("7", 4) {
		t.Error("another seed or number made the same patient")
	}
}

func TestAnIDTellsItsPatientAndSortsAsTheNumberDoes(t *testing.T) {
	c := config(t, "patients=1000000,seed=9")
	last := ""
	for _, k := range []int{0, 1, 255, 65535, 65536, 999_999} {
		id := c.PatientID(k)
		if got, ok := c.Number(id); !ok || got != k || id <= last {
			t.Errorf("patient %d: %s is of %d, %v; the one before has %s", k, id, got, ok, last)
		}
		last = id
	}
	for _, id := range []string{
		"",
		c.PatientID(1_000_000),
		config(t, "seed=8").PatientID(3),
		strings.ToUpper(c.PatientID(999_999)),
		strings.Repeat("g", 36),
	} {
		if k, ok := c.Number(id); ok {
			t.Errorf("%q is patient %d", id, k)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, bad := range []string{
		"patients=0", "patients=x", "errors=2", "errors=NaN", "errors=-1", "size=-1",
		"resources=-1", "delay=-1s", "colour=red", "patients",
	} {
		if _, err := synthetic.ParseConfig(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	want := synthetic.Config{
		Patients:  5,
		Seed:      7,
		Resources: 10,
		Size:      600,
		Errors:    0.5,
		Delay:     time.Second,
	}
	if c := config(t, "patients=5,seed=7,resources=10,size=600,errors=0.5,delay=1s"); c != want {
		t.Errorf("%+v", c)
	}
}

func TestTheAskedShareOfResourcesIsMalformed(t *testing.T) {
	c := config(t, "errors=0.1")
	bad, all := 0, 0
	g := synthetic.NewGenerator(c)
	for k := range 20 {
		err := g.Patient(k, func(r source.Resource) error {
			if !r.Unchecked {
				t.Fatal("a line that may be malformed claims to be checked")
			}
			all++
			if json.Valid(r.Line) {
				return nil
			}
			bad++
			if r.Type == "Patient" {
				t.Error("a Patient is malformed")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if share := float64(bad) / float64(all); share < 0.08 || share > 0.12 {
		t.Errorf("%d of %d are malformed", bad, all)
	}
}

// The source keeps the contract; what it holds is counted by the generator.
func TestSource(t *testing.T) {
	c := config(t, "patients=25,seed=3")
	s, err := synthetic.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Patient(t.Context(), c.PatientID(4))
	if err != nil {
		t.Fatal(err)
	}
	want := sourcetest.Expect{Patient: p.ID, Name: p.Name, Group: synthetic.Cohort}
	types := map[string]bool{}
	for _, line := range generate(t, c, 4) {
		var r records.Resource
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		types[r["resourceType"].(string)] = true
	}
	for typ := range types {
		want.Types = append(want.Types, typ)
	}
	slices.Sort(want.Types)
	for k := range c.Patients {
		want.Patients = append(want.Patients, c.PatientID(k))
	}
	want.Members = want.Patients[:3]
	sourcetest.Run(t, s, want)
	for _, shape := range native.Shapes() {
		t.Run(shape, func(t *testing.T) { sourceOf(t, shape, want) })
	}
}

// sourceOf checks a source with native content of a shape.
func sourceOf(t *testing.T, shape string, want sourcetest.Expect) {
	s, err := synthetic.NewSource(config(t, "patients=25,seed=3,native="+shape))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := s.Open(t.Context(), want.Patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	err = rec.Documents(t.Context(), source.Query{}, func(*source.Document) error {
		want.Documents++
		return nil
	})
	if err != nil || want.Documents == 0 {
		t.Fatal(want.Documents, err)
	}
	if p := rec.Tables(); p != nil {
		for _, table := range p.Resources {
			rows := int64(0)
			err := rec.Rows(t.Context(), table.Name, func(r source.Rows) error {
				rows += r.Count
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if rows > 0 {
				want.Tables = append(want.Tables, table.Name)
			}
		}
	}
	slices.Sort(want.Tables)
	sourcetest.Run(t, s, want)
}
