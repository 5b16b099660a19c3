package server

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
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

// of gives the documentation, and when its records were looked through.
func (b *formatBook) of(ctx context.Context, s source.Source) (survey.Survey, map[string]string, time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.taken) < surveyAge && len(b.survey.Types) > 0 {
		return b.survey, b.examples, b.taken, nil
	}
	ctx, stop := context.WithTimeout(ctx, surveyTime)
	defer stop()
	found, err := survey.Take(ctx, s, surveyLimits)
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

// docsBook keeps the page that explains the format: the last one alone.
type docsBook struct {
	mu   sync.Mutex
	page *content.Prepared
	at   time.Time
}

// of is the page about what was found at a time.
func (b *docsBook) of(at time.Time, render func() ([]byte, error)) (*content.Prepared, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.page != nil && b.at.Equal(at) {
		return b.page, nil
	}
	text, err := render()
	if err != nil {
		return nil, err
	}
	b.page, b.at = content.Prepare(fiber.MIMETextHTMLCharsetUTF8, bytes.Clone(text)), at
	return b.page, nil
}

// handleDocs explains what an export holds (EHI-5, REAL-15).
func (s *Server) handleDocs(c *fiber.Ctx) error {
	page, at, err := s.describeTypes(c.UserContext())
	if err != nil { // the rest of the page is true all the same
		s.Log.Warn("describe the types of the export format", "err", err)
		return s.renderDocs(c, page)
	}
	kept, err := s.docs.of(at, func() ([]byte, error) {
		err := s.renderDocs(c, page)
		return c.Response().Body(), err
	})
	if err != nil {
		return err
	}
	return kept.Send(c, nil)
}

func (s *Server) renderDocs(c *fiber.Ctx, page fiber.Map) error {
	page["Categories"], page["Authorizations"], page["T"] = ehi.Categories(), ehi.Authorizations(), s.views.Default()
	return s.tool(c, "docs", "ehi", "What an export holds", "", page)
}

// describeTypes is what the page says of what the server can export or, in the sandbox, of what its records held at
// a time.
func (s *Server) describeTypes(ctx context.Context) (page fiber.Map, at time.Time, err error) {
	page = fiber.Map{}
	if !s.Sandbox {
		page["Published"], err = published()
		return page, at, err
	}
	found, examples, at, err := s.format.of(ctx, s.Source)
	if err == nil {
		page["Survey"], page["Examples"] = found, examples
	}
	return page, at, err
}
