package auth

import (
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// Context is whose data a scope opens.
type Context string

const (
	// PatientContext is the one patient of the token. Its scopes are not granted to a backend
	// service.
	PatientContext Context = "patient"
	// SystemContext is everybody. Its scopes are granted to backend services alone.
	SystemContext Context = "system"
)

// Rights is a set of interactions (SMART App Launch 2.2, "Scopes for requesting clinical data").
type Rights uint8

// The interactions, in the order in which a scope names them: cruds.
const (
	Create Rights = 1 << iota
	Read
	Update
	Delete
	Search

	// Export is what a bulk export of a type takes: to find the resources, and to read them.
	Export = Read | Search

	write = Create | Update | Delete
	all   = Export | write
)

const interactions = "cruds"

// v1 are the rights of SMART App Launch 1.0, which servers still take and give back.
var v1 = map[string]Rights{"read": Export, "write": write, "*": all}

// parseRights reads the suffix of a scope. Letters out of order and repeated ones are no rights:
// .dus could be meant in another way.
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

// String is the rights as the suffix of a scope of SMART App Launch 2.
func (r Rights) String() string {
	var b strings.Builder
	for i := range len(interactions) {
		if r&(1<<i) != 0 {
			b.WriteByte(interactions[i])
		}
	}
	return b.String()
}

// scope is one word of a scope parameter. Two that are equal are spelt alike.
type scope struct {
	name string // of a scope that is not clinical, such as openid; "" for one that is

	context Context
	typ     string // a resource type of FHIR R4, or anyType
	rights  Rights
	old     bool // spelt as by SMART App Launch 1.0
}

// anyType is the wildcard: every type that there is, and every one to come.
const anyType = "*"

// names are the scopes that are not clinical. Two of them hold a slash, yet no type (REAL-12).
var names = []string{
	"patient/$ehi-export", "system/$ehi-export", "launch/patient", "openid", "fhirUser",
	"online_access", "offline_access",
}

// parseScope reads one word. ok is false for what this server does not know, and for a scope
// that a search narrows: granted without being enforced it would open more than was asked for
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

// narrowed is s for a type and rights, spelt as s is where that can be said in its version.
func (s scope) narrowed(typ string, rights Rights) scope {
	s.typ, s.rights = typ, rights
	s.old = s.old && (rights == Export || rights == write || rights == all)
	return s
}

// Scopes is a set of permissions (SMART-7). It remembers the words that it was asked for in, so
// that a client which asks for patient/*.read is told patient/*.read (SMART App Launch 2.2:
// "return v1 scopes when v1 scopes are requested"). Whatever compares scopes compares
// permissions: order, repetitions and the version do not count. The zero value is the empty set.
// Scopes are not changed once they are made.
type Scopes struct{ words []scope }

// Permissions that routes ask for.
var (
	PatientExport = mustParse("patient/$ehi-export")
	SystemExport  = mustParse("system/$ehi-export")
	LaunchPatient = mustParse("launch/patient")
	OpenID        = mustParse("openid")
	FHIRUser      = mustParse("fhirUser")
	Online        = mustParse("online_access")
	Offline       = mustParse("offline_access")
)

// On is the permission to do something with one type of resources; "*" for all types.
func On(c Context, typ string, r Rights) Scopes {
	return Scopes{[]scope{{context: c, typ: typ, rights: r}}}
}

// What is granted at most: nothing can be written here.
var (
	offeredToPatients = mustParse("patient/$ehi-export patient/*.rs launch/patient openid " +
		"fhirUser online_access offline_access")
	offeredToServices = mustParse("system/$ehi-export system/*.rs")
)

// ScopesSupported lists what clients usually ask for of what can be granted (SMART-1). Every
// resource type may stand for the wildcard or for Patient.
func ScopesSupported() []string {
	return []string{
		"patient/$ehi-export", "patient/*.rs", "patient/*.read", "patient/Patient.rs",
		"patient/Patient.read",
		"launch/patient", "openid", "fhirUser", "online_access", "offline_access",
		"system/$ehi-export", "system/*.rs", "system/*.read",
	}
}

// ParseScopes reads the scope parameter of a patient's application. What is not supported is
// left out; .cruds is granted down to .rs.
func ParseScopes(s string) Scopes { return parse(s).Intersect(offeredToPatients) }

// ParseSystemScopes does the same for a backend service.
func ParseSystemScopes(s string) Scopes { return parse(s).Intersect(offeredToServices) }

// parse reads what is known of a scope parameter.
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

// collector makes Scopes of words and drops repetitions.
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

// String is the set in the words in which it was asked for.
func (s Scopes) String() string { return strings.Join(s.Words(), " ") }

// Words are the scopes one by one, in the order in which they were asked for.
func (s Scopes) Words() []string {
	out := make([]string, len(s.words))
	for i, w := range s.words {
		out[i] = w.String()
	}
	return out
}

// Empty reports whether there is no permission in the set.
func (s Scopes) Empty() bool { return len(s.words) == 0 }

// rights is what the set allows on a type; on anyType, what it allows on every type to come.
func (s Scopes) rights(c Context, typ string) (r Rights) {
	for _, w := range s.words {
		if w.context == c && (w.typ == typ || w.typ == anyType) {
			r |= w.rights
		}
	}
	return r
}

// allows reports whether the set holds all that one word says.
func (s Scopes) allows(w scope) bool {
	if w.name != "" {
		return slices.ContainsFunc(s.words, func(have scope) bool { return have.name == w.name })
	}
	return w.rights&^s.rights(w.context, w.typ) == 0
}

// Contains reports whether every permission of o is one of s.
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

// Union is the permissions of either set.
func (s Scopes) Union(o Scopes) Scopes {
	var out collector
	for _, w := range slices.Concat(s.words, o.words) {
		out.add(w)
	}
	return out.Scopes
}

// Intersect is the permissions that are in both sets, in the words of s where they say it.
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
		for _, one := range o.words { // a wildcard also holds what o says of single types
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

// Types is the types on which the set allows something; all is true where those are all types.
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

// Narrow returns what a refresh asks for of s. What is not offered is left out, as it was when s
// was granted: clients send the scope of their first request again. ok is false where nothing is
// left, or where s does not hold all of it (RFC 6749 6).
func (s Scopes) Narrow(asked string) (out Scopes, ok bool) {
	out = ParseScopes(asked)
	return out, !out.Empty() && s.Contains(out)
}

// Refreshable reports whether a refresh token goes with the grant.
func (s Scopes) Refreshable() bool { return s.Contains(Offline) || s.Contains(Online) }

// MarshalJSON writes the words as a list.
func (s Scopes) MarshalJSON() ([]byte, error) { return json.Marshal(s.Words()) }

// UnmarshalJSON reads what MarshalJSON has written. Words of another build that this one does
// not know are left out.
func (s *Scopes) UnmarshalJSON(data []byte) error {
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		return err
	}
	*s = parse(strings.Join(words, " "))
	return nil
}
