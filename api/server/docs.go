package server

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/exporter/survey"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// formatBook is what the documentation of the format says of the records that there are (REAL-15), in
// the sandbox alone: in production nobody learns from a public page what is in whose record (see
// published). It is made when somebody first asks, and anew when it has become old.
type formatBook struct {
	mu       sync.Mutex
	survey   survey.Survey
	examples map[string]string // by type, made up
	taken    time.Time
}

const (
	// surveyAge is how long the documentation is kept before the records are looked through again, surveyTime how long that may take.
	surveyAge  = 10 * time.Minute
	surveyTime = 10 * time.Second
)

// surveyLimits bound what is looked through of a store of any size.
var surveyLimits = survey.Limits{Patients: 50, Resources: 50_000, Bytes: 32 << 20}

// of gives the documentation.
func (b *formatBook) of(ctx context.Context, s source.Source) (survey.Survey, map[string]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.taken) < surveyAge && len(b.survey.Types) > 0 {
		return b.survey, b.examples, nil
	}
	ctx, stop := context.WithTimeout(ctx, surveyTime)
	defer stop()
	found, err := survey.Take(ctx, s, surveyLimits)
	if err != nil {
		return found, nil, err
	}
	if b.examples == nil {
		if b.examples, err = makeExamples(ctx); err != nil {
			return found, nil, err
		}
	}
	b.survey, b.taken = found, time.Now()
	return b.survey, b.examples, nil
}

// makeExamples makes up a resource of each type: one of a real record would be somebody's.
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

// publishedType is what the documentation says of a type, whatever records there are.
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

// published is every type that can be exported, by the definitions of R4, with examples that are made up.
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

// handleDocs explains what an export holds (EHI-5, REAL-15).
func (s *Server) handleDocs(c *fiber.Ctx) error {
	page := fiber.Map{"Categories": ehi.Categories(), "Authorizations": ehi.Authorizations(), "T": s.texts.List[0]}
	if err := s.describeTypes(c, page); err != nil { // the rest of the page is true all the same
		s.Log.Warn("describe the types of the export format", "err", err)
	}
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return s.tool(c, "docs", "ehi", "What an export holds", "", page)
}

// describeTypes adds to the page what the server can export or, in the sandbox, what its records hold.
func (s *Server) describeTypes(c *fiber.Ctx, page fiber.Map) (err error) {
	if !s.Sandbox {
		page["Published"], err = published()
		return err
	}
	found, examples, err := s.format.of(c.UserContext(), s.Source)
	if err == nil {
		page["Survey"], page["Examples"] = found, examples
	}
	return err
}
