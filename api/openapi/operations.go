package openapi

import (
	"net/http"
	"strings"
)

// operations is every route of the server.
var operations = join(exports, jobs, fhirReads, smart, administration, watching, pages, staffPages)

func join(parts ...[]operation) (out []operation) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Parameters of the kick-offs.
var (
	common = []object{
		query("_since", "Only resources updated at or after this instant.", str()),
		query("_until", "Only resources updated before this instant.", str()),
		query("_type", "Only these resource types, comma separated.", str()),
		query("_compression", "How the files are stored.", enum("identity", "gzip", "zstd")),
		query("_outputFormat", "NDJSON in one of its spellings.", str()),
		query("_format", "Of the answer: JSON in one of its spellings.", str()),
	}
	ofForm = []object{
		query("category", "Only these categories of the release form, comma separated.", str()),
		query("from", "Only what happened on or after this date.", str()),
		query("to", "Only what happened on or before this date.", str()),
	}
	ofBulk = []object{
		query("_typeFilter", "Only resources that such a search finds, by type.", str()),
		query("_elements", "Only these elements, beside the mandatory ones.", str()),
		query("includeAssociatedData",
			"RelevantProvenanceResources; of LatestProvenanceResources alone, and of other "+
				"values, 400.",
			str()),
		query("allowPartialManifests", "Lets the manifest come in pages, while the export goes on.",
			str()),
		query("organizeOutputBy", "Patient: one patient's resources together.", str()),
	}
	prefer = []object{header("Prefer", "respond-async, handling=lenient, separate-export-status.")}
)

// kickOff is the beginning of an export.
func kickOff(method, path, summary string, params ...[]object) operation {
	o := operation{
		method: method, path: "/fhir" + path, tag: "Export", summary: summary,
		security: []string{"bearer"}, headers: prefer, failures: "fhir",
		answers: map[int]answer{http.StatusAccepted: {"The export was accepted.", fhirJSON,
			ref("OperationOutcome"), []string{"Content-Location", "Link"}}},
	}
	for _, p := range params {
		o.query = append(o.query, p...)
	}
	if method == http.MethodPost {
		o.body, o.optional = object{fhirJSON: ref("Parameters")}, true
	}
	return o
}

var exports = []operation{
	kickOff("POST", "/Patient/{id}/$ehi-export",
		"Export all that is held about a patient. Scopes: patient/$ehi-export of that "+
			"patient, system/$ehi-export.",
		common, ofForm),
	kickOff("POST", "/$ehi-export",
		"Export all that is held about everybody. Scope: system/$ehi-export.", common, ofForm),
	kickOff("POST", "/Group/{id}/$ehi-export",
		"Export all that is held about the members of a group. Scope: system/$ehi-export.", common,
		ofForm),
	kickOff("GET", "/$export", "Bulk export of the system. Scope: system/*.rs or of types.", common,
		ofBulk),
	kickOff("POST", "/$export", "Bulk export of the system, parameters in the body.", common,
		ofBulk),
	kickOff("POST", "/$export-v4", "Bulk export of the system as in the ballot of 4.0.0.", common,
		ofBulk),
	kickOff("GET", "/Patient/$export",
		"Bulk export of all patients. Scope: system/*.rs or of types.", common, ofBulk),
	kickOff("POST", "/Patient/$export",
		"Bulk export of all patients, or of those in the body's parameter patient.", common,
		ofBulk),
	kickOff("POST", "/Patient/$export-v4", "Bulk export of patients as in the ballot of 4.0.0.",
		common, ofBulk),
	kickOff("GET", "/Group/{id}/$export",
		"Bulk export of the members of a group. Scope: system/*.rs or of types.", common, ofBulk),
	kickOff("POST", "/Group/{id}/$export",
		"Bulk export of the members of a group, parameters in the body.", common, ofBulk),
	kickOff("POST", "/Group/{id}/$export-v4", "Bulk export of a group as in the ballot of 4.0.0.",
		common, ofBulk),
}

var ofFiles = []object{
	header("Range", "One range of bytes."),
	header("If-Range", "The ETag that the range is of."),
	header("If-None-Match", "ETags that the client has."),
	header("If-Modified-Since", "When the client got what it has."),
	header("If-Match", "ETags of which the file must have one."),
	header("If-Unmodified-Since", "The time since when the file must not have changed."),
	header("Accept-Encoding", "gzip and zstd are served."),
	header("Want-Repr-Digest", "sha-256=WEIGHT (RFC 9530): 1 to 10 has a file over 64 MiB read "+
		"whole for its digest before it is sent, 0 has none sent."),
}

