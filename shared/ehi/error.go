package ehi

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error by what the caller can do about it. The edge (HTTP, command line)
// maps each Code to its own status in one place. The values are FHIR issue types
// (https://hl7.org/fhir/R4/valueset-issue-type.html).
type Code string

const (
	// Invalid input: the caller must change the request. HTTP 400.
	Invalid Code = "invalid"
	// Unsupported is a valid request for a feature that the server does not support. Lenient
	// handling may ignore it. HTTP 400.
	Unsupported Code = "not-supported"
	// NotFound means that the resource does not exist, or that the caller may not see it. HTTP
	// 404.
	NotFound Code = "not-found"
	// Conflict means that the current state forbids the change. HTTP 400 in the EHI API.
	Conflict Code = "conflict"
	// Unauthenticated means that the request has no valid credentials. HTTP 401.
	Unauthenticated Code = "login"
	// Forbidden means that the credentials are valid but do not allow the request. HTTP 403.
	Forbidden Code = "forbidden"
	// TooLarge means that a body or a file exceeds its limit. HTTP 413.
	TooLarge Code = "too-long"
	// TooCostly means that the request needs more work than the server allows for one. HTTP 400.
	TooCostly Code = "too-costly"
	// TimedOut means that the request did not arrive in time. HTTP 408.
	TimedOut Code = "timeout"
	// Throttled asks the caller to come back later. HTTP 429.
	Throttled Code = "throttled"
	// Transient is a failure that a retry may cure. HTTP 503.
	Transient Code = "transient"
	// Internal is a fault of the server. The cause goes to the log, never to the caller. HTTP
	// 500.
	Internal Code = "exception"
)

// Error is the one kind of error that leaves the domain: a class and one sentence for people,
// without internal details.
type Error struct {
	Code    Code
	Message string
	// RetryAfter is when a retry may succeed. It is set for Throttled only; 0 means unknown.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an Error of the given class.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Throttle returns an Error of class Throttled that says when to retry, rounded up to whole
// seconds.
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
