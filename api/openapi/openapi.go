// Package openapi describes the server's HTTP API as an OpenAPI 3.1 document
// (https://spec.openapis.org/oas/v3.1.0), which GET /openapi.json serves. Tests hold it to the
// routes that there are, and to real answers.
package openapi

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object of the document.
type object map[string]any

// Document is the document of a server that clients reach at an origin. variants are the prefixes
// of the FHIR base (EHI-1).
func Document(origin, version string, variants []string) any {
	paths := object{}
	for _, o := range operations {
		item, known := paths[o.path].(object)
		if !known {
			item = object{}
			if strings.HasPrefix(o.path, "/fhir") {
				item["servers"] = servers(origin, variants)
			}
			if params := inPath(o.path); len(params) > 0 {
				item["parameters"] = params
			}
			paths[o.path] = item
		}
		item[strings.ToLower(o.method)] = o.document()
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "EHI export server", "version": version, "license": object{
				"name":       "Apache-2.0",
				"identifier": "Apache-2.0",
			},
			"description": "The Argonaut EHI Export API and Bulk Data Access on the FHIR " +
				"asynchronous pattern, authorised by SMART App Launch.",
		},
		"servers": []object{{"url": origin}},
		"tags":    tags,
		"paths":   paths,
		"components": object{
			"schemas":   schemas,
			"responses": sharedResponses(),
			"securitySchemes": object{
				"bearer": object{
					"type":         "http",
					"scheme":       "bearer",
					"bearerFormat": "JWT",
					"description": "An access token of /auth/token. A route's summary of " +
						"scopes says which open it.",
				},
				"session": object{
					"type":        "apiKey",
					"in":          "cookie",
					"name":        "sid",
					"description": "An administrator's session, of POST /admin/login.",
				},
				"initial": object{
					"type":   "http",
					"scheme": "bearer",
					"description": "The initial access token of dynamic registration, " +
						"--registration-token.",
				},
				"interaction": object{
					"type": "apiKey",
					"in":   "header",
					"name": "X-Interaction-Token",
					"description": "The token of a rendered form; on the page itself it is a " +
						"field.",
				},
			},
		},
	}
}

var variantNames = map[string]string{
	"": "With form and review", "/no-form": "Without the patient's form",
	"/auto-approve":         "Without an administrator's review",
	"/no-form/auto-approve": "Without form and review",
	"/auto-approve/no-form": "Without form and review",
}

func servers(origin string, variants []string) (out []object) {
	for _, v := range variants {
		out = append(out, object{"url": origin + v, "description": variantNames[v]})
	}
	return append(out, object{
		"url":         origin + "/faulty/{faults}",
		"description": "With faults to order, in the sandbox; the other variants may follow",
		"variables": object{"faults": object{
			"default":     "throttled",
			"description": "Names of faults with + between them, as docs/faults.md lists them.",
		}},
	})
}

// inPath are the parameters of a path.
func inPath(path string) (out []object) {
	for _, part := range strings.Split(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			out = append(out, object{
				"name":     strings.TrimSuffix(name, "}"),
				"in":       "path",
				"required": true,
				"schema":   object{"type": "string"},
			})
		}
	}
	return out
}

// operation is a route with what it takes and answers.
type operation struct {
	method, path, tag, summary string
	// security is by which schemes it opens, each for itself; none: to everybody.
	security []string
	query    []object
	headers  []object
	// body is what is sent, by media type; optional says that it need not be.
	body     object
	optional bool
	// answers are by status; failures names the group of bodies that further statuses have (see
	// fails).
	answers  map[int]answer
	failures string
}

// answer is one status of an operation: what it means, its media types (spaces between them) and
// the schema of what is JSON, its headers.
type answer struct {
	about, mime string
	schema      object
	headers     []string
}

func (o operation) document() object {
	d := object{"summary": o.summary, "tags": []string{o.tag}, "operationId": id(o.method, o.path)}
	if params := slices.Concat(o.query, o.headers); len(params) > 0 {
		d["parameters"] = params
	}
	security := []object{}
	for _, s := range o.security {
		security = append(security, object{s: []string{}})
	}
	d["security"] = security
	if o.body != nil {
		content := object{}
		for mime, schema := range o.body {
			content[mime] = object{"schema": schema}
		}
		d["requestBody"] = object{"content": content, "required": !o.optional}
	}
	responses := object{}
	for status, a := range o.all() {
		responses[strconv.Itoa(status)] = a.document()
		if name := o.shared(status); name != "" {
			responses[strconv.Itoa(status)] = object{"$ref": "#/components/responses/" + name}
		}
	}
	d["responses"] = responses
	return d
}