// file is the download of one.
func file(path, summary, mime string) operation {
	return operation{
		method: "GET", path: path, tag: "Export", summary: summary, security: []string{"bearer"},
		headers: ofFiles, failures: "fhir",
		answers: sent(mime),
	}
}

// sent are the answers with a file: whole, in part, or only that the client has it.
func sent(mime string) map[int]answer {
	return map[int]answer{
		http.StatusOK: {"The file.", mime, nil,
			[]string{"ETag", "Last-Modified", "Content-Encoding", "Repr-Digest"}},
		http.StatusPartialContent: {"A part of it.", mime, nil,
			[]string{"ETag", "Content-Range", "Repr-Digest"}},
		http.StatusNotModified: {"The client has it.", "", nil, []string{"ETag"}},
		http.StatusPreconditionFailed: {
			"The file is not the one that was asked for.", fhirJSON, ref("OperationOutcome"), []string{"ETag"},
		},
		http.StatusRequestedRangeNotSatisfiable: {
			"The range lies outside of the file.", fhirJSON, ref("OperationOutcome"),
			[]string{"Content-Range"},
		},
	}
}

// toLogIn leads who is not logged in to the log-in.
var toLogIn = answer{"To the log-in.", "", nil, []string{"Location"}}

var jobs = []operation{
	{
		method:   "GET",
		path:     "/jobs/{id}/customize",
		tag:      "Export",
		summary:  "The patient's release form, a page.",
		failures: "page",
		answers: map[int]answer{
			http.StatusOK: {"The form.", html, nil, nil},
			http.StatusFound: {"The patient is asked to sign in first, or has sent the form and sees the request.",
				"", nil, []string{"Location"}},
		},
		query: []object{
			query("_patient", "Stands for the patient's log-in, in the sandbox.", str()),
			query("redirect", "Where the patient goes on afterwards.", str()),
		},
	},
	{
		method:   "POST",
		path:     "/jobs/{id}",
		tag:      "Export",
		summary:  "Submit the release form: the job's client as JSON, the page as a form.",
		security: []string{"bearer", "interaction"},
		failures: "fhir",
		body:     object{plainJSON: ref("Form"), webForm: object{"type": "object"}},
		answers: map[int]answer{
			http.StatusOK: {"The choices were stored and the export was queued.", plainJSON,
				ref("SubmittedJob"), nil},
			http.StatusSeeOther: {"The page goes on to the application.", "", nil,
				[]string{"Location"}},
			http.StatusBadRequest: {
				"The form cannot be read, or was submitted before (as text, which existing " +
					"clients read).",
				fhirJSON + " text/plain " + html,
				ref("OperationOutcome"),
				nil,
			},
		},
	},
	{
		method: "GET",
		path:   "/jobs/{id}/status",
		tag:    "Export",
		summary: "How the job stands; the manifest when it is done. While the export runs, " +
			"the answer may wait for its end.",
		security: []string{"bearer"},
		failures: "fhir",
		query:    []object{query("page", "Of a manifest in pages.", integer())},
		headers: []object{header("Prefer",
			"wait=SECONDS: how long the answer may wait for the end of the job (RFC 7240 "+
				"4.3); 0: not at all.")},
		answers: map[int]answer{
			http.StatusOK: {"The export is done.", plainJSON, ref("Manifest"),
				[]string{"Expires", "X-Export-Status", "Preference-Applied"}},
			http.StatusAccepted: {"The export is not done.", "", nil,
				[]string{"Retry-After", "X-Progress", "Link", "Preference-Applied"}},
			http.StatusForbidden: {
				"The token does not allow it, or an administrator rejected the export.",
				fhirJSON + " " + html, ref("OperationOutcome"), []string{"WWW-Authenticate"},
			},
			http.StatusInternalServerError: {"The export failed.", fhirJSON,
				ref("OperationOutcome"), nil},
		},
	},
	{
		method:   "DELETE",
		path:     "/jobs/{id}/status",
		tag:      "Export",
		summary:  "Abort the export, or forget it with its files.",
		security: []string{"bearer"},
		failures: "fhir",
		answers: map[int]answer{http.StatusAccepted: {"It is gone.", fhirJSON,
			ref("OperationOutcome"), nil}},
	},
	{
		method: "GET",
		path:   "/jobs/{id}/metadata",
		tag:    "Export",
		summary: "How the export was asked for, what it holds, and when; for administrators also " +
			"the choices, and how much is withheld.",
		security: []string{"bearer", "session"},
		failures: "fhir",
		answers:  ok("The metadata.", plainJSON, ref("Metadata")),
	},
	file("/jobs/{id}/download/{file}", "One file of the export.", fhirNDJSON),
	file("/jobs/{id}/download/attachments/{file}", "One document that an administrator added.",
		"*/*"),
}

