package auth

import (
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// Context is whose data a scope covers.
type Context string

const (
	// PatientContext is the patient of the token. Backend services do not receive such scopes.
	PatientContext Context = "patient"
	// SystemContext is all patients. Only backend services receive such scopes.
	SystemContext Context = "system"
)

// Rights is a set of interactions (SMART App Launch 2.2, "Scopes for requesting clinical data").
type Rights uint8

// The interactions, in the order of a scope's suffix: cruds.
const (
	Create Rights = 1 << iota
	Read
	Update
	Delete
	Search

	// Export is what a bulk export of a type requires: searching and reading resources.
	Export = Read | Search

	write = Create | Update | Delete
	all   = Export | write
)

const interactions = "cruds"

// v1 maps the suffixes of SMART App Launch 1.0, which servers still accept and return.
var v1 = map[string]Rights{"read": Export, "write": write, "*": all}

// parseRights parses the suffix of a scope. Letters that are out of order or repeated are
// invalid: .dus is ambiguous.
func parseRights(s string) (r Rights, old bool) {
	if r, old = v1[s]; old {
		return r, true
	}
	for i := range s {
		at := strings.IndexByte(interactions, s[i])
		if at < 0 || r >= 1<<at {
			return 0, false
		}
		r |= 1 << at
	}
	return r, false
}

// String returns the rights as a scope suffix of SMART App Launch 2.
func (r Rights) String() string {
	var b strings.Builder
	for i := range len(interactions) {
		if r&(1<<i) != 0 {
			b.WriteByte(interactions[i])
		}
	}
	return b.String()
}

// scope is one word of a scope parameter. Equal scopes have equal spellings.
type scope struct {
	name string // of a non-clinical scope such as openid; "" for a clinical one

	context Context
	typ     string // a resource type of FHIR R4, or anyType
	rights  Rights
	old     bool // in the spelling of SMART App Launch 1.0
}

// anyType is the wildcard: every type, present or future.
const anyType = "*"

// names are the non-clinical scopes. Two of them contain a slash but no type (REAL-12).
var names = []string{
	"patient/$ehi-export", "system/$ehi-export", "launch/patient", "openid", "fhirUser",
	"online_access", "offline_access",
}

// parseScope parses one word. ok is false for an unknown scope, and for one with a search
// restriction: granting it without enforcing the restriction would allow more than requested
// (SMART App Launch 2.2, "Finer-grained resource constraints").
func parseScope(word string) (s scope, ok bool) {
	if slices.Contains(names, word) {
		return scope{name: word}, true
	}
	context, rest, _ := strings.Cut(word, "/")
	typ, suffix, _ := strings.Cut(rest, ".")
	s = scope{context: Context(context), typ: typ}
	s.rights, s.old = parseRights(suffix)
	known := s.context == PatientContext || s.context == SystemContext
	return s, known && s.rights != 0 && (typ == anyType || fhir.KnownType(typ))
}

func (s scope) String() string {
	if s.name != "" {
		return s.name
	}
	suffix := s.rights.String()
	for spelt, rights := range v1 {
		if s.old && rights == s.rights {
			suffix = spelt
		}
	}
	return string(s.context) + "/" + s.typ + "." + suffix
}

// narrowed returns s for a type and rights, in the spelling of s if its version can express
// that.
func (s scope) narrowed(typ string, rights Rights) scope {
	s.typ, s.rights = typ, rights
	s.old = s.old && (rights == Export || rights == write || rights == all)
	return s
}

// Scopes is a set of permissions (SMART-7). It remembers the words that were requested, so that
// a client that requests patient/*.read receives patient/*.read (SMART App Launch 2.2: "return
// v1 scopes when v1 scopes are requested"). Comparisons use permissions: order, repetition and
// version do not matter. The zero value is the empty set. Scopes are immutable.
type Scopes struct{ words []scope }

// The permissions that routes require.
var (
	PatientExport = mustParse("patient/$ehi-export")
	SystemExport  = mustParse("system/$ehi-export")
	LaunchPatient = mustParse("launch/patient")
	OpenID        = mustParse("openid")
	FHIRUser      = mustParse("fhirUser")
	Online        = mustParse("online_access")
	Offline       = mustParse("offline_access")
)

// On returns the permission to do something with one type of resources; "*" means all types.
func On(c Context, typ string, r Rights) Scopes {
	return Scopes{[]scope{{context: c, typ: typ, rights: r}}}
}

// The most that can be granted: the server has no writable data.
var (
	offeredToPatients = mustParse("patient/$ehi-export patient/*.rs launch/patient openid " +
		"fhirUser online_access offline_access")
	offeredToServices = mustParse("system/$ehi-export system/*.rs")
)

// ScopesSupported lists the scopes that clients usually request of those that can be granted
// (SMART-1). Any resource type can replace the wildcard or Patient.
func ScopesSupported() []string {
	return []string{
		"patient/$ehi-export", "patient/*.rs", "patient/*.read", "patient/Patient.rs",
		"patient/Patient.read",
		"launch/patient", "openid", "fhirUser", "online_access", "offline_access",
		"system/$ehi-export", "system/*.rs", "system/*.read",
	}
}

// ParseScopes parses the scope parameter of a patient's application. It drops unsupported scopes
// and reduces .cruds to .rs.
func ParseScopes(s string) Scopes { return parse(s).Intersect(offeredToPatients) }

// ParseSystemScopes does the same for a backend service.
func ParseSystemScopes(s string) Scopes { return parse(s).Intersect(offeredToServices) }

// parse parses the known words of a scope parameter.
func parse(s string) Scopes {
	var out collector
	for _, word := range strings.Fields(s) {
		if one, ok := parseScope(word); ok {
			out.add(one)
		}
	}
	return out.Scopes
}

func mustParse(s string) Scopes {
	out := parse(s)
	if out.String() != s {
		panic("these are no scopes: " + s)
	}
	return out
}

// collector builds Scopes from words and drops repetitions.
type collector struct {
	Scopes
	seen map[scope]bool
}

func (c *collector) add(s scope) {
	if c.seen == nil {
		c.seen = map[scope]bool{}
	}
	if !c.seen[s] {
		c.seen[s], c.words = true, append(c.words, s)
	}
}

// String returns the scopes in the words that were requested.
func (s Scopes) String() string { return strings.Join(s.Words(), " ") }

// Words returns the scopes one by one, in the order in which they were requested.
func (s Scopes) Words() []string {
	out := make([]string, len(s.words))
	for i, w := range s.words {
		out[i] = w.String()
	}
	return out
}

// Empty reports whether the set has no permissions.
func (s Scopes) Empty() bool { return len(s.words) == 0 }

// rights returns what the set allows on a type; for anyType, what it allows on every type.
func (s Scopes) rights(c Context, typ string) (r Rights) {
	for _, w := range s.words {
		if w.context == c && (w.typ == typ || w.typ == anyType) {
			r |= w.rights
		}
	}
	return r
}

// allows reports whether the set includes everything that one scope allows.
func (s Scopes) allows(w scope) bool {
	if w.name != "" {
		return slices.ContainsFunc(s.words, func(have scope) bool { return have.name == w.name })
	}
	return w.rights&^s.rights(w.context, w.typ) == 0
}

// Contains reports whether s includes every permission of o.
func (s Scopes) Contains(o Scopes) bool {
	for _, w := range o.words {
		if !s.allows(w) {
			return false
		}
	}
	return true
}

// Can reports whether the set allows something on a type, "*" for all types.
func (s Scopes) Can(c Context, typ string, r Rights) bool { return r&^s.rights(c, typ) == 0 }

// Union returns the permissions of either set.
func (s Scopes) Union(o Scopes) Scopes {
	var out collector
	for _, w := range slices.Concat(s.words, o.words) {
		out.add(w)
	}
	return out.Scopes
}

// Intersect returns the permissions of both sets, in the words of s if possible.
func (s Scopes) Intersect(o Scopes) Scopes {
	var out collector
	for _, w := range s.words {
		if w.name != "" {
			if o.allows(w) {
				out.add(w)
			}
			continue
		}
		both := w.rights & o.rights(w.context, w.typ)
		if both != 0 {
			out.add(w.narrowed(w.typ, both))
		}
		if w.typ != anyType {
			continue
		}
		for _, one := range o.words { // a wildcard also includes what o allows on single types
			if one.context != w.context || one.typ == anyType {
				continue
			}
			if more := w.rights & o.rights(one.context, one.typ); more&^both != 0 {
				out.add(w.narrowed(one.typ, more))
			}
		}
	}
	return out.Scopes
}

// Types returns the types on which the set allows something. all is true if these are all types.
func (s Scopes) Types(c Context, r Rights) (types []string, all bool) {
	if s.Can(c, anyType, r) {
		return nil, true
	}
	for _, w := range s.words {
		if w.context == c && w.typ != anyType && s.Can(c, w.typ, r) &&
			!slices.Contains(types, w.typ) {
			types = append(types, w.typ)
		}
	}
	return types, false
}

// Narrow returns the scopes that a refresh requests out of s. It drops unsupported scopes, as
// the first grant did, because clients repeat the scope of their first request. ok is false if
// nothing is left, or if s does not include all of it (RFC 6749 6).
func (s Scopes) Narrow(asked string) (out Scopes, ok bool) {
	out = ParseScopes(asked)
	return out, !out.Empty() && s.Contains(out)
}

// Refreshable reports whether the grant includes a refresh token.
func (s Scopes) Refreshable() bool { return s.Contains(Offline) || s.Contains(Online) }

// MarshalJSON encodes the words as a list.
func (s Scopes) MarshalJSON() ([]byte, error) { return json.Marshal(s.Words()) }

// UnmarshalJSON decodes the result of MarshalJSON. It drops words that this build does not know.
func (s *Scopes) UnmarshalJSON(data []byte) error {
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		return err
	}
	*s = parse(strings.Join(words, " "))
	return nil
}
