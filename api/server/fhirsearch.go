package server

import (
	"context"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/find"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Sizes of a page of a search.
const (
	usualCount = 50
	mostCount  = 500
)

// cursorParameter says where the next page of a search begins. It is ours alone: clients follow links.
const cursorParameter = "_cursor"

// searchRequest is a search that a client asks for (https://hl7.org/fhir/R4/search.html).
type searchRequest struct {
	source.Search
	// applied is the parameters that were understood, as the self link repeats them.
	applied []fhir.Parameter
}

// handleSearch answers searches of a type (BULK-8), by GET, or by POST with the parameters in a form.
func (s *Server) handleSearch(typ string, look func(*fiber.Ctx, source.Search) (source.Found, error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := content.Negotiate(c); err != nil {
			return err
		}
		asked, err := searchParametersOf(c)
		if err != nil {
			return err
		}
		q, err := parseSearch(typ, asked, content.Preferred(c).Strict())
		if err != nil {
			return err
		}
		found, err := look(c, q.Search)
		if err != nil {
			return err
		}
		return s.sendSearchset(c, typ, q, found)
	}
}

// searchParametersOf reads the query and the form, in their order.
func searchParametersOf(c *fiber.Ctx) (out []fhir.Parameter, err error) {
	for name, value := range c.Request().URI().QueryArgs().All() {
		out = append(out, fhir.Parameter{Name: string(name), Value: string(value)})
	}
	if c.Method() != fiber.MethodPost || len(c.Body()) == 0 {
		return out, nil
	}
	if content.MediaType(c) != fiber.MIMEApplicationForm {
		return nil, ehi.Errorf(ehi.Invalid, "The body of a search must be %s", fiber.MIMEApplicationForm)
	}
	for name, value := range c.Request().PostArgs().All() {
		out = append(out, fhir.Parameter{Name: string(name), Value: string(value)})
	}
	return out, nil
}

// parseSearch understands the parameters of a search. Parameters that are not supported are left out, or with Prefer: handling=strict refused; so are those
// without a value. Errors: ehi.Invalid, ehi.Unsupported.
func parseSearch(typ string, asked []fhir.Parameter, strict bool) (q searchRequest, err error) {
	q.Limit = usualCount
	for _, p := range asked {
		known := p.Value != ""
		if known {
			if known, err = q.take(typ, p); err != nil {
				return q, err
			}
		}
		switch {
		case known && p.Name != cursorParameter:
			q.applied = append(q.applied, p)
		case !known && strict:
			return q, ehi.Errorf(ehi.Unsupported, "The search parameter %.64q of %s is not supported, or has no value", p.Name, typ)
		}
	}
	return q, nil
}

// take takes one parameter in; known is false where it is not supported.
func (q *searchRequest) take(typ string, p fhir.Parameter) (known bool, err error) {
	switch p.Name {
	case "_format": // negotiate has seen to it
		return true, nil
	case "_id":
		q.restrict(find.Alternatives(p.Value))
		return true, nil
	case "_count":
		n, err := strconv.Atoi(p.Value)
		if err != nil || n < 0 {
			return true, ehi.Errorf(ehi.Invalid, "Invalid _count %.40q: not a number", p.Value)
		}
		q.Limit = min(n, mostCount)
		return true, nil
	case "_summary":
		if p.Value == "count" {
			q.Limit = 0
		}
		return p.Value == "count" || p.Value == "false", nil
	case "_total":
		return slices.Contains([]string{"none", "estimate", "accurate"}, p.Value), nil
	case cursorParameter:
		id, err := base64.RawURLEncoding.DecodeString(p.Value)
		if err != nil || !fhir.ValidID(string(id)) {
			return true, ehi.Errorf(ehi.Invalid, "Invalid %s: follow the links of the first page", cursorParameter)
		}
		q.After = string(id)
		return true, nil
	}
	if name, modifier, modified := strings.Cut(p.Name, ":"); modified && name == "_id" {
		return true, ehi.Errorf(ehi.Unsupported, "The modifier :%.40s of _id is not supported", modifier)
	}
	c, known, err := find.Parse(typ, p.Name, p.Value)
	if known && err == nil {
		q.Criteria = append(q.Criteria, c)
	}
	return known, err
}

// restrict keeps the search to ids; a second time, to those of both.
func (q *searchRequest) restrict(ids []string) {
	if q.IDs == nil {
		q.IDs = append([]string{}, ids...)
		return
	}
	q.IDs = slices.DeleteFunc(q.IDs, func(id string) bool { return !slices.Contains(ids, id) })
}

// findPatients finds patients: a patient's application finds its own and nobody else, whatever it asks.
func (s *Server) findPatients(c *fiber.Ctx, q source.Search) (found source.Found, err error) {
	a := request.Access(c)
	if a.System() {
		return s.Source.FindPatients(request.Unhurried(c), q)
	}
	own := searchRequest{Search: q}
	own.restrict([]string{a.Patient})
	own.Criteria, own.After, own.Limit = nil, "", 1
	if found, err = s.Source.FindPatients(request.Unhurried(c), own.Search); err != nil || len(found.Matches) == 0 {
		return found, err
	}
	shown := &found.Matches[0]
	if shown.Line, err = s.alone(c, shown.Line); err != nil {
		return source.Found{}, err
	}
	return foundIn(*shown, q)
}

// foundIn is what a search finds in the one Patient that an application may have. It is held to what that
// shows: whether something was found would tell what stays.
func foundIn(shown source.Match, q source.Search) (found source.Found, err error) {
	entries, err := find.Entries("Patient", shown.Line)
	if err != nil || !find.Matches(q.Criteria, entries) {
		return found, err
	}
	found.Total = 1
	if q.Limit > 0 && shown.ID > q.After {
		found.Matches = []source.Match{shown}
	}
	return found, nil
}

// groupsAtOnce bounds how many groups are read for one page of a search. Where there are more, a page may be short of its limit although there is a next one,
// and nobody knows how many there are in all.
const groupsAtOnce = 1000

// findGroups finds groups.
func (s *Server) findGroups(c *fiber.Ctx, q source.Search) (out source.Found, err error) {
	ids, err := s.Source.Groups(request.Unhurried(c))
	if err != nil {
		return out, err
	}
	slices.Sort(ids)
	if q.IDs != nil {
		ids = slices.DeleteFunc(ids, func(id string) bool { return !slices.Contains(q.IDs, id) })
	}
	first, seen := slices.BinarySearch(ids, q.After)
	if seen {
		first++
	}
	rest := ids[first:]
	if len(q.Criteria) == 0 {
		page := rest[:min(len(rest), q.Limit)]
		out.Total = len(ids)
		if n := len(page); n > 0 && n < len(rest) {
			out.Next = page[n-1]
		}
		return out, s.lookAtGroups(request.Unhurried(c), page, q, &out)
	}
	if len(ids) <= groupsAtOnce {
		return out, s.lookAtGroups(request.Unhurried(c), ids, q, &out)
	}
	page := rest[:min(len(rest), groupsAtOnce)]
	err = s.lookAtGroups(request.Unhurried(c), page, q, &out)
	if n := len(page); out.Next == "" && n < len(rest) {
		out.Next = page[n-1]
	}
	out.Total = -1
	return out, err
}

// lookAtGroups adds what is found among some groups to a page.
func (s *Server) lookAtGroups(ctx context.Context, ids []string, q source.Search, out *source.Found) error {
	for _, id := range ids {
		m, found, err := s.lookAtGroup(ctx, id, q.Criteria)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if len(q.Criteria) > 0 {
			out.Total++
		}
		switch n := len(out.Matches); {
		case id <= q.After:
		case n < q.Limit:
			out.Matches = append(out.Matches, m)
		case n > 0:
			out.Next = out.Matches[n-1].ID
		}
	}
	return nil
}

func (s *Server) lookAtGroup(ctx context.Context, id string, criteria []find.Criterion) (m source.Match, found bool, err error) {
	line, err := s.Source.Group(ctx, id)
	if ehi.CodeOf(err) == ehi.NotFound { // gone meanwhile
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	entries, err := find.Entries("Group", line)
	return source.Match{ID: id, Line: line}, err == nil && find.Matches(criteria, entries), err
}

// sendSearchset answers with a page of what was found.
func (s *Server) sendSearchset(c *fiber.Ctx, typ string, q searchRequest, found source.Found) error {
	here := s.Origins.Base(c) + fhirBase(c) + "/" + typ
	links := []fiber.Map{{"relation": "self", "url": here + queryOf(q.applied, q.After)}}
	if q.After != "" {
		links = append(links, fiber.Map{"relation": "first", "url": here + queryOf(q.applied, "")})
	}
	if found.Next != "" {
		links = append(links, fiber.Map{"relation": "next", "url": here + queryOf(q.applied, found.Next)})
	}
	bundle := fiber.Map{"resourceType": "Bundle", "type": "searchset", "link": links}
	if found.Total >= 0 {
		bundle["total"] = found.Total
	}
	var entries []fiber.Map
	for _, m := range found.Matches {
		e := ehi.Event{Action: ehi.ActionRead, Detail: typ}
		if typ == "Patient" {
			e.Patient = m.ID
		}
		s.trail.Record(c, nil, e)
		entries = append(entries, fiber.Map{
			"fullUrl": s.Origins.Base(c) + "/fhir/" + typ + "/" + m.ID, "resource": json.RawMessage(m.Line),
			"search": fiber.Map{"mode": "match"},
		})
	}
	if len(entries) > 0 { // FHIR has no empty lists
		bundle["entry"] = entries
	}
	return content.Resource(c, bundle)
}

// queryOf is the query of a link: the parameters, and where the page begins.
func queryOf(applied []fhir.Parameter, after string) string {
	if after != "" {
		applied = append(slices.Clone(applied), fhir.Parameter{Name: cursorParameter, Value: base64.RawURLEncoding.EncodeToString([]byte(after))})
	}
	sep, out := "?", ""
	for _, p := range applied {
		out += sep + url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value)
		sep = "&"
	}
	return out
}

// searchParameters is what the CapabilityStatement says of the searches of a type.
func searchParameters(typ string) []fiber.Map {
	kinds := map[fhir.ParameterKind]string{fhir.TokenParameter: "token", fhir.DateParameter: "date", fhir.StringParameter: "string"}
	out := []fiber.Map{{"name": "_id", "type": "token"}}
	for _, p := range find.Parameters(typ) {
		out = append(out, fiber.Map{"name": p.Name, "type": kinds[p.Kind]})
	}
	return out
}