// read is a FHIR read or search.
func read(path, summary, schema string, open bool, params ...object) operation {
	o := operation{
		method:   "GET",
		path:     "/fhir" + path,
		tag:      "FHIR",
		summary:  summary,
		security: []string{"bearer"},
		query:    params,
		failures: "fhir",
		answers:  ok("The resource.", fhirJSON, ref(schema)),
	}
	if open {
		o.security = nil
	}
	return o
}

// searchByPost is a search with its parameters in a form.
func searchByPost(path, summary string, params []object) operation {
	fields := object{}
	for _, p := range params {
		fields[p["name"].(string)] = str()
	}
	o := read(path, summary, "Bundle", false)
	o.method, o.body, o.optional = http.MethodPost, object{webForm: object{
		"type":       "object",
		"properties": fields,
	}}, true
	return o
}

// Parameters of searches.
var (
	ofSearches = []object{
		query("_id", "Logical ids, comma separated.", str()),
		query("identifier", "system|value, value, |value or system|; comma separated.", str()),
		query("_count", "At most so many on a page, 500 at most; 0 only counts.", integer()),
		query("_summary", "count: only how many there are.", enum("count", "false")),
		query("_total", "Accurate wherever it is known.", enum("none", "estimate", "accurate")),
		query("_cursor", "Where a page begins; links have it.", str()),
		query("_format", "Of the answer: JSON in one of its spellings.", str()),
	}
	ofGroups   = ofSearches
	ofPatients = append([]object{
		query("name", "Begin of a part of a name, whatever its case and accents.", str()),
		query("family", "Begin of a family name.", str()),
		query("given", "Begin of a given name.", str()),
		query("birthdate", "A date with a prefix: eq, ne, gt, lt, ge, le, sa, eb.", str()),
	}, ofSearches...)
)

// binaryRead answers with whatever the Binary holds.
var binaryRead = func() operation {
	o := read("/Binary/{id}",
		"A Binary, for a backend service; in the sandbox also one of the token's patient. Scopes: "+
			"patient/Binary.r, system/Binary.r.",
		"Binary", false)
	o.answers = ok("The Binary where Accept or _format names JSON, otherwise its content.", "*/*",
		object{})
	return o
}()

var fhirReads = []operation{
	read("/metadata", "CapabilityStatement.", "CapabilityStatement", true),
	read("/OperationDefinition/{id}", "Definition of ehi-export.", "OperationDefinition", true),
	read("/Patient",
		"Search for patients. A patient's application finds its own alone. Other parameters "+
			"are left out, or 400 with Prefer: handling=strict.",
		"Bundle", false, ofPatients...),
	searchByPost("/Patient/_search", "Search for patients, parameters in the body.", ofPatients),
	read("/Patient/{id}", "The token's patient; for a backend service any.", "Patient", false),
	binaryRead,
	read("/Group", "Search for groups of patients. For backend services.", "Bundle", false,
		ofGroups...),
	searchByPost("/Group/_search", "Search for groups of patients, parameters in the body.",
		ofGroups),
	read("/Group/{id}", "A group of patients. For backend services.", "Group", false),
	{
		method:   "GET",
		path:     "/fhir/.well-known/smart-configuration",
		tag:      "SMART",
		summary:  "SMART discovery.",
		failures: "fhir",
		answers:  ok("The configuration.", plainJSON, ref("SMARTConfiguration")),
	},
}

var toAuthorize = func() (out []object) {
	for _, name := range strings.Fields("response_type client_id redirect_uri scope state aud " +
		"code_challenge code_challenge_method launch nonce") {
		out = append(out, query(name, "SMART App Launch, authorization request.", str()))
	}
	return append(out,
		query("_patient", "Sandbox: stands for the log-in.", str()),
		query("_auth_success", "Sandbox: 1 stands for consent, 0 for its refusal.", str()))
}()

var redirected = map[int]answer{http.StatusFound: {
	"To the log-in, or back to the client with a code or an error.",
	"",
	nil,
	[]string{"Location"},
}}

// redirectedForm is the same for a form: what was posted is not posted again to the client.
var redirectedForm = map[int]answer{
	http.StatusFound: {"To the log-in.", "", nil, []string{"Location"}},
	http.StatusSeeOther: {"Back to the client with a code or an error.", "", nil,
		[]string{"Location"}},
}

