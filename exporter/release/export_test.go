package release

import "ehi-server/shared/fhir"

// AboutPaths are the reviewed table of what resources are about.
var AboutPaths = aboutPaths

// WhyPaths are the reviewed table of why they are.
var WhyPaths = whyPaths

// Decided is a review of a record, shown to it as often as it wants.
func Decided(t interface{ Fatalf(string, ...any) }, p *Policy, resolved bool, lines ...string) *Review {
	for r := p.Review(); ; {
		o := r.Observer()
		for _, line := range lines {
			if err := o.Observe([]byte(line)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
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

// IdentifierKind is what an Identifier tells.
type IdentifierKind = identifierKind

// The kinds of Identifiers.
const (
	OwnIdentifier     = ownIdentifier
	SharedIdentifier  = sharedIdentifier
	ForeignIdentifier = foreignIdentifier
)

// IdentifierAt is the kind of the element at a path of a type.
func IdentifierAt(typ, path string) IdentifierKind {
	return identifierAt(uint16(fhir.TypeNumber([]byte(typ))), []byte(path))
}
