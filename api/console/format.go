package console

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/exporter/survey"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/fhir"
)

// formatBook keeps what the documentation says about the records that there are (REAL-15). Only the
// sandbox says so: in production a public page would tell what is in a patient's record (see
// published). The records are examined for the first visitor, and again after surveyAge.
type formatBook struct {
	mu       sync.Mutex
	survey   survey.Survey
	examples map[string]string // by type, made up
	taken    time.Time
}

const (
	// surveyAge is how long the documentation is kept before the records are examined again, and
	// surveyTime how long that may take.
	surveyAge  = 10 * time.Minute
	surveyTime = 10 * time.Second
)

// surveyLimits limit how much of a store is examined.
var surveyLimits = survey.Limits{Patients: 50, Resources: 50_000, Bytes: 32 << 20}

// of returns what the records hold, an example of each type, and when the records were examined.
func (b *formatBook) of(
	ctx context.Context, records survey.Records,
) (survey.Survey, map[string]string, time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.taken) < surveyAge && len(b.survey.Types) > 0 {
		return b.survey, b.examples, b.taken, nil
	}
	ctx, stop := context.WithTimeout(ctx, surveyTime)
	defer stop()
	found, err := survey.Take(ctx, records, surveyLimits)
	if err != nil {
		return found, nil, b.taken, err
	}
	if b.examples == nil {
		if b.examples, err = makeExamples(ctx); err != nil {
			return found, nil, b.taken, err
		}
	}
	b.survey, b.taken = found, time.Now()
	return b.survey, b.examples, b.taken, nil
}

// makeExamples makes up a resource of each type. Those of real records would be about patients.
func makeExamples(ctx context.Context) (map[string]string, error) {
	s, err := synthetic.NewSource(synthetic.Config{Patients: 1, Seed: 1})
	if err != nil {
		return nil, err
	}
	patients, err := s.Patients(ctx, 1)
	if err != nil {
		return nil, err
	}
	record, err := s.Open(ctx, patients[0].ID)
	if err != nil {
		return nil, err
	}
	defer record.Close() // of memory only
	out := map[string]string{}
	err = record.Scan(ctx, source.Query{}, func(r source.Resource) error {
		if out[r.Type] != "" {
			return nil
		}
		var text bytes.Buffer
		if err := json.Indent(&text, r.Line, "", "  "); err != nil {
			return err
		}
		out[r.Type] = text.String()
		return nil
	})
	return out, err
}

// publishedType is what the documentation says about a type, whatever records there are.
type publishedType struct {
	Name     string
	Patients bool // whether its resources belong to patients
	Elements []publishedElement
	Example  string // made up; "" for none
}

type publishedElement struct {
	Name     string
	Required bool
}

// published is every type that can be exported, by the definitions of R4, with made-up examples.
var published = sync.OnceValues(func() ([]publishedType, error) {
	examples, err := makeExamples(context.Background())
	if err != nil {
		return nil, err
	}
	var out []publishedType
	for _, name := range fhir.Types() {
		t := publishedType{
			Name:     name,
			Patients: name == "Patient" || len(fhir.CompartmentPaths(name)) > 0,
			Example:  examples[name],
		}
		required := fhir.MandatoryFields(name)
		for _, element := range fhir.Elements(name) {
			fields := fhir.Fields(name, element)
			e := publishedElement{Name: element, Required: slices.Contains(required, fields[0])}
			if len(fields) > 1 {
				e.Name += "[x]" // as R4 writes a choice
			}
			t.Elements = append(t.Elements, e)
		}
		out = append(out, t)
	}
	return out, nil
})
