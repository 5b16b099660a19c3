package ehi

import (
	"errors"
	"fmt"
	"time"
)

// Code classes an error by what its reader can do about it. The edge (HTTP, command line) turns
// a Code into its own status in one place; the values are FHIR issue types
// (https://hl7.org/fhir/R4/valueset-issue-type.html).
type Code string

const (
	// Invalid input: the caller must change the request. HTTP 400.
	Invalid Code = "invalid"
	// Unsupported is a request that is understood and not supported: lenient handling may pass
	// over it. HTTP 400.
	Unsupported Code = "not-supported"
	// NotFound covers what is absent and what is somebody else's alike. HTTP 404.
	NotFound Code = "not-found"
	// Conflict is a change that the present state forbids. HTTP 400 on the wire of the EHI API
	// (CONFORMANCE wording).
	Conflict Code = "conflict"
	// Unauthenticated means that no valid credentials came with the request. HTTP 401.
	Unauthenticated Code = "login"
	// Forbidden means that the credentials are valid and do not suffice. HTTP 403.
	Forbidden Code = "forbidden"
	// TooLarge is a body or a file over its limit. HTTP 413.
	TooLarge Code = "too-long"
	// TooCostly is a request that would take more than the server gives to one. HTTP 400.
	TooCostly Code = "too-costly"
	// TimedOut is a request that did not come in time. HTTP 408.
	TimedOut Code = "timeout"
	// Throttled asks the caller to come back later. HTTP 429.
	Throttled Code = "throttled"
	// Transient is a failure that a repeat may cure. HTTP 503.
	Transient Code = "transient"
	// Internal is ours to mend; its cause goes to the log, never to the caller. HTTP 500.
	Internal Code = "exception"
)

// Error is what crosses the edge of the domain: a class and one sentence for a human reader,
// free of internals.
type Error struct {
	Code    Code
	Message string
	// RetryAfter is when a repeat may succeed, of Throttled; 0 where that is not known.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error of the given class.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Throttle makes an Error of the class Throttled that says when to come back, in whole seconds.
func Throttle(wait time.Duration, text string) error {
	wait = (wait + time.Second - 1).Truncate(time.Second)
	return &Error{
		Throttled,
		fmt.Sprintf("%s; try again in %d s", text, int(wait/time.Second)),
		wait,
	}
}

// CodeOf returns the class of the first Error in err's chain, Internal for any other error and
// "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
