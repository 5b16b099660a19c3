package fhirapi

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

// usualCount is the default number of matches on a page of a search.
const usualCount = 50

// MostCount is the maximum number of matches on a page of a search.
const MostCount = 500

// cursorParameter says where the next page of a search begins. It is not part of FHIR; clients
// follow links.
const cursorParameter = "_cursor"

// searchRequest is the search that a client requests (https://hl7.org/fhir/R4/search.html).
type searchRequest struct {
	source.Search
	// applied are the parameters that the server understood. The self link repeats them.
	applied []fhir.Parameter
}

// handleSearch answers searches of a type (BULK-8), by GET, or by POST with the parameters in a
// form.
func (h *Handlers) handleSearch(
	typ string, look func(*fiber.Ctx, source.Search) (source.Found, error),
) fiber.Handler {
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
		return h.sendSearchset(c, typ, q, found)
	}
}

// searchParametersOf reads the query and the form, in order.
func searchParametersOf(c *fiber.Ctx) (out []fhir.Parameter, err error) {
	for name, value := range c.Request().URI().QueryArgs().All() {
		out = append(out, fhir.Parameter{Name: string(name), Value: string(value)})
	}
	if c.Method() != fiber.MethodPost || len(c.Body()) == 0 {
		return out, nil
	}
	if content.MediaType(c) != fiber.MIMEApplicationForm {
		return nil, ehi.Errorf(ehi.Invalid,
			"The body of a search must be %s", fiber.MIMEApplicationForm)
	}
	for name, value := range c.Request().PostArgs().All() {
		out = append(out, fhir.Parameter{Name: string(name), Value: string(value)})
	}
	return out, nil
}

// parseSearch reads the parameters of a search. It ignores unknown parameters and those without a
// value; with Prefer: handling=strict it refuses them. Errors: ehi.Invalid, ehi.Unsupported.
func parseSearch(typ string, asked []fhir.Parameter, strict bool) (q searchRequest, err error) {
	q.Limit = usualCount
	for _, p := range asked {
		known := p.Value != ""
		if known {
			if known, err = q.add(typ, p); err != nil {
				return q, err
			}
		}
		switch {
		case known && p.Name != cursorParameter:
			q.applied = append(q.applied, p)
		case !known && strict:
			return q, ehi.Errorf(ehi.Unsupported,
				"The search parameter %.64q of %s is not supported, or has no value", p.Name, typ)
		}
	}
	return q, nil
}

// add adds a parameter to the search. known is false if it is not supported.
func (q *searchRequest) add(typ string, p fhir.Parameter) (known bool, err error) {
	switch p.Name {
	case "_format": // Negotiate handles it
		return true, nil
	case "_id":
		q.restrict(find.Alternatives(p.Value))
		return true, nil
	case "_count":
		n, err := strconv.Atoi(p.Value)
		if err != nil || n < 0 {
			return true, ehi.Errorf(ehi.Invalid, "Invalid _count %.40q: not a number", p.Value)
		}
		q.Limit = min(n, MostCount)
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
			return true, ehi.Errorf(ehi.Invalid,
				"Invalid %s: follow the links of the first page", cursorParameter)
		}
		q.After = string(id)
		return true, nil
	}
	if name, modifier, modified := strings.Cut(p.Name, ":"); modified && name == "_id" {
		return true, ehi.Errorf(ehi.Unsupported,
			"The modifier :%.40s of _id is not supported", modifier)
	}
	c, known, err := find.Parse(typ, p.Name, p.Value)
	if known && err == nil {
		q.Criteria = append(q.Criteria, c)
	}
	return known, err
}

// restrict limits the search to ids. Called twice, it limits the search to the ids of both calls.
func (q *searchRequest) restrict(ids []string) {
	if q.IDs == nil {
		q.IDs = append([]string{}, ids...)
		return
	}
	q.IDs = slices.DeleteFunc(q.IDs, func(id string) bool { return !slices.Contains(ids, id) })
}

// findPatients searches the patients. A patient's application finds only its own patient, whatever
// it asks for.
func (h *Handlers) findPatients(c *fiber.Ctx, q source.Search) (found source.Found, err error) {
	a := request.Access(c)
	if a.System() {
		return h.Source.FindPatients(request.WithoutTimeLimit(c), q)
	}
	own := searchRequest{Search: q}
	own.restrict([]string{a.Patient})
	own.Criteria, own.After, own.Limit = nil, "", 1
	found, err = h.Source.FindPatients(request.WithoutTimeLimit(c), own.Search)
	if err != nil || len(found.Matches) == 0 {
		return found, err
	}
	shown := &found.Matches[0]
	if shown.Line, err = h.alone(c, shown.Line); err != nil {
		return source.Found{}, err
	}
	return foundIn(*shown, q)
}

