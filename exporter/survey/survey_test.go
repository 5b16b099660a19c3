package survey_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/survey"
	"ehi-server/exporter/synthetic"
)

// A survey has every type, element and system of the records, and no values.
func TestASurveyHasTheShapeOfRecordsAndNoValues(t *testing.T) {
	s, err := synthetic.NewSource(synthetic.Config{Patients: 3, Seed: 7, Resources: 200})
	if err != nil {
		t.Fatal(err)
	}
	got, err := survey.Take(t.Context(), s, survey.Limits{Patients: 2, Resources: 1 << 20})
	if err != nil || got.Records != 2 || len(got.Types) < 10 {
		t.Fatalf("%d records, %d types, %v", got.Records, len(got.Types), err)
	}
	p, err := s.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	record, err := s.Open(t.Context(), p[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	err = record.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
		i := slices.IndexFunc(got.Types, func(x survey.Type) bool { return x.Name == r.Type })
		if i < 0 {
			t.Fatalf("no %s", r.Type)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(r.Line, &fields); err != nil {
			return err
		}
		for name := range fields {
			if name != "resourceType" &&
				!slices.ContainsFunc(got.Types[i].Elements,
					func(e survey.Element) bool {
						return e.Name == name && e.In > 0 && e.Kind != ""
					}) {
				t.Errorf("no %s.%s", r.Type, name)
			}
		}
		return nil
	})
	if err := errors.Join(err, record.Close()); err != nil {
		t.Fatal(err)
	}
	all, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(all), p[0].ID) || strings.Contains(string(all), p[0].Name) {
		t.Error("it names a patient")
	}
	if !strings.Contains(string(all), "http://loinc.org") {
		t.Error("it knows no code system")
	}
	few, err := survey.Take(t.Context(), s, survey.Limits{
		Patients:  3,
		Resources: 1 << 20,
		Bytes:     1,
	})
	if err != nil || few.Resources != 1 {
		t.Errorf("beyond its bytes the survey took %d resources: %v", few.Resources, err)
	}
	short, err := survey.Take(t.Context(), s, survey.Limits{Patients: 3, Resources: 10})
	if err != nil || short.Resources != 10 {
		t.Errorf("%d resources, %v", short.Resources, err)
	}
}
