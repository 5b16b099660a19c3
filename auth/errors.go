package auth

import "fmt"

// Error is an OAuth 2 error (RFC 6749 4.1.2.1 and 5.2).
type Error struct {
	Code        string // invalid_request, invalid_client, ...
	Description string
	// Redirectable reports whether the redirect_uri is trusted, so that an authorize error is
	// sent back to the client.
	Redirectable bool
	// Cause is for the log, never for the client.
	Cause error
	// Reused is set if a code or refresh token was used a second time, by the client or by a
	// thief: the grant.
	Reused *Reused
}

// Reused identifies a grant that was revoked because its code or refresh token was used twice
// (RFC 9700 4.14.2).
type Reused struct{ ClientID, Patient string }

// reused adds the grant of a reuse to the error.
func (e *Error) reused(g grant) *Error {
	e.Reused = &Reused{g.ClientID, g.Patient}
	return e
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

// Status returns the HTTP status of the error at the token endpoint (RFC 6749 5.2).
func (e *Error) Status() int {
	switch e.Code {
	case "invalid_client", "invalid_token":
		return 401
	case "server_error":
		return 500
	}
	return 400
}

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

func missing(name string) *Error { return refuse("invalid_request", "Missing %q parameter", name) }

func invalid(name string) *Error { return refuse("invalid_request", "Invalid %q parameter", name) }
