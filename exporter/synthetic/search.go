package synthetic

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"ehi-server/exporter/find"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic/outline"
)

// lookedAt bounds how many patients are generated for one page of a search. In a larger
// population a page may have fewer matches than its limit although there is a next one, and the
// total is unknown.
const lookedAt = 20_000

// FindPatients implements source.Source.
func (s *Source) FindPatients(ctx context.Context, q source.Search) (out source.Found, err error) {
	first, err := s.firstOf(q)
	if err != nil {
		return out, err
	}
	if q.IDs == nil && len(q.Criteria) == 0 {
		return s.page(first, q.Limit)
	}
	among, narrow := s.candidates(q)
	if !narrow && s.cfg.Patients > lookedAt {
		return s.look(ctx, q, first)
	}
	if !narrow {
		among = make([]int, s.cfg.Patients)
		for k := range among {
			among[k] = k
		}
	}
	g := NewGenerator(s.cfg)
	for _, k := range among {
		line, found, err := g.found(ctx, k, q)
		if err != nil {
			return out, err
		}
		if !found {
			continue
		}
		out.Total++
		switch {
		case k < first:
		case len(out.Matches) < q.Limit:
			out.Matches = append(out.Matches, source.Match{ID: s.cfg.PatientID(k), Line: line})
		case q.Limit > 0:
			out.Next = out.Matches[q.Limit-1].ID
		}
	}
	return out, nil
}

// firstOf returns the number of the first patient of a page.
func (s *Source) firstOf(q source.Search) (int, error) {
	if q.After == "" {
		return 0, nil
	}
	k, ok := s.cfg.Number(q.After)
	if !ok {
		return 0, errNoPatient
	}
	return k + 1, nil
}

// page lists patients without a restriction.
func (s *Source) page(first, limit int) (out source.Found, err error) {
	g := NewGenerator(s.cfg)
	out.Total = s.cfg.Patients
	for k := first; k < min(first+limit, s.cfg.Patients); k++ {
		line, err := g.patientLine(k)
		if err != nil {
			return out, err
		}
		out.Matches = append(out.Matches, source.Match{ID: s.cfg.PatientID(k), Line: line})
	}
	if n := len(out.Matches); n > 0 && first+n < s.cfg.Patients {
		out.Next = out.Matches[n-1].ID
	}
	return out, nil
}

// look generates patients until the page is full or the limit is reached.
func (s *Source) look(
	ctx context.Context, q source.Search, first int,
) (out source.Found, err error) {
	g := NewGenerator(s.cfg)
	out.Total = -1
	end := min(first+lookedAt, s.cfg.Patients)
	for k := first; k < end; k++ {
		line, found, err := g.found(ctx, k, q)
		if err != nil {
			return out, err
		}
		if !found {
			continue
		}
		if len(out.Matches) == q.Limit {
			end = k
			break
		}
		out.Matches = append(out.Matches, source.Match{ID: s.cfg.PatientID(k), Line: line})
	}
	if end > first && end < s.cfg.Patients {
		out.Next = s.cfg.PatientID(end - 1)
	}
	return out, nil
}

// candidates returns the only patients that can match, sorted. narrow is false if any patient
// can.
func (s *Source) candidates(q source.Search) (among []int, narrow bool) {
	if q.IDs != nil {
		for _, id := range q.IDs {
			if k, ok := s.cfg.Number(id); ok {
				among = append(among, k)
			}
		}
		slices.Sort(among)
		return slices.Compact(among), true
	}
	for _, c := range q.Criteria {
		values, only := c.Tokens("identifier")
		if !only {
			continue
		}
		for _, v := range values {
			n, err := strconv.Atoi(strings.TrimPrefix(v, "MRN"))
			if k := n - outline.FirstNumber; err == nil && k >= 0 && k < s.cfg.Patients {
				among = append(among, k)
			}
		}
		slices.Sort(among)
		return slices.Compact(among), true
	}
	return nil, false
}

// found generates patient k and reports whether the search matches. A malformed patient does not
// match.
func (g *Generator) found(
	ctx context.Context, k int, q source.Search,
) (line []byte, found bool, err error) {
	if line, err = g.patientLine(k); err != nil {
		return nil, false, err
	}
	entries, err := find.Entries("Patient", line)
	if err != nil {
		return nil, false, ctx.Err()
	}
	return line, find.Matches(q.Criteria, entries), ctx.Err()
}

var errMade = errors.New("made")

// patientLine generates only the Patient resource of patient k.
func (g *Generator) patientLine(k int) (line []byte, err error) {
	g.begin(g.drawer.Person(uint64(k)))
	g.emit = func(r source.Resource) error {
		line = bytes.Clone(r.Line)
		return errMade
	}
	g.person()
	if !errors.Is(g.err, errMade) {
		return nil, g.err
	}
	return line, nil
}
