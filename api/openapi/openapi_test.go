package openapi

import (
	"encoding/json"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// served returns the document as a server sends it.
func served(t *testing.T) []byte {
	t.Helper()
	out, err := json.Marshal(Document("https://ehi.example", "1"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The document is valid according to the published schema of OpenAPI 3.1, and each reference has
// a target.
func TestTheDocumentIsValid(t *testing.T) {
	document, err := libopenapi.NewDocument(served(t))
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		t.Fatalf("%+v", errs)
	}
}

// Each component is referenced, and each reference has a component.
func TestEachComponentIsReferredTo(t *testing.T) {
	var doc struct {
		Components map[string]map[string]any
	}
	if err := json.Unmarshal(served(t), &doc); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, ref := range regexp.MustCompile(`"#/components/([^"]+)"`).FindAllStringSubmatch(
		string(served(t)), -1) {
		used[ref[1]] = true
	}
	for _, o := range Operations() {
		for _, scheme := range o.Security {
			used["securitySchemes/"+scheme] = true
		}
	}
	for kind, components := range doc.Components {
		for name := range components {
			if !used[kind+"/"+name] {
				t.Errorf("nothing refers to %s/%s", kind, name)
			}
			delete(used, kind+"/"+name)
		}
	}
	for name := range used {
		t.Errorf("the component %s is missing", name)
	}
}

// Each operation has a unique id, one of the tags and a summary, and every response has
// X-Request-Id.
func TestOperationsAreComplete(t *testing.T) {
	var tags []string
	for _, tag := range Tags() {
		tags = append(tags, tag.Name)
	}
	for _, o := range Operations() {
		if !slices.Contains(tags, o.Tag) || !strings.HasSuffix(o.Summary, ".") {
			t.Errorf("%s has the tag %q and the summary %q", o, o.Tag, o.Summary)
		}
	}
	responses := parsed().document["components"].(object)["responses"].(object)
	ids := map[string]string{}
	for route, item := range parsed().document["paths"].(object) {
		for method, op := range item.(object) {
			if method == "parameters" {
				continue
			}
			id := op.(object)["operationId"].(string)
			if other, taken := ids[id]; taken {
				t.Errorf("%s %s and %s have the id %s", method, route, other, id)
			}
			ids[id] = method + " " + route
			for status, r := range op.(object)["responses"].(object) {
				if ref, shared := r.(object)["$ref"]; shared {
					r = responses[path.Base(ref.(string))]
				}
				headers, _ := r.(object)["headers"].(object)
				if headers["X-Request-Id"] == nil {
					t.Errorf("%s %s %s lacks X-Request-Id", method, route, status)
				}
			}
		}
	}
	if len(ids) != len(Operations()) {
		t.Errorf("%d ids of %d operations", len(ids), len(Operations()))
	}
}

// Each kick-off lists the parameters that it takes, and no others. (Only bodies have patient.)
func TestKickOffsListTheirParameters(t *testing.T) {
	values := map[string]string{
		"_since": "2024-01-01T00:00:00Z", "_until": "2024-01-01T00:00:00Z", "_type": "Patient",
		"_outputFormat": "ndjson", "_compression": "gzip", "category": "labs", "from": "2024-01-01",
		"to": "2024-01-01", "_package": "zip", "_typeFilter": "Patient?gender=male",
		"_elements": "Patient.name", "includeAssociatedData": "RelevantProvenanceResources",
		"organizeOutputBy": "Patient", "allowPartialManifests": "true",
	}
	levels := map[string]ehi.Level{
		"/fhir/Patient/{id}/": ehi.OnePatient, "/fhir/Group/{id}/": ehi.OneGroup,
		"/fhir/Patient/": ehi.AllPatients, "/fhir/": ehi.System,
	}
	kickOffs := 0
	for _, o := range Operations() {
		folder, name := path.Split(o.Path)
		level, known := levels[folder]
		if !known || !strings.Contains(name, "export") {
			continue
		}
		kickOffs++
		operation := ehi.BulkExport
		if name == "$ehi-export" {
			operation = ehi.EHIExport
		}
		for name, value := range values {
			_, err := ehi.ParseKickOff(ehi.Asked{
				Level: level, Operation: operation,
				Parameters: []fhir.Parameter{{Name: name, Value: value}},
			})
			if listed := slices.Contains(o.Query, name); listed != (err == nil) {
				t.Errorf("%s lists %s: %v; %v", o, name, listed, err)
			}
		}
	}
	if kickOffs < 12 {
		t.Errorf("only %d kick-offs", kickOffs)
	}
}

// Each operation lists every status of its responses; 500 only if it means more than a defect of
// the server.
func TestOperationsListEveryStatus(t *testing.T) {
	var broken []string
	for _, o := range Operations() {
		for status := 400; status < 600; status++ {
			media, documented := o.Media(status)
			if documented && status == 500 {
				broken = append(broken, o.String())
			}
			if documented && (status == 418 || status == 501) {
				t.Errorf("%s documents %d: %v", o, status, media)
			}
		}
	}
	want := []string{"GET /admin/debug/pprof/{profile}", "GET /jobs/{id}/status"}
	if !slices.Equal(broken, want) {
		t.Errorf("500 is documented of %v, not of %v", broken, want)
	}
}

// The input of an operation and its credentials determine the statuses with which it can fail.
func TestOperationsListTheirFailures(t *testing.T) {
	for _, o := range Operations() {
		if o.Tag == "Watching" { // probes read neither a body nor credentials
			continue
		}
		want := []int{
			http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType,
		}
		if len(o.Security) > 0 {
			want = append(want, http.StatusUnauthorized)
		}
		if slices.Contains(o.Security, "session") {
			want = append(want, http.StatusForbidden)
		}
		if o.IsPage() && o.Method == http.MethodPost { // a page of another site may have sent it
			want = append(want, http.StatusForbidden)
		}
		if strings.Contains(o.Path, "{") {
			want = append(want, http.StatusNotFound)
		}
		if strings.Contains(o.Path, "$") {
			want = append(want, http.StatusNotAcceptable, http.StatusTooManyRequests)
		}
		for _, status := range want {
			if _, documented := o.Media(status); !documented {
				t.Errorf("%s lacks %d", o, status)
			}
		}
	}
}

// A server fills in its version, its origin, and the variants of the FHIR base.
func TestTheDocumentIsOfAServer(t *testing.T) {
	type servers []struct{ URL string }
	var doc map[string]json.RawMessage
	var paths map[string]struct{ Servers servers }
	var all servers
	if err := json.Unmarshal(served(t), &doc); err != nil {
		t.Fatal(err)
	}
	for part, into := range map[string]any{"paths": &paths, "servers": &all} {
		if err := json.Unmarshal(doc[part], into); err != nil {
			t.Fatal(err)
		}
	}
	if len(all) != 1 || all[0].URL != "https://ehi.example" {
		t.Errorf("the servers are %v", all)
	}
	for route, item := range paths {
		if below := strings.HasPrefix(route, "/fhir"); below != (len(item.Servers) == 6) {
			t.Errorf("%s has the servers %v", route, item.Servers)
		} else if below && item.Servers[1].URL != "https://ehi.example/no-form" {
			t.Errorf("%s has the variant %s", route, item.Servers[1].URL)
		}
	}
	if strings.Contains(string(served(t)), `"x-`) {
		t.Error("an extension is served")
	}
}

// A mistake in openapi.yaml is an error with its position.
func TestMistakesInTheDescription(t *testing.T) {
	for text, want := range map[string]string{
		"paths: [":           "line 1",
		"paths: {/a: {get: ": "line 1",
		"paths: {/a: {get: {responses: {default: {description: Any.}}}}}": "GET /a",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