var ofToken = object{"type": "object", "required": []string{"token"}, "properties": object{
	"token": str(), "token_type_hint": str(), "client_id": str(), "client_secret": str(),
	"client_assertion_type": str(), "client_assertion": str()}}

var smart = []operation{
	{
		method:   "GET",
		path:     "/auth/authorize",
		tag:      "SMART",
		summary:  "Authorization request.",
		query:    toAuthorize,
		failures: "oauth",
		answers:  redirected,
	},
	{
		method:   "POST",
		path:     "/auth/authorize",
		tag:      "SMART",
		summary:  "Authorization request as a form.",
		body:     object{webForm: object{"type": "object"}},
		failures: "oauth",
		answers:  redirectedForm,
	},
	{
		method:   "POST",
		path:     "/auth/token",
		tag:      "SMART",
		summary:  "Codes, refresh tokens and client credentials for access tokens.",
		failures: "oauth",
		answers:  ok("The tokens.", plainJSON, ref("Tokens")),
		body: object{webForm: object{
			"type":     "object",
			"required": []string{"grant_type"},
			"properties": object{
				"grant_type": enum(
					"authorization_code",
					"refresh_token",
					"client_credentials",
				), "code": str(), "redirect_uri": str(), "code_verifier": str(),
				"refresh_token": str(),
				"client_id":     str(), "client_secret": str(), "client_assertion_type": str(),
				"client_assertion": str(), "scope": str()},
		}},
	},
	{
		method:   "POST",
		path:     "/auth/revoke",
		tag:      "SMART",
		summary:  "End a token and all that its grant gave (RFC 7009).",
		failures: "oauth",
		answers:  ok("It is void, or was never good.", "", nil),
		body:     object{webForm: ofToken},
	},
	{
		method: "POST",
		path:   "/auth/introspect",
		tag:    "SMART",
		summary: "What an access token is good for, for resource servers that authenticate " +
			"(RFC 7662).",
		failures: "oauth",
		answers:  ok("The token.", plainJSON, ref("Introspection")),
		body:     object{webForm: ofToken},
	},
	{
		method: "POST",
		path:   "/auth/register",
		tag:    "SMART",
		summary: "Dynamic registration (RFC 7591), where it is on, for who has the initial " +
			"access token.",
		security: []string{"initial"},
		failures: "oauth",
		body:     object{plainJSON: object{"type": "object"}},
		answers: map[int]answer{http.StatusCreated: {"The client.", plainJSON, ref("Registration"),
			nil}},
	},
	{
		method:   "GET",
		path:     "/.well-known/openid-configuration",
		tag:      "SMART",
		summary:  "Discovery, where OpenID Connect looks for it.",
		failures: "fhir",
		answers:  ok("The configuration.", plainJSON, ref("SMARTConfiguration")),
	},
	{
		method:   "GET",
		path:     "/.well-known/oauth-authorization-server",
		tag:      "SMART",
		summary:  "Discovery, where OAuth looks for it (RFC 8414).",
		failures: "fhir",
		answers:  ok("The configuration.", plainJSON, ref("SMARTConfiguration")),
	},
	{
		method:   "GET",
		path:     "/auth/jwks",
		tag:      "SMART",
		summary:  "The keys that sign tokens.",
		failures: "oauth",
		answers:  ok("The keys.", plainJSON, ref("JWKS")),
	},
}

// administer is a route of administrators.
func administer(method, path, summary, about, schema string, params ...object) operation {
	return operation{
		method:   method,
		path:     "/admin" + path,
		tag:      "Administration",
		summary:  summary,
		security: []string{"session"},
		query:    params,
		failures: "admin",
		answers:  ok(about, plainJSON, ref(schema)),
	}
}

// created makes an operation answer 201.
func (o operation) created() operation {
	o.answers = map[int]answer{http.StatusCreated: o.answers[http.StatusOK]}
	return o
}

// also gives an operation a further answer.
func (o operation) also(status int, a answer) operation {
	o.answers[status] = a
	return o
}

// pages makes an operation fail by a page where a browser asks.
func (o operation) pages() operation {
	o.failures = "staff"
	return o
}

// with gives an operation a body.
func (o operation) with(body object) operation {
	o.body = body
	return o
}

// mayGive gives an operation a body that may be left out.
func (o operation) mayGive(body object) operation {
	o.optional = true
	return o.with(body)
}

// reason is the body of a decision.
var reason = object{
	plainJSON: record(object{"reason?": str(), "contents?": str()}),
	webForm:   record(object{"reason?": str(), "contents?": str()}),
}

var reportOrError = object{"anyOf": []object{ref("ImportReport"), ref("Error")}}

