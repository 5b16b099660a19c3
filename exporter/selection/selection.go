// Package selection narrows an export to what the application requested: searches (_typeFilter),
// elements (_elements) and the Provenance of exported resources (includeAssociatedData). Package
// release decides what the patient has released.
package selection

import (
	"bytes"
	"slices"
	"strings"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Selector decides about one resource at a time. It is not safe for concurrent use. A nil
// Selector keeps everything unchanged.
type Selector struct {
	asked    ehi.KickOff
	matcher  *fhir.Matcher
	elements *elements
}

// Types returns the resource types to read; none means all.
func Types(k ehi.KickOff) []string {
	if k.Provenance && len(k.Types) > 0 && !slices.Contains(k.Types, provenanceType) {
		return append(slices.Clone(k.Types), provenanceType)
	}
	return k.Types
}

const provenanceType = "Provenance"

// New returns the selector of a kick-off, or nil if it selects everything.
func New(k ehi.KickOff) *Selector {
	if len(k.TypeFilters) == 0 && len(k.Elements) == 0 {
		return nil
	}
	s := &Selector{asked: k, matcher: fhir.NewMatcher(k.TypeFilters)}
	if len(k.Elements) > 0 {
		s.elements = newElements(k.Elements)
	}
	return s
}

// Another returns an equal selector for another goroutine.
func (s *Selector) Another() *Selector {
	if s == nil {
		return nil
	}
	return New(s.asked)
}

// Apply appends the exported form of a resource to dst. ok is false if the resource is not
// selected; dst is unchanged then.
func (s *Selector) Apply(dst []byte, typ string, line []byte) (out []byte, ok bool, err error) {
	if ok, err := s.Finds(typ, line); err != nil || !ok {
		return dst, false, err
	}
	out, err = s.Reduce(dst, typ, line)
	return out, err == nil, err
}

// Finds reports whether one of the searches matches the resource.
func (s *Selector) Finds(typ string, line []byte) (bool, error) {
	return s.matcher.Match(typ, line)
}

// Reduce appends the requested elements of the resource to dst.
func (s *Selector) Reduce(dst []byte, typ string, line []byte) ([]byte, error) {
	if s.elements == nil {
		return append(dst, line...), nil
	}
	return s.elements.reduce(dst, typ, line)
}

// elements reduces resources to some of their elements.
type elements struct {
	all    []string            // elements for every type
	byType map[string][]string // additional ones by type
	keep   map[string][]string // the kept elements of a type, cached
	cursor fhir.Cursor
}

func newElements(asked []string) *elements {
	e := &elements{byType: map[string][]string{}, keep: map[string][]string{}}
	for _, a := range asked {
		if typ, name, typed := strings.Cut(a, "."); typed {
			e.byType[typ] = append(e.byType[typ], name)
		} else {
			e.all = append(e.all, a)
		}
	}
	return e
}

// of lists the kept elements of a type; nil keeps the whole resource. It adds mandatory
// elements, which keep the resource valid, and modifiers of the meaning
// (MedicationRequest.doNotPerform), without which it could say the opposite.
func (e *elements) of(typ string) []string {
	keep, known := e.keep[typ]
	if known {
		return keep
	}
	if len(e.all)+len(e.byType[typ]) > 0 {
		keep = slices.Concat([]string{
			"resourceType", "id", "meta", "implicitRules", "modifierExtension",
		}, fhir.MandatoryFields(typ), fhir.ModifierFields(typ))
		for _, name := range slices.Concat(e.all, e.byType[typ]) {
			keep = append(keep, fhir.Fields(typ, name)...)
		}
	}
	e.keep[typ] = keep
	return keep
}

// subsetted is the tag of an incomplete resource (https://hl7.org/fhir/R4/search.html#elements).
const subsetted = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue",` +
	`"code":"SUBSETTED"}`

// reduce appends the resource with only the kept elements and the tag subsetted.
func (e *elements) reduce(dst []byte, typ string, line []byte) ([]byte, error) {
	keep := e.of(typ)
	if keep == nil {
		return append(dst, line...), nil
	}
	out := append(dst, '{')
	tagged := false
	c := &e.cursor
	for c.Reset(line); c.Next(); {
		if c.Depth != 1 || c.Kind == fhir.Open || !keeps(keep, string(c.Key())) || c.InArray() {
			continue
		}
		start, end := c.Span()
		key := c.Key()
		if len(out) > len(dst)+1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), key...), '"', ':')
		if string(key) == "meta" {
			out, tagged = appendTagged(out, line[start:end]), true
			continue
		}
		out = append(out, line[start:end]...)
	}
	if !tagged {
		out = append(out, `,"meta":{"tag":[`+subsetted+`]}`...)
	}
	return append(out, '}'), c.Err()
}

// keeps reports whether a field is kept, including the sibling of a primitive (_birthDate).
func keeps(keep []string, key string) bool {
	return slices.Contains(keep, strings.TrimPrefix(key, "_"))
}

// appendTagged appends a meta element with the tag added.
func appendTagged(dst, meta []byte) []byte {
	var c fhir.Cursor
	for c.Reset(meta); c.Next(); {
		if c.Kind == fhir.Open && c.Depth == 1 && c.IsArray() && string(c.Key()) == "tag" {
			_, after := c.Span()
			dst = append(append(dst, meta[:after]...), subsetted...)
			if rest := bytes.TrimLeft(meta[after:], " \t\r\n"); len(rest) > 0 && rest[0] != ']' {
				dst = append(dst, ',')
			}
			return append(dst, meta[after:]...)
		}
	}
	dst = append(dst, `{"tag":[`+subsetted+`]`...)
	if len(bytes.TrimSpace(meta[1:])) > 1 {
		dst = append(dst, ',')
	}
	return append(dst, meta[1:]...)
}
