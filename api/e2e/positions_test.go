package e2e

import (
	"encoding/json"
	"go/ast"
	gobuild "go/build"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ehi-server/api/openapi"
)

// positions are the places in a request that the server reads, by the names in its source.
type positions struct {
	headers, cookies, fields []string
}

// libraryHeaders are read by the HTTP server, the tracer or the code that serves files, without
// a constant of Fiber in this server's source.
var libraryHeaders = []string{
	"Host", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Cookie", "Traceparent",
	"Tracestate", "Baggage", "Access-Control-Request-Method", "Access-Control-Request-Headers",
}

// hostCookies is the prefix of cookie names over HTTPS.
const hostCookies = "__Host-"

var (
	headerName = regexp.MustCompile(`^[A-Z][A-Za-z]*(-[A-Z][A-Za-z0-9]*)+$`)
	fieldName  = regexp.MustCompile(`^[a-z_][A-Za-z_]*$`)
)

// setters are the methods whose first argument names something that is sent, not read.
var setters = []string{"Set", "Add", "Append", "GetRespHeader", "Vary"}

// readPositions reads the names of headers, cookies and fields from the source of package auth,
// of the packages of api that handle requests, and of the headers that Fiber reads for them. A
// new name is tested immediately.
func readPositions(t *testing.T) positions {
	t.Helper()
	fiber, err := gobuild.Import("github.com/gofiber/fiber/v2", ".", gobuild.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	s := &scan{
		t:         t,
		constants: map[string]string{},
		headers:   map[string]bool{},
		cookies:   map[string]bool{},
		fields:    map[string]bool{},
	}
	s.declared("fiber.", s.parse(filepath.Join(fiber.Dir, "helpers.go")))
	for _, name := range libraryHeaders {
		s.headers[name] = true
	}
	ast.Inspect(s.parse(filepath.Join(fiber.Dir, "ctx.go")), func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if ok && s.constants["fiber."+id.Name] != "" && strings.HasPrefix(id.Name, "Header") {
			s.header(s.constants["fiber."+id.Name])
		}
		return true
	})
	packages := s.packages(filepath.Join("..", "*"), filepath.Join("..", "..", "auth"))
	for name, files := range packages {
		for _, file := range files {
			s.declared(name+".", file)
		}
	}
	shared := s.constants
	for _, files := range packages {
		s.constants = maps.Clone(shared) // a package uses its own constants without a qualifier
		for _, file := range files {
			s.declared("", file)
		}
		for _, file := range files {
			s.read(file)
		}
	}
	out := positions{
		headers: slices.Sorted(maps.Keys(s.headers)),
		fields:  slices.Sorted(maps.Keys(s.fields)),
	}
	for _, name := range slices.Sorted(maps.Keys(s.cookies)) {
		out.cookies = append(out.cookies, name, hostCookies+name)
	}
	return out
}

// scan reads source.
type scan struct {
	t *testing.T
	// string constants by name; those of another package as pkg.Name
	constants                map[string]string
	headers, cookies, fields map[string]bool
}

func (s *scan) parse(path string) *ast.File {
	s.t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

// packages parses the packages in these folders, by name; of api only those that use Fiber.
func (s *scan) packages(folders ...string) map[string][]*ast.File {
	s.t.Helper()
	out := map[string][]*ast.File{}
	for _, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(paths) == 0 {
			s.t.Fatalf("%d files in %s: %v", len(paths), folder, err)
		}
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				file := s.parse(path)
				out[file.Name.Name] = append(out[file.Name.Name], file)
			}
		}
	}
	maps.DeleteFunc(out, func(name string, files []*ast.File) bool {
		return name != "auth" && !slices.ContainsFunc(files, usesFiber)
	})
	if len(out) < 8 {
		s.t.Fatalf("only %d packages handle requests", len(out))
	}
	return out
}

func usesFiber(file *ast.File) bool {
	return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool {
		return strings.HasPrefix(i.Path.Value, `"github.com/gofiber/fiber/v2`)
	})
}

// declared records a file's constants.
func (s *scan) declared(prefix string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != len(spec.Values) {
			return true
		}
		for i, name := range spec.Names {
			if text := s.text(spec.Values[i]); text != "" {
				s.constants[prefix+name.Name] = text
			}
		}
		return true
	})
}

// text returns the value of a literal or a constant; "" for anything else.
func (s *scan) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			return text
		}
	case *ast.Ident:
		return s.constants[e.Name]
	case *ast.SelectorExpr:
		if of, ok := e.X.(*ast.Ident); ok {
			return s.constants[of.Name+"."+e.Sel.Name]
		}
	}
	return ""
}

// header records a header.
func (s *scan) header(name string) { s.headers[http.CanonicalHeaderKey(name)] = true }