// credentials are an administrator's; the code is of a second factor, or a recovery code.
var credentials = record(object{"username": str(), "password": str(), "code?": str()})

var administration = []operation{
	{
		method:   "POST",
		path:     "/admin/login",
		tag:      "Administration",
		summary:  "Open a session.",
		body:     object{plainJSON: credentials, webForm: credentials},
		failures: "admin",
		answers: ok("The session is open.", plainJSON, record(object{"username": str()}),
			"Set-Cookie"),
	},
	{
		method:   "GET",
		path:     "/admin/logout",
		tag:      "Administration",
		summary:  "Close the session.",
		failures: "admin",
		answers:  ok("The session is closed.", plainJSON, ref("Message")),
	},
	{
		method:   "GET",
		path:     "/admin/jobs",
		tag:      "Administration",
		summary:  "Jobs, newest first.",
		security: []string{"session"},
		failures: "admin",
		answers:  ok("The jobs.", plainJSON, array(ref("Job"))),
		query: []object{query("status", "Only jobs in this status.", str()),
			query("limit", "At most so many; 0: all.", integer()),
			query("after", "Only those behind the job with this id.", str())},
	},
	administer("GET", "/jobs/{id}", "One job.", "The job.", "Job"),
	administer("DELETE", "/jobs/{id}", "Delete a job in any state.", "It is gone.", "Message"),
	administer("POST", "/jobs/{id}/approve", "Release the files of a retrieved job.", "The job.",
		"Job").mayGive(reason),
	administer("POST", "/jobs/{id}/reject", "Close a retrieved job without a release.", "The job.",
		"Job").mayGive(reason),
	administer("POST", "/jobs/{id}/add-files", "Add documents to a retrieved job.", "The job.",
		"Job").with(object{"multipart/form-data": record(object{
		"attachments": array(object{
			"type":             "string",
			"contentMediaType": "application/octet-stream",
		})})}).
		also(http.StatusSeeOther,
			answer{"Uploaded by a page without a script: back to it.", "", nil,
				[]string{"Location"}}).pages(),
	administer(
		"POST",
		"/jobs/{id}/remove-files",
		"Remove documents by name.",
		"The job.",
		"Job",
	).with(object{plainJSON: record(object{"params": array(str())})}),
	administer(
		"POST",
		"/import",
		"Load records: NDJSON of any length, gzipped or not, or one Bundle.",
		"What was imported, and what could not be.",
		"ImportReport",
		query("strict", "true stops at the first bad line.", boolean()),
		query("name", "What the report calls the input.", str()),
		query("charset",
			"What text that is not UTF-8 is in: latin1, windows-1252, utf-16... Default: such "+
				"a line or entry is a problem.",
			str()),
	).with(object{fhirNDJSON: object{}, fhirJSON: object{"type": "object"}}).
		also(http.StatusBadRequest,
			answer{"What was imported, and what was wrong; an error where nothing was read.",
				plainJSON, reportOrError, nil}).
		also(http.StatusRequestTimeout,
			answer{"What was imported before the body stopped coming.", plainJSON, reportOrError,
				nil}),
	{
		method:   "GET",
		path:     "/admin/backup",
		tag:      "Administration",
		summary:  "An archive of everything that the server keeps.",
		security: []string{"session"},
		failures: "admin",
		query: []object{query("recipient",
			"Public key (age1...) of who may read the archive, which is encrypted with age; may be repeated.",
			array(str()))},
		answers: ok("The archive, for the command restore.", "application/zstd", nil),
	},
	{
		method: "GET",
		path:   "/admin/audit",
		tag:    "Administration",
		summary: "The audit trail as FHIR AuditEvents, one a line, oldest first. With " +
			"patient and action=disclose: the accounting of disclosures.",
		security: []string{"session"},
		failures: "admin",
		query: []object{
			query("patient", "Only what is about this patient.", str()),
			query("action", "Only this action.", str()),
			query("outcome", "ok, refused or failed.", str()),
			query("agent", "Only what this agent did: admin NAME, patient ID, client ID.", str()),
			query("client", "Only what is about this client.", str()),
			query("job", "Only what is about this job.", str()),
			query("from", "Instant or day from which.", str()),
			query("to", "Instant or day up to which.", str()),
			query("after", "Only events behind this one's id.", integer()),
			query("limit", "At most so many; 0: all. Default 1000.", integer()),
		},
		answers: ok("The events.", fhirNDJSON, nil),
	},
	administer("GET", "/clients", "The registered clients.", "The clients.", "Clients"),
	administer("POST", "/clients", "Register a client.",
		"The client, with its secret where it has one: it is not told again.",
		"RegisteredClient").with(object{plainJSON: object{
		"type":     "object",
		"required": []string{"client_name", "scope"},
	}}).created(),
	administer("GET", "/clients/{id}", "One registered client.", "The client.", "RegisteredClient"),
	administer("DELETE", "/clients/{id}", "Remove a client: all its tokens are refused at once.",
		"It is gone.", "Message"),
	administer("POST", "/clients/{id}/rotate",
		"Give a client a new secret in place of its old one.", "The client with its secret.",
		"RegisteredClient"),
	administer("GET", "/accounts", "The accounts of administrators and patients.", "The accounts.",
		"Accounts"),
	administer("POST", "/accounts",
		"Add an account: username, password, and either patient or role (viewer, reviewer, admin).",
		"The account.", "Account").with(object{plainJSON: object{
		"type":     "object",
		"required": []string{"username", "password"},
	}}).created(),
	administer("PUT", "/accounts/{kind}/{name}",
		"Set the password of an account; kind is patient or admin.", "It is set.",
		"Message").with(object{plainJSON: record(object{"password": str()})}),
	administer("DELETE", "/accounts/{kind}/{name}", "Remove an account; kind is patient or admin.",
		"It is gone.", "Message"),
	administer("DELETE", "/accounts/{kind}/{name}/second-factor",
		"Reset the second factor of an administrator, whose sessions end; kind is admin, or config "+
			"for the administrator of the configuration.", "It is gone.", "Message"),
	administer("GET", "/keys", "The keys that sign tokens, newest first.",
		"The keys, without the keys.", "SigningKeys"),
	administer("POST", "/keys/rotate",
		"Make new keys; the old ones stay published until their tokens are gone.", "The keys.",
		"SigningKeys",
		query("compromised", "true removes the old ones at once, and every token with them.",
			boolean())),
	administer("GET", "/log-level", "How much is logged.", "The level.", "LogLevel"),
	administer("GET", "/sweep",
		"What the janitor would remove or make anew and waits for an administrator's word to: "+
			"of how many jobs whose records, or whose tasks' records, are gone.",
		"What waits.", "Sweep"),
	administer("POST", "/sweep", "Let the janitor do that, and no more than waits now.", "What is to be done.", "Sweep"),
	administer("PUT", "/log-level", "Change how much is logged, until the process ends.",
		"The level.", "LogLevel").with(object{
		plainJSON: record(object{"level": str()}),
		webForm:   record(object{"level": str()}),
	}),
	{
		method:   "GET",
		path:     "/admin/debug",
		tag:      "Administration",
		summary:  "What the process is doing, a page.",
		security: []string{"session"},
		failures: "admin",
		answers:  ok("The page.", html, nil),
	},
	{
		method:   "GET",
		path:     "/admin/debug/pprof/{profile}",
		tag:      "Administration",
		summary:  "A profile of the process (package net/http/pprof).",
		security: []string{"session"},
		failures: "admin",
		query: []object{query("seconds", "How long to profile.", integer()),
			query("debug", "1: as text.", integer())},
		answers: map[int]answer{
			http.StatusOK: {"The profile.", "*/*", nil, nil},
			http.StatusFound: {"There is no such profile: to the list of those there are.",
				"", nil, []string{"Location"}},
			http.StatusBadRequest: {"The profile cannot be made so.", "text/plain", nil,
				nil},
			http.StatusInternalServerError: {"Another profile is being made.", "text/plain", nil,
				nil},
		},
	},
}

