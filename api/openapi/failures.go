package openapi

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// failures are the bodies of failed requests, by group. A status that an operation neither lists
// among its answers nor fails with (see fails) is a fault of the server, and so is 500 almost
// everywhere.
var failures = map[string]answer{
	"fhir":  {mime: fhirJSON + " " + html, schema: ref("OperationOutcome")},
	"oauth": {mime: plainJSON, schema: ref("OAuthError")},
	"admin": {mime: plainJSON, schema: ref("Error")},
	"page":  {mime: html + " " + fhirJSON, schema: ref("OperationOutcome")},
	"staff": {mime: html + " " + plainJSON, schema: ref("Error")},
}

// failureNotes say what a status means, whatever the operation.
var failureNotes = map[int]string{
	http.StatusBadRequest: "The request is wrong, or does not fit the state of things. " +
		"The body says why.",
	http.StatusUnauthorized:          "The credentials are missing, wrong or expired.",
	http.StatusForbidden:             "The credentials do not allow it, or a page of another site asks.",
	http.StatusNotFound:              "There is no such thing, or not for who asks.",
	http.StatusNotAcceptable:         "Accept or _format leaves out JSON.",
	http.StatusRequestTimeout:        "The body did not come in time.",
	http.StatusRequestEntityTooLarge: "The body is too large.",
	http.StatusUnsupportedMediaType:  "The body is compressed, or of a type that is not taken.",
	http.StatusTooManyRequests: "Too many requests, failures or running exports; " +
		"Retry-After says when to come back.",
	http.StatusServiceUnavailable: "The server cannot do it at the moment; Retry-After says " +
		"when to come back.",
}

// failureHeaders are the headers of failed requests.
var failureHeaders = map[int][]string{
	http.StatusUnauthorized:       {"WWW-Authenticate"},
	http.StatusForbidden:          {"WWW-Authenticate"},
	http.StatusTooManyRequests:    {"Retry-After"},
	http.StatusServiceUnavailable: {"Retry-After"},
}

// fixed are the paths whose answers need no state, so they are never unavailable.
var fixed = []string{
	"/", "/openapi.json", "/docs/api", "/docs/ehi", "/assets/{file}", "/auth/jwks", "/fhir/metadata",
	"/fhir/OperationDefinition/{id}",
	"/fhir/.well-known/smart-configuration", "/.well-known/openid-configuration",
	"/.well-known/oauth-authorization-server",
}

// guessed are the operations that count failures of an address, and then refuse it for a while.
var guessed = []string{
	"GET /auth/authorize", "POST /auth/authorize", "POST /auth/token", "POST /auth/revoke",
	"POST /auth/introspect",
	"POST /auth/register", "POST /patient-login", "POST /admin/ui/login", "POST /admin/login",
}

// alsoFails are statuses that follow from nothing else that the document says of an operation.
// Pages show what was wrong with a form that led back to them, with the status that it had earned.
var alsoFails = map[string][]int{
	"GET /fhir/metadata":                  {406},
	"GET /fhir/OperationDefinition/{id}":  {406},
	"GET /fhir/Patient":                   {406},
	"POST /fhir/Patient/_search":          {406},
	"GET /fhir/Group":                     {406},
	"POST /fhir/Group/_search":            {406},
	"GET /fhir/Patient/{id}":              {406},
	"GET /fhir/Group/{id}":                {406},
	"GET /fhir/Binary/{id}":               {406},
	"GET /jobs/{id}/customize":            {403},
	"GET /jobs/{id}/status":               {429},
	"POST /auth/token":                    {401},
	"POST /auth/revoke":                   {401},
	"POST /auth/introspect":               {401},
	"POST /auth/register":                 {404},
	"GET /patient-login":                  {401, 429},
	"GET /authorize-app":                  {404},
	"POST /authorize-app":                 {404},
	"POST /my/applications":               {404},
	"POST /admin/login":                   {401},
	"POST /admin/accounts":                {404},
	"GET /admin/ui/login":                 {401, 429},
	"GET /admin/ui/login/code":            {401, 429},
	"GET /admin/ui/login/openid/callback": {401, 403, 404, 429, 503},
	"GET /admin/ui/prove":                 {401, 429},

	"GET /admin/ui/jobs":      {404},
	"POST /admin/ui/clients":  {404},
	"POST /admin/ui/accounts": {404},
	"GET /admin/ui/audit":     {404},
}

// fails are the statuses with which an operation fails, beside those among its answers: by what it
// takes, whom it opens to and what it depends on.
func (o operation) fails() []int {
	if o.failures == "" {
		return nil
	}
	name := o.method + " " + o.path
	out := slices.Clone(alsoFails[name])
	// Whatever the operation, a body that comes is read within the same bounds.
	out = append(out, http.StatusBadRequest, http.StatusRequestTimeout,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	if len(o.security) > 0 {
		out = append(out, http.StatusUnauthorized)
	}
	ofPage := o.method == http.MethodPost && (o.tag == "Pages" || strings.HasPrefix(o.path, "/admin/ui/"))
	if ofPage || len(o.security) > 0 && !slices.Contains(o.security, "initial") {
		out = append(out, http.StatusForbidden)
	}
	if api := strings.HasPrefix(o.path, "/admin/") && o.tag == "Administration"; api && o.method != http.MethodGet {
		out = append(out, http.StatusForbidden)
	}
	if o.path == "/admin/logout" {
		out = append(out, http.StatusForbidden)
	}
	if strings.Contains(o.path, "{") {
		out = append(out, http.StatusNotFound)
	}
	if strings.Contains(o.path, "$") {
		out = append(out, http.StatusNotAcceptable, http.StatusTooManyRequests)
	}
	if slices.Contains(guessed, name) {
		out = append(out, http.StatusTooManyRequests)
	}
	if !slices.Contains(fixed, o.path) {
		out = append(out, http.StatusServiceUnavailable)
	}
	return out
}

// all are the answers of an operation, its failures among them.
func (o operation) all() map[int]answer {
	out := map[int]answer{}
	for _, status := range o.fails() {
		f := failures[o.failures]
		f.about, f.headers = failureNotes[status], failureHeaders[status]
		out[status] = f
	}
	maps.Copy(out, o.answers)
	return out
}

// shared names the component that a failure's response is, "" where an operation has its own.
func (o operation) shared(status int) string {
	if _, own := o.answers[status]; own {
		return ""
	}
	return o.failures + strconv.Itoa(status)
}

// sharedResponses are the responses of failures, which the operations refer to.
func sharedResponses() object {
	out := object{}
	for _, o := range operations {
		for status, a := range o.all() {
			if name := o.shared(status); name != "" {
				out[name] = a.document()
			}
		}
	}
	return out
}