// id names an operation: getJobsIdStatus.
func id(method, path string) string {
	out := strings.ToLower(method)
	for _, word := range strings.FieldsFunc(path,
		func(r rune) bool { return strings.ContainsRune("/{}$.-_*", r) }) {
		out += strings.ToUpper(word[:1]) + word[1:]
	}
	return out
}

func (a answer) document() object {
	d := object{"description": a.about}
	if a.mime != "" {
		content := object{}
		for _, mime := range strings.Fields(a.mime) {
			media := object{}
			if a.schema != nil && strings.HasSuffix(mime, "json") {
				media["schema"] = a.schema
			}
			content[mime] = media
		}
		d["content"] = content
	}
	headers := object{"X-Request-Id": object{
		"description": "Names the request in the log and among the traces.",
		"schema":      object{"type": "string"},
	}}
	for _, name := range a.headers {
		headers[name] = object{"description": headerNotes[name], "schema": object{"type": "string"}}
	}
	d["headers"] = headers
	return d
}

var headerNotes = map[string]string{
	"Content-Location":   "The job's status URL.",
	"Link":               `The patient's form, with rel="patient-interaction", while it is open.`,
	"Retry-After":        "Seconds until the next poll.",
	"Preference-Applied": "The wait that was kept to, where Prefer has one.",
	"X-Progress":         "How far the job is, in up to 100 characters.",
	"Expires":            "When the files go.",
	"ETag":               "Names these very bytes for ever.",
	"Repr-Digest":        "The SHA-256 of the file as it is stored (RFC 9530); absent where it is compressed or expanded as it is sent.",
	"Content-Range":      "What part it is.",
	"Location":           "Where to go on.",
	"WWW-Authenticate":   "RFC 6750.",
	"Set-Cookie":         "The session.",
	"X-Export-Status":    "The status proper, for Prefer: separate-export-status.",
	"Content-Encoding":   "gzip or zstd, as the client accepts.",
	"Last-Modified":      "When the export was made.",
}

// Media types.
const (
	fhirJSON   = "application/fhir+json"
	fhirNDJSON = "application/fhir+ndjson"
	plainJSON  = "application/json"
	webForm    = "application/x-www-form-urlencoded"
	html       = "text/html"
)

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// Operation is a route of the document.
type Operation struct {
	Method, Path string
	// Security is by which schemes it opens, each for itself: bearer, session, interaction,
	// initial. None: to everybody.
	Security []string
	answers  map[int]answer
	failures string
}

// IsPage reports whether people see the operation's answers in a browser.
func (o Operation) IsPage() bool { return o.failures == "page" || o.failures == "staff" }

// Media lists the media types that an answer with a status may have; none: its body is empty.
// documented is false for a status that the operation does not answer with.
func (o Operation) Media(status int) (types []string, documented bool) {
	a, documented := o.answers[status]
	return strings.Fields(a.mime), documented
}

// String is the method and the path.
func (o Operation) String() string { return o.Method + " " + o.Path }

// Operations lists the routes of the document, sorted by path.
func Operations() (out []Operation) {
	for _, o := range operations {
		out = append(out, Operation{o.method, o.path, o.security, o.all(), o.failures})
	}
	slices.SortFunc(out, func(a, b Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return out
}

func str() object              { return object{"type": "string"} }
func integer() object          { return object{"type": "integer", "minimum": 0} }
func boolean() object          { return object{"type": "boolean"} }
func array(of object) object   { return object{"type": "array", "items": of} }
func mapping(of object) object { return object{"type": "object", "additionalProperties": of} }

// enum is one of some strings.
func enum(values ...string) object { return object{"type": "string", "enum": values} }

// record is an object with fields; all but those whose name ends in ? are always there.
func record(fields object) object {
	properties, required := object{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		plain, maybe := strings.CutSuffix(name, "?")
		properties[plain] = fields[name]
		if !maybe {
			required = append(required, plain)
		}
	}
	return object{"type": "object", "properties": properties, "required": required}
}

// resource is a FHIR R4 resource of a type.
func resource(typ string) object {
	return object{
		"type":       "object",
		"required":   []string{"resourceType"},
		"properties": object{"resourceType": object{"const": typ}},
	}
}

func query(name, about string, schema object) object {
	return object{"name": name, "in": "query", "description": about, "schema": schema}
}

func header(name, about string) object {
	return object{"name": name, "in": "header", "description": about, "schema": str()}
}

func ok(about, mime string, schema object, headers ...string) map[int]answer {
	return map[int]answer{http.StatusOK: {about, mime, schema, headers}}
}