var watching = []operation{
	{
		method:  "GET",
		path:    "/metrics",
		tag:     "Watching",
		summary: "Metrics, as text, OpenMetrics or protobuf; in production for the networks of --metrics-from.",
		answers: map[int]answer{
			http.StatusOK: {"The metrics.",
				"text/plain application/openmetrics-text application/vnd.google.protobuf", nil, nil},
			http.StatusForbidden: {"The network is none of those.", fhirJSON, ref("OperationOutcome"), nil},
		},
	},
	{
		method:  "GET",
		path:    "/healthz",
		tag:     "Watching",
		summary: "Whether the process lives.",
		answers: ok("It does.", "", nil),
	},
	{
		method:  "GET",
		path:    "/readyz",
		tag:     "Watching",
		summary: "Whether NATS, the record store and the disk work: each bucket is written to and read, and a file is synced.",
		answers: map[int]answer{
			http.StatusOK: {
				"They do.",
				"",
				nil,
				nil,
			}, http.StatusServiceUnavailable: {
				"One does not, the process is being stopped, or it is in rescue mode: why, as far as it is for anybody; the log says all.",
				"text/plain",
				nil,
				nil,
			}},
	},
	{
		method:   "GET",
		path:     "/openapi.json",
		tag:      "Watching",
		summary:  "This document.",
		failures: "fhir",
		answers: map[int]answer{
			http.StatusOK:          {"The document.", plainJSON, object{"type": "object"}, []string{"ETag"}},
			http.StatusNotModified: {"The client has it.", "", nil, []string{"ETag"}},
		},
	},
}

