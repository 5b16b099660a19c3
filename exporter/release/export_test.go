package release

import (
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// AboutPaths is the reviewed table of what resources are about.
var AboutPaths = aboutPaths

// WhyPaths is the reviewed table of why resources exist.
var WhyPaths = whyPaths

// Decided returns a concluded review of a record, which observes the record as often as
// necessary.
func Decided(
	t interface{ Fatalf(string, ...any) }, p *Policy, resolved bool, lines ...string,
) *Review {
	return DecidedBeside(t, p, resolved, nil, lines...)
}

// DecidedBeside is Decided for a record with other resources in the store.
func DecidedBeside(
	t interface{ Fatalf(string, ...any) }, p *Policy, resolved bool, others []Other,
	lines ...string,
) *Review {
	return DecidedLooking(t, p, resolved, false, others, lines...)
}

// DecidedLooking is DecidedBeside that may look up resources outside the record at each line.
func DecidedLooking(
	t interface{ Fatalf(string, ...any) }, p *Policy, resolved, early bool, others []Other,
	lines ...string,
) *Review {
	for r := p.Review(); ; {
		if !resolved {
			r.Loose()
		}
		o := r.Observer()
		o.few = early
		for _, line := range lines {
			if err := o.Observe([]byte(line)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			ShowOthers(t, o, others)
		}
		ShowOthers(t, r, others)
		if resolved {
			r.Resolved()
		}
		instead := r.Conclude()
		if instead == nil {
			return r
		}
		r = instead
	}
}

// IdentifierKind says what an Identifier identifies.
type IdentifierKind = identifierKind

// The kinds of Identifiers.
const (
	OwnIdentifier     = ownIdentifier
	SharedIdentifier  = sharedIdentifier
	ForeignIdentifier = foreignIdentifier
)

// IdentifierAt returns the kind of the element at a path of a type.
func IdentifierAt(typ, path string) IdentifierKind {
	return identifierAt(uint16(fhir.TypeNumber([]byte(typ))), []byte(path))
}

// Other is a resource in a store but outside a record, with its possible names.
type Other struct {
	Line, Type, ID string
	Values         []string // of its identifiers
}

// isCalled reports whether a name may mean it.
func (o Other) isCalled(n Name) bool {
	if n.Value == "" {
		return n.ID == o.ID && (n.Type == "" || n.Type == o.Type)
	}
	plain := func(v string) string {
		return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(v)), "urn:uuid:")
	}
	return slices.ContainsFunc(o.Values, func(v string) bool { return plain(v) == plain(n.Value) })
}

// ShowOthers gives a review, or a summary, the other resources that it asks for.
func ShowOthers(t interface{ Fatalf(string, ...any) }, r interface {
	Sought() []Name
	Beside(line []byte) error
}, others []Other) {
	for names := r.Sought(); len(names) > 0; names = r.Sought() {
		for _, o := range others {
			if slices.ContainsFunc(names, o.isCalled) {
				if err := r.Beside([]byte(o.Line)); err != nil {
					t.Fatalf("%s: %v", o.Line, err)
				}
			}
		}
	}
}
