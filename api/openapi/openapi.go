// Package openapi holds the description of the server's HTTP API: openapi.yaml, an OpenAPI 3.1
// document (https://spec.openapis.org/oas/v3.1.0) that GET /openapi.json serves. Tests hold it to
// the routes of the server, to the rules of access, and to real answers.
package openapi

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var text []byte

// object is a JSON object of the document.
type object = map[string]any

// Document is the document of a server of some version that clients reach at an origin. The caller
// must not change it.
func Document(origin, version string) any {
	doc := maps.Clone(parsed().document)
	info := maps.Clone(doc["info"].(object))
	info["version"] = version
	doc["info"] = info
	doc["servers"] = []object{{"url": origin}}

	paths := maps.Clone(doc["paths"].(object))
	bases := fhirServers(origin)
	for route, item := range paths {
		if strings.HasPrefix(route, "/fhir") {
			withBases := maps.Clone(item.(object))
			withBases["servers"] = bases
			paths[route] = withBases
		}
	}
	doc["paths"] = paths
	return doc
}

// fhirServers lists the URLs at which each FHIR path is served, one for each variant of the FHIR
// base (EHI-1).
func fhirServers(origin string) []object {
	var out []object
	for _, variant := range parsed().Variants {
		server := maps.Clone(variant)
		server["url"] = origin + server["url"].(string)
		out = append(out, server)
	}
	return out
}

// Variants lists the prefixes of the FHIR base, "" for none among them.
func Variants() []string {
	var out []string
	for _, server := range fhirServers("") {
		if prefix := server["url"].(string); !strings.Contains(prefix, "{") {
			out = append(out, prefix)
		}
	}
	return out
}

// Tag is a group of operations.
type Tag struct{ Name, Description string }

// Tags lists the groups of operations in the order of the document.
func Tags() []Tag { return slices.Clone(parsed().Tags) }

// Operation is a route of the document.
type Operation struct {
	Method, Path string
	// Tag is the group of the operation, Summary what it does.
	Tag, Summary string
	// Curl is a command that tries the operation, "" if there is none.
	Curl string
	// Query lists the names of its query parameters.
	Query []string
	// Security lists the schemes that open the operation, each by itself: bearer, session,
	// interaction, initial. An operation without any is open to everybody.
	Security []string
	// responses are by status.
	responses map[int]response
	isPage    bool
}

// String returns the method and the path.
func (o Operation) String() string { return o.Method + " " + o.Path }

// IsPage reports whether people see the operation's answers in a browser.
func (o Operation) IsPage() bool { return o.isPage }

// Media lists the media types that an answer with a status may have; none if its body is empty.
// documented is false for a status that the operation does not answer with.
func (o Operation) Media(status int) (types []string, documented bool) {
	r, documented := o.responses[status]
	return slices.Sorted(maps.Keys(r.Content)), documented
}

// order is the text by which Operations sorts.
func (o Operation) order() string {
	if o.Method == http.MethodDelete {
		return o.Path + "/~" // after the paths below it
	}
	return o.Path + " " + o.Method
}

// Operations lists the routes of the document, sorted by path. A route that deletes something comes
// after the routes that use it, so that no example of a section lacks what an earlier one deleted.
func Operations() []Operation { return slices.Clone(parsed().operations) }

// contents is what the server reads of openapi.yaml.
type contents struct {
	Variants   []object `yaml:"x-fhir-servers"`
	Tags       []Tag
	Paths      map[string]pathItem
	Components struct {
		Parameters map[string]parameter
		Responses  map[string]response
	}
	document   object
	operations []Operation
}

type pathItem struct{ Get, Post, Put, Delete *operation }

// operations returns the operations of a path by method.
func (p pathItem) operations() map[string]*operation {
	out := map[string]*operation{
		http.MethodGet:    p.Get,
		http.MethodPost:   p.Post,
		http.MethodPut:    p.Put,
		http.MethodDelete: p.Delete,
	}
	maps.DeleteFunc(out, func(_ string, op *operation) bool { return op == nil })
	return out
}

type operation struct {
	Summary    string
	Curl       string `yaml:"x-curl"`
	Tags       []string
	Security   []map[string][]string
	Parameters []parameter
	Responses  map[string]response
}

type parameter struct {
	Ref      string `yaml:"$ref"`
	Name, In string
}

type response struct {
	Ref     string `yaml:"$ref"`
	Content map[string]any
}

// parsed is openapi.yaml, which is read when it is first asked for.
var parsed = sync.OnceValue(func() *contents {
	c, err := parse(text)
	if err != nil { // the file is part of the build, and tests parse it
		panic("openapi.yaml: " + err.Error())
	}
	return c
})

func parse(text []byte) (*contents, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	c := &contents{document: object{}}
	if err := errors.Join(root.Decode(&c.document), root.Decode(c)); err != nil {
		return nil, err
	}
	withoutExtensions(c.document)
	for route, item := range c.Paths {
		for method, op := range item.operations() {
			resolved, err := c.resolve(method, route, op)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, route, err)
			}
			c.operations = append(c.operations, resolved)
		}
	}
	slices.SortFunc(c.operations, func(a, b Operation) int {
		return strings.Compare(a.order(), b.order())
	})
	return c, nil
}

// withoutExtensions removes the properties x-... of an object, and of all objects in it.
func withoutExtensions(in any) {
	switch in := in.(type) {
	case object:
		maps.DeleteFunc(in, func(key string, _ any) bool { return strings.HasPrefix(key, "x-") })
		for _, v := range in {
			withoutExtensions(v)
		}
	case []any:
		for _, v := range in {
			withoutExtensions(v)
		}
	}
}

// pageFailure matches the responses of failures that are pages.
var pageFailure = regexp.MustCompile(`/(page|staff)[0-9]{3}$`)

// resolve follows the references of an operation.
func (c *contents) resolve(method, route string, op *operation) (Operation, error) {
	out := Operation{
		Method:    method,
		Path:      route,
		Summary:   op.Summary,
		Curl:      op.Curl,
		responses: map[int]response{},
	}
	if len(op.Tags) > 0 {
		out.Tag = op.Tags[0]
	}
	for _, schemes := range op.Security {
		out.Security = append(out.Security, slices.Collect(maps.Keys(schemes))...)
	}
	for _, p := range op.Parameters {
		if p.Ref != "" {
			p = c.Components.Parameters[path.Base(p.Ref)]
		}
		if p.In == "query" {
			out.Query = append(out.Query, p.Name)
		}
	}
	for code, r := range op.Responses {
		status, err := strconv.Atoi(code)
		if err != nil { // such as default: each status is listed
			return out, err
		}
		out.isPage = out.isPage || pageFailure.MatchString(r.Ref)
		if r.Ref != "" {
			r = c.Components.Responses[path.Base(r.Ref)]
		}
		out.responses[status] = r
	}
	return out, nil
}