// foundIn searches the one Patient that an application may have, as the application sees it. A
// match in withheld data would reveal that data.
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

// groupsAtOnce is the maximum number of groups that are read for one page of a search. If the
// source has more, a page may be short although there is a next one, and the total is unknown.
const groupsAtOnce = 1000

// findGroups finds groups.
func (h *Handlers) findGroups(c *fiber.Ctx, q source.Search) (out source.Found, err error) {
	ids, err := h.Source.Groups(request.WithoutTimeLimit(c))
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
		return out, h.lookAtGroups(request.WithoutTimeLimit(c), page, q, &out)
	}
	if len(ids) <= groupsAtOnce {
		return out, h.lookAtGroups(request.WithoutTimeLimit(c), ids, q, &out)
	}
	page := rest[:min(len(rest), groupsAtOnce)]
	err = h.lookAtGroups(request.WithoutTimeLimit(c), page, q, &out)
	if n := len(page); out.Next == "" && n < len(rest) {
		out.Next = page[n-1]
	}
	out.Total = -1
	return out, err
}

// lookAtGroups adds the groups that match a search to a page.
func (h *Handlers) lookAtGroups(
	ctx context.Context, ids []string, q source.Search, out *source.Found,
) error {
	for _, id := range ids {
		m, found, err := h.lookAtGroup(ctx, id, q.Criteria)
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

func (h *Handlers) lookAtGroup(
	ctx context.Context, id string, criteria []find.Criterion,
) (m source.Match, found bool, err error) {
	line, err := h.Source.Group(ctx, id)
	if ehi.CodeOf(err) == ehi.NotFound { // deleted meanwhile
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	entries, err := find.Entries("Group", line)
	return source.Match{ID: id, Line: line}, err == nil && find.Matches(criteria, entries), err
}

// sendSearchset sends a page of search results.
func (h *Handlers) sendSearchset(
	c *fiber.Ctx, typ string, q searchRequest, found source.Found,
) error {
	here := h.Origins.Base(c) + fhirBase(c) + "/" + typ
	links := []fiber.Map{{"relation": "self", "url": here + queryOf(q.applied, q.After)}}
	if q.After != "" {
		links = append(links, fiber.Map{"relation": "first", "url": here + queryOf(q.applied, "")})
	}
	if found.Next != "" {
		next := here + queryOf(q.applied, found.Next)
		links = append(links, fiber.Map{"relation": "next", "url": next})
	}
	bundle := fiber.Map{"resourceType": "Bundle", "type": "searchset", "link": links}
	if found.Total >= 0 {
		bundle["total"] = found.Total
	}
	var entries []fiber.Map
	for _, m := range found.Matches {
		line, err := h.linked(c, m.Line)
		if err != nil {
			return err
		}
		e := ehi.Event{Action: ehi.ActionRead, Detail: typ}
		if typ == "Patient" {
			e.Patient = m.ID
		}
		h.Trail.Record(c, nil, e)
		entries = append(entries, fiber.Map{
			"fullUrl":  h.Origins.Base(c) + "/fhir/" + typ + "/" + m.ID,
			"resource": json.RawMessage(line),
			"search":   fiber.Map{"mode": "match"},
		})
	}
	if len(entries) > 0 { // FHIR has no empty lists
		bundle["entry"] = entries
	}
	return content.Resource(c, bundle)
}

// queryOf returns the query of a link: the parameters, and where the page begins.
func queryOf(applied []fhir.Parameter, after string) string {
	if after != "" {
		applied = append(slices.Clone(applied), fhir.Parameter{
			Name:  cursorParameter,
			Value: base64.RawURLEncoding.EncodeToString([]byte(after)),
		})
	}
	sep, out := "?", ""
	for _, p := range applied {
		out += sep + url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value)
		sep = "&"
	}
	return out
}

// searchParameters returns the CapabilityStatement's description of the searches of a type.
func searchParameters(typ string) []fiber.Map {
	kinds := map[fhir.ParameterKind]string{
		fhir.TokenParameter:  "token",
		fhir.DateParameter:   "date",
		fhir.StringParameter: "string",
	}
	out := []fiber.Map{{"name": "_id", "type": "token"}}
	for _, p := range find.Parameters(typ) {
		out = append(out, fiber.Map{"name": p.Name, "type": kinds[p.Kind]})
	}
	return out
}
