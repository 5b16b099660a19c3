package server

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/exporter/survey"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// formatBook is what the documentation of the format says of the records that there are (REAL-15). It is made when somebody first asks, and anew
// when it has become old.
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

// handleDocs explains what an export holds (EHI-5, REAL-15).
func (s *Server) handleDocs(c *fiber.Ctx) error {
	page := fiber.Map{"Categories": ehi.Categories(), "Authorizations": ehi.Authorizations(), "T": s.texts.List[0]}
	found, examples, err := s.format.of(c.UserContext(), s.Source)
	if err != nil { // the rest of the page is true all the same
		s.Log.Warn("survey the records for the documentation of the format", "err", err)
	} else {
		page["Survey"], page["Examples"] = found, examples
	}
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return s.tool(c, "docs", "ehi", "What an export holds", "", page)
}
