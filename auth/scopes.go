package auth

import (
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// Scopes that the server understands (SMART-7). System scopes, also system/<Type>.rs and system/<Type>.read, belong to backend
// services and are not granted to a patient's application; the others are not granted to a backend service.
const (
	ScopePatientExport = "patient/$ehi-export"
	ScopePatientRead   = "patient/*.read"
	ScopePatientRS     = "patient/*.rs"
	// ScopePatientOnly and ScopePatientOnlyRead are the same for the Patient resource alone, which is what a patient's token reads here.
	ScopePatientOnly     = "patient/Patient.rs"
	ScopePatientOnlyRead = "patient/Patient.read"
	ScopeLaunchPatient   = "launch/patient"
	ScopeOpenID          = "openid"
	ScopeFHIRUser        = "fhirUser"
	ScopeOnline          = "online_access"
	ScopeOffline         = "offline_access"
	ScopeSystemExport    = "system/$ehi-export"
	ScopeSystemRS        = "system/*.rs"
	ScopeSystemRead      = "system/*.read"
)

func patientScopes() []string {
	return []string{ScopePatientExport, ScopePatientRS, ScopePatientRead, ScopePatientOnly, ScopePatientOnlyRead, ScopeLaunchPatient, ScopeOpenID, ScopeFHIRUser, ScopeOnline, ScopeOffline}
}

// ScopesSupported lists what can be granted.
func ScopesSupported() []string {
	return append(patientScopes(), ScopeSystemExport, ScopeSystemRS, ScopeSystemRead)
}

// Scopes is a granted set, in the order in which it was asked for.
type Scopes []string

// ParseScopes splits the scope parameter of a patient's application and drops what is not supported or repeated.
func ParseScopes(s string) Scopes {
	return parse(s, func(scope string) bool { return slices.Contains(patientScopes(), scope) })
}

// ParseSystemScopes does the same for a backend service.
func ParseSystemScopes(s string) Scopes {
	return parse(s, func(scope string) bool { return scope == ScopeSystemExport || systemType(scope) != "" })
}

func parse(s string, supported func(string) bool) Scopes {
	var out Scopes
	for _, scope := range strings.Fields(s) {
		if supported(scope) && !slices.Contains(out, scope) {
			out = append(out, scope)
		}
	}
	return out
}

// systemType is the resource type that a system scope opens: * for all, "" where it is none.
func systemType(scope string) string {
	rest, system := strings.CutPrefix(scope, "system/")
	typ, right, _ := strings.Cut(rest, ".")
	if !system || right != "rs" && right != "read" || typ != "*" && !fhir.KnownType(typ) {
		return ""
	}
	return typ
}

// SystemTypes is the resource types that a backend service may export; all is true where there is no limit.
func (s Scopes) SystemTypes() (types []string, all bool) {
	for _, scope := range s {
		switch t := systemType(scope); t {
		case "":
		case "*":
			return nil, true
		default:
			types = append(types, t)
		}
	}
	return types, false
}

// covers reports whether a registration for s allows a scope: by name, or by a wildcard of the same context and right. read (v1) and rs (v2)
// are one right.
func (s Scopes) covers(scope string) bool {
	want := strings.Replace(scope, ".read", ".rs", 1)
	for _, have := range s {
		have = strings.Replace(have, ".read", ".rs", 1)
		context, right, _ := strings.Cut(have, "/*")
		if have == want || strings.Contains(have, "/*") && strings.HasPrefix(want, context+"/") && strings.HasSuffix(want, right) {
			return true
		}
	}
	return false
}

// refuseUnenforced refuses scopes that are narrowed by a search (SMART App Launch 2.2, "Finer-grained resource constraints"): granted without
// being enforced they would open more than the patient reads.
func refuseUnenforced(scope string) *Error {
	for _, s := range strings.Fields(scope) {
		if strings.Contains(s, "?") {
			return refuse("invalid_scope", "The scope %q is narrowed by a search, which this server does not enforce; ask for it without", s)
		}
	}
	return nil
}

func (s Scopes) String() string { return strings.Join(s, " ") }

// Has reports whether any of the given scopes is granted.
func (s Scopes) Has(any ...string) bool {
	return slices.ContainsFunc(any, func(x string) bool { return slices.Contains(s, x) })
}

// Refreshable reports whether a refresh token goes with the grant.
func (s Scopes) Refreshable() bool { return s.Has(ScopeOffline, ScopeOnline) }

// Narrow returns the part of s that is asked for; ok is false where more is asked for than s holds (RFC 6749 6).
func (s Scopes) Narrow(asked string) (out Scopes, ok bool) {
	for _, scope := range strings.Fields(asked) {
		if !slices.Contains(s, scope) {
			return nil, false
		}
		if !slices.Contains(out, scope) {
			out = append(out, scope)
		}
	}
	return out, len(out) > 0
}
