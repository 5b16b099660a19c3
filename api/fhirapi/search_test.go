package fhirapi

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/openapi"
	"ehi-server/shared/fhir"
)

// asked are names of search parameters that R4 has for Patient, Group or every type, and some
// that it does not have.
var asked = strings.Fields(
	`_id _lastUpdated _tag _profile _security _source _text _content _list _has _type _query _filter
	active address address-city address-country address-postalcode address-state address-use birthdate death-date
	deceased email family gender general-practitioner given identifier language link name organization phone
	phonetic telecom actual characteristic characteristic-value code exclude managing-entity member type value
	nonsense BirthDate`)

// valid is a value for each type of parameter.
var valid = map[string]string{"token": "a|b", "date": "2020-01-01", "string": "text"}

// BULK-8: the CapabilityStatement and the OpenAPI document list exactly the search parameters
// that work, each as defined in R4.
func TestBULK8TheSearchParametersThatAreListedAreThoseThatWork(t *testing.T) {
	app := fiber.New()
	app.Get("/fhir/metadata", new(Handlers).handleCapabilities)
	var statement struct {
		Rest []struct {
			Resource []struct {
				Type        string
				SearchParam []struct{ Name, Type string }
			}
		}
	}
	answer, err := app.Test(httptest.NewRequest("GET", "/fhir/metadata", nil), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() // in memory
	if err := json.NewDecoder(answer.Body).Decode(&statement); err != nil {
		t.Fatal(err)
	}
	for _, r := range statement.Rest[0].Resource {
		if r.Type != "Patient" && r.Type != "Group" {
			if len(r.SearchParam) > 0 {
				t.Errorf("%s lists search parameters", r.Type)
			}
			continue
		}
		listed := map[string]bool{}
		for _, p := range r.SearchParam {
			listed[p.Name] = true
			if _, ok := fhir.FindSearchParameter(r.Type, p.Name); !ok || valid[p.Type] == "" {
				t.Errorf("%s lists %s of type %q", r.Type, p.Name, p.Type)
			}
			if !slices.Contains(asked, p.Name) {
				t.Errorf("the parameter %s of %s is not compared", p.Name, r.Type)
			}
			_, err := parseSearch(r.Type, []fhir.Parameter{{Name: p.Name, Value: valid[p.Type]}},
				true)
			if err != nil {
				t.Errorf("%s lists %s: %v", r.Type, p.Name, err)
			}
		}
		documented := map[string]bool{}
		for _, o := range openapi.Operations() {
			for _, name := range o.Query {
				documented[name] = documented[name] || o.String() == "GET /fhir/"+r.Type
			}
		}
		for _, name := range asked {
			_, err := parseSearch(r.Type, []fhir.Parameter{{Name: name, Value: "2020-01-01"}}, true)
			if works := err == nil; works != listed[name] || works != documented[name] {
				t.Errorf("%s of %s works: %v; is listed: %v; is documented: %v", name, r.Type,
					works, listed[name], documented[name])
			}
		}
	}
}