// page is something that people see.
func page(method, path, summary string, answers map[int]answer) operation {
	o := operation{
		method:   method,
		path:     path,
		tag:      "Pages",
		summary:  summary,
		failures: "page",
		answers:  answers,
	}
	if method == http.MethodPost {
		o.body = object{webForm: object{"type": "object"}}
	}
	return o
}

var pages = []operation{
	page("GET", "/", "The server's front page.", ok("The page.", html, nil)),
	page("GET", "/docs/api", "This document, to read and to try.", ok("The page.", html, nil)),
	page("GET", "/docs/ehi", "What an export holds, for its reader.", ok("The page.", html, nil, "ETag")).
		also(http.StatusNotModified, answer{"The browser has it.", "", nil, []string{"ETag"}}),
	page("GET", "/patient-login", "The patient's log-in.", ok("The page.", html, nil)),
	page("POST", "/patient-login", "Log the patient in.",
		map[int]answer{http.StatusSeeOther: {"On, or back to the page, which says what was wrong.",
			"", nil, []string{"Location"}}}),
	page("GET", "/authorize-app", "What an application asks for.", map[int]answer{
		http.StatusOK: {"The page.", html, nil, nil},
		http.StatusFound: {"To the log-in, or back to the application.", "", nil,
			[]string{"Location"}},
		http.StatusBadRequest: {
			"The request is not one of an application that is known here: a page, or an OAuth " +
				"error.",
			html + " " + plainJSON,
			ref("OAuthError"),
			nil,
		},
	}),
	page("POST", "/authorize-app", "Consent, or its refusal.",
		map[int]answer{http.StatusSeeOther: {"Back to the application.", "", nil,
			[]string{"Location"}}}),
	page("GET", "/my/applications", "The applications that the patient has let in.",
		map[int]answer{
			http.StatusOK:    {"The page.", html, nil, nil},
			http.StatusFound: {"To the log-in.", "", nil, []string{"Location"}},
		}),
	page("POST", "/my/applications", "End an application's access.",
		map[int]answer{http.StatusSeeOther: {"To the list, or to the log-in.", "", nil,
			[]string{"Location"}}}),
	page("GET", "/my/requests", "The patient's requests, the newest first.",
		map[int]answer{
			http.StatusOK:    {"The page.", html, nil, nil},
			http.StatusFound: {"To the log-in.", "", nil, []string{"Location"}},
		}),
	page("GET", "/my/requests/{id}",
		"How a request stands, for its patient, and its files when they may be had.",
		map[int]answer{
			http.StatusOK:    {"The page.", html, nil, nil},
			http.StatusFound: {"To the log-in.", "", nil, []string{"Location"}},
		}),
	page("POST", "/my/requests/{id}", "Cancel a request.",
		map[int]answer{http.StatusSeeOther: {"To the list, or to the log-in.", "", nil,
			[]string{"Location"}}}),
	page("GET", "/my/requests/{id}/archive",
		"Everything of an approved request, for its patient, as a ZIP archive.",
		map[int]answer{
			http.StatusOK:    {"The archive.", "application/zip", nil, nil},
			http.StatusFound: {"To the log-in.", "", nil, []string{"Location"}},
		}),
	page("GET", "/my/requests/{id}/files/{file}", "A file of an approved request, for its patient.",
		sent(fhirNDJSON)).also(http.StatusFound, toLogIn),
	page("GET", "/my/requests/{id}/documents/{file}",
		"A document of an approved request, for its patient.", sent("*/*")).also(http.StatusFound,
		toLogIn),
	page("POST", "/patient-logout", "Log the patient out.",
		map[int]answer{http.StatusSeeOther: {"To the log-in.", "", nil, []string{"Location"}}}),
	page("GET", "/assets/{file}", "Style sheet and icon.", ok("The file.", "*/*", nil, "ETag")).
		also(http.StatusNotModified, answer{"The browser has it.", "", nil, []string{"ETag"}}),
}