// read records what a file reads from requests.
func (s *scan) read(file *ast.File) {
	sent := map[ast.Node]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			s.call(n, sent)
		case *ast.SelectorExpr:
			of, ok := n.X.(*ast.Ident)
			if ok && of.Name == "fiber" && strings.HasPrefix(n.Sel.Name, "Header") && !sent[n] {
				if s.text(n) == "" {
					s.t.Errorf("fiber.%s is no constant that was found", n.Sel.Name)
					return true
				}
				s.header(s.text(n))
			}
		case *ast.BasicLit:
			if text := s.text(n); headerName.MatchString(text) && !sent[n] {
				s.header(text)
			}
		}
		return true
	})
}

// call records what one call reads.
func (s *scan) call(call *ast.CallExpr, sent map[ast.Node]bool) {
	of, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	name := s.text(call.Args[0])
	switch method := of.Sel.Name; {
	case slices.Contains(setters, method):
		sent[call.Args[0]] = true
	case name != "" && (method == "Cookies" || method == "Cookie"):
		s.cookies[name] = true
	case name != "" &&
		slices.Contains([]string{"Get", "Query", "QueryInt", "Peek", "FormValue", "Has"}, method):
		if fieldName.MatchString(name) {
			s.fields[name] = true
		}
	case method == "Forms" && len(call.Args) > 1: // page.Guard's
		s.cookies[s.text(call.Args[0])], s.cookies[s.text(call.Args[1])] = true, true
	}
}

// input is what an operation accepts, according to the API's document.
type input struct {
	query []string
	// body has the names of a form's fields, or of a JSON object's, by media type.
	body map[string][]string
}

// inputs returns the input of every operation, with an additional unknown query parameter.
func inputs(t *testing.T, w *world) map[string]input {
	t.Helper()
	type schema struct {
		Ref        string `json:"$ref"`
		Properties map[string]json.RawMessage
	}
	type body struct {
		Ref     string `json:"$ref"`
		Content map[string]struct{ Schema schema }
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Parameters    map[string]struct{ Name, In string }
			RequestBodies map[string]body
			Schemas       map[string]schema
		}
	}
	if err := json.Unmarshal(w.do(w.open, "GET", "/openapi.json").Body, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string]input{}
	for _, o := range openapi.Operations() {
		var op struct {
			Parameters []struct {
				Name, In string
				Ref      string `json:"$ref"`
			}
			RequestBody body
		}
		if err := json.Unmarshal(doc.Paths[o.Path][strings.ToLower(o.Method)], &op); err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		in := input{query: []string{"unknown"}, body: map[string][]string{}}
		for _, p := range op.Parameters {
			if p.Ref != "" {
				shared := doc.Components.Parameters[p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]]
				p.Name, p.In = shared.Name, shared.In
			}
			if p.In == "query" {
				in.query = append(in.query, p.Name)
			}
		}
		if ref := op.RequestBody.Ref; ref != "" {
			op.RequestBody = doc.Components.RequestBodies[ref[strings.LastIndexByte(ref, '/')+1:]]
		}
		for mime, c := range op.RequestBody.Content {
			of := c.Schema
			if of.Ref != "" {
				of = doc.Components.Schemas[of.Ref[strings.LastIndexByte(of.Ref, '/')+1:]]
			}
			in.body[mime] = slices.Sorted(maps.Keys(of.Properties))
		}
		out[o.String()] = in
	}
	return out
}

// The positions of the route fuzz come from the source. These are examples of each way in which
// a name is found.
func TestPositionsComeFromTheSource(t *testing.T) {
	t.Parallel()
	at := readPositions(t)
	for what, names := range map[string]struct{ has, wants []string }{
		"headers": {at.headers, []string{
			"Authorization", "Accept", "Host", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
			"X-Forwarded-Proto", "X-Real-Ip", "Via", "Origin", "Referer", "Sec-Fetch-Site",
			"X-Interaction-Token", "If-Range", "Want-Repr-Digest", "X-Request-Id",
		}},
		"cookies": {at.cookies, []string{
			"sid", "ehi_patient", "ehi_csrf", "ehi_admin_csrf", "ehi_flash", "ehi_lang",
			"ehi_openid",
			"__Host-sid", "__Host-ehi_openid",
		}},
		"fields": {at.fields, []string{
			"client_id", "_csrf", "_patient", "page", "redirect", "aud", "next", "code",
			"refresh_token",
		}},
	} {
		for _, name := range names.wants {
			if !slices.Contains(names.has, name) {
				t.Errorf("%s %s is not found: %v", what, name, names.has)
			}
		}
	}
	if os.Getenv("EHI_HOSTILE") != "" {
		t.Logf("headers %v\ncookies %v\nfields %v", at.headers, at.cookies, at.fields)
	}
}
