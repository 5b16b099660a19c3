package auth

import (
	"slices"
	"strings"
)

// Scopes that the server understands (SMART-7). System scopes belong to backend services and are not granted to a
// patient's application.
const (
	ScopePatientExport = "patient/$ehi-export"
	ScopePatientRead   = "patient/*.read"
	ScopePatientRS     = "patient/*.rs"
	ScopeLaunchPatient = "launch/patient"
	ScopeOpenID        = "openid"
	ScopeFHIRUser      = "fhirUser"
	ScopeOnline        = "online_access"
	ScopeOffline       = "offline_access"
)

// ScopesSupported lists what can be granted.
func ScopesSupported() []string {
	return []string{ScopePatientExport, ScopePatientRS, ScopePatientRead, ScopeLaunchPatient, ScopeOpenID, ScopeFHIRUser, ScopeOnline, ScopeOffline}
}

// Scopes is a granted set, in the order in which it was asked for.
type Scopes []string

// ParseScopes splits a scope parameter and drops what is not supported or repeated.
func ParseScopes(s string) Scopes {
	var out Scopes
	for _, scope := range strings.Fields(s) {
		if slices.Contains(ScopesSupported(), scope) && !slices.Contains(out, scope) {
			out = append(out, scope)
		}
	}
	return out
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