// staffPage is something that administrators see.
func staffPage(method, path, summary string, query ...object) operation {
	o := page(method, "/admin"+path, summary,
		map[int]answer{
			http.StatusOK:    {"The page.", html, nil, nil},
			http.StatusFound: {"To the log-in, or on.", "", nil, []string{"Location"}},
		})
	o.query = query
	o.tag, o.security, o.failures = "Administrators' pages", []string{"session"}, "staff"
	if method == http.MethodPost { // a form is answered by the way to a page, never by one
		o.answers = map[int]answer{http.StatusSeeOther: {"On to the page that shows it.", "", nil,
			[]string{"Location"}}}
	}
	return o
}

// staffDocument is a file that administrators open from a page.
func staffDocument(path, summary string) operation {
	o := staffPage("GET", path, summary)
	o.answers = sent("*/*")
	o.answers[http.StatusFound] = toLogIn
	return o
}

// open is an operation that needs no session.
func (o operation) open() operation {
	o.security = nil
	return o
}

func listQuery() []object {
	return []object{query("q", "Only with these words, or this beginning of an id.", str()),
		query("page", "Which page, from 1.", integer())}
}

var staffPages = []operation{
	staffPage("GET", "", "On to the exports."),
	staffPage("GET", "/ui/login", "The administrators' log-in.").open(),
	staffPage("POST", "/ui/login", "Log an administrator in.").open(),
	staffPage("GET", "/ui/login/code", "Where an administrator with a second factor enters a code.").open(),
	staffPage("POST", "/ui/login/code", "Log an administrator in by the code of a second factor.").open(),
	staffPage("POST", "/ui/login/openid",
		"To the OpenID provider by which administrators sign in, where there is one.").open(),
	staffPage("GET", "/ui/login/openid/callback", "Back from the OpenID provider.").open(),
	staffPage("GET", "/ui/prove", "Where an administrator proves once more who he is."),
	staffPage("POST", "/ui/prove", "Prove once more who one is, for what asks for a recent proof."),
	staffPage("GET", "/ui/second-factor", "An administrator's own second factor, or how to set one up."),
	staffPage("POST", "/ui/second-factor",
		"Set up one's own second factor, renew its recovery codes, or remove it."),
	staffPage("POST", "/ui/logout", "Log an administrator out.").open(),
	{
		method:   "GET",
		path:     "/admin/ui/events",
		tag:      "Administrators' pages",
		summary:  "What changes of exports, as server-sent events of the type jobs.",
		security: []string{"session"},
		failures: "admin",
		answers:  ok("The events, without an end.", "text/event-stream", nil),
	},
	staffPage("GET", "/ui/jobs", "The exports.",
		query(
			"status",
			"Only those in this status.",
			str(),
		), query(
			"level",
			"Only of this kind: patient, patients, group, system.",
			str(),
		), query("client", "Only this client's.", str()),
		query("q",
			"Only with these words in the patient's name, or with this beginning of the "+
				"patient's, the group's, the client's or the export's id.",
			str()), query(
			"sort",
			"The order.",
			enum("newest", "oldest", "name", "status"),
		), query("page", "Which page, from 1.", integer())),
	staffPage("POST", "/ui/jobs", "Approve or reject several exports, after a question."),
	staffPage("GET", "/ui/jobs/{id}", "One export."),
	staffPage("POST", "/ui/jobs/{id}", "Approve or reject an export."),
	staffPage("POST", "/ui/jobs/{id}/remove-file", "Remove a document."),
	staffPage("POST", "/ui/jobs/{id}/delete", "Delete an export."),
	staffPage(
		"GET",
		"/ui/jobs/{id}/files",
		"The files of an export, page by page.",
		query("q", "Only with this in their names.", str()),
		query("part", "From this part on, from 1.", integer()),
		query("before", "The page before this part.", integer()),
	),
	staffPage("GET", "/ui/jobs/{id}/files/{file}", "The first entries of a file."),
	staffDocument("/ui/jobs/{id}/documents/{file}", "A document of an export, for its review."),
	staffPage("GET", "/ui/system", "Queue, workers, state and throughput."),
	staffPage("GET", "/ui/clients", "The registered clients.", listQuery()...),
	staffPage("POST", "/ui/clients", "Add a client, give it a new secret, or remove it."),
	staffPage("GET", "/ui/accounts", "The accounts.", listQuery()...),
	staffPage("POST", "/ui/accounts",
		"Add an account, set its password, reset its second factor, or remove it."),
	staffPage(
		"GET",
		"/ui/audit",
		"The latest events of the audit trail, or an export's.",
		query("job", "Only this export's.", str()),
		query("day", "Only this day's (UTC), like 2026-01-31.", str()),
		query("q", "Only with these words.", str()),
		query("after", "Go on behind this event.", integer()),
	),
}
