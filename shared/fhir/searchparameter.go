package fhir

import "strings"

// ParameterKind is the type of a search parameter (https://hl7.org/fhir/R4/search.html#ptypes).
type ParameterKind byte

// The kinds of search parameters. Composite and special ones are not supported.
const (
	TokenParameter     ParameterKind = 't'
	DateParameter      ParameterKind = 'd'
	StringParameter    ParameterKind = 's'
	ReferenceParameter ParameterKind = 'r'
	URIParameter       ParameterKind = 'u'
	NumberParameter    ParameterKind = 'n'
	QuantityParameter  ParameterKind = 'q'
)

// SearchParameter is a search parameter of the published R4 definitions.
type SearchParameter struct {
	Name   string
	Kind   ParameterKind
	Fields []ParameterField
}

// ParameterField is a field that a search parameter searches.
type ParameterField struct {
	Path   string // dotted path of the JSON field: effectiveDateTime, name.family
	Type   string // its data type: dateTime, CodeableConcept, HumanName...
	Target string // only references to this resource type; "" for all
	System string // only contact points of this system; "" for all
}

var searches = table(searchTable)

// FindSearchParameter returns the search parameter of a type or of all types (_id,
// _lastUpdated...). ok is false if R4 has none, or only a composite one or one that paths cannot
// express.
func FindSearchParameter(typ, name string) (p SearchParameter, ok bool) {
	if !KnownType(typ) {
		return p, false
	}
	for _, t := range []string{typ, "DomainResource", "Resource"} {
		for _, entry := range searches()[t] {
			if rest, found := strings.CutPrefix(entry, name+":"); found {
				return parameterOf(name, rest), true
			}
		}
	}
	return p, false
}

// parameterOf parses kind:path=type>target?system,path...
func parameterOf(name, text string) SearchParameter {
	p := SearchParameter{Name: name, Kind: ParameterKind(text[0])}
	for _, f := range strings.Split(text[len("t:"):], ",") {
		var field ParameterField
		f, field.System, _ = strings.Cut(f, "?")
		f, field.Target, _ = strings.Cut(f, ">")
		field.Path, field.Type, _ = strings.Cut(f, "=")
		p.Fields = append(p.Fields, field)
	}
	return p
}
